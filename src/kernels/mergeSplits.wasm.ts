/**
 * Joins what splits of the keys left of one attention (`attend.wasm.ts`): each its weighted sum, its largest score and its
 * sum of weights, taken together by their shares of the whole (arXiv 2205.14135, section 3).
 */
import { partBytes } from './abi';
import { exp2, LOWEST, madd, scaleRow } from './simd.wasm';

/** Items are rows `[n, nHeads]` of `out`. `parts` `[nKvHeads, nSplits]` of acc `[T][headDim]`, max `[T]` (in bits), sum `[T]`. */
export function mergeSplits(
  scratch: usize,
  begin: i32,
  end: i32,
  out: usize,
  parts: usize,
  T: i32, // rows of a part, rounded up
  nHeads: i32,
  nKvHeads: i32,
  headDim: i32,
  nSplits: i32,
): void {
  const group = nHeads / nKvHeads;
  const headBytes = (headDim as usize) << 2;
  const rowFloats = (T as usize) << 2;
  const bytesOfPart = partBytes(T, headDim) as usize;
  for (let item = begin; item < end; item++) {
    const head = item % nHeads;
    const row = ((item / nHeads) * group + (head % group)) as usize;
    const first = parts + ((head / group) as usize) * (nSplits as usize) * bytesOfPart;
    const maxAt = (T as usize) * headBytes + (row << 2);
    const to = out + (item as usize) * headBytes;
    memory.fill(to, 0, headBytes);
    let largest = LOWEST;
    for (let s: usize = 0; s < (nSplits as usize); s++) largest = max(largest, load<f32>(first + s * bytesOfPart + maxAt));
    let sum: f32 = 0;
    for (let s: usize = 0; s < (nSplits as usize); s++) {
      const part = first + s * bytesOfPart;
      const share = exp2(load<f32>(part + maxAt) - largest);
      sum += share * load<f32>(part + maxAt + rowFloats);
      const acc = part + row * headBytes;
      for (let d: usize = 0; d < headBytes; d += 16) {
        v128.store(to + d, madd(v128.load(acc + d), f32x4.splat(share), v128.load(to + d)));
      }
    }
    scaleRow(to, headBytes, 1 / sum);
  }
}
