/**
 * What the WebAssembly kernels and their caller agree on: numbers that stand for types, sizes, and where the arrays of
 * scratch memory lie. TypeScript and AssemblyScript both compile this file, so it keeps to what means the same to both:
 * whole numbers below 2^31, and quotients as `(a / b) | 0`. Sizes are bytes unless a comment says otherwise.
 */

/** Storage types of tensors, by their names in `tensorTypes.ts`. */
export const F32 = 0;
export const F16 = 1;
export const BF16 = 2;
export const Q4_0 = 3;
export const Q4_1 = 4;
export const Q5_0 = 5;
export const Q5_1 = 6;
export const Q8_0 = 7;
export const Q4_K = 8;
export const Q5_K = 9;
export const Q6_K = 10;

/** Storage types of a cache. */
export const KV_F32 = 0;
export const KV_BF16 = 1;
export const KV_Q8_0 = 2;
/** Dimensions of a cached vector that share a scale. */
export const KV_SCALE_DIMS = 32;

/**
 * Tokens of a page: the cache is given out by pages, so that texts that begin alike can share them. Tiles of `KEY_TILE` keys
 * and panels of eight lie within one.
 */
export const PAGE_LEN = 128;

/** How attention takes its numbers; those from `INT8` on are bytes, and `INT8_FUSED` multiplies them by another instruction. */
export const FLOAT32 = 0;
export const INT16 = 1;
export const INT8 = 2;
export const INT8_FUSED = 3;

/** Address of a word in the first line of a memory, where no operand lies: 0, or where a fault was met. */
export const FAULT: usize = 16;
export const IN_ACTIVATIONS = 1;
export const IN_QUERIES = 2;
export const IN_KEYS_OR_VALUES = 3;

/** Rows of a tile: of floats, of integers, and of floats where rows are few. */
export const FLOAT_TILE_ROWS = 6;
export const INT_TILE_ROWS = 4;
export const FEW_TILE_ROWS = 3;
/** Columns of a product that are decoded together, which is one item. */
export const COLUMN_GROUP = 32;
/** Keys of a tile. */
export const KEY_TILE = 64;
/** Numbers that share a scale: quantised for tiles, and for dot products. */
export const TILE_SEGMENT = 128;
export const DOT_SEGMENT = 32;
/** A segment for dot products: 32 integers of 16 bits, their scale and the sum of the floats, in whole vectors. */
export const DOT_SCALE: usize = 64;
export const DOT_SUM: usize = 68;
export const DOT_BLOCK_BYTES = 80;

function ceilDiv(a: i32, b: i32): i32 {
  return ((a + b - 1) / b) | 0;
}

/** Scales of a row quantised for tiles. */
export function tileSegments(cols: i32): i32 {
  return ceilDiv(cols, TILE_SEGMENT);
}

/** A row quantised for tiles, in whole words of two integers; without its scales. */
export function tileRowBytes(cols: i32): i32 {
  return 4 * ceilDiv(cols, 2);
}

/** A row quantised for dot products. */
export function dotRowBytes(cols: i32): i32 {
  return ceilDiv(cols, DOT_SEGMENT) * DOT_BLOCK_BYTES;
}

/** What a split of the keys leaves for a tile of `rows` queries: outputs `[rows][headDim]`, largest scores and sums `[rows]`. */
export function partBytes(rows: i32, headDim: i32): i32 {
  return 4 * rows * (headDim + 2);
}

/** Where a thread in a product keeps its arrays; `wordBytes` is a row in 32-bit words, floats or pairs of integers. */
export class MatmulScratch {
  decoded: usize = 0; // [K] f32
  rows: usize = 0; // [8][words]
  panels: usize = 0; // [4][words][8]
  scales: usize = 0; // [4][segments][8] f32
  edge: usize = 0; // [6][8] f32

  /** Lays them out from `at` on and returns their end. */
  layOut(at: usize, K: i32, wordBytes: i32): usize {
    this.decoded = at;
    this.rows = this.decoded + 64 * ceilDiv(4 * K, 64);
    this.panels = this.rows + 8 * wordBytes;
    this.scales = this.panels + COLUMN_GROUP * wordBytes;
    this.edge = this.scales + 4 * COLUMN_GROUP * tileSegments(K);
    return this.edge + 4 * FLOAT_TILE_ROWS * 8;
  }
}

/** Where a thread in attention keeps the arrays of one item, whose tile of queries has `rows` rows. */
export class AttendScratch {
  acc: usize = 0; // [rows][headDim] f32; this and the next two are a part of a split
  rowMax: usize = 0; // [rows]
  rowSum: usize = 0; // [rows]
  queries: usize = 0; // [rows][headDim words]
  queryScales: usize = 0; // [rows][2], scale and offset
  queryFloats: usize = 0; // [rows][headDim], where keys are shifted
  shiftScores: usize = 0; // [rows], what the shift of the keys takes from a row's scores
  scores: usize = 0; // [6][64] f32
  weights: usize = 0; // [4][64] i16 or u8
  weightScales: usize = 0; // [4][2]
  tileKeys: usize = 0; // [8][headDim][8] f32
  tileValues: usize = 0; // [64][headDim] f32
  keyShift: usize = 0; // [headDim], what was taken from all keys of the tile
  packedKeys: usize = 0; // [8][headDim / 2 words][8]
  packedKeyScales: usize = 0; // [8][2][8], scales and sums
  packedValues: usize = 0; // [headDim / 8][64 / 2 words][8]
  packedValueScales: usize = 0; // [headDim / 8][2][8]

  /** Lays them out from `at` on and returns their end. */
  layOut(at: usize, rows: i32, headDim: i32): usize {
    this.acc = at;
    this.rowMax = this.acc + 4 * rows * headDim;
    this.rowSum = this.rowMax + 4 * rows;
    this.queries = this.rowSum + 4 * rows;
    this.queryScales = this.queries + 4 * rows * headDim;
    this.queryFloats = this.queryScales + 8 * rows;
    this.shiftScores = this.queryFloats + 4 * rows * headDim;
    this.scores = this.shiftScores + 4 * rows;
    this.weights = this.scores + 4 * FLOAT_TILE_ROWS * KEY_TILE;
    this.weightScales = this.weights + 2 * INT_TILE_ROWS * KEY_TILE;
    this.tileKeys = this.weightScales + 8 * INT_TILE_ROWS;
    this.tileValues = this.tileKeys + 4 * KEY_TILE * headDim;
    this.keyShift = this.tileValues + 4 * KEY_TILE * headDim;
    this.packedKeys = this.keyShift + 4 * headDim;
    this.packedKeyScales = this.packedKeys + 2 * KEY_TILE * headDim;
    this.packedValues = this.packedKeyScales + 8 * KEY_TILE;
    this.packedValueScales = this.packedValues + 2 * KEY_TILE * headDim;
    return this.packedValueScales + 8 * headDim;
  }
}

/** The records of addresses, and what else a kernel keeps there, take up to so much at the beginning of scratch memory. */
export const RECORD_BYTES: usize = 128;

export function matmulScratch(K: i32): usize {
  return new MatmulScratch().layOut(RECORD_BYTES, K, 4 * K);
}

export function attendScratch(rows: i32, headDim: i32): usize {
  return new AttendScratch().layOut(RECORD_BYTES, rows, headDim);
}
