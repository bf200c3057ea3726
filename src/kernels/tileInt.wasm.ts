/**
 * The inner loop in integers: `c[4][8] (+)= rowScale[4] * colScale[8] * (a[4][k] · b[k][8])`. Numbers lie in words of 32
 * bits along `k`, `b` as `[words][8]`: pairs of 16 bits, multiplied and added two by two, or four times 8 bits, where `a`
 * is unsigned with 7 bits and has an offset: `(offset + scale * a) · b = offset * Σb + scale * (a · b)`.
 * 8 accumulators, 2 vectors of `b`, 1 of `a`, 1 product.
 *
 * `row` holds scale and offset of a row, `col` the scales of eight columns and behind them their sums.
 * `INT8_FUSED` takes one instruction where the engine and the CPU have it (VNNI, dot product); V8 before 13 has it not,
 * and that of Node 20 computes wrong sums with it until its optimising compiler is done.
 *
 * Overflow is excluded by the ranges: see `quantize.wasm.ts`.
 */
import { INT16, INT8, INT8_FUSED } from './abi';
import { madd } from './simd.wasm';

export function tile4x8i16(
  k: i32,
  a: usize,
  aStride: usize,
  b: usize,
  c: usize,
  cStride: usize,
  row: usize,
  rowStride: usize,
  col: usize,
  accumulate: bool,
): void {
  tile4x8(INT16, false, k, a, aStride, b, c, cStride, row, rowStride, col, accumulate);
}

export function tile4x8i8(
  k: i32,
  a: usize,
  aStride: usize,
  b: usize,
  c: usize,
  cStride: usize,
  row: usize,
  rowStride: usize,
  col: usize,
  accumulate: bool,
): void {
  tile4x8(INT8, true, k, a, aStride, b, c, cStride, row, rowStride, col, accumulate);
}

export function tile4x8i8fused(
  k: i32,
  a: usize,
  aStride: usize,
  b: usize,
  c: usize,
  cStride: usize,
  row: usize,
  rowStride: usize,
  col: usize,
  accumulate: bool,
): void {
  tile4x8(INT8_FUSED, true, k, a, aStride, b, c, cStride, row, rowStride, col, accumulate);
}

/** @param hasOffset Rows have an offset behind their scale, and columns what it is multiplied by behind theirs. */
// @ts-ignore: decorator
@inline
export function tile4x8(
  format: i32,
  hasOffset: bool,
  k: i32, // words
  a: usize,
  aStride: usize,
  b: usize,
  c: usize,
  cStride: usize,
  row: usize,
  rowStride: usize,
  col: usize,
  accumulate: bool,
): void {
  let a0 = a;
  let a1 = a0 + aStride;
  let a2 = a1 + aStride;
  let a3 = a2 + aStride;
  let s00 = i32x4.splat(0);
  let s01 = s00;
  let s10 = s00;
  let s11 = s00;
  let s20 = s00;
  let s21 = s00;
  let s30 = s00;
  let s31 = s00;
  const end = a + ((k as usize) << 2);
  while (a0 < end) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let x = v128.load32_splat(a0);
    s00 = addProducts(format, s00, x, b0);
    s01 = addProducts(format, s01, x, b1);
    x = v128.load32_splat(a1);
    s10 = addProducts(format, s10, x, b0);
    s11 = addProducts(format, s11, x, b1);
    x = v128.load32_splat(a2);
    s20 = addProducts(format, s20, x, b0);
    s21 = addProducts(format, s21, x, b1);
    x = v128.load32_splat(a3);
    s30 = addProducts(format, s30, x, b0);
    s31 = addProducts(format, s31, x, b1);
    a0 += 4;
    a1 += 4;
    a2 += 4;
    a3 += 4;
    b += 32;
  }
  finish(c, s00, s01, row, col, accumulate, hasOffset);
  finish(c + cStride, s10, s11, row + rowStride, col, accumulate, hasOffset);
  finish(c + 2 * cStride, s20, s21, row + 2 * rowStride, col, accumulate, hasOffset);
  finish(c + 3 * cStride, s30, s31, row + 3 * rowStride, col, accumulate, hasOffset);
}

/** `sums` plus the products of the word in every lane of `a` with the words of `b`. */
// @ts-ignore: decorator
@inline
function addProducts(format: i32, sums: v128, a: v128, b: v128): v128 {
  if (format == INT16) return i32x4.add(sums, i32x4.dot_i16x8_s(a, b));
  if (ASC_FEATURE_RELAXED_SIMD) {
    if (format == INT8_FUSED) return i32x4.relaxed_dot_i8x16_i7x16_add_s(b, a, sums);
    return i32x4.add(sums, i32x4.dot_i16x8_s(i16x8.relaxed_dot_i8x16_i7x16_s(b, a), i16x8.splat(1)));
  }
  return unreachable(); // `wasm.ts` takes 16 bits then
}

// @ts-ignore: decorator
@inline
function finish(c: usize, s0: v128, s1: v128, row: usize, col: usize, accumulate: bool, hasOffset: bool): void {
  const scale = v128.load32_splat(row);
  let f0 = f32x4.mul(f32x4.convert_i32x4_s(s0), f32x4.mul(scale, v128.load(col)));
  let f1 = f32x4.mul(f32x4.convert_i32x4_s(s1), f32x4.mul(scale, v128.load(col, 16)));
  if (hasOffset) {
    const offset = v128.load32_splat(row, 4);
    f0 = madd(offset, v128.load(col, 32), f0);
    f1 = madd(offset, v128.load(col, 48), f1);
  }
  v128.store(c, accumulate ? f32x4.add(v128.load(c), f0) : f0);
  v128.store(c, accumulate ? f32x4.add(v128.load(c, 16), f1) : f1, 16);
}
