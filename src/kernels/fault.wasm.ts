/**
 * How a kernel tells of numbers that nothing can be computed from. It leaves a word at `FAULT`, where the
 * host looks after every program. Magnitudes are compared as bits, in which a NaN is the largest.
 */

/** Bits of infinity: a magnitude below is a finite number. */
// @ts-ignore: decorator
@inline
export const INFINITE: i32 = 0x7f800000;
/** Bits of 2^58: scores of smaller queries and keys, and sums of smaller values, cannot overflow, so nobody checks them. */
// @ts-ignore: decorator
@inline
export const TOO_LARGE: i32 = 0x5c800000;

/** Bits of the largest magnitude of `n` floats at `x`; where one is not a number, of that. */
// @ts-ignore: decorator
@inline
export function absMaxBits(x: usize, n: i32): i32 {
  const magnitude = i32x4.splat(0x7fffffff);
  let m = i32x4.splat(0);
  let i: usize = 0;
  const bytes = (n as usize) << 2;
  for (; i + 16 <= bytes; i += 16) m = i32x4.max_s(m, v128.and(magnitude, v128.load(x + i)));
  for (; i < bytes; i += 4) m = i32x4.max_s(m, v128.and(magnitude, v128.load32_splat(x + i)));
  m = i32x4.max_s(m, v128.shuffle<i32>(m, m, 2, 3, 0, 1));
  return max(i32x4.extract_lane(m, 0), i32x4.extract_lane(m, 1));
}
