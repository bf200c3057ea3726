/**
 * Dual chunk attention in one pass with one online softmax (arXiv 2205.14135): scores live only as a tile of a few rows
 * and 64 keys. Keys are visited in spans, each with a rotation of the query; the ends of a span stand still or move by a key
 * from row to row. Where an end cuts a tile, the keys outside are masked row by row. A tile lies in one page of the cache.
 *
 * Items are (tile of queries, split of the keys, key-value head); a tile's rows are `tileLen` tokens times the query heads
 * of the group, so that a tile of keys is loaded once for all of them. With one split the result is finished; with more,
 * each leaves its part for `mergeSplits`: decoding has few rows and many keys.
 *
 * Scores are in bits: queries are multiplied by `log2(e)`, and weights are powers of two.
 *
 * In float32 rows go by six through `tile6x8`, or where there are few, by three through `tile3x8`, which reads the
 * cache as it lies; in integers by four through `tile4x8i16` or `tile4x8i8`. There every tile of 64 keys is quantised once for
 * all rows: a key by its own scale, a dimension of the values by its largest among the tile's keys that any row sees;
 * weights are quantised against the largest of this tile and not of all, so that an attention sink does not wipe out the
 * rest.
 * `4095² * 128 < 2^31` bounds scores, `8191 * 4095 * 64 < 2^31` weighted sums.
 */
import {
  AttendScratch,
  FAULT,
  FEW_TILE_ROWS,
  FLOAT32,
  IN_QUERIES,
  INT16,
  INT8,
  KEY_TILE,
  KV_BF16,
  KV_F32,
  KV_Q8_0,
  KV_SCALE_DIMS,
  partBytes,
  RECORD_BYTES,
  TILE_SEGMENT,
} from './abi';
import { absMaxBits, TOO_LARGE } from './fault.wasm';
import { hadamard } from './hadamard.wasm';
import { expandKeys, expandValues, kvBytes, placeOf, scaleBytes } from './kv.wasm';
import { dotRows } from './matmul.wasm';
import { meanKey, packColumns } from './packTile.wasm';
import { BYTE_LARGEST, quantizeRow, quantizeUnsigned, TILE_LARGEST, toInt4, wordsOf } from './quantize.wasm';
import { exp2, exp2of4, LOWEST, max4, scaleRow, sum4 } from './simd.wasm';
import { tile6x8 } from './tile.wasm';
import { tile3x8bf16, tile3x8f32, tile3x8q8 } from './tileFew.wasm';
import { tile4x8i16, tile4x8i8, tile4x8i8fused } from './tileInt.wasm';

/** Bytes between rows of a score tile. */
// @ts-ignore: decorator
@inline
const SCORE_STRIDE: usize = 4 * KEY_TILE;
// @ts-ignore: decorator
@inline
const LOG2E: f32 = 1.4426950408889634;
/** Of weights in 16 bits. */
// @ts-ignore: decorator
@inline
const LARGEST_WEIGHT: f32 = 8191;

/** Keys that rows see under one rotation of their queries: `Span` of placement.ts. */
@unmanaged
class Span {
  rotation: i32;
  keyForm: i32;
  from: i32; // ends at row 0 of the call
  to: i32;
  fromMoves: i32; // keys further in the next row
  toMoves: i32;
}

/** What one item works on; lies at the beginning of its scratch memory. `T` is rows, rounded up to whole tiles. */
class Work extends AttendScratch {
  T: i32;
  group: i32;
  headDim: i32;
  firstRow: i32; // of the call, as `lastRow`
  lastRow: i32;
  tileRows: i32;
  format: i32;
  kvType: i32;
  capacity: i32;
  pages: usize; // i32 each
  keys: usize; // of the item's head
  keyScales: usize;
  values: usize;
  valueScales: usize;
}

/** `2^(score - shift)` of one row in place; returns their sum. */
// @ts-ignore: decorator
@inline
function weighFloats(scores: usize, bytes: usize, shift: f32): f32 {
  const shifts = f32x4.splat(shift);
  let sums = f32x4.splat(0);
  for (let j: usize = 0; j < bytes; j += 16) {
    const weights = exp2of4(f32x4.sub(v128.load(scores + j), shifts), 5);
    v128.store(scores + j, weights);
    sums = f32x4.add(sums, weights);
  }
  return sum4(sums);
}

/** Four weights `2^(score - shift)` as integers. */
// @ts-ignore: decorator
@inline
function weighInt4(format: i32, scores: usize, shifts: v128): v128 {
  const x = f32x4.sub(v128.load(scores), shifts);
  const largest: f32 = format == INT16 ? LARGEST_WEIGHT : BYTE_LARGEST;
  return toInt4(exp2of4(x, format == INT16 ? 4 : 3), f32x4.splat(largest));
}

/** One row of them as the integers of `format` at `weights`; returns the sum of what they stand for. */
// @ts-ignore: decorator
@inline
function weighIntegers(format: i32, scores: usize, weights: usize, bytes: usize, shift: f32): f32 {
  const shifts = f32x4.splat(shift);
  let sums = i32x4.splat(0);
  for (let j: usize = 0; j < bytes; j += 32) {
    const low = weighInt4(format, scores + j, shifts);
    const high = weighInt4(format, scores + j + 16, shifts);
    sums = i32x4.add(sums, i32x4.add(low, high));
    const words = i16x8.narrow_i32x4_s(low, high);
    if (format == INT16) v128.store(weights + (j >> 1), words);
    else v128.store64_lane(weights + (j >> 2), i8x16.narrow_i16x8_s(words, words), 0);
  }
  return sum4(f32x4.convert_i32x4_s(sums)) / (format == INT16 ? LARGEST_WEIGHT : BYTE_LARGEST);
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
  let max0 = f32x4.splat(LOWEST);
  let max1 = max0;
  for (let j: usize = 0; j < bytes; j += 32) {
    max0 = f32x4.pmax(max0, v128.load(scores + j));
    max1 = f32x4.pmax(max1, v128.load(scores + j, 16));
  }
  const scoreMax = max4(f32x4.pmax(max0, max1));
  const tileMax = w.format >= INT8 ? scoreMax + load<f32>(w.shiftScores + (row << 2)) : scoreMax;
  const newMax = max(oldMax, tileMax);
  const correction: f32 = newMax == oldMax ? 1 : exp2(oldMax - newMax);
  let sum: f32;
  if (w.format == FLOAT32) {
    sum = weighFloats(scores, bytes, newMax);
  } else {
    const share: f32 = newMax == tileMax ? 1 : exp2(tileMax - newMax);
    const isBytes = w.format >= INT8;
    const weights = w.weights + (i << (isBytes ? 6 : 7));
    sum = isBytes
      ? weighIntegers(INT8, scores, weights, bytes, scoreMax)
      : weighIntegers(INT16, scores, weights, bytes, scoreMax);
    sum *= share;
    store<f32>(w.weightScales + (i << 3), share / (isBytes ? BYTE_LARGEST : LARGEST_WEIGHT));
    store<f32>(w.weightScales + (i << 3), 0, 4);
  }
  store<f32>(rowMax, newMax);
  store<f32>(rowSum, load<f32>(rowSum) * correction + sum);
  return correction;
}

/** Rows of queries, `[tokens, nHeads, headDim]` at `q` for the item's head, times log2(e), as the tiles take them. */
function packQueries(w: Work, q: usize, tokenBytes: usize, T: i32): void {
  const headBytes = (w.headDim as usize) << 2;
  const rowBytes = (wordsOf(w.format, w.headDim) as usize) << 2;
  const group = w.group as usize;
  for (let r: usize = 0; r < (w.T as usize); r++) {
    const from = q + (r / group) * tokenBytes + (r % group) * headBytes;
    const to = w.queries + r * rowBytes;
    const affine = w.queryScales + (r << 3);
    if (r >= (T as usize)) {
      memory.fill(to, 0, rowBytes);
      store<u64>(affine, 0);
      continue;
    }
    const floats = w.format == FLOAT32 ? to : w.queryFloats + r * headBytes;
    if (absMaxBits(from, w.headDim) >= TOO_LARGE) store<i32>(FAULT, IN_QUERIES);
    memory.copy(floats, from, headBytes);
    hadamard(floats, w.headDim); // as the keys in the cache
    scaleRow(floats, headBytes, LOG2E);
    if (w.format >= INT8) quantizeUnsigned(floats, to, affine, w.headDim);
    else if (w.format == INT16) quantizeRow(floats, to, affine, 4, w.headDim, TILE_SEGMENT, TILE_LARGEST);
  }
}

// @ts-ignore: decorator
@inline
function tileInt(
  format: i32,
  k: i32,
  a: usize,
  aStride: usize,
  b: usize,
  c: usize,
  cStride: usize,
  row: usize,
  col: usize,
  accumulate: bool,
): void {
  if (format == INT16) tile4x8i16(k, a, aStride, b, c, cStride, row, 8, col, accumulate);
  else if (format == INT8) tile4x8i8(k, a, aStride, b, c, cStride, row, 8, col, accumulate);
  else tile4x8i8fused(k, a, aStride, b, c, cStride, row, 8, col, accumulate);
}

/** Scores of three rows and eight keys from place `j` of the cache on, stored in 8 bits, a run of dimensions with a scale at a time. */
function scoreQ8(w: Work, q: usize, k: usize, j: i32, c: usize): void {
  const products = w.tileKeys; // [3][8], as no keys are decoded here
  const queryBytes = (w.headDim as usize) << 2;
  for (let first = 0; first < w.headDim; first += KV_SCALE_DIMS) {
    const run = (first / KV_SCALE_DIMS) * w.capacity + j;
    const dims = min(KV_SCALE_DIMS, w.headDim - first);
    tile3x8q8(dims, q + ((first as usize) << 2), queryBytes, k + ((first as usize) << 3), 8, products, 32, false);
    for (let i: usize = 0; i < 32; i += 16) {
      const scale = v128.load(w.keyScales + ((run as usize) << 2) + i);
      for (let r: usize = 0; r < 3; r++) {
        const to = c + r * SCORE_STRIDE + i;
        const product = f32x4.mul(scale, v128.load(products + (r << 5) + i));
        v128.store(to, first == 0 ? product : f32x4.add(v128.load(to), product));
      }
    }
  }
}

/** Adds `keys` values from place `j` of the cache on, stored in 8 bits, to three rows of sums: weights take on the values' scales. */
function sumQ8(w: Work, v: usize, j: i32, keys: i32, o: usize): void {
  const weights = w.tileKeys; // [3][64]
  const headBytes = (w.headDim as usize) << 2;
  for (let first = 0; first < w.headDim; first += KV_SCALE_DIMS) {
    const scales = w.valueScales + (((first / KV_SCALE_DIMS) * w.capacity + j) << 2);
    for (let r: usize = 0; r < 3 * SCORE_STRIDE; r += SCORE_STRIDE) {
      for (let i: usize = 0; i < ((keys as usize) << 2); i += 16) {
        v128.store(weights + r + i, f32x4.mul(v128.load(scales + i), v128.load(w.scores + r + i)));
      }
    }
    const last = min(first + KV_SCALE_DIMS, w.headDim) as usize;
    for (let d = first as usize; d < last; d += 8) {
      tile3x8q8(keys, weights, SCORE_STRIDE, v + d, w.headDim, o + (d << 2), headBytes, true);
    }
  }
}

/** Adds keys `lo..hi` of a span to the running softmax of all rows. Row `r` is row `firstRow + r / group` of the call. */
function attendSpan(w: Work, span: Span, lo: i32, hi: i32): void {
  const first = span.from;
  const last = span.to;
  const fromMoves = span.fromMoves;
  const toMoves = span.toMoves;
  const headDim = w.headDim;
  const headBytes = (headDim as usize) << 2;
  const tileRows = w.tileRows;
  const format = w.format;
  const isInt = format != FLOAT32;
  const isFew = tileRows == FEW_TILE_ROWS;
  const isHalf = isFew && w.kvType == KV_BF16;
  const isQ8 = isFew && w.kvType == KV_Q8_0;
  const words = wordsOf(format, headDim);
  const queryBytes = (words as usize) << 2;
  const panelBytes = (words as usize) << 5; // of eight keys
  const weightStride: usize = format >= INT8 ? 64 : 128;
  for (let base = lo & ~(KEY_TILE - 1); base < hi; base += KEY_TILE) {
    const nKeys = min(hi, base + KEY_TILE) - base;
    const nUnseen = max(0, lo - base); // keys of the tile before the span's: they may be so large that they spoil a scale
    const place = placeOf(w.pages, base);
    let k = w.keys + kvBytes(w.kvType, (place as usize) * (headDim as usize));
    let v = w.values + kvBytes(w.kvType, (place as usize) * (headDim as usize));
    if (w.kvType != KV_F32 && !isFew) {
      expandKeys(w.kvType, w.keys, w.keyScales, place, (nKeys + 7) >> 3, headDim, w.capacity, w.tileKeys);
      expandValues(w.kvType, w.values, w.valueScales, place, nKeys, headDim, w.capacity, w.tileValues);
      k = w.tileKeys;
      v = w.tileValues;
    }
    if (isInt) {
      const shift: usize = format >= INT8 ? w.keyShift : 0;
      if (shift) {
        meanKey(k, nUnseen, nKeys, headDim, shift);
        dotRows(w.shiftScores, 4, w.queryFloats, shift, w.T, headDim, 0);
      }
      for (let p: usize = 0; p < (((nKeys + 7) >> 3) as usize); p++) {
        const panel = w.packedKeys + p * panelBytes;
        packColumns(format, k + p * 8 * headBytes, 32, 0, headDim, shift, panel, w.packedKeyScales + (p << 6));
      }
      for (let d: usize = 0; d < headBytes; d += 32) {
        packColumns(format, v + d, headBytes, nUnseen, nKeys, 0, w.packedValues + (d << 5), w.packedValueScales + 2 * d);
      }
    }
    for (let g = 0; g < w.T; g += tileRows) {
      const newestRow = min(w.firstRow + (g + tileRows - 1) / w.group, w.lastRow);
      const to = min(nKeys, last + toMoves * newestRow - base);
      const oldest = max(lo, first + fromMoves * (w.firstRow + g / w.group));
      if (to <= max(0, oldest - base)) continue;
      const nPanels = (to + 7) >> 3;
      const q = w.queries + (g as usize) * queryBytes;
      for (let p: usize = 0; p < (nPanels as usize); p++) {
        const c = w.scores + (p << 5);
        if (isInt) {
          const panel = w.packedKeys + p * panelBytes;
          const row = w.queryScales + ((g as usize) << 3);
          const col = w.packedKeyScales + (p << 6);
          tileInt(format, words, q, queryBytes, panel, c, SCORE_STRIDE, row, col, false);
        } else if (isHalf) {
          tile3x8bf16(headDim, q, queryBytes, k + p * 4 * headBytes, 16, c, SCORE_STRIDE, false);
        } else if (isQ8) {
          scoreQ8(w, q, k + p * 2 * headBytes, place + ((p as i32) << 3), c);
        } else if (isFew) {
          tile3x8f32(headDim, q, queryBytes, k + p * 8 * headBytes, 32, c, SCORE_STRIDE, false);
        } else {
          tile6x8(headDim, q, queryBytes, k + p * 8 * headBytes, 32, c, SCORE_STRIDE, false);
        }
      }
      for (let r = g; r < g + tileRows; r++) {
        const row = min(w.firstRow + r / w.group, w.lastRow);
        const from = max(lo, first + fromMoves * row) - base;
        const end = min(to, last + toMoves * row - base);
        const correction = softmaxRow(w, (r - g) as usize, r as usize, nPanels << 3, from, end);
        if (correction != 1) scaleRow(w.acc + (r as usize) * headBytes, headBytes, correction);
      }
      const o = w.acc + (g as usize) * headBytes;
      if (isQ8) {
        sumQ8(w, v, place, to, o);
        continue;
      }
      for (let d: usize = 0; d < headBytes; d += 32) {
        if (isInt) {
          const panel = w.packedValues + (d << 5);
          const col = w.packedValueScales + 2 * d;
          const keyWords = wordsOf(format, to);
          tileInt(format, keyWords, w.weights, weightStride, panel, o + d, headBytes, w.weightScales, col, true);
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
  out: usize, // [n, nHeads, headDim]
  q: usize, // the same for every rotation, `rotationBytes` apart
  rotationBytes: i32,
  kvType: i32,
  keys: usize,
  keyScales: usize,
  values: usize,
  valueScales: usize,
  n: i32,
  nHeads: i32,
  nKvHeads: i32,
  headDim: i32,
  capacity: i32,
  spans: usize, // `Span` each
  nSpans: i32,
  pages: usize, // i32 each
  tileLen: i32, // tokens
  tileRows: i32, // 6 or 3: float32, 4: integers
  format: i32,
  nSplits: i32,
  parts: usize, // of splits: [nKvHeads, nSplits] of acc [T][headDim], max [T], sum [T]
): void {
  const group = nHeads / nKvHeads;
  const headBytes = (headDim as usize) << 2;
  const groupBytes = (group as usize) * headBytes;
  const tokenBytes = (nHeads as usize) * headBytes;
  const nTiles = (n + tileLen - 1) / tileLen;
  const cacheBytes = kvBytes(kvType, (capacity as usize) * (headDim as usize));
  const scalesOfHead = scaleBytes(headDim, capacity);
  const spansEnd = spans + (nSpans as usize) * offsetof<Span>();
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
    w.firstRow = firstRow;
    w.lastRow = firstRow + nTokens - 1;
    w.tileRows = tileRows;
    w.format = format;
    w.kvType = kvType;
    w.capacity = capacity;
    w.pages = pages;
    w.values = values + kvHead * cacheBytes;
    w.valueScales = valueScales + kvHead * scalesOfHead;
    if (offsetof<Work>() > RECORD_BYTES) ERROR('Work is larger than the room for it');
    w.layOut(scratch + RECORD_BYTES, w.T, headDim);
    const rowFloats = (w.T as usize) << 2;
    memory.fill(w.acc, 0, (w.T as usize) * headBytes);
    memory.fill(w.rowSum, 0, rowFloats);
    for (let r: usize = 0; r < rowFloats; r += 4) store<f32>(w.rowMax + r, LOWEST);

    // tiles of keys that any row sees, counted through the spans; this split has its share of them
    let nKeyTiles = 0;
    for (let at = spans; at < spansEnd; at += offsetof<Span>()) {
      const span = changetype<Span>(at);
      const lo = span.from + span.fromMoves * firstRow;
      const hi = span.to + span.toMoves * w.lastRow;
      if (hi > lo) nKeyTiles += (hi - 1) / KEY_TILE - lo / KEY_TILE + 1;
    }
    const fromTile = (nKeyTiles * split) / nSplits;
    const toTile = (nKeyTiles * (split + 1)) / nSplits;

    let tile = 0; // the span's first
    for (let at = spans; at < spansEnd; at += offsetof<Span>()) {
      const span = changetype<Span>(at);
      const lo = span.from + span.fromMoves * firstRow;
      const hi = span.to + span.toMoves * w.lastRow;
      if (hi <= lo) continue;
      const base = lo / KEY_TILE - tile; // tile of the text that would be number 0
      tile += (hi - 1) / KEY_TILE - lo / KEY_TILE + 1;
      const spanLo = max(lo, (base + fromTile) * KEY_TILE);
      const spanHi = min(hi, (base + toTile) * KEY_TILE);
      if (spanHi <= spanLo) continue;
      const head = (span.keyForm * nKvHeads) as usize + kvHead;
      w.keys = keys + head * cacheBytes;
      w.keyScales = keyScales + head * scalesOfHead;
      const rotated = q + (span.rotation as usize) * (rotationBytes as usize);
      packQueries(w, rotated + (firstRow as usize) * tokenBytes + kvHead * groupBytes, tokenBytes, T);
      attendSpan(w, span, spanLo, spanHi);
    }

    if (nSplits > 1) {
      const bytes = partBytes(w.T, headDim) as usize;
      memory.copy(parts + (kvHead * (nSplits as usize) + (split as usize)) * bytes, w.acc, bytes);
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
