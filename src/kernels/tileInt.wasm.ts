/**
 * The inner loop in integers: `c[4][8] (+)= rowScale[4] * colScale[8] * (a[4][2k] · b[2k][8])`, with `a` and `b` of 16
 * bits. One instruction multiplies eight pairs and adds them two by two, so numbers lie in pairs along `k`:
 * `b` is `[k][8][2]`. 8 accumulators, 2 vectors of `b`, 1 of `a`, 1 product.
 *
 * Overflow is excluded by the ranges: see `quantize.wasm.ts`.
 */
import { madd } from './simd.wasm';

export function tile4x8i(
  k: i32, // pairs
  a: usize,
  aStride: usize,
  b: usize,
  c: usize,
  cStride: usize,
  rowScale: usize,
  rowScaleStride: usize,
  colScale: usize,
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
    s00 = i32x4.add(s00, i32x4.dot_i16x8_s(x, b0));
    s01 = i32x4.add(s01, i32x4.dot_i16x8_s(x, b1));
    x = v128.load32_splat(a1);
    s10 = i32x4.add(s10, i32x4.dot_i16x8_s(x, b0));
    s11 = i32x4.add(s11, i32x4.dot_i16x8_s(x, b1));
    x = v128.load32_splat(a2);
    s20 = i32x4.add(s20, i32x4.dot_i16x8_s(x, b0));
    s21 = i32x4.add(s21, i32x4.dot_i16x8_s(x, b1));
    x = v128.load32_splat(a3);
    s30 = i32x4.add(s30, i32x4.dot_i16x8_s(x, b0));
    s31 = i32x4.add(s31, i32x4.dot_i16x8_s(x, b1));
    a0 += 4;
    a1 += 4;
    a2 += 4;
    a3 += 4;
    b += 32;
  }
  const col0 = v128.load(colScale);
  const col1 = v128.load(colScale, 16);
  finish(c, s00, s01, v128.load32_splat(rowScale), col0, col1, accumulate);
  finish(c + cStride, s10, s11, v128.load32_splat(rowScale + rowScaleStride), col0, col1, accumulate);
  finish(c + 2 * cStride, s20, s21, v128.load32_splat(rowScale + 2 * rowScaleStride), col0, col1, accumulate);
  finish(c + 3 * cStride, s30, s31, v128.load32_splat(rowScale + 3 * rowScaleStride), col0, col1, accumulate);
}

// @ts-ignore: decorator
@inline
function finish(c: usize, s0: v128, s1: v128, row: v128, col0: v128, col1: v128, accumulate: bool): void {
  const f0 = f32x4.mul(f32x4.convert_i32x4_s(s0), f32x4.mul(row, col0));
  const f1 = f32x4.mul(f32x4.convert_i32x4_s(s1), f32x4.mul(row, col1));
  v128.store(c, accumulate ? f32x4.add(v128.load(c), f0) : f0);
  v128.store(c, accumulate ? f32x4.add(v128.load(c, 16), f1) : f1, 16);
}
