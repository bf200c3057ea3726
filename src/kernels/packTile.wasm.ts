/**
 * A tile of keys or values as integers, quantised once for all rows of queries: a key by its own scale, a dimension of the
 * values by its largest. Words hold two integers of 16 bits or four of 8, as `tileInt.wasm.ts` multiplies them.
 */
import { INT16, INT8 } from './abi';
import { BYTE_LARGEST, TILE_LARGEST, toInt4 } from './quantize.wasm';
import { sum4 } from './simd.wasm';

/** Integers of four numbers of row `r`, less `shift[r]` where there is a shift; zeros behind the last row. */
// @ts-ignore: decorator
@inline
function integers(at: usize, r: i32, rows: i32, factor: v128, shift: usize): v128 {
  if (r >= rows) return i32x4.splat(0);
  let v = v128.load(at);
  if (shift) v = f32x4.sub(v, v128.load32_splat(shift + ((r as usize) << 2)));
  return toInt4(v, factor);
}

/** Rows `r` and on of four columns as words; returns the sums of their integers. */
// @ts-ignore: decorator
@inline
function packWord(format: i32, from: usize, stride: usize, r: i32, rows: i32, factor: v128, shift: usize, out: usize): v128 {
  const a = integers(from, r, rows, factor, shift);
  const b = integers(from + stride, r + 1, rows, factor, shift);
  if (format == INT16) {
    v128.store(out, v128.or(v128.and(a, i32x4.splat(0xffff)), i32x4.shl(b, 16)));
    return a; // sums serve offsets, which 16 bits do without
  }
  const c = integers(from + 2 * stride, r + 2, rows, factor, shift);
  const d = integers(from + 3 * stride, r + 3, rows, factor, shift);
  const byte = i32x4.splat(0xff);
  const low = v128.or(v128.and(a, byte), i32x4.shl(v128.and(b, byte), 8));
  const high = v128.or(i32x4.shl(v128.and(c, byte), 16), i32x4.shl(d, 24));
  v128.store(out, v128.or(low, high));
  return i32x4.add(i32x4.add(a, b), i32x4.add(c, d));
}

/**
 * `rows` rows of eight floats, `stride` bytes apart, less `shift[rows]` (0: none), to words `[words][8]`; scale and sum of
 * each column at `scales`. Rows before `first` must meet zeros only: they count for no scale, so they may become anything.
 */
export function packColumns(
  format: i32,
  from: usize,
  stride: usize,
  first: i32,
  rows: i32,
  shift: usize,
  out: usize,
  scales: usize,
): void {
  let max0 = f32x4.splat(0);
  let max1 = max0;
  for (let r = first, at = from + (first as usize) * stride; r < rows; r++, at += stride) {
    const less = shift ? v128.load32_splat(shift + ((r as usize) << 2)) : f32x4.splat(0);
    max0 = f32x4.pmax(max0, f32x4.abs(f32x4.sub(v128.load(at), less)));
    max1 = f32x4.pmax(max1, f32x4.abs(f32x4.sub(v128.load(at, 16), less)));
  }
  const largest = f32x4.splat(format >= INT8 ? BYTE_LARGEST : TILE_LARGEST);
  const scale0 = f32x4.div(max0, largest);
  const scale1 = f32x4.div(max1, largest);
  const positive = f32x4.splat(1e-30); // a column of zeros
  const factor0 = f32x4.div(largest, f32x4.pmax(positive, max0));
  const factor1 = f32x4.div(largest, f32x4.pmax(positive, max1));
  let sum0 = i32x4.splat(0);
  let sum1 = sum0;
  const perWord = format >= INT8 ? 4 : 2;
  for (let r = 0; r < rows; r += perWord, from += (perWord as usize) * stride, out += 32) {
    sum0 = i32x4.add(sum0, packWord(format, from, stride, r, rows, factor0, shift, out));
    sum1 = i32x4.add(sum1, packWord(format, from + 16, stride, r, rows, factor1, shift, out + 16));
  }
  v128.store(scales, scale0);
  v128.store(scales, scale1, 16);
  v128.store(scales, f32x4.mul(scale0, f32x4.convert_i32x4_s(sum0)), 32);
  v128.store(scales, f32x4.mul(scale1, f32x4.convert_i32x4_s(sum1)), 48);
}

/** Mean of keys `from..to` of the panels at `k`: what keys have in common need not fit into 8 bits. */
export function meanKey(k: usize, from: i32, to: i32, headDim: i32, out: usize): void {
  const panelBytes = (headDim as usize) << 5;
  const count = i32x4.splat(to - from);
  const share: f32 = 1 / ((to - from) as f32);
  for (let d = 0; d < headDim; d++, k += 32, out += 4) {
    let sums = f32x4.splat(0);
    let nth = i32x4.sub(i32x4(0, 1, 2, 3), i32x4.splat(from)); // unsigned, so that keys before `from` are beyond `count` too
    for (let j = 0, at = k; j < to; j += 8, at += panelBytes) {
      const low = v128.and(v128.load(at), i32x4.lt_u(nth, count));
      nth = i32x4.add(nth, i32x4.splat(4));
      const high = v128.and(v128.load(at, 16), i32x4.lt_u(nth, count));
      nth = i32x4.add(nth, i32x4.splat(4));
      sums = f32x4.add(sums, f32x4.add(low, high));
    }
    store<f32>(out, sum4(sums) * share);
  }
}
