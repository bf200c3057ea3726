/**
 * A stored row times a quantised `x`, without decoding the row to floats: what decoding a token spends its time on.
 * Every block type comes down to 16 signed bytes times 16 integers; what a type subtracts from its weights is taken off
 * with the sum of `x` over the block. `x` lies in blocks as `quantizeForDots` makes them, so that one pointer finds all.
 */
import { DOT_BLOCK_BYTES, DOT_SCALE, DOT_SUM, dotRowBytes, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0 } from './abi';
import { fifthBits, finiteHalf, highNibbles, lowNibbles, min6, scale6, weights45k, weights6k } from './dequantize.wasm';
import { madd, sum4 } from './simd.wasm';

// @ts-ignore: decorator
@inline
function endOf(x: usize, K: i32): usize {
  return x + (dotRowBytes(K) as usize);
}

/** Four partial sums of 16 products. */
// @ts-ignore: decorator
@inline
function dot16(bytes: v128, x: usize): v128 {
  const low = i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(bytes), v128.load(x));
  const high = i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(bytes), v128.load(x, 16));
  return i32x4.add(low, high);
}

/** `sums + scale * xScale * (32 products)` */
// @ts-ignore: decorator
@inline
function addBlock(sums: v128, low: v128, high: v128, x: usize, scale: f32): v128 {
  const products = i32x4.add(dot16(low, x), dot16(high, x + 32));
  return madd(f32x4.convert_i32x4_s(products), f32x4.splat(scale * load<f32>(x, DOT_SCALE)), sums);
}

// @ts-ignore: decorator
@inline
function nibbleDot(row: usize, x: usize, K: i32, hasMin: bool, hasFifth: bool): f32 {
  const fifthAt: usize = hasMin ? 4 : 2;
  const nibblesAt: usize = hasFifth ? fifthAt + 4 : fifthAt;
  const zero: f32 = hasFifth ? 16 : 8;
  let sums = f32x4.splat(0);
  let offset: f32 = 0;
  for (const end = endOf(x, K); x < end; row += nibblesAt + 16, x += DOT_BLOCK_BYTES) {
    const d = finiteHalf(row);
    offset += (hasMin ? finiteHalf(row + 2) : -d * zero) * load<f32>(x, DOT_SUM);
    const nibbles = v128.load(row + nibblesAt);
    let low = lowNibbles(nibbles);
    let high = highNibbles(nibbles);
    if (hasFifth) {
      low = v128.or(low, fifthBits(row + fifthAt));
      high = v128.or(high, fifthBits(row + fifthAt + 2));
    }
    sums = addBlock(sums, low, high, x, d);
  }
  return sum4(sums) + offset;
}

function q4_0Dot(row: usize, x: usize, K: i32): f32 {
  return nibbleDot(row, x, K, false, false);
}

function q4_1Dot(row: usize, x: usize, K: i32): f32 {
  return nibbleDot(row, x, K, true, false);
}

function q5_0Dot(row: usize, x: usize, K: i32): f32 {
  return nibbleDot(row, x, K, false, true);
}

function q5_1Dot(row: usize, x: usize, K: i32): f32 {
  return nibbleDot(row, x, K, true, true);
}

function q8_0Dot(row: usize, x: usize, K: i32): f32 {
  let sums = f32x4.splat(0);
  for (const end = endOf(x, K); x < end; row += 34, x += DOT_BLOCK_BYTES) {
    sums = addBlock(sums, v128.load(row, 2), v128.load(row, 18), x, finiteHalf(row));
  }
  return sum4(sums);
}

// @ts-ignore: decorator
@inline
function q45kDot(row: usize, x: usize, K: i32, hasFifth: bool): f32 {
  const nibblesAt: usize = hasFifth ? 48 : 16;
  let sums = f32x4.splat(0);
  let offset: f32 = 0;
  for (const end = endOf(x, K); x < end; row += nibblesAt + 128) {
    const d = finiteHalf(row);
    const m = finiteHalf(row + 2);
    for (let s = 0; s < 8; s++, x += DOT_BLOCK_BYTES) {
      const low = weights45k(row, s, 0, hasFifth);
      const high = weights45k(row, s, 16, hasFifth);
      sums = addBlock(sums, low, high, x, d * scale6(row + 4, s as usize));
      offset -= m * min6(row + 4, s as usize) * load<f32>(x, DOT_SUM);
    }
  }
  return sum4(sums) + offset;
}

function q4_kDot(row: usize, x: usize, K: i32): f32 {
  return q45kDot(row, x, K, false);
}

function q5_kDot(row: usize, x: usize, K: i32): f32 {
  return q45kDot(row, x, K, true);
}

function q6_kDot(row: usize, x: usize, K: i32): f32 {
  let sums = f32x4.splat(0);
  for (const end = endOf(x, K); x < end; row += 210) {
    const d = finiteHalf(row + 208);
    for (let run = 0; run < 16; run += 2, x += DOT_BLOCK_BYTES) {
      const xScale = d * load<f32>(x, DOT_SCALE);
      for (let half: usize = 0; half < 2; half++) {
        const scale = xScale * (load<i8>(row + 192 + (run as usize) + half) as f32);
        const products = dot16(weights6k(row, run + (half as i32)), x + (half << 5));
        sums = madd(f32x4.convert_i32x4_s(products), f32x4.splat(scale), sums);
      }
    }
  }
  return sum4(sums);
}

/** `row · x` for a type of blocks; 0 for others. */
export function dotRow(type: i32, row: usize, x: usize, K: i32): f32 {
  switch (type) {
    case Q4_0:
      return q4_0Dot(row, x, K);
    case Q4_1:
      return q4_1Dot(row, x, K);
    case Q5_0:
      return q5_0Dot(row, x, K);
    case Q5_1:
      return q5_1Dot(row, x, K);
    case Q8_0:
      return q8_0Dot(row, x, K);
    case Q4_K:
      return q4_kDot(row, x, K);
    case Q5_K:
      return q5_kDot(row, x, K);
    case Q6_K:
      return q6_kDot(row, x, K);
  }
  return 0;
}
