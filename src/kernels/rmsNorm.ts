/**
 * Definition: `out = x / sqrt(mean(x²) + eps) * weight`, row by row (arXiv 1910.07467).
 * `x`, `out` `[rows, cols]`; `weight` `[cols]`.
 */
export function rmsNorm(out: Float64Array, x: Float64Array, weight: Float64Array, eps: number): void {
  const cols = weight.length;
  for (let row = 0; row < x.length; row += cols) {
    let sum = 0;
    for (let c = 0; c < cols; c++) sum += x[row + c] ** 2;
    const scale = 1 / Math.sqrt(sum / cols + eps);
    for (let c = 0; c < cols; c++) out[row + c] = x[row + c] * scale * weight[c];
  }
}
