/**
 * What kernels take in a stage besides their operands, in bytes. It follows from the sizes of the calls and the number of
 * threads, so that it is known before a model is loaded, and taken once.
 */
import {
  attendScratch,
  dotRowBytes,
  FEW_TILE_ROWS,
  FLOAT_TILE_ROWS,
  INT_TILE_ROWS,
  matmulScratch,
  partBytes,
  TILE_SEGMENT,
  tileRowBytes,
  tileSegments,
} from '../kernels/abi.ts';
import type { Machine } from '../platform/machine.ts';
import type { CallSizes } from './backend.ts';

/** Threads that the backend may have. */
export const MAX_THREADS = 256;

/** A machine gets a thread for each of its cores, where it has threads. */
export const defaultThreads = ({ cores, startThread }: Machine): number =>
  startThread ? Math.min(cores, MAX_THREADS) : 1;

export const LINE = 64; // every allocation begins at a cache line
export const MANY_TOKENS = 32; // so many are worth decoding blocks of weights for
const QUERY_ROWS = 384; // rows of a query tile: enough to reuse a tile of keys, few enough to stay in L2
const MANY_ROWS = 48; // of queries, to be worth packing keys for
const MAX_INT_HEAD_DIM = TILE_SEGMENT; // a query has one scale; scores of longer heads could overflow 32 bits
const SPLIT_KEYS = 256; // fewest keys worth a split of their own

export const roundUp = (value: number, multiple: number) => Math.ceil(value / multiple) * multiple;

/** Quantised activations `[rows, cols]`, for tiles or in whole tiles of rows for dot products: the numbers, and with their scales. */
export function quantizedBytes(rows: number, cols: number, forTiles: boolean): { numberBytes: number; nBytes: number } {
  const numberBytes = forTiles
    ? roundUp(rows * tileRowBytes(cols), LINE)
    : roundUp(roundUp(rows, INT_TILE_ROWS) * dotRowBytes(cols), LINE);
  return { numberBytes, nBytes: numberBytes + (forTiles ? 4 * rows * tileSegments(cols) : 0) };
}

/** Cuts `n` queries of each of `group` heads into tiles of `rows` rows, which kernels take `step` at a time. */
export function queryTiles(n: number, group: number, headDim: number, inIntegers: boolean) {
  const tileLen = Math.max(1, Math.min(n, Math.floor(QUERY_ROWS / group)));
  // Quantising a tile of keys pays where enough rows share it; few rows take the keys as they lie.
  const isMany = tileLen * group >= MANY_ROWS;
  const isInt = inIntegers && headDim <= MAX_INT_HEAD_DIM && isMany;
  const step = isInt ? INT_TILE_ROWS : isMany ? FLOAT_TILE_ROWS : FEW_TILE_ROWS;
  return { tileLen, nTiles: Math.ceil(n / tileLen), isInt, step, rows: roundUp(tileLen * group, step) };
}

/** The keys of a lone tile are cut into so many parts that all threads have work; 1 where that is not worth it. */
export function keySplits(nTiles: number, nKvHeads: number, nSeen: number, threads: number): number {
  if (nTiles > 1 || nKvHeads >= 4 * threads) return 1;
  return Math.max(1, Math.min(Math.ceil((4 * threads) / nKvHeads), Math.floor(nSeen / SPLIT_KEYS)));
}

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
