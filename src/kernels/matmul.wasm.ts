/**
 * `out[n, N] = x[n, K] · weight[N, K]ᵀ + bias[N]`. Items are groups of 32 columns of `out`. With 6 rows of `x` or more a
 * group's weights are decoded once into four panels `[K][8]` and run through `tile6x8`; with fewer (decoding) every
 * weight row is decoded and multiplied at once.
 *
 * Scratch: 8 decoded rows `[8][K]`, panels `[4][K][8]`, one tile `[6][8]`; 160 bytes a column of K, in L2.
 */
import { dequantizeRow } from './dequantize.wasm';
import { madd, sum4 } from './simd.wasm';
import { tile6x8 } from './tile.wasm';

/** `out[t] = x[t] · w + bias` for `n` rows of `x`, `outStride` bytes apart. */
function dotRows(out: usize, outStride: usize, x: usize, w: usize, n: i32, K: i32, bias: f32): void {
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
function transpose8(panel: usize, rows: usize, K: i32): void {
  const rowBytes = (K as usize) << 2;
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

export function matmul(
  scratch: usize,
  begin: i32,
  end: i32,
  out: usize,
  x: usize,
  weight: usize,
  type: i32,
  rowBytes: usize,
  bias: usize, // 0: none
  n: i32,
  N: i32,
  K: i32,
): void {
  const kBytes = (K as usize) << 2;
  const nBytes = (N as usize) << 2;
  const decoded = scratch;
  const panels = scratch + 8 * kBytes;
  const edge = panels + 32 * kBytes;
  for (let item = begin; item < end; item++) {
    const firstCol = item * 32;
    const nCols = min(32, N - firstCol);

    if (n < 6) {
      for (let c = firstCol; c < firstCol + nCols; c++) {
        let row = weight + (c as usize) * rowBytes;
        if (type != 0) {
          dequantizeRow(type, row, decoded, K);
          row = decoded;
        }
        const at = (c as usize) << 2;
        dotRows(out + at, nBytes, x, row, n, K, bias ? load<f32>(bias + at) : 0);
      }
      continue;
    }

    const nPanels = (nCols + 7) >> 3;
    for (let p = 0; p < nPanels; p++) {
      const width = min(8, nCols - p * 8);
      for (let c = 0; c < width; c++) {
        const row = weight + ((firstCol + p * 8 + c) as usize) * rowBytes;
        dequantizeRow(type, row, decoded + (c as usize) * kBytes, K);
      }
      transpose8(panels + (p as usize) * 8 * kBytes, decoded, K);
    }
    for (let group = 0; group < n; group += 6) {
      const t = min(group, n - 6); // the last group overlaps the one before, and writes the same numbers
      const rows = x + (t as usize) * kBytes;
      for (let p = 0; p < nPanels; p++) {
        const panel = panels + (p as usize) * 8 * kBytes;
        const to = out + (t as usize) * nBytes + ((firstCol + p * 8) as usize) * 4;
        const width = min(8, nCols - p * 8);
        if (width == 8) {
          tile6x8(K, rows, kBytes, panel, 32, to, nBytes, false);
        } else {
          tile6x8(K, rows, kBytes, panel, 32, edge, 32, false);
          for (let r: usize = 0; r < 6; r++) memory.copy(to + r * nBytes, edge + r * 32, (width as usize) << 2);
        }
      }
      if (bias) {
        for (let r = t; r < t + 6; r++) {
          const to = out + (r as usize) * nBytes;
          for (let c = (firstCol as usize) << 2; c < ((firstCol + nCols) as usize) << 2; c += 4) {
            store<f32>(to + c, load<f32>(to + c) + load<f32>(bias + c));
          }
        }
      }
    }
  }
}
