/**
 * The inner loop for few rows, as in decoding: `c[3][8] (+)= a[3][k] · b[k][8]`, with `b` read as it is stored: float32,
 * bfloat16, or integers of 8 bits, whose scales the caller applies. Six accumulators: the group of query heads that share a key-value head is mostly small, and what is bound by
 * memory gains nothing from a larger tile. Strides in bytes.
 */
import { KV_BF16, KV_F32, KV_Q8_0 } from './abi';
import { kvBytes, load4 } from './kv.wasm';
import { madd } from './simd.wasm';

// @ts-ignore: decorator
@inline
function tile3x8(
  type: i32,
  k: i32,
  a: usize,
  aStride: usize,
  b: usize,
  bStride: usize,
  c: usize,
  cStride: usize,
  accumulate: bool,
): void {
  let a0 = a;
  let a1 = a0 + aStride;
  let a2 = a1 + aStride;
  const c1 = c + cStride;
  const c2 = c1 + cStride;
  let s00 = f32x4.splat(0);
  let s01 = s00;
  let s10 = s00;
  let s11 = s00;
  let s20 = s00;
  let s21 = s00;
  if (accumulate) {
    s00 = v128.load(c);
    s01 = v128.load(c, 16);
    s10 = v128.load(c1);
    s11 = v128.load(c1, 16);
    s20 = v128.load(c2);
    s21 = v128.load(c2, 16);
  }
  const end = a + ((k as usize) << 2);
  while (a0 < end) {
    const b0 = load4(type, b);
    const b1 = load4(type, b + kvBytes(type, 4));
    let x = v128.load32_splat(a0);
    s00 = madd(x, b0, s00);
    s01 = madd(x, b1, s01);
    x = v128.load32_splat(a1);
    s10 = madd(x, b0, s10);
    s11 = madd(x, b1, s11);
    x = v128.load32_splat(a2);
    s20 = madd(x, b0, s20);
    s21 = madd(x, b1, s21);
    a0 += 4;
    a1 += 4;
    a2 += 4;
    b += bStride;
  }
  v128.store(c, s00);
  v128.store(c, s01, 16);
  v128.store(c1, s10);
  v128.store(c1, s11, 16);
  v128.store(c2, s20);
  v128.store(c2, s21, 16);
}

export function tile3x8f32(
  k: i32,
  a: usize,
  aStride: usize,
  b: usize,
  bStride: usize,
  c: usize,
  cStride: usize,
  accumulate: bool,
): void {
  tile3x8(KV_F32, k, a, aStride, b, bStride, c, cStride, accumulate);
}

export function tile3x8bf16(
  k: i32,
  a: usize,
  aStride: usize,
  b: usize,
  bStride: usize,
  c: usize,
  cStride: usize,
  accumulate: bool,
): void {
  tile3x8(KV_BF16, k, a, aStride, b, bStride, c, cStride, accumulate);
}

export function tile3x8q8(
  k: i32,
  a: usize,
  aStride: usize,
  b: usize,
  bStride: usize,
  c: usize,
  cStride: usize,
  accumulate: bool,
): void {
  tile3x8(KV_Q8_0, k, a, aStride, b, bStride, c, cStride, accumulate);
}
