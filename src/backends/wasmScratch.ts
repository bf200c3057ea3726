/**
 * What kernels take in a stage besides their operands, in bytes. It follows from the sizes of the calls and the number of
 * threads, so that it is known before a model is loaded, and taken once.
 */
import type { CallSizes } from './backend.ts';

/** Threads that the backend may have. */
export const MAX_THREADS = 256;

export const LINE = 64; // every allocation begins at a cache line
export const COLUMN_GROUP = 32; // see kernels/matmul.wasm.ts
export const INT_TILE_ROWS = 4;
export const MANY_TOKENS = 32; // so many are worth decoding blocks of weights for
const QUERY_ROWS = 384; // rows of a query tile: enough to reuse a tile of keys, few enough to stay in L2
const MANY_ROWS = 48; // of queries, to be worth packing keys for
const MAX_INT_HEAD_DIM = 128; // scores of longer heads could overflow 32 bits
const SPLIT_KEYS = 256; // fewest keys worth a split of their own
const TILE_SEGMENT = 128; // numbers that share a scale, see kernels/quantize.wasm.ts
const DOT_SEGMENT = 32;
const DOT_BLOCK_BYTES = 80;

export const roundUp = (value: number, multiple: number) => Math.ceil(value / multiple) * multiple;

/** A thread in a product keeps a decoded row, 8 rows and 32 columns of words, their scales, and an edge tile. */
export const matmulScratch = (K: number): number =>
  4 * (41 * roundUp(K, 16) + COLUMN_GROUP * Math.ceil(K / TILE_SEGMENT) + 48) + LINE;

/** A thread in attention keeps `rows` queries of a tile with their outputs and sums, and a tile of keys and values. */
export const attendScratch = (rows: number, headDim: number): number =>
  4 * (rows * (3 * headDim + 5) + 195 * headDim + 1024);

/** Quantised activations `[rows, cols]`: the numbers, and with their scales. */
export function quantizedBytes(rows: number, cols: number, forTiles: boolean): { numberBytes: number; nBytes: number } {
  const rowBytes = forTiles ? 2 * roundUp(cols, 2) : DOT_BLOCK_BYTES * Math.ceil(cols / DOT_SEGMENT);
  const numberBytes = roundUp((forTiles ? rows : roundUp(rows, INT_TILE_ROWS)) * rowBytes, LINE);
  return { numberBytes, nBytes: numberBytes + (forTiles ? 4 * rows * Math.ceil(cols / TILE_SEGMENT) : 0) };
}

/** Cuts `n` queries of each of `group` heads into tiles of `rows` rows, which kernels take `step` at a time. */
export function queryTiles(n: number, group: number, headDim: number, inIntegers: boolean) {
  const tileLen = Math.max(1, Math.min(n, Math.floor(QUERY_ROWS / group)));
  // Quantising a tile of keys pays where enough rows share it; few rows take the keys as they lie.
  const isMany = tileLen * group >= MANY_ROWS;
  const isInt = inIntegers && headDim <= MAX_INT_HEAD_DIM && isMany;
  const step = isInt ? INT_TILE_ROWS : isMany ? 6 : 3;
  return { tileLen, nTiles: Math.ceil(n / tileLen), isInt, step, rows: roundUp(tileLen * group, step) };
}

/** The keys of a lone tile are cut into so many parts that all threads have work; 1 where that is not worth it. */
export function keySplits(nTiles: number, nKvHeads: number, nSeen: number, threads: number): number {
  if (nTiles > 1 || nKvHeads >= 4 * threads) return 1;
  return Math.max(1, Math.min(Math.ceil((4 * threads) / nKvHeads), Math.floor(nSeen / SPLIT_KEYS)));
}

/** Results of a split: outputs, largest scores and sums of a tile's rows. */
export const partBytes = (rows: number, headDim: number): number => 4 * rows * (headDim + 2);

/** The most that calls of up to these sizes take: in each thread, as quantised activations, and as results of splits. */
export function largestScratch({ rows, cols, nHeads, nKvHeads, headDim }: CallSizes, threads: number) {
  const group = nHeads / nKvHeads;
  const tileRows = roundUp(Math.max(group, Math.min(rows * group, QUERY_ROWS)), 12); // of any step
  const nSplits = keySplits(1, nKvHeads, Infinity, threads);
  return {
    thread: roundUp(Math.max(matmulScratch(cols), attendScratch(tileRows, headDim)), LINE),
    quantized: Math.max(quantizedBytes(rows, cols, true).nBytes, quantizedBytes(MANY_TOKENS, cols, false).nBytes),
    parts: nSplits > 1 ? nKvHeads * nSplits * partBytes(tileRows, headDim) : 0,
  };
}

/** All of it, of one stage, and the numbers that calls read besides. */
export function kernelBytes(sizes: CallSizes, threads: number): number {
  const { thread, quantized, parts } = largestScratch(sizes, threads);
  return threads * thread + roundUp(quantized, LINE) + roundUp(parts, LINE) + roundUp(4 * sizes.kept, LINE);
}
