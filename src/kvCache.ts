/** Keys and values of every token read so far. Keys are stored rotated, at a position that never changes. */
import type { Backend, KvLayer } from './backends/backend.ts';
import type { ModelConfig } from './config.ts';
import { KV_TYPES, type KvType } from './kvTypes.ts';

export interface KvCache {
  readonly layers: readonly KvLayer[];
  /** Tokens it can hold. */
  readonly capacity: number;
  /** Tokens it holds. Lowering it forgets the tail; what lies beyond is overwritten. */
  length: number;
}

/** Allocates a cache for `capacity` tokens ahead. `stageOf` is by layer. @throws UnsupportedError when memory does not suffice. */
export function allocKvCache(
  backend: Backend,
  { numKeyValueHeads, headDim }: ModelConfig,
  capacity: number,
  stageOf: readonly number[],
): KvCache {
  const layers = stageOf.map((stage) => backend.allocKv(capacity, numKeyValueHeads, headDim, stage));
  return { layers, capacity, length: 0 };
}

/** Bytes of one layer's cache for `capacity` tokens. */
export function kvLayerBytes({ numKeyValueHeads, headDim }: ModelConfig, capacity: number, kvType: KvType): number {
  const { numberBytes, scaleDims } = KV_TYPES[kvType];
  const headBytes = headDim * numberBytes + (scaleDims === 0 ? 0 : 4 * Math.ceil(headDim / scaleDims));
  return 2 * capacity * numKeyValueHeads * headBytes;
}
