/** What a model takes in memory, known before anything is loaded. */
import type { ModelConfig } from './config.ts';
import { UnsupportedError } from './errors.ts';
import { kvCacheBytes } from './kvCache.ts';
import type { KvType } from './kvTypes.ts';
import { scratchBytes } from './transformer.ts';

/** Bytes. */
export interface MemoryPlan {
  weights: number;
  kvCache: number;
  scratch: number;
  total: number;
}

/** Tokens read at a time. Larger blocks decode weights less often and take more scratch memory. */
export const BLOCK_LEN = 512;
/** Rows of logits computed at once when a text is scored. */
export const MAX_LOGIT_ROWS = 32;
/** One wasm32 memory. */
const WASM_BYTES = 2 ** 32;

/** @param context Tokens. @param weights Bytes of the stored weights. */
export function memoryPlan(config: ModelConfig, weights: number, context: number, kvType: KvType): MemoryPlan {
  const kvCache = kvCacheBytes(config, context, kvType);
  const scratch = scratchBytes(config, Math.min(BLOCK_LEN, context), MAX_LOGIT_ROWS);
  return { weights, kvCache, scratch, total: weights + kvCache + scratch };
}

/** @throws UnsupportedError with the numbers and with the context that would fit, when `plan` is too large. */
export function checkFits(plan: MemoryPlan, context: number, backend: 'wasm' | 'reference'): void {
  // The reference backend keeps every float32 number in 8 bytes.
  const width = backend === 'reference' ? 2 : 1;
  const available = globalThis.process?.availableMemory?.() ?? Infinity;
  const [limit, limitedBy] =
    backend === 'wasm' && WASM_BYTES < available
      ? [WASM_BYTES, 'one WebAssembly memory holds']
      : [available, 'this machine has free'];
  const needed = plan.weights + width * (plan.kvCache + plan.scratch);
  if (needed <= limit) return;
  const perToken = (width * plan.kvCache) / context;
  const fitting = Math.floor((limit - plan.weights - width * plan.scratch) / perToken / 64) * 64;
  const parts = `weights ${gib(plan.weights)}, KV cache ${gib(width * plan.kvCache)}, scratch ${gib(width * plan.scratch)}`;
  throw new UnsupportedError(
    `a context of ${context} tokens needs ${gib(needed)} (${parts}), but ${limitedBy} ${gib(limit)}; ` +
      (fitting > 0 ? `a context of up to ${fitting} tokens fits` : 'no context fits: choose a smaller model'),
  );
}

const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
