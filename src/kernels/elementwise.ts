/** Definitions of the kernels that take one number at a time. */

/** `out = silu(gate) * up`, with `silu(x) = x / (1 + exp(-x))` (SwiGLU, arXiv 2002.05202). */
export function swiglu(out: Float64Array, gate: Float64Array, up: Float64Array): void {
  for (let i = 0; i < out.length; i++) out[i] = (gate[i] / (1 + Math.exp(-gate[i]))) * up[i];
}

/** `x += y` */
export function add(x: Float64Array, y: Float64Array): void {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
}
