/** How a WebGPU kernel is written down: its text as a function of what it is made for, and what it is bound to. */

/** Most workgroups in a dimension that every WebGPU device takes; longer runs go on in `y`. */
export const GRID_WIDTH = 65535;

/** Groups in `x` and `y` that make at least `count`. */
export const gridOf = (count: number): [x: number, y: number] => [
  Math.min(count, GRID_WIDTH),
  Math.ceil(count / GRID_WIDTH),
];

export interface WgslKernel {
  /** Kernels of one name have one text. */
  readonly name: string;
  /** Element types of the buffers it is bound to, those it writes first. */
  readonly buffers: Readonly<Record<string, string>>;
  /** How many of `buffers` it writes. */
  readonly nWritten: number;
  /** Fields of the uniform `p`, `u32` unless named `field: f32`. */
  readonly params: readonly string[];
  /** `enable` and `diagnostic` lines. */
  readonly directives?: string;
  /** Text behind the declarations. `names` gives each buffer's: one buffer bound twice is declared once. */
  text(names: Readonly<Record<string, string>>): string;
}

export interface WgslModule {
  readonly code: string;
  /** Buffers in the order of their bindings; the parameters come behind them. */
  readonly bound: readonly { readonly name: string; readonly isWritten: boolean }[];
}

/** @param shared Buffers that are one with another, by the name of that: one bound twice is declared once. */
export function moduleOf(kernel: WgslKernel, shared: Readonly<Record<string, string>> = {}): WgslModule {
  const bound = Object.keys(kernel.buffers)
    .map((name, i) => ({ name, isWritten: i < kernel.nWritten }))
    .filter(({ name }) => shared[name] === undefined);
  const code = [
    kernel.directives ?? '',
    `struct Params { ${kernel.params.map((param) => (param.includes(':') ? param : `${param}: u32`)).join(', ')} }`,
    `@group(0) @binding(${bound.length}) var<uniform> p: Params;`,
    ...bound.map(
      ({ name, isWritten }, at) =>
        `@group(0) @binding(${at}) var<storage, ${isWritten ? 'read_write' : 'read'}> ${name}: array<${kernel.buffers[name]}>;`,
    ),
    kernel.text({ ...Object.fromEntries(bound.map(({ name }) => [name, name])), ...shared }),
  ];
  return { code: code.join('\n'), bound };
}

/** `text(0)` to `text(count - 1)`: loops that must be unrolled, so that what they index stays in registers. */
export const times = (count: number, text: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => text(i)).join('\n');

/** The entry point: `group` counts workgroups along the grid, `t` is the thread's number in its own. */
export const main = (threads: number, body: string, more = ''): string => `
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) groupId: vec3<u32>, @builtin(local_invocation_index) t: u32${more}) {
  let group = groupId.x + groupId.y * ${GRID_WIDTH}u;
${body}
}`;

/** Items a workgroup of `eachItem` takes: a few for a thread, as a GPU starts only so many workgroups at a time. */
export const ITEMS = 1024;

/** The entry point of a kernel whose items, `i` below `p.length`, have nothing to do with each other. */
export const eachItem = (body: string): string =>
  main(
    256,
    `
  for (var i = group * ${ITEMS}u + t; i < min(p.length, (group + 1) * ${ITEMS}u); i += 256u) {
${body}
  }`,
  );

/**
 * Leaves a word in the buffer `fault` where a number's magnitude is above that of `p.largest`, both as bits, in which a NaN is
 * the largest: shaders may take for granted that no number is one.
 */
export const checkMagnitude = (number: string): string =>
  `if ((bitcast<u32>(${number}) & 0x7fffffffu) > p.largest) { fault[0] = 1u; }`;

/** What kernels for matrix units begin with: they take 16 x 16 x 16 numbers of half precision a subgroup of 32. */
export const MATRIX_DIRECTIVES = `enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);`;

/** Names the subgroup's number, for `main`. */
export const SUBGROUP = ', @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32';

type Operand = 'left' | 'right';
/** Loads an operand from vectors of 8 halves; `at` and `stride` count vectors. */
export const loadMatrix = (
  operand: Operand,
  order: 'row' | 'col',
  source: string,
  at: string,
  stride: number,
): string =>
  `subgroupMatrixLoad<subgroup_matrix_${operand}<f16, 16, 16>, ${order}_major>(&${source}, ${at}, ${stride}u)`;

export const RESULT = 'subgroup_matrix_result<f32, 16, 16>';

/** To and from float32, or vectors of 4, in workgroup memory; `at` and `stride` count elements of its array. */
export const storeResult = (result: string, target: string, at: string, stride: number): string =>
  `subgroupMatrixStore<row_major>(&${target}, ${at}, ${result}, ${stride}u);`;
export const loadResult = (source: string, at: string, stride: number): string =>
  `subgroupMatrixLoad<${RESULT}, row_major>(&${source}, ${at}, ${stride}u)`;

/** Joins what `combine` makes of `values[0..threads]` (a workgroup array) into `values[0]`, and waits. */
export const reduce = (values: string, threads: number, combine: (a: string, b: string) => string): string => `
  workgroupBarrier();
  for (var step = ${threads / 2}u; step > 0u; step /= 2u) {
    if (t < step) { ${values}[t] = ${combine(`${values}[t]`, `${values}[t + step]`)}; }
    workgroupBarrier();
  }`;
