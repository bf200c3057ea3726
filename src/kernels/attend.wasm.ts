/**
 * Dual chunk attention in one pass with one online softmax (arXiv 2205.14135): scores live only as a `[6][64]` tile.
 * Keys are visited in up to three spans, inter, successive, intra; each names which of the query's rotations to use.
 * Where a chunk border, the causal limit or a window cuts a tile, the keys outside are masked row by row.
 *
 * Items are (tile of queries, key-value head); a tile's rows are `tileLen` tokens times the query heads of the group,
 * so that a tile of keys is loaded once for all of them. All queries of one call lie in one chunk. Keys lie in panels
 * of eight, `[nKvHeads, capacity / 8, headDim, 8]`, values in rows, `[nKvHeads, capacity, headDim]`.
 *
 * Scratch, `T` rows rounded up to six: queries `[3][T][headDim]`, out `[T][headDim]`, max `[T]`, sum `[T]`, scores.
 */
import { exp4, max4, sum4 } from './simd.wasm';
import { tile6x8 } from './tile.wasm';

// @ts-ignore: decorator
@inline
const KEY_TILE: i32 = 64;
// @ts-ignore: decorator
@inline
const SCORE_STRIDE: usize = 256;
/** Smaller than any score, yet finite: `exp(masked - LOWEST)` is 0 and not NaN. */
// @ts-ignore: decorator
@inline
const LOWEST: f32 = -1e30;

/** `v *= factor` over `bytes` bytes. */
// @ts-ignore: decorator
@inline
function scaleRow(v: usize, bytes: usize, factor: f32): void {
  const factors = f32x4.splat(factor);
  for (let d: usize = 0; d < bytes; d += 16) v128.store(v + d, f32x4.mul(v128.load(v + d), factors));
}

/**
 * One row of a score tile becomes weights against the running maximum. Keys outside `from..to` weigh nothing.
 * `keys` is the number of scores computed, a multiple of 8. Returns what earlier sums must be multiplied by.
 */
function softmaxRow(scores: usize, keys: i32, from: i32, to: i32, rowMax: usize, rowSum: usize): f32 {
  for (let j = 0; j < min(from, keys); j++) store<f32>(scores + ((j as usize) << 2), -Infinity);
  for (let j = max(to, 0); j < keys; j++) store<f32>(scores + ((j as usize) << 2), -Infinity);
  const bytes = (keys as usize) << 2;
  const oldMax = load<f32>(rowMax);
  let maxes = f32x4.splat(oldMax);
  for (let i: usize = 0; i < bytes; i += 16) maxes = f32x4.pmax(maxes, v128.load(scores + i));
  const newMax = max4(maxes);
  const shift = f32x4.splat(newMax);
  let sums = f32x4.splat(0);
  for (let i: usize = 0; i < bytes; i += 16) {
    const weights = exp4(f32x4.sub(v128.load(scores + i), shift));
    v128.store(scores + i, weights);
    sums = f32x4.add(sums, weights);
  }
  const correction = f32x4.extract_lane(exp4(f32x4.splat(oldMax - newMax)), 0);
  store<f32>(rowMax, newMax);
  store<f32>(rowSum, load<f32>(rowSum) * correction + sum4(sums));
  return correction;
}

/** Adds keys `lo..hi` to the running softmax of rows `0..T6`; row `r` is token `firstToken + r / group`. */
function attendSpan(
  q: usize,
  acc: usize,
  rowMax: usize,
  rowSum: usize,
  scores: usize,
  keys: usize,
  values: usize,
  lo: i32,
  hi: i32,
  firstToken: i32,
  T: i32,
  group: i32,
  window: u32,
  headDim: i32,
): void {
  const headBytes = (headDim as usize) << 2;
  for (let base = lo & ~(KEY_TILE - 1); base < hi; base += KEY_TILE) {
    const from = max(lo, base) - base;
    for (let g = 0; g < T; g += 6) {
      const lastToken = firstToken + min(g + 5, T - 1) / group;
      const to = min(min(hi, base + KEY_TILE), lastToken + 1) - base;
      if (to <= from) continue;
      const nPanels = (to + 7) >> 3;
      const qRows = q + (g as usize) * headBytes;
      for (let p = 0; p < nPanels; p++) {
        const panel = keys + (((base >> 3) + p) as usize) * 8 * headBytes;
        tile6x8(headDim, qRows, headBytes, panel, 32, scores + ((p as usize) << 5), SCORE_STRIDE, false);
      }
      for (let r = g; r < g + 6; r++) {
        const token = firstToken + min(r, T - 1) / group;
        const oldest = (token as u32) < window ? 0 : token - (window as i32) + 1;
        const at = (r as usize) << 2;
        const row = scores + ((r - g) as usize) * SCORE_STRIDE;
        const newest = min(to, token + 1 - base);
        const correction = softmaxRow(row, nPanels << 3, max(from, oldest - base), newest, rowMax + at, rowSum + at);
        if (correction != 1) scaleRow(acc + (r as usize) * headBytes, headBytes, correction);
      }
      const v = values + (base as usize) * headBytes;
      const o = acc + (g as usize) * headBytes;
      for (let d: usize = 0; d < headBytes; d += 32) {
        tile6x8(to, scores, SCORE_STRIDE, v + d, headBytes, o + d, headBytes, true);
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
  keys: usize,
  values: usize,
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

  for (let item = begin; item < end; item++) {
    const kvHead = (item % nKvHeads) as usize;
    // Late queries see more keys: the longest tiles first, so that threads end together.
    const firstRow = (nTiles - 1 - item / nKvHeads) * tileLen;
    const nTokens = min(tileLen, n - firstRow);
    const T = nTokens * group;
    const T6 = ((T + 5) / 6) * 6;
    const qBytes = (T6 as usize) * headBytes;
    const acc = scratch + 3 * qBytes;
    const rowMax = acc + qBytes;
    const rowSum = rowMax + ((T6 as usize) << 2);
    const scores = rowSum + ((T6 as usize) << 2);
    const k = keys + kvHead * (capacity as usize) * headBytes;
    const v = values + kvHead * (capacity as usize) * headBytes;
    const firstToken = start + firstRow;
    const lastSeen = firstToken + nTokens;
    const inWindow = (firstToken as u32) < window ? 0 : firstToken - (window as i32) + 1;
    const oldest = max(oldestSeen, inWindow);

    memory.fill(acc, 0, qBytes);
    memory.fill(rowSum, 0, (T6 as usize) << 2);
    for (let r: usize = 0; r < (T6 as usize) << 2; r += 4) store<f32>(rowMax + r, LOWEST);

    for (let behind = 2; behind >= 0; behind--) {
      const q = behind == 0 ? qIntra : behind == 1 ? qSucc : qInter;
      const lo = max(oldest, behind == 0 ? chunkStart : behind == 1 ? prevStart : 0);
      const hi = behind == 0 ? lastSeen : behind == 1 ? chunkStart : prevStart;
      if (hi <= lo) continue;
      const packed = scratch + (behind as usize) * qBytes;
      memory.fill(packed + (T as usize) * headBytes, 0, ((T6 - T) as usize) * headBytes);
      for (let t = 0; t < nTokens; t++) {
        const from = q + ((firstRow + t) as usize) * tokenBytes + kvHead * groupBytes;
        memory.copy(packed + (t as usize) * groupBytes, from, groupBytes);
      }
      attendSpan(packed, acc, rowMax, rowSum, scores, k, v, lo, hi, firstToken, T, group, window, headDim);
    }

    for (let r = 0; r < T; r++) {
      const row = acc + (r as usize) * headBytes;
      scaleRow(row, headBytes, 1 / load<f32>(rowSum + ((r as usize) << 2)));
      const to = out + ((firstRow + r / group) as usize) * tokenBytes + kvHead * groupBytes;
      memory.copy(to + ((r % group) as usize) * headBytes, row, headBytes);
    }
  }
}

/** Items are tokens. Puts keys and values `[n, nKvHeads, headDim]` into the cache from token `start` on. */
export function append(
  scratch: usize,
  begin: i32,
  end: i32,
  keys: usize,
  values: usize,
  k: usize,
  v: usize,
  start: i32,
  nKvHeads: i32,
  headDim: i32,
  capacity: i32,
): void {
  const headBytes = (headDim as usize) << 2;
  const cacheBytes = (capacity as usize) * headBytes;
  for (let r = begin; r < end; r++) {
    const j = (start + r) as usize;
    for (let head: usize = 0; head < (nKvHeads as usize); head++) {
      const from = ((r as usize) * (nKvHeads as usize) + head) * headBytes;
      memory.copy(values + head * cacheBytes + j * headBytes, v + from, headBytes);
      const lane = keys + head * cacheBytes + (j >> 3) * 8 * headBytes + ((j & 7) << 2);
      for (let d: usize = 0; d < headBytes; d += 4) store<f32>(lane + (d << 3), load<f32>(k + from + d));
    }
  }
}
