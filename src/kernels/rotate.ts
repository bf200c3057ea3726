/**
 * Definition: rotary embedding. Dimensions `d` and `d + headDim / 2` of every head turn by the angle of their row
 * (Hugging Face's `rotate_half`). `x` `[n, nHeads * headDim]`; `out`, `cos` and `sin` have `n` rows or a multiple, and every
 * `n` of them take `x` again.
 */
export function rotate(
  out: Float64Array,
  x: Float64Array,
  cos: Float64Array,
  sin: Float64Array,
  cols: number,
  halfDim: number,
): void {
  for (let at = 0; at < out.length; at += 2 * halfDim) {
    const from = at % x.length;
    const row = Math.floor(at / cols) * halfDim;
    for (let d = 0; d < halfDim; d++) {
      const [a, b, c, s] = [x[from + d], x[from + d + halfDim], cos[row + d], sin[row + d]];
      out[at + d] = a * c - b * s;
      out[at + d + halfDim] = b * c + a * s;
    }
  }
}
