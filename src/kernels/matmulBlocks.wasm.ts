/**
 * A product with few rows of `x`, as when several texts are decoded at once: blocks of weights go through the integer tile as
 * they are stored, since with few rows decoding them to floats would cost more than the products. `x` lies in blocks of 32
 * integers as `quantizeForDots` makes them. A run of weights that share a scale becomes `[words][8]` pairs of integers for
 * eight columns, and behind them their scales `[8]` and offsets `[8]`.
 */
import { DOT_BLOCK_BYTES, DOT_SCALE, INT16, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0 } from './abi';
import { fifthBits, finiteHalf, highNibbles, lowNibbles, min6, scale6, weights45k, weights6k } from './dequantize.wasm';
import { tile4x8 } from './tileInt.wasm';

/** Bytes of 32 weights, or of 256 in K blocks. */
// @ts-ignore: decorator
@inline
function blockBytes(type: i32): usize {
  if (type == Q6_K) return 210;
  if (type >= Q4_K) return type == Q5_K ? 176 : 144;
  if (type == Q8_0) return 34;
  return 18 + (type == Q4_1 || type == Q5_1 ? 2 : 0) + (type >= Q5_0 ? 4 : 0);
}

/** Half `part` (0 or 1) of 32 weights, run `s` of a K block, as signed bytes before scale and offset. */
// @ts-ignore: decorator
@inline
function bytesOf(type: i32, block: usize, s: i32, part: i32): v128 {
  if (type == Q6_K) return weights6k(block, 2 * s + part);
  if (type >= Q4_K) return weights45k(block, s, (part << 4) as usize, type == Q5_K);
  if (type == Q8_0) return v128.load(block + 2 + (part << 4));
  const fifthAt = block + (type == Q4_1 || type == Q5_1 ? 4 : 2);
  const nibbles = v128.load(type >= Q5_0 ? fifthAt + 4 : fifthAt);
  const low = part == 0 ? lowNibbles(nibbles) : highNibbles(nibbles);
  return type >= Q5_0 ? v128.or(low, fifthBits(fifthAt + (part << 1))) : low;
}

/** Halves of four lanes of 16 bits, moved to the upper ones, as `finiteHalf` has them. */
// @ts-ignore: decorator
@inline
function finiteHalves(bits: v128): v128 {
  return f32x4.mul(v128.and(i32x4.shr_s(bits, 3), i32x4.splat(0x8fffe000)), i32x4.splat(0x77800000));
}

/** Scales of 32 or 16 weights of four rows to `to`, and what is added to scaled bytes to `to + 32`. */
// @ts-ignore: decorator
@inline
function storeScales(type: i32, to: usize, block: usize, rowBytes: usize, s: i32, part: i32): void {
  if (type >= Q4_K) {
    for (let r: usize = 0; r < 4; r++, to += 4, block += rowBytes) {
      if (type == Q6_K) {
        store<f32>(to, finiteHalf(block + 208) * (load<i8>(block + 192 + 2 * s + part) as f32));
        store<f32>(to, 0, 32);
      } else {
        store<f32>(to, finiteHalf(block) * scale6(block + 4, s as usize));
        store<f32>(to, -finiteHalf(block + 2) * min6(block + 4, s as usize), 32);
      }
    }
    return;
  }
  let bits = v128.load32_zero(block);
  bits = v128.load32_lane(block + rowBytes, bits, 1);
  bits = v128.load32_lane(block + 2 * rowBytes, bits, 2);
  bits = v128.load32_lane(block + 3 * rowBytes, bits, 3);
  const scales = finiteHalves(i32x4.shl(bits, 16));
  v128.store(to, scales);
  if (type == Q4_1 || type == Q5_1) v128.store(to, finiteHalves(bits), 32);
  else v128.store(to, f32x4.mul(scales, f32x4.splat(type == Q8_0 ? 0 : type == Q5_0 ? -16 : -8)), 32);
}

/** Pairs of eight bytes of four rows, `[4][8]` bytes extended to 16 bits, as words `[4][4]` of a panel. */
// @ts-ignore: decorator
@inline
function storeWords(to: usize, a: v128, b: v128, c: v128, d: v128): void {
  const ab01 = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
  const ab23 = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
  const cd01 = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
  const cd23 = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<i64>(ab01, cd01, 0, 2));
  v128.store(to, v128.shuffle<i64>(ab01, cd01, 1, 3), 32);
  v128.store(to, v128.shuffle<i64>(ab23, cd23, 0, 2), 64);
  v128.store(to, v128.shuffle<i64>(ab23, cd23, 1, 3), 96);
}

/** Weights of four rows, `rowBytes` apart, as columns of the panel at `to`. */
// @ts-ignore: decorator
@inline
function packFour(type: i32, to: usize, row: usize, rowBytes: usize, K: i32): void {
  const perRun: usize = type == Q6_K ? 8 : 16; // words
  const record = (perRun << 5) + 64;
  const runs = type >= Q4_K ? 8 : 1; // of a block
  for (const end = row + rowBytes; row < end; row += blockBytes(type)) {
    for (let s = 0; s < runs; s++) {
      for (let part = 0; part < 2; part++) {
        const a = bytesOf(type, row, s, part);
        const b = bytesOf(type, row + rowBytes, s, part);
        const c = bytesOf(type, row + 2 * rowBytes, s, part);
        const d = bytesOf(type, row + 3 * rowBytes, s, part);
        const words = type == Q6_K ? to : to + ((part as usize) << 8);
        storeWords(
          words,
          i16x8.extend_low_i8x16_s(a),
          i16x8.extend_low_i8x16_s(b),
          i16x8.extend_low_i8x16_s(c),
          i16x8.extend_low_i8x16_s(d),
        );
        storeWords(
          words + 128,
          i16x8.extend_high_i8x16_s(a),
          i16x8.extend_high_i8x16_s(b),
          i16x8.extend_high_i8x16_s(c),
          i16x8.extend_high_i8x16_s(d),
        );
        if (type != Q6_K && part == 0) continue;
        storeScales(type, to + (perRun << 5), row, rowBytes, s, part);
        to += record;
      }
    }
  }
}

/** Weights of eight rows as a panel. */
function pack(type: i32, to: usize, row: usize, rowBytes: usize, K: i32): void {
  for (let side: usize = 0; side < 2; side++) {
    const at = to + (side << 4);
    const first = row + 4 * side * rowBytes;
    switch (type) {
      case Q4_0:
        packFour(Q4_0, at, first, rowBytes, K);
        break;
      case Q4_1:
        packFour(Q4_1, at, first, rowBytes, K);
        break;
      case Q5_0:
        packFour(Q5_0, at, first, rowBytes, K);
        break;
      case Q5_1:
        packFour(Q5_1, at, first, rowBytes, K);
        break;
      case Q8_0:
        packFour(Q8_0, at, first, rowBytes, K);
        break;
      case Q4_K:
        packFour(Q4_K, at, first, rowBytes, K);
        break;
      case Q5_K:
        packFour(Q5_K, at, first, rowBytes, K);
        break;
      case Q6_K:
        packFour(Q6_K, at, first, rowBytes, K);
    }
  }
}

/**
 * Columns `from..to` of `out[n, N] = x · weightᵀ`, eight at a time; there are at least eight. `x` has room for a multiple of
 * four rows, of which those behind `n` count for nothing.
 */
export function multiplyBlocks(
  scratch: usize, // a panel, and a tile [4][8] behind it
  from: i32,
  to: i32,
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
  const outStride = (N as usize) << 2;
  const xBytes = ((K >> 5) as usize) * DOT_BLOCK_BYTES;
  const parts: usize = type == Q6_K ? 2 : 1; // runs of 32 weights
  const words: i32 = type == Q6_K ? 8 : 16;
  const record = ((words as usize) << 5) + 64;
  const edge = scratch + parts * ((K >> 5) as usize) * record;
  for (let col = from; col < to; col += 8) {
    const first = min(col, N - 8) as usize; // the last panel begins before its own columns
    const skipped = ((col as usize) - first) << 2;
    const bytes: usize = 32 - skipped;
    pack(type, scratch, weight + first * rowBytes, rowBytes, K);
    for (let t = 0; t < n; t += 4) {
      const rows = min(4, n - t) as usize;
      const at = out + (t as usize) * outStride + ((col as usize) << 2);
      const isWhole = rows == 4 && skipped == 0;
      const c = isWhole ? at : edge;
      const cStride = isWhole ? outStride : 32;
      const xAt = x + (t as usize) * xBytes;
      let panel = scratch;
      for (let block = xAt; block < xAt + xBytes; block += DOT_BLOCK_BYTES) {
        const row = block + DOT_SCALE;
        for (let part: usize = 0; part < parts; part++, panel += record) {
          const a = block + (part << 5);
          const isFirst = panel == scratch;
          tile4x8(INT16, true, words, a, xBytes, panel, c, cStride, row, xBytes, panel + record - 64, !isFirst);
        }
      }
      for (let r: usize = 0; r < rows; r++) {
        const row = at + r * outStride;
        if (!isWhole) memory.copy(row, edge + (r << 5) + skipped, bytes);
        if (!bias) continue;
        for (let i: usize = 0; i < bytes; i += 4) {
          store<f32>(row + i, load<f32>(row + i) + load<f32>(bias + ((col as usize) << 2) + i));
        }
      }
    }
  }
}
