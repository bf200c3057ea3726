/**
 * A model is its config. Field names are those of a Hugging Face `config.json` in camelCase; the readers in
 * `checkpoint/` translate files into this record, and nothing else in the project knows other names.
 */
import { FormatError, UnsupportedError } from './errors.ts';
import type { ModelType } from './families.ts';
import type { Activation } from './kernels/elementwise.ts';

/** RoPE's inverse frequencies are changed from their trained form by one of these rules; `rope.ts` has the formulas. */
export type RopeScaling =
  | { ropeType: 'linear'; factor: number }
  | { ropeType: 'ntk'; factor: number }
  | { ropeType: 'dynamic'; factor: number }
  | {
      ropeType: 'yarn';
      factor: number;
      originalMaxPositionEmbeddings: number;
      attentionFactor?: number;
      betaFast?: number;
      betaSlow?: number;
    }
  | {
      ropeType: 'llama3';
      factor: number;
      lowFreqFactor: number;
      highFreqFactor: number;
      originalMaxPositionEmbeddings: number;
    }
  /** There is one divisor for each frequency, `[headDim / 2]`, as a GGUF file (`rope_freqs.weight`) stores llama3. */
  | { ropeType: 'factors'; factors: readonly number[] };

export interface ModelConfig {
  modelType: ModelType;
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numHiddenLayers: number;
  numAttentionHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  rmsNormEps: number;
  /** Of the gate of the feed-forward. Default: SiLU. */
  hiddenAct?: Activation;
  /** Factor on embeddings. Default 1. */
  embeddingFactor?: number;
  /** Queries are scaled by one over its root. Default: `headDim`. */
  queryPreAttnScalar?: number;
  ropeTheta: number;
  ropeScaling?: RopeScaling;
  /** The model was trained or fine-tuned to read so many tokens. */
  maxPositionEmbeddings: number;
  /** Queries and keys of these layers, by index, are not rotated; it is absent where there are none. */
  layersWithoutRope?: readonly number[];
  /** A query may look back so many tokens, itself included; it is absent when attention is full. */
  slidingWindow?: number;
  /** Layers that have this window, by index, where others have none. Absent: all have it. */
  slidingLayers?: readonly number[];
  /** Base of the RoPE of these layers, which no rule scales, where it is another. */
  ropeLocalTheta?: number;
  tieWordEmbeddings: boolean;
  /** This is Hugging Face's `dual_chunk_attention_config` (Qwen2.5-1M), in tokens. */
  dualChunkAttentionConfig?: {
    chunkSize: number;
    localSize: number;
    /** There is no attention scale where it is 0 or absent. */
    originalMaxPositionEmbeddings: number;
  };
}

/** No published model comes near these bounds; above them a number in a file is an attack or an accident. */
const LIMITS = {
  vocabSize: 2 ** 22,
  hiddenSize: 2 ** 17,
  intermediateSize: 2 ** 19,
  numHiddenLayers: 2 ** 10,
  numAttentionHeads: 2 ** 10,
  numKeyValueHeads: 2 ** 10,
  headDim: 2 ** 10,
  maxPositionEmbeddings: 2 ** 28,
} as const;

/** These ranges are far beyond published models too; outside of them angles and norms are infinite or not numbers. */
const RANGES = {
  rmsNormEps: [1e-20, 1],
  ropeTheta: [1.001, 1e15],
} as const;

const SCALING_RANGES: Readonly<Record<string, readonly [min: number, max: number]>> = {
  factor: [2 ** -10, 2 ** 20],
  factors: [2 ** -20, 2 ** 20],
  attentionFactor: [2 ** -10, 2 ** 10],
  betaFast: [2 ** -10, 2 ** 20],
  betaSlow: [2 ** -10, 2 ** 20],
  lowFreqFactor: [2 ** -10, 2 ** 20],
  highFreqFactor: [2 ** -10, 2 ** 20],
  originalMaxPositionEmbeddings: [1, LIMITS.maxPositionEmbeddings],
};

/**
 * Checks a config before anything is allocated from it, and returns it.
 *
 * @throws FormatError when a number is missing, not a whole number, or out of bounds.
 * @throws UnsupportedError when heads or dimensions do not fit the forward pass.
 */
export function validateConfig(config: ModelConfig, origin: string): ModelConfig {
  for (const field of Object.keys(LIMITS) as (keyof typeof LIMITS)[]) checkLimit(config[field], field, origin);
  for (const [field, range] of Object.entries(RANGES)) {
    checkRange(config[field as keyof typeof RANGES], range, field, origin);
  }
  const { ropeLocalTheta = config.ropeTheta, queryPreAttnScalar = config.headDim } = config;
  checkRange(ropeLocalTheta, RANGES.ropeTheta, 'ropeLocalTheta', origin);
  checkRange(queryPreAttnScalar, [2 ** -10, 2 ** 20], 'queryPreAttnScalar', origin);
  for (const [field, value] of Object.entries(config.ropeScaling ?? {})) {
    if (field === 'ropeType' || value === undefined) continue;
    for (const number of [value].flat()) checkRange(number, SCALING_RANGES[field], `ropeScaling.${field}`, origin);
  }
  const window = trainedWindow(config);
  if (window > LIMITS.maxPositionEmbeddings) {
    throw new FormatError(
      `${origin}: the trained window is ${window} tokens; wanted at most ${LIMITS.maxPositionEmbeddings}`,
    );
  }
  const { numAttentionHeads, numKeyValueHeads, headDim, slidingWindow } = config;
  if (numAttentionHeads % numKeyValueHeads !== 0) {
    throw new UnsupportedError(
      `${origin}: ${numAttentionHeads} attention heads cannot share ${numKeyValueHeads} key-value heads evenly`,
    );
  }
  if (headDim % 8 !== 0) {
    throw new UnsupportedError(`${origin}: headDim is ${headDim}; wanted a multiple of 8`);
  }
  if (slidingWindow !== undefined && (!Number.isSafeInteger(slidingWindow) || slidingWindow < 1)) {
    throw new FormatError(`${origin}: slidingWindow is ${slidingWindow}; wanted a whole number above 0`);
  }
  return config;
}

function checkLimit(value: number, field: keyof typeof LIMITS, origin: string): void {
  if (Number.isInteger(value) && value >= 1 && value <= LIMITS[field]) return;
  throw new FormatError(`${origin}: ${field} is ${value}; wanted a whole number from 1 to ${LIMITS[field]}`);
}

/** The layers of a model, by index. @throws FormatError when no model has so many. */
export function layersOf(numHiddenLayers: number, origin: string): number[] {
  checkLimit(numHiddenLayers, 'numHiddenLayers', origin);
  return Array.from({ length: numHiddenLayers }, (_, layer) => layer);
}

/** The fields of a config whose layers `sliding`, of so many, look back `window` tokens. All of them need no list. */
export const slidingFields = (
  sliding: readonly number[],
  numHiddenLayers: number,
  window: () => number,
): Pick<ModelConfig, 'slidingWindow' | 'slidingLayers'> => ({
  slidingWindow: sliding.length === 0 ? undefined : window(),
  slidingLayers: sliding.length % numHiddenLayers === 0 ? undefined : sliding,
});

function checkRange(value: number, [min, max]: readonly [number, number], field: string, origin: string): void {
  if (value >= min && value <= max) return;
  throw new FormatError(`${origin}: ${field} is ${value}; wanted a number from ${min} to ${max}`);
}

/**
 * Gives the tokens that the model was trained to read, `c` in the paper. One fine-tuned with PI (`linear`) or YaRN
 * counts with its longer window: Hugging Face has `max_position_embeddings` stay as it was before. Dynamic NTK is used
 * without training, `llama3` and `factors` come with the longer window in the config, and a model that ships a dual
 * chunk config counts with the length it was trained at.
 */
export function trainedWindow({ maxPositionEmbeddings, ropeScaling, dualChunkAttentionConfig }: ModelConfig): number {
  if (dualChunkAttentionConfig && dualChunkAttentionConfig.originalMaxPositionEmbeddings > 0) {
    return dualChunkAttentionConfig.originalMaxPositionEmbeddings;
  }
  switch (ropeScaling?.ropeType) {
    case 'linear':
      return Math.max(maxPositionEmbeddings, Math.floor(ropeScaling.factor * maxPositionEmbeddings));
    case 'yarn':
      return Math.max(
        maxPositionEmbeddings,
        Math.floor(ropeScaling.factor * ropeScaling.originalMaxPositionEmbeddings),
      );
    default:
      return maxPositionEmbeddings;
  }
}
