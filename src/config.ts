/**
 * A model is its config. Field names are those of a Hugging Face `config.json` in camelCase; the readers in
 * `checkpoint/` translate files into this record, and nothing else in the project knows other names.
 */
import { FormatError, UnsupportedError } from './errors.ts';

export type ModelType = 'llama' | 'mistral' | 'qwen2' | 'qwen3';

/** How RoPE's inverse frequencies are changed from their trained form. See `rope.ts` for the formulas. */
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
  /** One divisor for each frequency, `[headDim / 2]`: how a GGUF file (`rope_freqs.weight`) stores llama3. */
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
  ropeTheta: number;
  ropeScaling?: RopeScaling;
  /** Tokens. The length the model was trained or fine-tuned to read. */
  maxPositionEmbeddings: number;
  /** Tokens a query may look back, itself included; absent when attention is full. */
  slidingWindow?: number;
  tieWordEmbeddings: boolean;
  /** Hugging Face `dual_chunk_attention_config` (Qwen2.5-1M); tokens. */
  dualChunkAttentionConfig?: {
    chunkSize: number;
    localSize: number;
    /** 0 or absent: no attention scale. */
    originalMaxPositionEmbeddings: number;
  };
}

/** Bounds no published model comes near; above them a number in a file is an attack or an accident. */
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

/**
 * Checks a config before anything is allocated from it, and returns it.
 *
 * @throws FormatError when a number is missing, not a whole number, or out of bounds.
 * @throws UnsupportedError when heads or dimensions do not fit the forward pass.
 */
export function validateConfig(config: ModelConfig, origin: string): ModelConfig {
  for (const [field, limit] of Object.entries(LIMITS)) {
    const value = config[field as keyof typeof LIMITS];
    if (!Number.isInteger(value) || value < 1 || value > limit) {
      throw new FormatError(`${origin}: ${field} is ${value}; wanted a whole number from 1 to ${limit}`);
    }
  }
  for (const field of ['rmsNormEps', 'ropeTheta'] as const) {
    const value = config[field];
    if (!Number.isFinite(value) || value <= 0) {
      throw new FormatError(`${origin}: ${field} is ${value}; wanted a positive number`);
    }
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
  if (slidingWindow !== undefined && (!Number.isInteger(slidingWindow) || slidingWindow < 1)) {
    throw new FormatError(`${origin}: slidingWindow is ${slidingWindow}; wanted a whole number above 0`);
  }
  return config;
}

/**
 * Tokens the model was trained to read, `c` in the paper. A model fine-tuned with PI, NTK or YaRN counts with
 * its longer window; one that ships a dual chunk config counts with the length it was trained at.
 */
export function trainedWindow({ maxPositionEmbeddings, ropeScaling, dualChunkAttentionConfig }: ModelConfig): number {
  if (dualChunkAttentionConfig && dualChunkAttentionConfig.originalMaxPositionEmbeddings > 0) {
    return dualChunkAttentionConfig.originalMaxPositionEmbeddings;
  }
  return ropeScaling?.ropeType === 'yarn'
    ? Math.max(maxPositionEmbeddings, Math.floor(ropeScaling.factor * ropeScaling.originalMaxPositionEmbeddings))
    : maxPositionEmbeddings;
}
