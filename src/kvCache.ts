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

/**
 * Allocates a cache for `capacity` tokens ahead. `stageOf` is by layer; `keyForms` is 2 where keys are kept at two positions.
 * @throws UnsupportedError when memory does not suffice.
 */
export function allocKvCache(
  backend: Backend,
  { numKeyValueHeads, headDim }: ModelConfig,
  capacity: number,
  stageOf: readonly number[],
  keyForms: 1 | 2 = 1,
): KvCache {
  const layers = stageOf.map((stage) => backend.allocKv(capacity, numKeyValueHeads, headDim, stage, keyForms));
  return { layers, capacity, length: 0 };
}

/** Bytes of one layer's cache for `capacity` tokens. */
export function kvLayerBytes(
  { numKeyValueHeads, headDim }: ModelConfig,
  capacity: number,
  kvType: KvType,
  keyForms: 1 | 2,
): number {
  const { numberBytes, scaleDims } = KV_TYPES[kvType];
  const headBytes = headDim * numberBytes + (scaleDims === 0 ? 0 : 4 * Math.ceil(headDim / scaleDims));
  return (keyForms + 1) * capacity * numKeyValueHeads * headBytes;
}
