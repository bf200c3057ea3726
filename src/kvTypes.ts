import * as abi from './kernels/abi.ts';

/**
 * How a cache stores its numbers. `q8_0` shares a scale among 32 dimensions of a head's vector, as ggml's blocks do, but
 * keeps scales apart and in float32. `number` is what the WebAssembly kernels call the type.
 */
export const KV_TYPES = {
  f32: { number: abi.KV_F32, numberBytes: 4, scaleDims: 0 },
  bf16: { number: abi.KV_BF16, numberBytes: 2, scaleDims: 0 },
  q8_0: { number: abi.KV_Q8_0, numberBytes: 1, scaleDims: abi.KV_SCALE_DIMS },
} as const satisfies Record<string, { number: number; numberBytes: number; scaleDims: number }>;

export type KvType = keyof typeof KV_TYPES;

/** Tokens of a page of the cache. */
export const PAGE_LEN: number = abi.PAGE_LEN;

/** Half of float32, and no loss of perplexity that shows. */
export const DEFAULT_KV_TYPE: KvType = 'bf16';
