/** Items are rows of `cols` numbers. */
import { exp4 } from './simd.wasm';

// @ts-ignore: decorator
@inline
function silu4(x: v128): v128 {
  return f32x4.div(x, f32x4.add(f32x4.splat(1), exp4(f32x4.neg(x))));
}

/** `out = silu(gate) * up` */
export function swiglu(scratch: usize, begin: i32, end: i32, out: usize, gate: usize, up: usize, cols: i32): void {
  const last = (end as usize) * ((cols as usize) << 2);
  let i = (begin as usize) * ((cols as usize) << 2);
  for (; i + 16 <= last; i += 16) {
    v128.store(out + i, f32x4.mul(silu4(v128.load(gate + i)), v128.load(up + i)));
  }
  for (; i < last; i += 4) {
    store<f32>(out + i, f32x4.extract_lane(silu4(v128.load32_splat(gate + i)), 0) * load<f32>(up + i));
  }
}

/** `x += y` */
export function add(scratch: usize, begin: i32, end: i32, x: usize, y: usize, cols: i32): void {
  const last = (end as usize) * ((cols as usize) << 2);
  let i = (begin as usize) * ((cols as usize) << 2);
  for (; i + 16 <= last; i += 16) v128.store(x + i, f32x4.add(v128.load(x + i), v128.load(y + i)));
  for (; i < last; i += 4) store<f32>(x + i, load<f32>(x + i) + load<f32>(y + i));
}
