/** What a model takes, and which memory each layer goes to; known before anything is loaded. */
import type { ModelConfig } from './config.ts';
import { UnsupportedError } from './errors.ts';
import { kvLayerBytes, pagesFor } from './kvCache.ts';
import type { KvType } from './kvTypes.ts';
import { logitBytes, scratchBytes, type WeightBytes } from './transformer.ts';

/** Bytes. */
export interface MemoryPlan {
  weights: number;
  kvCache: number;
  scratch: number;
  total: number;
  /** The stage of every layer: weights and cache of a run of layers share a memory, with scratch of their own. */
  stageOf: number[];
  /** The total by stage. The first holds embedding, last norm, head and logits too. */
  stageBytes: number[];
}

/** Tokens read at a time. Larger blocks decode weights less often and take more scratch memory. */
const BLOCK_LEN = 512;
/** Rows of logits computed at once when a text is scored. */
export const MAX_LOGIT_ROWS = 32;
/** A wasm32 memory, less a MiB for the ends of cache lines. */
const STAGE_BYTES = 2 ** 32 - 2 ** 20;

/** By backend: bytes that a stage holds at most, and tokens read at a time, of which a GPU wants more to be busy. */
export const MEMORY = {
  wasm: { stageLimit: STAGE_BYTES, blockLen: BLOCK_LEN },
  webgpu: { stageLimit: Infinity, blockLen: 4 * BLOCK_LEN },
  reference: { stageLimit: STAGE_BYTES, blockLen: BLOCK_LEN },
} as const;

export interface PlanOptions {
  kvType: KvType;
  /** Texts with room for a whole context each. Default 1. */
  sequences?: number;
  /** 2 where keys are kept at two positions. Default 1. */
  keyForms?: number;
  /** Kinds of attention among the layers. Default 1. */
  nKinds?: number;
  /** Bytes. Default: a wasm memory. */
  stageLimit?: number;
  /** Tokens read at a time. Default 512. */
  blockLen?: number;
  /** What kernels take in a stage besides their operands, in bytes. Default 0. */
  kernels?: number;
}

/**
 * Fills one stage after the other.
 *
 * @param context Tokens.
 */
export function memoryPlan(
  config: ModelConfig,
  weights: WeightBytes,
  context: number,
  options: PlanOptions,
): MemoryPlan {
  const { kvType, sequences = 1, keyForms = 1, nKinds = 1 } = options;
  const { stageLimit = STAGE_BYTES, blockLen = BLOCK_LEN, kernels = 0 } = options;
  const kvLayer = kvLayerBytes(config, sequences * pagesFor(context), kvType, keyForms);
  const scratch = scratchBytes(config, Math.min(blockLen, sequences * context), nKinds) + kernels;
  const logits = logitBytes(config, MAX_LOGIT_ROWS);
  const stageBytes = [weights.others + logits + scratch];
  const stageOf = weights.layers.map((layer) => {
    if (stageBytes[stageBytes.length - 1] + layer + kvLayer > stageLimit) stageBytes.push(scratch);
    stageBytes[stageBytes.length - 1] += layer + kvLayer;
    return stageBytes.length - 1;
  });
  return {
    weights: sum(weights.layers) + weights.others,
    kvCache: weights.layers.length * kvLayer,
    scratch: stageBytes.length * scratch + logits,
    total: sum(stageBytes),
    stageOf,
    stageBytes,
  };
}

/**
 * @param planOf The plan for a context of so many tokens.
 * @param available Bytes that the machine has free.
 * @throws UnsupportedError with the numbers and with the context that would fit, when the plan is too large.
 */
export function checkFits(
  planOf: (context: number) => MemoryPlan,
  context: number,
  backend: keyof typeof MEMORY,
  available: number,
): void {
  if (backend === 'webgpu') return; // a GPU does not tell what it has; it refuses what is too much
  // The reference backend keeps every float32 number in 8 bytes, and each tensor in memory of its own.
  const [width, stageLimit] = backend === 'reference' ? [2, Infinity] : [1, STAGE_BYTES];
  const excessOf = (tokens: number): string | undefined => {
    const { weights, kvCache, scratch, stageBytes } = planOf(tokens);
    const needed = weights + width * (kvCache + scratch);
    if (needed > available) {
      const parts = `weights ${gib(weights)}, KV cache ${gib(width * kvCache)}, scratch ${gib(width * scratch)}`;
      return `needs ${gib(needed)} (${parts}), but this machine has free ${gib(available)}`;
    }
    const largest = Math.max(...stageBytes);
    if (largest <= stageLimit) return;
    return `needs ${gib(largest)} in one piece, as a layer is not divided, but one WebAssembly memory holds ${gib(stageLimit)}`;
  };
  const excess = excessOf(context);
  if (excess === undefined) return;
  // 64 tokens times a number: `fitting` of them fit, `tooMany` do not
  let [fitting, tooMany] = [0, Math.ceil(context / 64)];
  while (tooMany - fitting > 1) {
    const middle = Math.floor((fitting + tooMany) / 2);
    if (excessOf(64 * middle) === undefined) fitting = middle;
    else tooMany = middle;
  }
  throw new UnsupportedError(
    `a context of ${context} tokens ${excess}; ` +
      (fitting > 0 ? `a context of up to ${64 * fitting} tokens fits` : 'no context fits: choose a smaller model'),
  );
}

const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
