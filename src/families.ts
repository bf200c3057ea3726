/**
 * Families of models differ in what their rows say. All else is the same forward pass: readers of files
 * and the table of weights read the row, and `transformer.ts` sees weights that are there or not.
 */
import type { Activation } from './kernels/elementwise.ts';

/** A model type is named as Hugging Face's `model_type`. */
export type ModelType = keyof typeof FAMILIES;

export interface Family {
  /** Its GGUF files have this `general.architecture`. */
  readonly architecture: string;
  /** Its GGUF files keep the rows of a query or key head interleaved, as llama.cpp's first RoPE wants them. */
  readonly interleaves?: boolean;
  /** Queries, keys and values have biases. */
  readonly qkvBias?: boolean;
  /** Queries and keys are normalised before they are rotated, over each `head`, or over `all` heads together. */
  readonly qkNorm?: 'head' | 'all';
  /** A branch is normalised `before` it reads the residual stream, `after`, as it is added to it, or at `both` places. */
  readonly norms: 'before' | 'after' | 'both';
  /** Its folders keep what the weights of norms are above 1. */
  readonly normsAboveOne?: boolean;
  /** The feed-forward is gated with this. Default: SiLU. */
  readonly activation?: Activation;
  /** Embeddings are multiplied by the root of `hiddenSize`. */
  readonly scalesEmbeddings?: boolean;
  /** Every so many-th layer has no RoPE. */
  readonly noRopeEvery?: number;
  /** Where the config does not say, heads have so many dimensions; without it, `hiddenSize / numAttentionHeads`. */
  readonly headDim?: number;
  /** Where the config does not say, the head is the embedding. */
  readonly tiesEmbeddings?: boolean;
  /**
   * Before there was `layer_types`, a sliding window was told by its length, or by a flag besides. Default: by nothing.
   */
  readonly window?: 'length' | 'flag';
  /** Where the file does not say, every so many-th layer has full attention and the others a window. */
  readonly fullEvery?: number;
  /** Where the file does not say, the RoPE of layers with a window has this base. */
  readonly ropeLocalTheta?: number;
  /**
   * With so many layers, queries are scaled by the root of `hiddenSize / numAttentionHeads`, which GGUF files do not say.
   */
  readonly widerScaleAt?: number;
}

export const FAMILIES = {
  /** These are Llama 1 to 3. GGUF files say the same of Mistral. */
  llama: { architecture: 'llama', interleaves: true, norms: 'before' },
  mistral: { architecture: 'llama', interleaves: true, norms: 'before', window: 'length' },
  qwen2: { architecture: 'qwen2', qkvBias: true, norms: 'before', window: 'flag' },
  qwen3: { architecture: 'qwen3', qkNorm: 'head', norms: 'before', headDim: 128, window: 'flag' },
  olmo2: { architecture: 'olmo2', qkNorm: 'all', norms: 'after' },
  smollm3: {
    architecture: 'smollm3',
    interleaves: true,
    norms: 'before',
    noRopeEvery: 4,
    tiesEmbeddings: true,
    window: 'flag',
  },
  /** This is Gemma 3, of which those that see images have another name. */
  gemma3_text: {
    architecture: 'gemma3',
    qkNorm: 'head',
    norms: 'both',
    normsAboveOne: true,
    activation: 'gelu',
    scalesEmbeddings: true,
    headDim: 256,
    tiesEmbeddings: true,
    fullEvery: 6,
    ropeLocalTheta: 10_000,
    widerScaleAt: 62,
  },
} as const satisfies Readonly<Record<string, Family>>;

export const familyOf = (modelType: ModelType): Family => FAMILIES[modelType];

export const MODEL_TYPES = Object.keys(FAMILIES) as readonly ModelType[];

/** Gives layers 3, 7, 11 and so on where `n` is 4; none where it is 0. */
export const everyNth = (n: number, layers: readonly number[]): number[] =>
  layers.filter((layer) => (layer + 1) % n === 0);

/**
 * Gives the factor on a family's embeddings, if any. As in transformers it is rounded to bfloat16, in which the models
 * were trained.
 */
export function embeddingFactor({ scalesEmbeddings }: Family, hiddenSize: number): number | undefined {
  const root = Math.sqrt(hiddenSize);
  const step = 2 ** (Math.floor(Math.log2(root)) - 7);
  return scalesEmbeddings ? Math.round(root / step) * step : undefined;
}
