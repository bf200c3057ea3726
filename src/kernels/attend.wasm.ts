/**
 * Dual chunk attention in one pass with one online softmax (arXiv 2205.14135): scores live only as a tile of a few rows
 * and 64 keys. Keys are visited in up to three spans, inter, successive, intra; each names which of the query's rotations
 * to use. Where a chunk border, the causal limit or a window cuts a tile, the keys outside are masked row by row.
 *
 * Items are (tile of queries, split of the keys, key-value head); a tile's rows are `tileLen` tokens times the query heads
 * of the group, so that a tile of keys is loaded once for all of them. All queries of one call lie in one chunk. With one
 * split the result is finished; with more, each leaves its part for `mergeSplits`: decoding has few rows and many keys.
 *
 * In float32 rows go by six through `tile6x8`, or where there are few, by three through `tile3x8`, which reads bfloat16
 * as it lies; in integers by four through `tile4x8i`. There every tile of 64 keys is
 * quantised once for all rows: a key by its own scale, a dimension of the values by its largest in the tile; weights are
 * quantised against the largest of this tile and not of all, so that an attention sink does not wipe out the rest.
 * `4095² * 128 < 2^31` bounds scores, `8191 * 4095 * 64 < 2^31` weighted sums.
 */
import { expandKeys, expandValues, KV_BF16, KV_F32, kvBytes, scaleBytes } from './kv.wasm';
import { quantizeRow, TILE_LARGEST, TILE_SEGMENT, toInt4 } from './quantize.wasm';
import { exp4, LOWEST, max4, scaleRow, sum4 } from './simd.wasm';
import { tile6x8 } from './tile.wasm';
import { tile3x8bf16, tile3x8f32 } from './tileFew.wasm';
import { tile4x8i } from './tileInt.wasm';

// @ts-ignore: decorator
@inline
const KEY_TILE: i32 = 64;
/** Bytes between rows of a score tile. */
// @ts-ignore: decorator
@inline
const SCORE_STRIDE: usize = 256;
// @ts-ignore: decorator
@inline
const LARGEST_WEIGHT: f32 = 8191;
/** Rows that go through a tile at once, by the kind of arithmetic. */
// @ts-ignore: decorator
@inline
const INT_ROWS: i32 = 4;
// @ts-ignore: decorator
@inline
const FEW_ROWS: i32 = 3;

/** What one item works on; lies at the beginning of its scratch memory. `T` is rows, rounded up to whole tiles. */
@unmanaged
class Work {
  T: i32;
  group: i32;
  headDim: i32;
  firstToken: i32;
  lastToken: i32;
  window: u32;
  tileRows: i32;
  kvType: i32;
  capacity: i32;
  keys: usize; // of the item's head
  keyScales: usize;
  values: usize;
  valueScales: usize;
  acc: usize; // [T][headDim] f32
  rowMax: usize; // [T]
  rowSum: usize; // [T]
  queries: usize; // [T][headDim] f32 or i16
  queryScales: usize; // [T]
  scores: usize; // [6][64] f32
  weights: usize; // [4][64] i16
  weightScales: usize; // [4]
  tileKeys: usize; // [8][headDim][8] f32
  tileValues: usize; // [64][headDim] f32
  packedKeys: usize; // [8][headDim / 2][8][2] i16
  packedKeyScales: usize; // [64]
  packedValues: usize; // [headDim / 8][32][8][2] i16
  packedValueScales: usize; // [headDim]
}

/** Lays the arrays out behind `Work`. `wasm.ts` knows their size together. */
// @ts-ignore: decorator
@inline
function layOut(w: Work, scratch: usize, T: i32, headDim: i32): void {
  const rowFloats = (T as usize) << 2;
  const headBytes = (headDim as usize) << 2;
  w.acc = scratch + 128;
  w.rowMax = w.acc + (T as usize) * headBytes;
  w.rowSum = w.rowMax + rowFloats;
  w.queries = w.rowSum + rowFloats;
  w.queryScales = w.queries + (T as usize) * headBytes;
  w.scores = w.queryScales + rowFloats;
  w.weights = w.scores + 6 * SCORE_STRIDE;
  w.weightScales = w.weights + 512;
  w.tileKeys = w.weightScales + 16;
  w.tileValues = w.tileKeys + 64 * headBytes;
  w.packedKeys = w.tileValues + 64 * headBytes;
  w.packedKeyScales = w.packedKeys + 32 * headBytes;
  w.packedValues = w.packedKeyScales + 256;
  w.packedValueScales = w.packedValues + 32 * headBytes;
}

/** Integers of the even and of the odd ones of eight numbers, as four pairs `[4][2]` i16. */
// @ts-ignore: decorator
@inline
function pairs(even: v128, odd: v128): v128 {
  return v128.or(v128.and(even, i32x4.splat(0xffff)), i32x4.shl(odd, 16));
}

/** `rows` rows of eight floats, `stride` bytes apart, to `[rows / 2][8][2]` integers with a scale for each column. */
function packColumns(from: usize, stride: usize, rows: i32, out: usize, scales: usize): void {
  let max0 = f32x4.splat(0);
  let max1 = max0;
  for (let r = 0, at = from; r < rows; r++, at += stride) {
    max0 = f32x4.pmax(max0, f32x4.abs(v128.load(at)));
    max1 = f32x4.pmax(max1, f32x4.abs(v128.load(at, 16)));
  }
  const largest = f32x4.splat(TILE_LARGEST);
  v128.store(scales, f32x4.div(max0, largest));
  v128.store(scales, f32x4.div(max1, largest), 16);
  const positive = f32x4.splat(1e-30); // a column of zeros
  const factor0 = f32x4.div(largest, f32x4.pmax(positive, max0));
  const factor1 = f32x4.div(largest, f32x4.pmax(positive, max1));
  for (let r = 0; r < rows; r += 2, from += 2 * stride, out += 32) {
    const hasOdd = r + 1 < rows;
    const odd0 = hasOdd ? toInt4(f32x4.mul(v128.load(from + stride), factor0)) : i32x4.splat(0);
    const odd1 = hasOdd ? toInt4(f32x4.mul(v128.load(from + stride, 16), factor1)) : i32x4.splat(0);
    v128.store(out, pairs(toInt4(f32x4.mul(v128.load(from), factor0)), odd0));
    v128.store(out, pairs(toInt4(f32x4.mul(v128.load(from, 16), factor1)), odd1), 16);
  }
}

/**
 * One row of a score tile becomes weights, in place as floats against the running maximum, or at `weights` as integers
 * against the tile's own. Keys outside `from..to` weigh nothing; `keys` scores were computed, a multiple of 8.
 * Returns what earlier sums must be multiplied by.
 */
// @ts-ignore: decorator
@inline
function softmaxRow(w: Work, i: usize, row: usize, keys: i32, from: i32, to: i32): f32 {
  const scores = w.scores + i * SCORE_STRIDE;
  for (let j = 0; j < min(from, keys); j++) store<f32>(scores + ((j as usize) << 2), -Infinity);
  for (let j = max(to, 0); j < keys; j++) store<f32>(scores + ((j as usize) << 2), -Infinity);
  const bytes = (keys as usize) << 2;
  const rowMax = w.rowMax + (row << 2);
  const rowSum = w.rowSum + (row << 2);
  const oldMax = load<f32>(rowMax);
  let maxes = f32x4.splat(LOWEST);
  for (let j: usize = 0; j < bytes; j += 16) maxes = f32x4.pmax(maxes, v128.load(scores + j));
  const tileMax = max4(maxes);
  const newMax = max(oldMax, tileMax);
  let sums = f32x4.splat(0);
  let share: f32 = 1;
  if (w.tileRows == INT_ROWS) {
    const shift = f32x4.splat(tileMax);
    const largest = f32x4.splat(LARGEST_WEIGHT);
    const weights = w.weights + (i << 7);
    for (let j: usize = 0; j < bytes; j += 32) {
      const low = exp4(f32x4.sub(v128.load(scores + j), shift));
      const high = exp4(f32x4.sub(v128.load(scores + j, 16), shift));
      sums = f32x4.add(sums, f32x4.add(low, high));
      const ints = i16x8.narrow_i32x4_s(toInt4(f32x4.mul(low, largest)), toInt4(f32x4.mul(high, largest)));
      v128.store(weights + (j >> 1), ints);
    }
    share = f32x4.extract_lane(exp4(f32x4.splat(tileMax - newMax)), 0);
    store<f32>(w.weightScales + (i << 2), share / LARGEST_WEIGHT);
  } else {
    const shift = f32x4.splat(newMax);
    for (let j: usize = 0; j < bytes; j += 16) {
      const weights = exp4(f32x4.sub(v128.load(scores + j), shift));
      v128.store(scores + j, weights);
      sums = f32x4.add(sums, weights);
    }
  }
  const correction = f32x4.extract_lane(exp4(f32x4.splat(oldMax - newMax)), 0);
  store<f32>(rowMax, newMax);
  store<f32>(rowSum, load<f32>(rowSum) * correction + sum4(sums) * share);
  return correction;
}

/** Rows of queries, `[tokens, nHeads, headDim]` at `q` for the item's head, packed as the tiles take them. */
function packQueries(w: Work, q: usize, tokenBytes: usize, T: i32): void {
  const headBytes = (w.headDim as usize) << 2;
  for (let r: usize = 0; r < (w.T as usize); r++) {
    const group = w.group as usize;
    const from = q + (r / group) * tokenBytes + (r % group) * headBytes;
    if (w.tileRows == INT_ROWS) {
      const to = w.queries + r * (headBytes >> 1);
      if (r < (T as usize)) quantizeRow(from, to, w.queryScales + (r << 2), 4, w.headDim, TILE_SEGMENT, TILE_LARGEST);
      else memory.fill(to, 0, headBytes >> 1);
    } else {
      const to = w.queries + r * headBytes;
      if (r < (T as usize)) memory.copy(to, from, headBytes);
      else memory.fill(to, 0, headBytes);
    }
  }
}

/** Adds keys `lo..hi` to the running softmax of all rows; row `r` is token `firstToken + r / group`. */
function attendSpan(w: Work, lo: i32, hi: i32): void {
  const headDim = w.headDim;
  const headBytes = (headDim as usize) << 2;
  const tileRows = w.tileRows;
  const isInt = tileRows == INT_ROWS;
  const isFew = tileRows == FEW_ROWS;
  const isHalf = isFew && w.kvType == KV_BF16;
  const queryBytes = isInt ? headBytes >> 1 : headBytes;
  for (let base = lo & ~(KEY_TILE - 1); base < hi; base += KEY_TILE) {
    const from = max(lo, base) - base;
    const nKeys = min(hi, base + KEY_TILE) - base;
    let k = w.keys + kvBytes(w.kvType, (base as usize) * (headDim as usize));
    let v = w.values + kvBytes(w.kvType, (base as usize) * (headDim as usize));
    if (w.kvType != KV_F32 && !isHalf) {
      expandKeys(w.kvType, w.keys, w.keyScales, base, (nKeys + 7) >> 3, headDim, w.capacity, w.tileKeys);
      expandValues(w.kvType, w.values, w.valueScales, base, nKeys, headDim, w.capacity, w.tileValues);
      k = w.tileKeys;
      v = w.tileValues;
    }
    if (isInt) {
      for (let p: usize = 0; p < (((nKeys + 7) >> 3) as usize); p++) {
        packColumns(k + p * 8 * headBytes, 32, headDim, w.packedKeys + p * 4 * headBytes, w.packedKeyScales + (p << 5));
      }
      for (let d: usize = 0; d < headBytes; d += 32) {
        packColumns(v + d, headBytes, nKeys, w.packedValues + (d << 5), w.packedValueScales + d);
      }
    }
    for (let g = 0; g < w.T; g += tileRows) {
      const lastToken = min(w.firstToken + (g + tileRows - 1) / w.group, w.lastToken);
      const to = min(nKeys, lastToken + 1 - base);
      if (to <= from) continue;
      const nPanels = (to + 7) >> 3;
      const q = w.queries + (g as usize) * queryBytes;
      for (let p: usize = 0; p < (nPanels as usize); p++) {
        const c = w.scores + (p << 5);
        if (isInt) {
          const panel = w.packedKeys + p * 4 * headBytes;
          const rowScales = w.queryScales + ((g as usize) << 2);
          const colScales = w.packedKeyScales + (p << 5);
          tile4x8i(headDim >> 1, q, queryBytes, panel, c, SCORE_STRIDE, rowScales, 4, colScales, false);
        } else if (isHalf) {
          tile3x8bf16(headDim, q, queryBytes, k + p * 4 * headBytes, 16, c, SCORE_STRIDE, false);
        } else if (isFew) {
          tile3x8f32(headDim, q, queryBytes, k + p * 8 * headBytes, 32, c, SCORE_STRIDE, false);
        } else {
          tile6x8(headDim, q, queryBytes, k + p * 8 * headBytes, 32, c, SCORE_STRIDE, false);
        }
      }
      for (let r = g; r < g + tileRows; r++) {
        const token = min(w.firstToken + r / w.group, w.lastToken);
        const oldest = (token as u32) < w.window ? 0 : token - (w.window as i32) + 1;
        const newest = min(to, token + 1 - base);
        const i = (r - g) as usize;
        const correction = softmaxRow(w, i, r as usize, nPanels << 3, max(from, oldest - base), newest);
        if (correction != 1) scaleRow(w.acc + (r as usize) * headBytes, headBytes, correction);
      }
      const o = w.acc + (g as usize) * headBytes;
      for (let d: usize = 0; d < headBytes; d += 32) {
        if (isInt) {
          const panel = w.packedValues + (d << 5);
          const colScales = w.packedValueScales + d;
          tile4x8i((to + 1) >> 1, w.weights, 128, panel, o + d, headBytes, w.weightScales, 4, colScales, true);
        } else if (isHalf) {
          tile3x8bf16(to, w.scores, SCORE_STRIDE, v + (d >> 1), headBytes >> 1, o + d, headBytes, true);
        } else if (isFew) {
          tile3x8f32(to, w.scores, SCORE_STRIDE, v + d, headBytes, o + d, headBytes, true);
        } else {
          tile6x8(to, w.scores, SCORE_STRIDE, v + d, headBytes, o + d, headBytes, true);
        }
      }
    }
  }
}

export function attend(
  scratch: usize,
  begin: i32,
  end: i32,
  out: usize, // [n, nHeads, headDim]; the queries too
  qIntra: usize,
  qSucc: usize,
  qInter: usize,
  kvType: i32,
  keys: usize,
  keyScales: usize,
  values: usize,
  valueScales: usize,
  n: i32,
  start: i32, // token of the first query
  nHeads: i32,
  nKvHeads: i32,
  headDim: i32,
  capacity: i32,
  chunkLen: u32, // the largest u32 is no limit, here and below
  maxChunksBehind: u32,
  window: u32,
  tileLen: i32, // tokens
  tileRows: i32, // 6 or 3: float32, 4: integers
  nSplits: i32,
  parts: usize, // of splits: [nKvHeads, nSplits] of acc [T][headDim], max [T], sum [T]
): void {
  const group = nHeads / nKvHeads;
  const headBytes = (headDim as usize) << 2;
  const groupBytes = (group as usize) * headBytes;
  const tokenBytes = (nHeads as usize) * headBytes;
  const nTiles = (n + tileLen - 1) / tileLen;
  const chunk = (start as u32) / chunkLen;
  const chunkStart = (chunk * chunkLen) as i32;
  const prevStart = chunk > 0 ? chunkStart - (chunkLen as i32) : 0;
  const oldestChunk: u32 = chunk > maxChunksBehind ? chunk - maxChunksBehind : 0;
  const oldestSeen = (oldestChunk * chunkLen) as i32;
  const cacheBytes = kvBytes(kvType, (capacity as usize) * (headDim as usize));
  const scalesOfHead = scaleBytes(headDim, capacity);
  const w = changetype<Work>(scratch);

  for (let item = begin; item < end; item++) {
    const kvHead = (item % nKvHeads) as usize;
    const split = (item / nKvHeads) % nSplits;
    // Late queries see more keys: the longest tiles first, so that threads end together.
    const firstRow = (nTiles - 1 - item / (nKvHeads * nSplits)) * tileLen;
    const nTokens = min(tileLen, n - firstRow);
    const T = nTokens * group;
    w.T = ((T + tileRows - 1) / tileRows) * tileRows;
    w.group = group;
    w.headDim = headDim;
    w.firstToken = start + firstRow;
    w.lastToken = w.firstToken + nTokens - 1;
    w.window = window;
    w.tileRows = tileRows;
    w.kvType = kvType;
    w.capacity = capacity;
    w.keys = keys + kvHead * cacheBytes;
    w.keyScales = keyScales + kvHead * scalesOfHead;
    w.values = values + kvHead * cacheBytes;
    w.valueScales = valueScales + kvHead * scalesOfHead;
    layOut(w, scratch, w.T, headDim);
    const rowFloats = (w.T as usize) << 2;
    memory.fill(w.acc, 0, (w.T as usize) * headBytes);
    memory.fill(w.rowSum, 0, rowFloats);
    for (let r: usize = 0; r < rowFloats; r += 4) store<f32>(w.rowMax + r, LOWEST);

    // the keys of this split, whole tiles of them
    const inWindow = (w.firstToken as u32) < window ? 0 : w.firstToken - (window as i32) + 1;
    const oldest = max(oldestSeen, inWindow);
    const firstTile = oldest / KEY_TILE;
    const tiles = w.lastToken / KEY_TILE + 1 - firstTile;
    const from = max(oldest, (firstTile + (tiles * split) / nSplits) * KEY_TILE);
    const to = min(w.lastToken + 1, (firstTile + (tiles * (split + 1)) / nSplits) * KEY_TILE);

    for (let behind = 2; behind >= 0; behind--) {
      const q = behind == 0 ? qIntra : behind == 1 ? qSucc : qInter;
      const lo = max(from, behind == 0 ? chunkStart : behind == 1 ? prevStart : 0);
      const hi = min(to, behind == 0 ? to : behind == 1 ? chunkStart : prevStart);
      if (hi <= lo) continue;
      packQueries(w, q + (firstRow as usize) * tokenBytes + kvHead * groupBytes, tokenBytes, T);
      attendSpan(w, lo, hi);
    }

    if (nSplits > 1) {
      const partBytes = (w.T as usize) * headBytes + 2 * rowFloats;
      memory.copy(parts + (kvHead * (nSplits as usize) + (split as usize)) * partBytes, w.acc, partBytes);
      continue;
    }
    for (let r = 0; r < T; r++) {
      const row = w.acc + (r as usize) * headBytes;
      scaleRow(row, headBytes, 1 / load<f32>(w.rowSum + ((r as usize) << 2)));
      const token = out + ((firstRow + r / group) as usize) * tokenBytes + kvHead * groupBytes;
      memory.copy(token + ((r % group) as usize) * headBytes, row, headBytes);
    }
  }
}
