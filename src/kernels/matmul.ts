/**
 * Definition: `out[n, N] = x[n, K] · weight[N, K]ᵀ + bias[N]`. Rows of `weight` come decoded one at a time, since a
 * quantised matrix stays quantised in memory.
 */
export function matmul(
  out: Float64Array,
  x: Float64Array,
  weightRow: (r: number) => Float64Array,
  bias: Float64Array | undefined,
  N: number,
  K: number,
): void {
  const n = x.length / K;
  for (let r = 0; r < N; r++) {
    const w = weightRow(r);
    for (let t = 0; t < n; t++) {
      let sum = bias ? bias[r] : 0;
      for (let k = 0; k < K; k++) sum += x[t * K + k] * w[k];
      out[t * N + r] = sum;
    }
  }
}
