/** Items are rows of `cols` numbers. */
import { exp4 } from './simd.wasm';

/** `x · sigmoid(x (a + b x²))`; the square is kept finite, as `b` may be 0. */
// @ts-ignore: decorator
@inline
function activated4(x: v128, a: v128, b: v128): v128 {
  const square = f32x4.pmin(f32x4.splat(1e30), f32x4.mul(x, x));
  const exponent = f32x4.mul(x, f32x4.add(a, f32x4.mul(b, square)));
  return f32x4.div(x, f32x4.add(f32x4.splat(1), exp4(f32x4.neg(exponent))));
}

/** `out = activation(gate) * up`, the activation as of `SIGMOID_OF` */
export function glu(
  scratch: usize,
  begin: i32,
  end: i32,
  out: usize,
  gate: usize,
  up: usize,
  cols: i32,
  a: f32,
  b: f32,
): void {
  const as4 = f32x4.splat(a);
  const bs4 = f32x4.splat(b);
  const last = (end as usize) * ((cols as usize) << 2);
  let i = (begin as usize) * ((cols as usize) << 2);
  for (; i + 16 <= last; i += 16) {
    v128.store(out + i, f32x4.mul(activated4(v128.load(gate + i), as4, bs4), v128.load(up + i)));
  }
  for (; i < last; i += 4) {
    store<f32>(out + i, f32x4.extract_lane(activated4(v128.load32_splat(gate + i), as4, bs4), 0) * load<f32>(up + i));
  }
}

/** `x += y` */
export function add(scratch: usize, begin: i32, end: i32, x: usize, y: usize, cols: i32): void {
  const last = (end as usize) * ((cols as usize) << 2);
  let i = (begin as usize) * ((cols as usize) << 2);
  for (; i + 16 <= last; i += 16) v128.store(x + i, f32x4.add(v128.load(x + i), v128.load(y + i)));
  for (; i < last; i += 4) store<f32>(x + i, load<f32>(x + i) + load<f32>(y + i));
}
