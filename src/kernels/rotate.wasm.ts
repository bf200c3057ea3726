/** Items are rows. `x`, `out` `[n, cols]` of heads of `2 * halfDim`, `cos`, `sin` `[n, halfDim]`; `halfDim % 4 == 0`. */
import { madd } from './simd.wasm';

export function rotate(
  scratch: usize,
  begin: i32,
  end: i32,
  out: usize,
  x: usize,
  cos: usize,
  sin: usize,
  cols: i32,
  halfDim: i32,
): void {
  const rowBytes = (cols as usize) << 2;
  const halfBytes = (halfDim as usize) << 2;
  for (let row = begin; row < end; row++) {
    const from = x + (row as usize) * rowBytes;
    const to = out + (row as usize) * rowBytes;
    const cosRow = cos + (row as usize) * halfBytes;
    const sinRow = sin + (row as usize) * halfBytes;
    for (let head: usize = 0; head < rowBytes; head += 2 * halfBytes) {
      for (let d: usize = 0; d < halfBytes; d += 16) {
        const a = v128.load(from + head + d);
        const b = v128.load(from + head + d + halfBytes);
        const c = v128.load(cosRow + d);
        const s = v128.load(sinRow + d);
        v128.store(to + head + d, madd(f32x4.neg(b), s, f32x4.mul(a, c)));
        v128.store(to + head + d + halfBytes, madd(a, s, f32x4.mul(b, c)));
      }
    }
  }
}
