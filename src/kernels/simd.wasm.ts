/** Vector helpers. The relaxed build fuses multiply and add into one instruction; the plain build takes two. */

/** `a * b + c` */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? f32x4.relaxed_madd(a, b, c) : f32x4.add(f32x4.mul(a, b), c);
}

/** Sum of four lanes. */
// @ts-ignore: decorator
@inline
export function sum4(v: v128): f32 {
  const pairs = f32x4.add(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1);
}

/** Largest of four lanes. */
// @ts-ignore: decorator
@inline
export function max4(v: v128): f32 {
  const pairs = f32x4.pmax(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return max(f32x4.extract_lane(pairs, 0), f32x4.extract_lane(pairs, 1));
}

/**
 * `exp(x)` of four lanes, relative error below 3e-7; exactly 0 below -87.3 and capped at exp(88).
 * `x = n ln2 + r`, a polynomial of degree 6 for `exp(r)` on `|r| <= ln2 / 2`, and `2^n` set as exponent bits.
 */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  const capped = f32x4.pmin(f32x4.splat(88), f32x4.pmax(f32x4.splat(-87.3), x));
  const n = f32x4.nearest(f32x4.mul(capped, f32x4.splat(1.4426950408889634)));
  // ln2 in two parts, so that the reduction keeps its last bits
  let r = madd(n, f32x4.splat(-0.693359375), capped);
  r = madd(n, f32x4.splat(2.12194440e-4), r);
  let p = f32x4.splat(1.0 / 720.0);
  p = madd(p, r, f32x4.splat(1.0 / 120.0));
  p = madd(p, r, f32x4.splat(1.0 / 24.0));
  p = madd(p, r, f32x4.splat(1.0 / 6.0));
  p = madd(p, r, f32x4.splat(0.5));
  p = madd(p, r, f32x4.splat(1));
  p = madd(p, r, f32x4.splat(1));
  const power = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23);
  return v128.and(f32x4.mul(p, power), f32x4.ge(x, f32x4.splat(-87.3)));
}

/**
 * `2^x` of four lanes for `x <= 0`; below -125 as at -125. `x = n + f` with `|f| <= 1/2`, a polynomial for `2^f`
 * whose relative error is 1e-4, 4e-6 or 2e-7 by its degree, and `n` added to its exponent bits.
 */
// @ts-ignore: decorator
@inline
export function exp2of4(x: v128, degree: i32): v128 {
  const capped = f32x4.pmax(f32x4.splat(-125), x);
  const nearest = f32x4.splat(12582912); // 1.5 * 2^23: a sum with it has no room for fractions, its low bits are n
  const n = f32x4.add(capped, nearest);
  const f = f32x4.sub(capped, f32x4.sub(n, nearest));
  let p: v128;
  if (degree == 3) {
    p = f32x4.splat(0.055838283);
    p = madd(p, f, f32x4.splat(0.24263948));
    p = madd(p, f, f32x4.splat(0.69313673));
    p = madd(p, f, f32x4.splat(0.99992456));
  } else if (degree == 4) {
    p = f32x4.splat(0.0096663685);
    p = madd(p, f, f32x4.splat(0.055921976));
    p = madd(p, f, f32x4.splat(0.24022349));
    p = madd(p, f, f32x4.splat(0.69312105));
    p = madd(p, f, f32x4.splat(1));
  } else {
    p = f32x4.splat(0.0013390863);
    p = madd(p, f, f32x4.splat(0.009676032));
    p = madd(p, f, f32x4.splat(0.055503571));
    p = madd(p, f, f32x4.splat(0.24022107));
    p = madd(p, f, f32x4.splat(0.69314719));
    p = madd(p, f, f32x4.splat(1));
  }
  return i32x4.add(p, i32x4.shl(n, 23));
}

/** `2^x` of one number, for `x <= 0`. */
// @ts-ignore: decorator
@inline
export function exp2(x: f32): f32 {
  return f32x4.extract_lane(exp2of4(f32x4.splat(x), 5), 0);
}

/** Smaller than any score, yet finite: `exp(masked - LOWEST)` is 0 and not NaN. */
// @ts-ignore: decorator
@inline
export const LOWEST: f32 = -1e30;

/** `v *= factor` over `bytes` bytes. */
// @ts-ignore: decorator
@inline
export function scaleRow(v: usize, bytes: usize, factor: f32): void {
  const factors = f32x4.splat(factor);
  for (let d: usize = 0; d < bytes; d += 16) v128.store(v + d, f32x4.mul(v128.load(v + d), factors));
}
