/**
 * How a cache stores its numbers. `q8_0` shares a scale among 32 dimensions of a head's vector, as ggml's blocks do, but
 * keeps scales apart and in float32. The order is that of the numbers in `kernels/kv.wasm.ts`.
 */
export const KV_TYPES = {
  f32: { numberBytes: 4, scaleDims: 0 },
  bf16: { numberBytes: 2, scaleDims: 0 },
  q8_0: { numberBytes: 1, scaleDims: 32 },
} as const satisfies Record<string, { numberBytes: number; scaleDims: number }>;

export type KvType = keyof typeof KV_TYPES;

/** Half of float32, and no loss of perplexity that shows. */
export const DEFAULT_KV_TYPE: KvType = 'bf16';
