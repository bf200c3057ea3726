/**
 * Float32 to 16-bit integers, one scale for each segment of a row, so that one large number spoils no more than its
 * segment. Three forms: tiles take segments of 128 and `|q| <= 4095`, so that `128 * 4095²` stays below `2^31`; dot products
 * with weights of 8 bits take segments of 32 and all 16 bits, as `32 * 32767 * 128` does; and 7 bits for queries, below.
 */
import {
  DOT_BLOCK_BYTES,
  DOT_SCALE,
  DOT_SEGMENT,
  DOT_SUM,
  FAULT,
  FLOAT32,
  IN_ACTIVATIONS,
  INT16,
  TILE_SEGMENT,
  tileRowBytes,
  tileSegments,
} from './abi';
import { absMaxBits, INFINITE } from './fault.wasm';
import { madd, max4, sum4 } from './simd.wasm';

// @ts-ignore: decorator
@inline
export const TILE_LARGEST: f32 = 4095;
// @ts-ignore: decorator
@inline
export const DOT_LARGEST: f32 = 32767;
// @ts-ignore: decorator
@inline
export const BYTE_LARGEST: f32 = 127;

/** Words of 32 bits that `n` numbers fill. */
// @ts-ignore: decorator
@inline
export function wordsOf(format: i32, n: i32): i32 {
  return format == FLOAT32 ? n : format == INT16 ? (n + 1) >> 1 : (n + 3) >> 2;
}

/** Nearest integers of four products below `2^22`: beside `1.5 * 2^23` a float has room for no fraction. */
// @ts-ignore: decorator
@inline
export function toInt4(v: v128, factor: v128): v128 {
  const sum = madd(v, factor, f32x4.splat(12582912));
  return i32x4.sub(sum, i32x4.splat(0x4b400000)); // its bits
}

/** `cols` floats to integers at `q`, a zero behind an odd number of them, and scales `scaleStride` bytes apart. */
export function quantizeRow(
  x: usize,
  q: usize,
  scales: usize,
  scaleStride: usize,
  cols: i32,
  segment: i32,
  limit: f32,
): void {
  for (let first = 0; first < cols; first += segment, scales += scaleStride) {
    const n = min(segment, cols - first);
    const bits = absMaxBits(x, n);
    if (bits >= INFINITE) store<i32>(FAULT, IN_ACTIVATIONS);
    const largest = reinterpret<f32>(bits);
    const factor: f32 = largest > 0 ? limit / largest : 0;
    store<f32>(scales, largest / limit);
    const factors = f32x4.splat(factor);
    let i = 0;
    for (; i + 8 <= n; i += 8, x += 32, q += 16) {
      const low = toInt4(v128.load(x), factors);
      const high = toInt4(v128.load(x, 16), factors);
      v128.store(q, i16x8.narrow_i32x4_s(low, high));
    }
    for (; i < n; i++, x += 4, q += 2) store<i16>(q, nearest<f32>(load<f32>(x) * factor) as i16);
  }
  if (cols & 1) store<i16>(q, 0);
}

/**
 * One segment in 7 bits: `x = offset + scale * q`, `q` from 0 to 127; scale and offset at `affine`. The range goes from the
 * smallest to the largest number, so that an outlier costs half of what it would with a sign. `cols` is a multiple of 4.
 */
export function quantizeUnsigned(x: usize, q: usize, affine: usize, cols: i32): void {
  const end = x + ((cols as usize) << 2);
  let low4 = v128.load(x);
  let high4 = low4;
  for (let at = x + 16; at < end; at += 16) {
    const v = v128.load(at);
    low4 = f32x4.pmin(low4, v);
    high4 = f32x4.pmax(high4, v);
  }
  const low = -max4(f32x4.neg(low4));
  const range = max4(high4) - low;
  store<f32>(affine, range / BYTE_LARGEST);
  store<f32>(affine, low, 4);
  const shift = f32x4.splat(low);
  const factor = f32x4.splat(range > 0 ? BYTE_LARGEST / range : 0);
  for (; x < end; x += 16, q += 4) {
    const words = toInt4(f32x4.sub(v128.load(x), shift), factor);
    const pairs = i16x8.narrow_i32x4_s(words, words);
    v128.store32_lane(q, i8x16.narrow_i16x8_s(pairs, pairs), 0);
  }
}

/** Items are rows of `x` `[rows, cols]`. `q` `[rows, cols]` i16, columns rounded up to even; `scales` `[rows, segments]`. */
export function quantizeForTiles(
  scratch: usize,
  begin: i32,
  end: i32,
  q: usize,
  scales: usize,
  x: usize,
  cols: i32,
): void {
  const scaleBytes = (tileSegments(cols) as usize) << 2;
  const qBytes = tileRowBytes(cols) as usize;
  for (let r = begin as usize; r < (end as usize); r++) {
    const row = x + r * ((cols as usize) << 2);
    quantizeRow(row, q + r * qBytes, scales + r * scaleBytes, 4, cols, TILE_SEGMENT, TILE_LARGEST);
  }
}

/**
 * Likewise for `dotRow`, in blocks of 32 numbers: the integers, their scale, and the sum of the floats. `cols` is a multiple
 * of 32; `q` is `[rows, cols / 32]` blocks.
 */
export function quantizeForDots(scratch: usize, begin: i32, end: i32, q: usize, x: usize, cols: i32): void {
  const blocksOfRow = cols / DOT_SEGMENT;
  q += ((begin * blocksOfRow) as usize) * DOT_BLOCK_BYTES;
  x += ((begin * blocksOfRow) as usize) << 7;
  for (let block = begin * blocksOfRow; block < end * blocksOfRow; block++, q += DOT_BLOCK_BYTES, x += 128) {
    quantizeRow(x, q, q + DOT_SCALE, 0, DOT_SEGMENT, DOT_SEGMENT, DOT_LARGEST);
    let sum = v128.load(x);
    for (let i: usize = 16; i < 128; i += 16) sum = f32x4.add(sum, v128.load(x + i));
    store<f32>(q, sum4(sum), DOT_SUM);
  }
}
