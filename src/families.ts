/**
 * What families of models have otherwise than one another, a row each. All else is the same forward pass: readers of files
 * and the table of weights read the row, and `transformer.ts` sees weights that are there or not.
 */
import type { Activation } from './kernels/elementwise.ts';

/** Hugging Face's `model_type`. */
export type ModelType = keyof typeof FAMILIES;

export interface Family {
  /** `general.architecture` of its GGUF files. */
  readonly architecture: string;
  /** Its GGUF files keep the rows of a query or key head interleaved, as llama.cpp's first RoPE wants them. */
  readonly interleaves?: boolean;
  /** Queries, keys and values have biases. */
  readonly qkvBias?: boolean;
  /** What queries and keys are normalised over before they are rotated: each `head`, or `all` heads together. */
  readonly qkNorm?: 'head' | 'all';
  /** Where a branch is normalised: `before` it reads the residual stream, `after`, as it is added to it, or `both`. */
  readonly norms: 'before' | 'after' | 'both';
  /** Its folders keep what the weights of norms are above 1. */
  readonly normsAboveOne?: boolean;
  /** Default: SiLU. */
  readonly activation?: Activation;
  /** Embeddings are multiplied by the root of `hiddenSize`. */
  readonly scalesEmbeddings?: boolean;
  /** Every so many-th layer has no RoPE. */
  readonly noRopeEvery?: number;
  /** Where the config does not say; else `hiddenSize / numAttentionHeads`. */
  readonly headDim?: number;
  /** Where the config does not say, the head is the embedding. */
  readonly tiesEmbeddings?: boolean;
  /** What tells of a sliding window before there was `layer_types`: its length, or a flag besides. Default: nothing. */
  readonly window?: 'length' | 'flag';
  /** Every so many-th layer has full attention and the others a window, where the file does not say. */
  readonly fullEvery?: number;
  /** Base of the RoPE of layers with a window, where the file does not say. */
  readonly ropeLocalTheta?: number;
  /** Of so many layers, queries are scaled by the root of `hiddenSize / numAttentionHeads`, which GGUF files do not say. */
  readonly widerScaleAt?: number;
}

export const FAMILIES = {
  /** Llama 1 to 3. GGUF files say the same of Mistral. */
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
  /** Gemma 3, of those that see images only the text. */
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

/** Layers 3, 7, 11 and so on where `n` is 4; none where it is 0. */
export const everyNth = (n: number, layers: readonly number[]): number[] =>
  layers.filter((layer) => (layer + 1) % n === 0);

/** Factor on a family's embeddings, if any; rounded to bfloat16, in which the models were trained, as transformers does. */
export function embeddingFactor({ scalesEmbeddings }: Family, hiddenSize: number): number | undefined {
  const root = Math.sqrt(hiddenSize);
  const step = 2 ** (Math.floor(Math.log2(root)) - 7);
  return scalesEmbeddings ? Math.round(root / step) * step : undefined;
}
