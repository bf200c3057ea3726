/**
 * Stored blocks become numbers, as `dequantize.ts` defines. Weights stay quantised, but on the way in the parts of a
 * block go to planes: all blocks' quants come first, in vectors of 16 bytes, and scales behind them in words. So every
 * read is aligned.
 */
import { TENSOR_TYPES, type TensorType } from '../tensorTypes.ts';
import { times } from './wgsl.ts';

/** Bytes `at..at + size` of a stored block. On the GPU each takes `stride` bytes. */
export interface Plane {
  readonly at: number;
  readonly size: number;
  readonly stride: number;
}

const planes = (...parts: [at: number, size: number][]): Plane[] =>
  parts.map(([at, size]) => ({ at, size, stride: Math.ceil(size / 4) * 4 }));

const BLOCK_PLANES: Partial<Record<TensorType, readonly Plane[]>> = {
  Q4_0: planes([2, 16], [0, 2]),
  Q4_1: planes([4, 16], [0, 4]),
  Q5_0: planes([6, 16], [2, 4], [0, 2]),
  Q5_1: planes([8, 16], [4, 4], [0, 4]),
  Q8_0: planes([2, 32], [0, 2]),
  Q4_K: planes([0, 144]),
  Q5_K: planes([0, 176]),
  Q6_K: planes([0, 208], [208, 2]),
};

/** A stored row as units that are copied alike. */
export interface Layout {
  readonly unitBytes: number;
  readonly unitsPerRow: number;
  readonly planes: readonly Plane[];
}

/** How rows of `cols` numbers lie on the GPU. Rows of 16-bit numbers are padded to whole vectors. */
export function layoutOf(type: TensorType, cols: number): Layout {
  const { blockLen, blockBytes } = TENSOR_TYPES[type];
  const blocks = BLOCK_PLANES[type];
  if (blocks) return { unitBytes: blockBytes, unitsPerRow: cols / blockLen, planes: blocks };
  const size = cols * blockBytes;
  const stride = type === 'F32' ? size : Math.ceil(size / 16) * 16;
  return { unitBytes: size, unitsPerRow: 1, planes: [{ at: 0, size, stride }] };
}

/** Decoding of one type. */
export interface Decoder {
  /** Element type of the buffer. */
  readonly element: string;
  /** Numbers decoded at once. */
  readonly unit: number;
  /**
   * Makes `fn decode(row: u32, u: u32) -> array<vec4<f32>, unit / 4>`, which gives unit `u` of a row, and zeros behind
   * the row's end. It uses `p.K`, the numbers in a row, and `p.nRows`, the rows in the buffer; F32 also uses
   * `p.weightAt`.
   */
  text(weight: string): string;
}

/** Words of plane `words` words into every block, all planes before it having `before` words a block. */
const word = (weight: string, before: number, index: string) => {
  const at = `(nBlocks * ${before}u + ${index})`;
  return `${weight}[${at} >> 2u][${at} & 3u]`;
};

/** Bytes 0 to 3 of a word as numbers. */
const BYTES = `
fn bytesOf(w: u32) -> vec4<f32> { return vec4<f32>((vec4(w) >> vec4(0, 8, 16, 24)) & vec4(255)); }
fn signedBytesOf(w: u32) -> vec4<f32> { return vec4<f32>((vec4<i32>(bitcast<i32>(w)) << vec4(24, 16, 8, 0)) >> vec4(24u)); }`;

/** Body of `decode` for blocks of 32: what a half of a block is made of, from bytes `q` of nibbles. */
const block32 = (weight: string, setUp: string, number: (nibbles: string, i: number) => string): string => `${BYTES}
fn decode(row: u32, u: u32) -> array<vec4<f32>, 8> {
  let nBlocks = p.nRows * (p.K / 32);
  let block = row * (p.K / 32) + u;
  let q = ${weight}[block];
  ${setUp}
  var numbers: array<vec4<f32>, 8>;
  ${times(4, (i) => `numbers[${i}] = ${number(`bytesOf(q[${i}] & 0x0f0f0f0fu)`, i)};`)}
  ${times(4, (i) => `numbers[${i + 4}] = ${number(`bytesOf((q[${i}] >> 4) & 0x0f0f0f0fu)`, i + 4)};`)}
  return numbers;
}`;

/** The fifth bits of weights `4i..4i + 4`, at their place. */
const FIFTH = (i: number) => `vec4<f32>((vec4(high >> ${4 * i}u) << vec4(4u, 3u, 2u, 1u)) & vec4(16))`;

/** Scale and minimum `s` of 8 in the 12 bytes of a K block, the words `dm.yzw`: six bits each. */
const K_SCALES = `
fn scaleAndMin(dm: vec4<u32>, s: u32) -> vec2<f32> {
  let shift = 8 * (s & 3);
  let low = (dm.y >> shift) & 255;
  let mid = (dm.z >> shift) & 255;
  let high = (dm.w >> shift) & 255;
  let pair = select(vec2((high & 15) | ((low >> 6) << 4), (high >> 4) | ((mid >> 6) << 4)), vec2(low, mid) & vec2(63), s < 4);
  return unpack2x16float(dm.x) * vec2<f32>(pair);
}`;

/** Unit `u` of a row of K blocks of `vectors` vectors: its block's first vector, and which 32 of its 256 numbers. */
const kBlock = (vectors: number) => `
  let at = (row * (p.K / 256) + (u >> 3)) * ${vectors};
  let s = u & 7;`;

const F32 = (isRagged: boolean): Decoder =>
  isRagged
    ? {
        element: 'f32',
        unit: 4,
        text: (weight) => `
fn decode(row: u32, u: u32) -> array<vec4<f32>, 1> {
  var numbers: vec4<f32>;
  for (var i = 0u; i < min(4, p.K - 4 * u); i++) { numbers[i] = ${weight}[p.weightAt + row * p.K + 4 * u + i]; }
  return array(numbers);
}`,
      }
    : {
        element: 'vec4<f32>',
        unit: 4,
        text: (weight) => `
fn decode(row: u32, u: u32) -> array<vec4<f32>, 1> { return array(${weight}[(p.weightAt + row * p.K) / 4 + u]); }`,
      };

const half = (pair: string): Decoder => ({
  element: 'vec4<u32>',
  unit: 8,
  text: (weight) => `
fn pairOf(w: u32) -> vec2<f32> { return ${pair}; }
fn decode(row: u32, u: u32) -> array<vec4<f32>, 2> {
  let w = ${weight}[row * ((p.K + 7) / 8) + u];
  return array(vec4(pairOf(w.x), pairOf(w.y)), vec4(pairOf(w.z), pairOf(w.w)));
}`,
});

const blocks = (text: (weight: string) => string): Decoder => ({ element: 'vec4<u32>', unit: 32, text });

const DECODERS: Record<Exclude<TensorType, 'F32'>, Decoder> = {
  F16: half('unpack2x16float(w)'),
  BF16: half('bitcast<vec2<f32>>(vec2(w << 16, w & 0xffff0000u))'),
  Q4_0: blocks((weight) =>
    block32(weight, `let d = unpack2x16float(${word(weight, 4, 'block')}).x;`, (q) => `d * (${q} - 8)`),
  ),
  Q4_1: blocks((weight) =>
    block32(weight, `let dm = unpack2x16float(${word(weight, 4, 'block')});`, (q) => `dm.x * ${q} + dm.y`),
  ),
  Q5_0: blocks((weight) =>
    block32(
      weight,
      `let high = ${word(weight, 4, 'block')};
  let d = unpack2x16float(${word(weight, 5, 'block')}).x;`,
      (q, i) => `d * (${q} + ${FIFTH(i)} - 16)`,
    ),
  ),
  Q5_1: blocks((weight) =>
    block32(
      weight,
      `let high = ${word(weight, 4, 'block')};
  let dm = unpack2x16float(${word(weight, 5, 'block')});`,
      (q, i) => `dm.x * (${q} + ${FIFTH(i)}) + dm.y`,
    ),
  ),
  Q8_0: blocks(
    (weight) => `${BYTES}
fn decode(row: u32, u: u32) -> array<vec4<f32>, 8> {
  let nBlocks = p.nRows * (p.K / 32);
  let block = row * (p.K / 32) + u;
  let d = unpack2x16float(${word(weight, 8, 'block')}).x;
  let q0 = ${weight}[2 * block];
  let q1 = ${weight}[2 * block + 1];
  var numbers: array<vec4<f32>, 8>;
  ${times(8, (i) => `numbers[${i}] = d * signedBytesOf(q${i >> 2}[${i & 3}]);`)}
  return numbers;
}`,
  ),
  Q4_K: blocks(
    (weight) => `${BYTES}${K_SCALES}
fn decode(row: u32, u: u32) -> array<vec4<f32>, 8> {${kBlock(9)}
  let scale = scaleAndMin(${weight}[at], s);
  var numbers: array<vec4<f32>, 8>;
  let q0 = (${weight}[at + 1 + 2 * (s / 2)] >> vec4(4 * (s & 1))) & vec4(0x0f0f0f0fu);
  let q1 = (${weight}[at + 2 + 2 * (s / 2)] >> vec4(4 * (s & 1))) & vec4(0x0f0f0f0fu);
  ${times(8, (i) => `numbers[${i}] = scale.x * bytesOf(q${i >> 2}[${i & 3}]) - scale.y;`)}
  return numbers;
}`,
  ),
  Q5_K: blocks(
    (weight) => `${BYTES}${K_SCALES}
fn decode(row: u32, u: u32) -> array<vec4<f32>, 8> {${kBlock(11)}
  let scale = scaleAndMin(${weight}[at], s);
  var numbers: array<vec4<f32>, 8>;
  ${times(
    2,
    (h) => `
  let low${h} = (${weight}[at + ${3 + h} + 2 * (s / 2)] >> vec4(4 * (s & 1))) & vec4(0x0f0f0f0fu);
  let high${h} = (${weight}[at + ${1 + h}] >> vec4(s)) & vec4(0x01010101u);
  let q${h} = low${h} | (high${h} << vec4(4u));`,
  )}
  ${times(8, (i) => `numbers[${i}] = scale.x * bytesOf(q${i >> 2}[${i & 3}]) - scale.y;`)}
  return numbers;
}`,
  ),
  // Two halves of 128; in each, 64 bytes of low nibbles and 32 bytes that hold four pairs of high bits.
  Q6_K: blocks(
    (weight) => `${BYTES}
fn decode(row: u32, u: u32) -> array<vec4<f32>, 8> {${kBlock(13)}
  let nBlocks = p.nRows * (p.K / 256);
  let d = unpack2x16float(${word(weight, 52, 'at / 13')}).x;
  let scales = signedBytesOf(${weight}[at + 12][s / 2]);
  var numbers: array<vec4<f32>, 8>;
  ${times(
    2,
    (h) => `
  let low${h} = (${weight}[at + 4 * (s / 4) + 2 * (s & 1) + ${h}] >> vec4(2 * (s & 2))) & vec4(0x0f0f0f0fu);
  let high${h} = (${weight}[at + 8 + 2 * (s / 4) + ${h}] >> vec4(2 * (s & 3))) & vec4(0x03030303u);
  let q${h} = low${h} | (high${h} << vec4(4u));
  let scale${h} = d * scales[2 * (s & 1) + ${h}];`,
  )}
  ${times(8, (i) => `numbers[${i}] = scale${i >> 2} * (bytesOf(q${i >> 2}[${i & 3}]) - 32);`)}
  return numbers;
}`,
  ),
};

/** @param isRagged Rows or their beginnings are no whole vectors; matters for F32 alone. */
export const decoderOf = (type: TensorType, isRagged: boolean): Decoder =>
  type === 'F32' ? F32(isRagged) : DECODERS[type];
