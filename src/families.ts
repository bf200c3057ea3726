/**
 * Families of models differ in what their rows say. All else is the same forward pass: readers of files
 * and the table of weights read the row, and `transformer.ts` sees weights that are there or not.
 */

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
  /** A branch is normalised `before` it reads the residual stream, or `after`, as it is added to it. */
  readonly norms: 'before' | 'after';
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
} as const satisfies Readonly<Record<string, Family>>;

export const familyOf = (modelType: ModelType): Family => FAMILIES[modelType];

export const MODEL_TYPES = Object.keys(FAMILIES) as readonly ModelType[];

/** Gives layers 3, 7, 11 and so on where `n` is 4; none where it is 0. */
export const everyNth = (n: number, nLayers: number): number[] =>
  Array.from({ length: nLayers }, (_, layer) => layer).filter((layer) => (layer + 1) % n === 0);
