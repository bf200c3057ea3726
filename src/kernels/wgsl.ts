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

/** The entry point: `group` counts workgroups along the grid, `t` is the thread's number in its own. */
export const main = (threads: number, body: string): string => `
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) groupId: vec3<u32>, @builtin(local_invocation_index) t: u32) {
  let group = groupId.x + groupId.y * ${GRID_WIDTH}u;
${body}
}`;

/** Joins what `combine` makes of `values[0..threads]` (a workgroup array) into `values[0]`, and waits. */
export const reduce = (values: string, threads: number, combine: (a: string, b: string) => string): string => `
  workgroupBarrier();
  for (var step = ${threads / 2}u; step > 0u; step /= 2u) {
    if (t < step) { ${values}[t] = ${combine(`${values}[t]`, `${values}[t + step]`)}; }
    workgroupBarrier();
  }`;
