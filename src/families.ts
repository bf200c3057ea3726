/**
 * What families of models have otherwise than one another, a row each. All else is the same forward pass: readers of files
 * and the table of weights read the row, and `transformer.ts` sees weights that are there or not.
 */

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
  /** Where a branch is normalised: `before` it reads the residual stream, or `after`, as it is added to it. */
  readonly norms: 'before' | 'after';
  /** Every so many-th layer has no RoPE. */
  readonly noRopeEvery?: number;
  /** Where the config does not say; else `hiddenSize / numAttentionHeads`. */
  readonly headDim?: number;
  /** Where the config does not say, the head is the embedding. */
  readonly tiesEmbeddings?: boolean;
  /** What tells of a sliding window before there was `layer_types`: its length, or a flag besides. Default: nothing. */
  readonly window?: 'length' | 'flag';
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
} as const satisfies Readonly<Record<string, Family>>;

export const familyOf = (modelType: ModelType): Family => FAMILIES[modelType];

export const MODEL_TYPES = Object.keys(FAMILIES) as readonly ModelType[];

/** Layers 3, 7, 11 and so on where `n` is 4; none where it is 0. */
export const everyNth = (n: number, layers: readonly number[]): number[] =>
  layers.filter((layer) => (layer + 1) % n === 0);
