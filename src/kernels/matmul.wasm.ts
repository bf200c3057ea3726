/**
 * `out[n, N] = x[n, K] · weight[N, K]ᵀ + bias[N]`. Items are groups of 32 columns of `out`. With a tile's worth of rows or
 * more, a group's weights are decoded once into four panels of 32-bit words, `[words][8]`, and run through a tile; a word
 * is one float, or a pair of 16-bit integers. With few rows blocks are multiplied as they are stored: a row of `x` at a time
 * (`dotRow.wasm.ts`), or several in a tile (`matmulBlocks.wasm.ts`).
 */
import {
  COLUMN_GROUP,
  dotRowBytes,
  F32,
  FLOAT_TILE_ROWS,
  INT_TILE_ROWS,
  MatmulScratch,
  RECORD_BYTES,
  TILE_SEGMENT,
  tileRowBytes,
  tileSegments,
} from './abi';
import { dequantizeRow } from './dequantize.wasm';
import { dotRow } from './dotRow.wasm';
import { multiplyBlocks } from './matmulBlocks.wasm';
import { quantizeRow, TILE_LARGEST } from './quantize.wasm';
import { madd, sum4 } from './simd.wasm';
import { tile6x8 } from './tile.wasm';
import { tile4x8i16 } from './tileInt.wasm';

/** `out[t] = x[t] · w + bias` for `n` rows of `x`, `outStride` bytes apart. */
export function dotRows(out: usize, outStride: usize, x: usize, w: usize, n: i32, K: i32, bias: f32): void {
  const bytes = (K as usize) << 2;
  const unrolled = bytes & ~63;
  for (let t = 0; t < n; t++, x += bytes, out += outStride) {
    let s0 = f32x4.splat(0);
    let s1 = s0;
    let s2 = s0;
    let s3 = s0;
    for (let i: usize = 0; i < unrolled; i += 64) {
      s0 = madd(v128.load(x + i), v128.load(w + i), s0);
      s1 = madd(v128.load(x + i, 16), v128.load(w + i, 16), s1);
      s2 = madd(v128.load(x + i, 32), v128.load(w + i, 32), s2);
      s3 = madd(v128.load(x + i, 48), v128.load(w + i, 48), s3);
    }
    let sum = sum4(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)));
    for (let i = unrolled; i < bytes; i += 4) sum += load<f32>(x + i) * load<f32>(w + i);
    store<f32>(out, sum + bias);
  }
}

/** `panel[K][8] = rows[8][K]ᵀ` */
function transpose8(panel: usize, rows: usize, words: i32): void {
  const rowBytes = (words as usize) << 2;
  const vectorBytes = rowBytes & ~15;
  for (let side: usize = 0; side < 2; side++) {
    const r0 = rows + side * 4 * rowBytes;
    const r1 = r0 + rowBytes;
    const r2 = r1 + rowBytes;
    const r3 = r2 + rowBytes;
    let to = panel + side * 16;
    for (let i: usize = 0; i < vectorBytes; i += 16, to += 128) {
      const a = v128.load(r0 + i);
      const b = v128.load(r1 + i);
      const c = v128.load(r2 + i);
      const d = v128.load(r3 + i);
      const ab01 = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
      const ab23 = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
      const cd01 = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
      const cd23 = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
      v128.store(to, v128.shuffle<i64>(ab01, cd01, 0, 2));
      v128.store(to, v128.shuffle<i64>(ab01, cd01, 1, 3), 32);
      v128.store(to, v128.shuffle<i64>(ab23, cd23, 0, 2), 64);
      v128.store(to, v128.shuffle<i64>(ab23, cd23, 1, 3), 96);
    }
    for (let i = vectorBytes; i < rowBytes; i += 4, to += 32) {
      store<f32>(to, load<f32>(r0 + i));
      store<f32>(to, load<f32>(r1 + i), 4);
      store<f32>(to, load<f32>(r2 + i), 8);
      store<f32>(to, load<f32>(r3 + i), 12);
    }
  }
}

/**
 * Few rows of `x`: columns `from..to`, each weight row read once. `xq` 0: `x` as floats; else weights are blocks, which
 * `dotRow` takes. `decoded` has room for a row.
 */
// @ts-ignore: decorator
@inline
function multiplyRows(
  decoded: usize,
  from: i32,
  to: i32,
  out: usize,
  x: usize,
  xq: usize,
  weight: usize,
  type: i32,
  rowBytes: usize,
  bias: usize,
  n: i32,
  N: i32,
  K: i32,
): void {
  const outStride = (N as usize) << 2;
  const xqBytes = dotRowBytes(K) as usize;
  for (let c = from as usize; c < (to as usize); c++) {
    let row = weight + c * rowBytes;
    const first = out + (c << 2);
    const addend: f32 = bias ? load<f32>(bias + (c << 2)) : 0;
    if (xq) {
      for (let t: usize = 0; t < (n as usize); t++) {
        store<f32>(first + t * outStride, dotRow(type, row, xq + t * xqBytes, K) + addend);
      }
    } else {
      if (type != F32) {
        dequantizeRow(type, row, decoded, K);
        row = decoded;
      }
      dotRows(first, outStride, x, row, n, K, addend);
    }
  }
}

export function matmul(
  scratch: usize,
  begin: i32,
  end: i32,
  out: usize,
  x: usize,
  xq: usize, // 0: multiply floats; else `x` quantised, for tiles, or where there are no `xScales` in blocks for dot products
  xScales: usize,
  weight: usize,
  type: i32,
  rowBytes: usize,
  bias: usize, // 0: none
  n: i32,
  N: i32,
  K: i32,
): void {
  const isInt = xq != 0;
  const tileRows = isInt ? INT_TILE_ROWS : FLOAT_TILE_ROWS;
  const words = isInt ? tileRowBytes(K) >> 2 : K;
  const wordBytes = (words as usize) << 2;
  const segments = tileSegments(K);
  const scaleBytes = (segments as usize) << 5; // of a panel
  const outStride = (N as usize) << 2;
  const w = changetype<MatmulScratch>(scratch);
  w.layOut(scratch + RECORD_BYTES, K, wordBytes as i32);
  const decoded = w.decoded;
  const rows8 = w.rows;
  const panels = w.panels;
  const scales = w.scales;
  const edge = w.edge;
  const xRows = isInt ? xq : x;
  const xScaleBytes = (segments as usize) << 2;

  for (let item = begin; item < end; item++) {
    const firstCol = item * COLUMN_GROUP;
    const nCols = min(COLUMN_GROUP, N - firstCol);
    if (xq && !xScales && n >= INT_TILE_ROWS && N >= 8) {
      multiplyBlocks(scratch, firstCol, firstCol + nCols, out, xq, weight, type, rowBytes, bias, n, N, K);
      continue;
    }
    if (n < tileRows || (xq && !xScales)) {
      const to = firstCol + nCols;
      multiplyRows(decoded, firstCol, to, out, x, xq, weight, type, rowBytes, bias, n, N, K);
      continue;
    }

    const nPanels = (nCols + 7) >> 3;
    for (let p = 0; p < nPanels; p++) {
      const width = min(8, nCols - p * 8);
      const panelScales = scales + (p as usize) * scaleBytes;
      for (let c: usize = 0; c < (width as usize); c++) {
        const row = weight + ((firstCol + p * 8) as usize + c) * rowBytes;
        const to = rows8 + c * wordBytes;
        if (isInt) {
          dequantizeRow(type, row, decoded, K);
          quantizeRow(decoded, to, panelScales + (c << 2), 32, K, TILE_SEGMENT, TILE_LARGEST);
        } else {
          dequantizeRow(type, row, to, K);
        }
      }
      transpose8(panels + (p as usize) * 8 * wordBytes, rows8, words);
    }
    for (let group = 0; group < n; group += tileRows) {
      const t = min(group, n - tileRows); // the last group overlaps the one before, and writes the same numbers
      const xAt = xRows + (t as usize) * wordBytes;
      const xScaleAt = xScales + (t as usize) * xScaleBytes;
      for (let p = 0; p < nPanels; p++) {
        const panel = panels + (p as usize) * 8 * wordBytes;
        const to = out + (t as usize) * outStride + ((firstCol + p * 8) as usize) * 4;
        const width = min(8, nCols - p * 8);
        const c = width == 8 ? to : edge;
        const cStride = width == 8 ? outStride : 32;
        if (isInt) {
          for (let s = 0; s < segments; s++) {
            const word = s * (TILE_SEGMENT >> 1);
            const at = (word as usize) << 2;
            const scale = scales + (p as usize) * scaleBytes + ((s as usize) << 5);
            const len = min(TILE_SEGMENT >> 1, words - word);
            const rowScale = xScaleAt + ((s as usize) << 2);
            tile4x8i16(len, xAt + at, wordBytes, panel + at * 8, c, cStride, rowScale, xScaleBytes, scale, s > 0);
          }
        } else {
          tile6x8(K, xAt, wordBytes, panel, 32, c, cStride, false);
        }
        if (width < 8) {
          const bytes = (width as usize) << 2;
          for (let r: usize = 0; r < (tileRows as usize); r++) memory.copy(to + r * outStride, edge + r * 32, bytes);
        }
      }
      if (bias) {
        for (let r = t; r < t + tileRows; r++) {
          const to = out + (r as usize) * outStride;
          for (let c = (firstCol as usize) << 2; c < ((firstCol + nCols) as usize) << 2; c += 4) {
            store<f32>(to + c, load<f32>(to + c) + load<f32>(bias + c));
          }
        }
      }
    }
  }
}
