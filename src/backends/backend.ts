/**
 * Where the arithmetic happens. A backend owns memory and ten kernels; the model code above it is the same on all.
 * Kernel calls only record: they run, in order, at the next `submit` or `read`. What a kernel computes is its definition
 * in `kernels/<name>.ts`; `gatherRows`, `append` and `copy` do little but move numbers and have none. Shapes are checked by the
 * backends only where a mistake would corrupt memory.
 *
 * Where one memory is too small for a model, it is spread over stages: memories counted from 0.
 * All operands of a kernel lie in one stage; `copy` is the only way from one to another.
 */
import { UnsupportedError } from '../errors.ts';
import type { Choice } from '../kernels/draw.ts';
import type { Activation } from '../kernels/elementwise.ts';
import { PAGE_LEN } from '../kvTypes.ts';
import type { Slice, Stretch } from '../placement.ts';
import type { TensorType } from '../tensorTypes.ts';

/** Handle of `[rows, cols]` numbers in a backend's memory; where and how they lie there is the backend's business. */
export interface Tensor {
  readonly type: TensorType;
  readonly rows: number;
  readonly cols: number;
  readonly stage: number;
}

/**
 * Handle of one layer's rotated keys and values, `[nPages, PAGE_LEN, nKvHeads, headDim]` each, in the backend's own layout.
 * With two key forms, keys are there twice.
 */
export interface KvLayer {
  readonly nPages: number;
  readonly nKvHeads: number;
  readonly headDim: number;
  readonly stage: number;
}

/** The largest calls of kernels: rows of activations, columns of what a product multiplies, heads of attention. */
export interface CallSizes {
  readonly rows: number;
  readonly cols: number;
  readonly nHeads: number;
  readonly nKvHeads: number;
  readonly headDim: number;
  /** Numbers of 32 bits that calls of one submission read and that lie in no tensor: ids, places, pages, spans. */
  readonly kept: number;
}

export interface Backend {
  readonly name: string;
  /** Names how pages of a cache lie in memory: they can be read in one backend and written in another of the same layout. */
  readonly pageLayout: string;
  /** Bytes allocated so far. */
  readonly nBytes: number;

  /** Allocates a tensor, zeroed, in stage 0 unless told. @throws UnsupportedError when memory does not suffice. */
  alloc(type: TensorType, rows: number, cols: number, stage?: number): Tensor;
  /**
   * Allocates one layer's cache, with 1 or 2 key forms. Memory is only touched as tokens arrive.
   * @throws UnsupportedError as `alloc`.
   */
  allocKv(nPages: number, nKvHeads: number, headDim: number, stage?: number, keyForms?: number): KvLayer;
  /**
   * Takes what calls of up to these sizes need besides their operands, so that nothing more is taken later. Without it, and
   * for larger ones, memory grows with the calls. @throws UnsupportedError as `alloc`.
   */
  reserve?(sizes: CallSizes, stage?: number): void;
  /** The same numbers seen as `[rows, cols]`, beginning at number `offset` of an F32 tensor. */
  view(tensor: Tensor, rows: number, cols: number, offset?: number): Tensor;
  /**
   * Runs what was recorded and returns a copy of a page, keys and values of some layers as they lie, one layer behind the other.
   * Behind its first `nTokens` tokens, which may be a text's last, stand zeros instead of what was there before.
   */
  readPage(layers: readonly KvLayer[], page: number, nTokens: number): Promise<Uint8Array>;
  /** Runs what was recorded and puts a page in its place, as `readPage` gave it. */
  writePage(layers: readonly KvLayer[], page: number, bytes: Uint8Array): Promise<void>;
  /** Writes numbers into an F32 tensor from its beginning, at once. */
  write(tensor: Tensor, values: ArrayLike<number>): void;
  /** Writes bytes as they are stored in a file into a tensor of any type, at once. */
  load(tensor: Tensor, bytes: Uint8Array, byteOffset: number): void;

  /**
   * `out[r] = factor * table[ids[r]]`, `factor` by default 1; ids in a tensor, F32 `[n, 1]`, are whole numbers below 2^24 and
   * read when it runs.
   */
  gatherRows(out: Tensor, table: Tensor, ids: ArrayLike<number> | Tensor, factor?: number): void;
  /** `out = x / rms(x) * weight`, row by row */
  rmsNorm(out: Tensor, x: Tensor, weight: Tensor, eps: number): void;
  /** `out[n, N] = x[n, K] · weight[N, K]ᵀ + bias[N]` */
  matmul(out: Tensor, x: Tensor, weight: Tensor, bias?: Tensor): void;
  /**
   * Rotates every head of `x[n, nHeads * headDim]` by the angles of its row, `cos` and `sin` `[n, headDim / 2]`. Where `out` and
   * the angles have several times `n` rows, `x` is rotated again by each `n` of them.
   */
  rotate(out: Tensor, x: Tensor, cos: Tensor, sin: Tensor): void;
  /** Puts the rows of `slices` into the cache: keys rotated, a tensor a form, and values; `[n, nKvHeads * headDim]`. */
  append(kv: KvLayer, keys: readonly Tensor[], v: Tensor, slices: readonly Slice[]): void;
  /**
   * Attention of the rows of `stretches` to the keys they see, softmax over all of them at once; `out[n, nHeads * headDim]`.
   * `q` has the `n` queries, rotated and scaled, once for every rotation that spans name.
   */
  attend(out: Tensor, q: Tensor, kv: KvLayer, stretches: readonly Stretch[]): void;
  /** `out = activation(gate) * up` */
  glu(out: Tensor, gate: Tensor, up: Tensor, activation: Activation): void;
  /** `x += y` */
  add(x: Tensor, y: Tensor): void;
  /** `out = x`, F32; they may lie in different stages. */
  copy(out: Tensor, x: Tensor): void;
  /**
   * `token =` what `choice`, of 1 to `MAX_TOP_K` tokens, draws from one row of `logits`; -1 where one is not a number or the
   * largest is infinite. A backend that has it lets calls be recorded, and tensors written, while a `read` is still awaited.
   * CPU backends have none, as their logits lie where the sampler is.
   */
  draw?(token: Tensor, logits: Tensor, choice: Choice): void;

  /**
   * Runs what was recorded. Where it rejects, here or in `read`, nothing recorded before is pending any more and what it was
   * to write holds anything; the backend can be used again, unless its threads or its GPU are gone.
   *
   * @throws UnsupportedError when a query, key, value or other activation is not a number or too large to compute with, when
   *   memory does not suffice, when threads or GPU are gone, and after `dispose`, also for calls that were still running.
   */
  submit(): Promise<void>;
  /** Runs what was recorded and returns a copy of an F32 tensor's numbers. */
  read(tensor: Tensor): Promise<Float32Array | Float64Array>;
  /** Frees everything; a second call does nothing. What still runs, and all that is asked for later, rejects. */
  dispose(): Promise<void>;
}

/** The error of a kernel that met what is not finite. @param where Such as `the queries of attention`. */
export const notFinite = (where: string) =>
  new UnsupportedError(
    `a number in ${where} is not finite or too large to compute with; the model's weights are damaged, or the text takes it beyond what floats hold`,
  );

/** Puts zeros behind the first `nTokens` of a part of a page, `[PAGE_LEN]` tokens of some bytes each. */
export const clearBehind = (part: Uint8Array, nTokens: number): void => {
  part.fill(0, (part.length / PAGE_LEN) * nTokens);
};

/** The message of all that is asked of a backend after `dispose`. */
export const DISPOSED = 'the backend was disposed; open the model again';
