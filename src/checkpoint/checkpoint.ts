/**
 * A checkpoint is, once its format is forgotten, a config, named tensors that are still on disk, and the files of its
 * tokenizer. `open.ts` makes one from a GGUF file or a Hugging Face folder.
 */
import type { ModelConfig } from '../config.ts';
import type { Sampling } from '../sampler.ts';
import type { TensorType } from '../tensorTypes.ts';
import type { Source } from './source.ts';

/** An entry is a tensor on disk. Offsets and sizes have been checked against the source before one of these exists. */
export interface TensorEntry {
  /** The name is Hugging Face's, e.g. `model.layers.0.self_attn.q_proj.weight`. */
  readonly name: string;
  readonly type: TensorType;
  /** The shape is `[rows, cols]`; a vector is `[1, cols]`. */
  readonly rows: number;
  readonly cols: number;
  readonly source: Source;
  readonly byteOffset: number;
  readonly nBytes: number;
  /**
   * It is present when the file stores the rows of each attention head with RoPE's pairs interleaved, as GGUF does for
   * the llama architecture: file row `h·headDim + 2i + s` is row `h·headDim + s·headDim/2 + i`.
   */
  readonly interleavedHeadDim?: number;
  /** Present when the file stores what the numbers of a vector are above 1. */
  readonly isAboveOne?: boolean;
}

export interface Checkpoint {
  /** Messages name it so: the path as the user gave it, the address, or the name of the file. */
  readonly name: string;
  readonly format: 'GGUF' | 'safetensors';
  readonly config: ModelConfig;
  /** Tensors are keyed by their Hugging Face names. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** `tokenizer.json` and `tokenizer_config.json` are read, or rebuilt from a GGUF's vocabulary. */
  readonly tokenizerJson: Record<string, unknown>;
  readonly tokenizerConfig: Record<string, unknown>;
  /** The model's makers recommend it; it is empty where they do not say. */
  readonly sampling: Partial<Sampling>;
  /** Closes the files. */
  close(): Promise<void>;
}
