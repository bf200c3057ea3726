/** Definitions of the kernels that take one number at a time. */

const ACTIVATIONS = {
  silu: (x: number) => x / (1 + Math.exp(-x)),
  /** By tanh (arXiv 1606.08415), as Hugging Face's `gelu_pytorch_tanh`. */
  gelu: (x: number) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

export type Activation = keyof typeof ACTIVATIONS;

/**
 * Both are `x · sigmoid(x (a + b x²))`, since `1 + tanh(u) = 2 sigmoid(2u)`; these are `a` and `b`. Fast kernels take them so,
 * and negative numbers keep their digits.
 */
export const SIGMOID_OF: Readonly<Record<Activation, readonly [a: number, b: number]>> = {
  silu: [1, 0],
  gelu: [2 * Math.sqrt(2 / Math.PI), 2 * Math.sqrt(2 / Math.PI) * 0.044715],
};

/** `out = activation(gate) * up`, a gated linear unit (SwiGLU and GEGLU, arXiv 2002.05202). */
export function glu(out: Float64Array, gate: Float64Array, up: Float64Array, activation: Activation): void {
  for (let i = 0; i < out.length; i++) out[i] = ACTIVATIONS[activation](gate[i]) * up[i];
}

/** `x += y` */
export function add(x: Float64Array, y: Float64Array): void {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
}
