/**
 * Products on matrix units, float32 sums of products of half precision; definition in `matmul.ts`. Tiles of 128 tokens and
 * 128 weight rows, or 64 where rows are few, 32 numbers deep; four subgroups share out the sums. While a tile is
 * multiplied, the next one is on its way in registers.
 */
import type { TensorType } from '../tensorTypes.ts';
import { decoderOf } from './dequantize.wgsl.ts';
import {
  eachItem,
  loadMatrix,
  MATRIX_DIRECTIVES,
  main,
  RESULT,
  SUBGROUP,
  storeResult,
  times,
  type WgslKernel,
} from './wgsl.ts';

/** Tokens of a tile. */
export const MATRIX_TILE = 128;
const BUSY = 128; // workgroups that keep a large GPU's cores busy

/** Weight rows of a tile. */
export const matrixRows = (n: number, nRows: number): 64 | 128 =>
  Math.ceil(n / MATRIX_TILE) * Math.ceil(nRows / 128) < BUSY ? 64 : 128;

/** Numbers of a tile's depth: rows of halves are padded to as many. */
export const MATRIX_DEPTH = 32;

/** Each has 64 tokens and half of the tile's weight rows. */
const SUBGROUPS = 4;
const THREADS = 32 * SUBGROUPS;
const X_LOADS = (4 * MATRIX_TILE) / THREADS; // vectors of a tile of x for a thread

const STRIDE = 5; // vectors of 8 halves: 4 and one of padding, so that neighbouring rows lie in other banks

/** `x` in half precision, rows and columns padded with zeros to whole tiles. Items are vectors of 8 halves. */
export const halve: WgslKernel = {
  name: 'halve',
  buffers: { out: 'vec4<u32>', x: 'f32' },
  nWritten: 1,
  params: ['length', 'n', 'K', 'stride', 'xAt'],
  text: ({ x }) => `
// beyond half precision stays finite
fn number(token: u32, k: u32) -> f32 {
  if (token >= p.n || k >= p.K) { return 0; }
  return clamp(${x}[p.xAt + token * p.K + k], -65504, 65504);
}
${eachItem(
  `
  let token = i / p.stride;
  let k = i % p.stride * 8;
  var halves: vec4<u32>;
  for (var j = 0u; j < 4; j++) { halves[j] = pack2x16float(vec2(number(token, k + 2 * j), number(token, k + 2 * j + 1))); }
  out[i] = halves;`,
)}`,
};

/** A unit of weights as vectors of 8 halves. */
function halvesOf(type: TensorType, weight: string): { unit: number; text: string } {
  if (type === 'F16') {
    const text = `
fn halves(row: u32, u: u32) -> array<vec4<u32>, 1> { return array(${weight}[row * ((p.K + 7) / 8) + u]); }`;
    return { unit: 8, text };
  }
  const { unit, text } = decoderOf(type, false);
  return {
    unit,
    text: `${text(weight)}
fn halves(row: u32, u: u32) -> array<vec4<u32>, ${unit / 8}> {
  let numbers = decode(row, u);
  var packed: array<vec4<u32>, ${unit / 8}>;
  ${times(unit / 8, (i) => {
    const pairs = [`${2 * i}].xy`, `${2 * i}].zw`, `${2 * i + 1}].xy`, `${2 * i + 1}].zw`];
    return `packed[${i}] = vec4(${pairs.map((pair) => `pack2x16float(numbers[${pair})`).join(', ')});`;
  })}
  return packed;
}`,
  };
}

export interface MatmulMatrixForm {
  /** Any but F32. */
  type: TensorType;
  hasBias: boolean;
  /** Weight rows of a tile. */
  tileRows: 64 | 128;
  /** Rows are whole tiles deep, as those of blocks are. */
  isWhole: boolean;
}

export function matmulMatrix({ type, hasBias, tileRows, isWhole }: MatmulMatrixForm): WgslKernel {
  const columns = tileRows / 32; // of 16 weight rows, for a subgroup
  return {
    name: `matmulMatrix ${type} ${tileRows}${hasBias ? ' bias' : ''}${isWhole ? '' : ' ragged'}`,
    buffers: { out: 'f32', x: 'vec4<u32>', weight: 'vec4<u32>', ...(hasBias && { bias: 'f32' }) },
    nWritten: 1,
    params: ['n', 'N', 'K', 'firstRow', 'nRows', 'outAt', 'xStride', 'weightAt', 'biasAt'],
    directives: MATRIX_DIRECTIVES,
    text: ({ x, weight, bias }) => {
      const { unit, text } = halvesOf(type, weight);
      const unitsPerRow = 32 / unit;
      const vectors = unit / 8;
      const loads = Math.ceil((tileRows * unitsPerRow) / THREADS);
      const busy = Math.min(THREADS, tileRows * unitsPerRow);
      const ifBusy = busy < THREADS ? `if (t < ${busy}) ` : '';
      const load = `
      ${times(X_LOADS, (i) => `nextX${i} = ${x}[xAt${i} + k / 8];`)}
      ${ifBusy}{
        ${times(
          loads,
          (i) => `
        {
          let u = k / ${unit} + t % ${unitsPerRow};
          ${
            isWhole
              ? ''
              : `nextW${i} = array<vec4<u32>, ${vectors}>();
          if (u < nUnits) `
          }{ nextW${i} = halves(row${i}, u); }
        }`,
        )}
      }`;
      return `${text}
var<workgroup> xs: array<vec4<u32>, ${MATRIX_TILE * STRIDE}>;
var<workgroup> ws: array<vec4<u32>, ${tileRows * STRIDE}>;
var<workgroup> sums: array<f32, ${256 * SUBGROUPS}>; // 16 x 16 for each subgroup
${main(
  THREADS,
  `
  let firstToken = groupId.y * ${MATRIX_TILE};
  let firstRow = groupId.x * ${tileRows};
  let nUnits = (p.K + ${unit - 1}) / ${unit};
  let m0 = subgroup % 2 * 64;
  let n0 = subgroup / 2 * ${16 * columns};
  ${times(X_LOADS, (i) => `var nextX${i}: vec4<u32>; let xAt${i} = (firstToken + t / 4 + ${(THREADS / 4) * i}) * p.xStride + t % 4;`)}
  ${times(loads, (i) => `var nextW${i}: array<vec4<u32>, ${vectors}>; let row${i} = min(firstRow + (t + ${THREADS * i}) / ${unitsPerRow}, p.nRows - 1);`)}
  ${times(4, (i) => times(columns, (j) => `var c${i}_${j} = ${RESULT}();`))}
  var k = 0u;
  ${load}
  for (k = 0u; k < p.K; ) {
    workgroupBarrier();
    ${times(X_LOADS, (i) => `xs[(t / 4 + ${(THREADS / 4) * i}) * ${STRIDE} + t % 4] = nextX${i};`)}
    ${ifBusy}{
      ${times(loads, (i) =>
        times(
          vectors,
          (v) =>
            `ws[(t + ${THREADS * i}) / ${unitsPerRow} * ${STRIDE} + t % ${unitsPerRow} * ${vectors} + ${v}] = nextW${i}[${v}];`,
        ),
      )}
    }
    workgroupBarrier();
    k += ${MATRIX_DEPTH};
    if (k < p.K) {${load}
    }
    ${times(
      2,
      (step) => `
    {
      ${times(columns, (j) => `let b${j} = ${loadMatrix('right', 'col', 'ws', `(n0 + ${16 * j}) * ${STRIDE} + ${2 * step}`, STRIDE)};`)}
      ${times(
        4,
        (i) => `
      let a${i} = ${loadMatrix('left', 'row', 'xs', `(m0 + ${16 * i}) * ${STRIDE} + ${2 * step}`, STRIDE)};
      ${times(columns, (j) => `c${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b${j}, c${i}_${j});`)}`,
      )}
    }`,
    )}
  }
  ${times(4, (i) =>
    times(
      columns,
      (j) => `
  workgroupBarrier();
  ${storeResult(`c${i}_${j}`, 'sums', 'subgroup * 256', 16)}
  workgroupBarrier();
  for (var e = lane; e < 256; e += 32) {
    let token = firstToken + m0 + ${16 * i} + e / 16;
    let row = firstRow + n0 + ${16 * j} + e % 16;
    if (token < p.n && row < p.nRows) {
      out[p.outAt + token * p.N + p.firstRow + row] = sums[subgroup * 256 + e]${hasBias ? ` + ${bias}[p.biasAt + p.firstRow + row]` : ''};
    }
  }`,
    ),
  )}`,
  SUBGROUP,
)}`;
    },
  };
}
