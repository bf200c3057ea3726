/** Keys and values of every token read so far. Keys are stored rotated, at a position that never changes. */
import type { Backend, KvLayer } from './backends/backend.ts';
import type { ModelConfig } from './config.ts';

export interface KvCache {
  readonly layers: readonly KvLayer[];
  /** Tokens it can hold. */
  readonly capacity: number;
  /** Tokens it holds. Lowering it forgets the tail; what lies beyond is overwritten. */
  length: number;
}

/** Allocates a cache for `capacity` tokens ahead. @throws UnsupportedError when memory does not suffice. */
export function allocKvCache(
  backend: Backend,
  { numHiddenLayers, numKeyValueHeads, headDim }: ModelConfig,
  capacity: number,
): KvCache {
  const layers = Array.from({ length: numHiddenLayers }, () => backend.allocKv(capacity, numKeyValueHeads, headDim));
  return { layers, capacity, length: 0 };
}

/** Bytes of a float32 cache for `capacity` tokens. */
export const kvCacheBytes = ({ numHiddenLayers, numKeyValueHeads, headDim }: ModelConfig, capacity: number): number =>
  numHiddenLayers * 2 * capacity * numKeyValueHeads * headDim * 4;
