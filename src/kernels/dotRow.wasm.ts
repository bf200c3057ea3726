/**
 * A stored row times a quantised `x`, without decoding the row to floats: what decoding a token spends its time on.
 * Every block type comes down to 16 signed bytes times 16 integers; what a type subtracts from its weights is taken off
 * with the sum of `x` over the block. `x` as `quantizeForDots` gives it.
 */
import { fifthBits, half, highNibbles, lowNibbles, min6, scale6, weights45k, weights6k } from './dequantize.wasm';
import { madd, sum4 } from './simd.wasm';

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
function addBlock(sums: v128, low: v128, high: v128, x: usize, xScale: usize, scale: f32): v128 {
  const products = i32x4.add(dot16(low, x), dot16(high, x + 32));
  return madd(f32x4.convert_i32x4_s(products), f32x4.splat(scale * load<f32>(xScale)), sums);
}

// @ts-ignore: decorator
@inline
function nibbleDot(row: usize, x: usize, scales: usize, xSums: usize, K: i32, hasMin: bool, hasFifth: bool): f32 {
  const fifthAt: usize = hasMin ? 4 : 2;
  const nibblesAt: usize = hasFifth ? fifthAt + 4 : fifthAt;
  const zero: f32 = hasFifth ? 16 : 8;
  let sums = f32x4.splat(0);
  let offset: f32 = 0;
  for (let i = 0; i < K; i += 32, row += nibblesAt + 16, x += 64, scales += 4, xSums += 4) {
    const d = half(row);
    offset += (hasMin ? half(row + 2) : -d * zero) * load<f32>(xSums);
    const nibbles = v128.load(row + nibblesAt);
    let low = lowNibbles(nibbles);
    let high = highNibbles(nibbles);
    if (hasFifth) {
      low = v128.or(low, fifthBits(row + fifthAt));
      high = v128.or(high, fifthBits(row + fifthAt + 2));
    }
    sums = addBlock(sums, low, high, x, scales, d);
  }
  return sum4(sums) + offset;
}

function q4_0Dot(row: usize, x: usize, scales: usize, xSums: usize, K: i32): f32 {
  return nibbleDot(row, x, scales, xSums, K, false, false);
}

function q4_1Dot(row: usize, x: usize, scales: usize, xSums: usize, K: i32): f32 {
  return nibbleDot(row, x, scales, xSums, K, true, false);
}

function q5_0Dot(row: usize, x: usize, scales: usize, xSums: usize, K: i32): f32 {
  return nibbleDot(row, x, scales, xSums, K, false, true);
}

function q5_1Dot(row: usize, x: usize, scales: usize, xSums: usize, K: i32): f32 {
  return nibbleDot(row, x, scales, xSums, K, true, true);
}

function q8_0Dot(row: usize, x: usize, scales: usize, K: i32): f32 {
  let sums = f32x4.splat(0);
  for (let i = 0; i < K; i += 32, row += 34, x += 64, scales += 4) {
    sums = addBlock(sums, v128.load(row + 2), v128.load(row + 18), x, scales, half(row));
  }
  return sum4(sums);
}

// @ts-ignore: decorator
@inline
function q45kDot(row: usize, x: usize, scales: usize, xSums: usize, K: i32, hasFifth: bool): f32 {
  const nibblesAt: usize = hasFifth ? 48 : 16;
  let sums = f32x4.splat(0);
  let offset: f32 = 0;
  for (let i = 0; i < K; i += 256, row += nibblesAt + 128) {
    const d = half(row);
    const m = half(row + 2);
    for (let s = 0; s < 8; s++, x += 64, scales += 4, xSums += 4) {
      const low = weights45k(row, s, 0, hasFifth);
      const high = weights45k(row, s, 16, hasFifth);
      sums = addBlock(sums, low, high, x, scales, d * scale6(row + 4, s as usize));
      offset -= m * min6(row + 4, s as usize) * load<f32>(xSums);
    }
  }
  return sum4(sums) + offset;
}

function q4_kDot(row: usize, x: usize, scales: usize, xSums: usize, K: i32): f32 {
  return q45kDot(row, x, scales, xSums, K, false);
}

function q5_kDot(row: usize, x: usize, scales: usize, xSums: usize, K: i32): f32 {
  return q45kDot(row, x, scales, xSums, K, true);
}

function q6_kDot(row: usize, x: usize, scales: usize, K: i32): f32 {
  let sums = f32x4.splat(0);
  for (let i = 0; i < K; i += 256, row += 210) {
    const d = half(row + 208);
    for (let run = 0; run < 16; run++, x += 32) {
      const scale = d * (load<i8>(row + 192 + (run as usize)) as f32) * load<f32>(scales);
      sums = madd(f32x4.convert_i32x4_s(dot16(weights6k(row, run), x)), f32x4.splat(scale), sums);
      if (run & 1) scales += 4;
    }
  }
  return sum4(sums);
}

/** `row · x` for a type of blocks; 0 for others. */
export function dotRow(type: i32, row: usize, x: usize, scales: usize, xSums: usize, K: i32): f32 {
  switch (type) {
    case 3:
      return q4_0Dot(row, x, scales, xSums, K);
    case 4:
      return q4_1Dot(row, x, scales, xSums, K);
    case 5:
      return q5_0Dot(row, x, scales, xSums, K);
    case 6:
      return q5_1Dot(row, x, scales, xSums, K);
    case 7:
      return q8_0Dot(row, x, scales, K);
    case 8:
      return q4_kDot(row, x, scales, xSums, K);
    case 9:
      return q5_kDot(row, x, scales, xSums, K);
    case 10:
      return q6_kDot(row, x, scales, K);
  }
  return 0;
}
