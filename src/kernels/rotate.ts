/**
 * Definition: rotary embedding. Dimensions `d` and `d + headDim / 2` of every head turn by the angle of their row
 * (Hugging Face's `rotate_half`). `x`, `out` `[n, nHeads * headDim]`; `cos`, `sin` `[n, headDim / 2]`.
 */
export function rotate(
  out: Float64Array,
  x: Float64Array,
  cos: Float64Array,
  sin: Float64Array,
  cols: number,
  halfDim: number,
): void {
  for (let at = 0; at < x.length; at += 2 * halfDim) {
    const row = Math.floor(at / cols) * halfDim;
    for (let d = 0; d < halfDim; d++) {
      const [a, b, c, s] = [x[at + d], x[at + d + halfDim], cos[row + d], sin[row + d]];
      out[at + d] = a * c - b * s;
      out[at + d + halfDim] = b * c + a * s;
    }
  }
}
