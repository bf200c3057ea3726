/** Items are rows. `x`, `out` `[rows, cols]`, `weight` `[cols]`, float32. */
import { FAULT, IN_ACTIVATIONS } from './abi';
import { INFINITE } from './fault.wasm';
import { madd, sum4 } from './simd.wasm';

export function rmsNorm(
  scratch: usize,
  begin: i32,
  end: i32,
  out: usize,
  x: usize,
  weight: usize,
  cols: i32,
  eps: f32,
): void {
  const rowBytes = (cols as usize) << 2;
  const vectorBytes = rowBytes & ~15;
  for (let row = begin; row < end; row++) {
    const from = x + (row as usize) * rowBytes;
    const to = out + (row as usize) * rowBytes;
    let sums = f32x4.splat(0);
    for (let i: usize = 0; i < vectorBytes; i += 16) {
      const v = v128.load(from + i);
      sums = madd(v, v, sums);
    }
    let sum = sum4(sums);
    for (let i = vectorBytes; i < rowBytes; i += 4) sum += load<f32>(from + i) * load<f32>(from + i);
    // an infinite sum of squares would make zeros of the row
    if ((reinterpret<i32>(sum) & 0x7fffffff) >= INFINITE) store<i32>(FAULT, IN_ACTIVATIONS);
    const scale: f32 = 1 / Mathf.sqrt(sum / (cols as f32) + eps);
    const scales = f32x4.splat(scale);
    for (let i: usize = 0; i < vectorBytes; i += 16) {
      v128.store(to + i, f32x4.mul(f32x4.mul(v128.load(from + i), scales), v128.load(weight + i)));
    }
    for (let i = vectorBytes; i < rowBytes; i += 4) {
      store<f32>(to + i, load<f32>(from + i) * scale * load<f32>(weight + i));
    }
  }
}
