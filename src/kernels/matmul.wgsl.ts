/** Products that run on every device; definition in `matmul.ts`. Weights are decoded on the way to the multipliers. */
import type { TensorType } from '../tensorTypes.ts';
import { decoderOf } from './dequantize.wgsl.ts';
import { main, times, type WgslKernel } from './wgsl.ts';

export interface MatmulForm {
  type: TensorType;
  hasBias: boolean;
  /** Rows of `x` or of F32 weights are no whole vectors. */
  isRagged: boolean;
}

const kernelOf = (
  name: string,
  { type, hasBias, isRagged }: MatmulForm,
  text: (bias: string, decodeUnit: number, names: Readonly<Record<string, string>>) => string,
): WgslKernel => {
  const decoder = decoderOf(type, isRagged);
  const vector = isRagged ? 'f32' : 'vec4<f32>';
  return {
    name: `${name} ${type}${hasBias ? ' bias' : ''}${isRagged ? ' ragged' : ''}`,
    buffers: { out: 'f32', x: vector, weight: decoder.element, ...(hasBias && { bias: 'f32' }) },
    nWritten: 1,
    // the buffer holds weight rows firstRow..firstRow + nRows of N
    params: ['n', 'N', 'K', 'firstRow', 'nRows', 'outAt', 'xAt', 'weightAt', 'biasAt'],
    text: (names) => {
      const { x, weight, bias } = names;
      const ragged = `
  var numbers: vec4<f32>;
  for (var i = 0u; i < min(4, p.K - k); i++) { numbers[i] = ${x}[p.xAt + token * p.K + k + i]; }
  return numbers;`;
      return `${decoder.text(weight)}
fn vectorOf(token: u32, k: u32) -> vec4<f32> {
  if (k >= p.K) { return vec4<f32>(); }
  ${isRagged ? ragged : `return ${x}[(p.xAt + token * p.K + k) / 4];`}
}
${text(hasBias ? `${bias}[p.biasAt + p.firstRow + row]` : '0', decoder.unit, names)}`;
    },
  };
};

const LANES = 32; // threads of a set
const SETS = 4;
const IN_FLIGHT = 4; // units of weights that a thread has on their way at once
const MANY_ROWS = 4096; // keep a large GPU busy even where a set takes more of them

/**
 * Weight rows a set of threads takes: each number of `x` is read once for them, the more so where a unit has many; where
 * rows are few, more sets take them.
 */
export const matvecRows = (type: TensorType, nRows: number): 1 | 2 | 4 =>
  ((nRows < MANY_ROWS ? 1 : 2) * (decoderOf(type, false).unit < 32 ? 1 : 2)) as 1 | 2 | 4;

/** Weight rows of a workgroup of `matvec`. */
export const matvecTile = (rows: number): number => SETS * rows;

/**
 * For a token or a few: threads of a set share out the units of `rows` rows, then join their sums. Tokens are the grid's
 * `z`.
 */
export const matvec = (form: MatmulForm, rows: 1 | 2 | 4): WgslKernel =>
  kernelOf(`matvec ${rows}`, form, (bias, unit) => {
    const units = IN_FLIGHT / rows; // of a row, at once
    const sums = rows === 1 ? 'f32' : `vec${rows}<f32>`;
    const ofRow = (name: string, r: number | string) => (rows === 1 ? name : `${name}[${r}]`);
    const dots = Array.from({ length: unit / 4 }, (_, i) => `dot(w[${i}], x${i})`).join(' + ');
    return `
var<workgroup> sums: array<${sums}, ${SETS * LANES}>;
${main(
  SETS * LANES,
  `
  let token = groupId.z;
  let lane = t % ${LANES};
  let first = group * ${matvecTile(rows)} + t / ${LANES} * ${rows};
  let nUnits = (p.K + ${unit - 1}) / ${unit};
  var sum = ${sums}();
  for (var begin = lane; begin < nUnits; begin += ${LANES * units}) {
    ${times(units, (n) => times(rows, (r) => `let w${n}_${r} = decode(min(first + ${r}, p.nRows - 1), min(begin + ${LANES * n}, nUnits - 1));`))}
    ${times(
      units,
      (n) => `
    {
      let u = begin + ${LANES * n};
      ${times(unit / 4, (i) => `let x${i} = vectorOf(token, u * ${unit} + ${4 * i});`)}
      ${times(rows, (r) => `{ let w = w${n}_${r}; ${ofRow('sum', r)} += ${dots}; }`)}
    }`,
    )}
  }
  sums[t] = sum;
  for (var step = ${LANES / 2}u; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { sums[t] += sums[t + step]; }
  }
  workgroupBarrier();
  let row = group * ${matvecTile(rows)} + t;
  if (t < ${matvecTile(rows)} && row < p.nRows) {
    let total = sums[t / ${rows} * ${LANES}];
    out[p.outAt + token * p.N + p.firstRow + row] = ${ofRow('total', `t % ${rows}`)} + ${bias};
  }`,
)}`;
  });

/** Tokens and weight rows of a tile of `matmul`. */
export const MATMUL_TILE = 64;

/** For many tokens: tiles of 64 x 64, 32 numbers deep, 16 KiB of workgroup memory; a thread has 4 x 4 sums. */
export const matmul = (form: MatmulForm): WgslKernel =>
  kernelOf('matmul', form, (bias, unit) => {
    const unitsPerRow = 32 / unit;
    // [64 rows, 8 vectors], turned by the row so that threads of neighbouring rows read other banks
    const place = (row: string, v: string) => `${row} * 8 + ((${v} + ${row}) & 7)`;
    return `
var<workgroup> xs: array<vec4<f32>, 512>;
var<workgroup> ws: array<vec4<f32>, 512>;
${main(
  256,
  `
  let firstToken = groupId.y * ${MATMUL_TILE};
  let firstRow = groupId.x * ${MATMUL_TILE};
  let tx = t % 16;
  let ty = t / 16;
  let nUnits = (p.K + ${unit - 1}) / ${unit};
  ${times(4, (i) => `var sum${i}: vec4<f32>;`)}
  for (var k = 0u; k < p.K; k += 32) {
    for (var i = t; i < 512; i += 256) {
      let r = i / 8;
      xs[${place('r', 'i')}] = vectorOf(min(firstToken + r, p.n - 1), k + i % 8 * 4);
    }
    for (var i = t; i < ${64 * unitsPerRow}; i += 256) {
      let r = i / ${unitsPerRow};
      let v = i % ${unitsPerRow} * ${unit / 4};
      let u = k / ${unit} + i % ${unitsPerRow};
      var numbers = array<vec4<f32>, ${unit / 4}>();
      if (u < nUnits) { numbers = decode(min(firstRow + r, p.nRows - 1), u); }
      ${times(unit / 4, (j) => `ws[${place('r', `v + ${j}`)}] = numbers[${j}];`)}
    }
    workgroupBarrier();
    for (var v = 0u; v < 8; v++) {
      ${times(4, (j) => `let w${j} = ws[${place(`(tx + ${16 * j})`, 'v')}];`)}
      ${times(
        4,
        (i) => `
      let x${i} = xs[${place(`(ty + ${16 * i})`, 'v')}];
      sum${i} += vec4(dot(x${i}, w0), dot(x${i}, w1), dot(x${i}, w2), dot(x${i}, w3));`,
      )}
    }
    workgroupBarrier();
  }
  for (var j = 0u; j < 4; j++) {
    let row = firstRow + tx + 16 * j;
    if (row >= p.nRows) { continue; }
    ${times(
      4,
      (i) => `
    if (firstToken + ty + ${16 * i} < p.n) {
      out[p.outAt + (firstToken + ty + ${16 * i}) * p.N + p.firstRow + row] = sum${i}[j] + ${bias};
    }`,
    )}
  }`,
)}`;
  });
