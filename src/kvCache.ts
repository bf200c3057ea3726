/** Keys and values of every token that was read, in pages. Keys are stored rotated, at a position that never changes. */
import type { Attention } from './attention.ts';
import type { Backend, KvLayer } from './backends/backend.ts';
import type { ModelConfig } from './config.ts';
import { KV_TYPES, type KvType, PAGE_LEN } from './kvTypes.ts';

export interface KvCache {
  /** Page `p` of a text is the same one in all of them. */
  readonly layers: readonly KvLayer[];
  readonly nPages: number;
}

/** Pages of a text of so many tokens. */
export const pagesFor = (nTokens: number): number => Math.ceil(nTokens / PAGE_LEN);

/** Allocates a cache. `stageOf` is by layer. @throws UnsupportedError when memory does not suffice. */
export function allocKvCache(
  backend: Backend,
  { numKeyValueHeads, headDim }: ModelConfig,
  { kinds, kindOf }: Attention,
  nPages: number,
  stageOf: readonly number[],
): KvCache {
  const layers = stageOf.map((stage, layer) => {
    const keyForms = kinds[kindOf[layer]].placement.keyPositions.length;
    return backend.allocKv(nPages, numKeyValueHeads, headDim, stage, keyForms);
  });
  return { layers, nPages };
}

/** Bytes of one layer's cache of so many pages. */
export function kvLayerBytes(
  { numKeyValueHeads, headDim }: ModelConfig,
  nPages: number,
  kvType: KvType,
  keyForms: number,
): number {
  const { numberBytes, scaleDims } = KV_TYPES[kvType];
  const headBytes = headDim * numberBytes + (scaleDims === 0 ? 0 : 4 * Math.ceil(headDim / scaleDims));
  return (keyForms + 1) * nPages * PAGE_LEN * numKeyValueHeads * headBytes;
}
