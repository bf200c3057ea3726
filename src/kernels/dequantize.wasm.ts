/**
 * Stored rows to float32. Every block type comes down to one step: 16 signed bytes times a scale plus an offset.
 * Layouts as in `dequantize.ts`.
 */
import { BF16, F16, F32, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0 } from './abi';
import { madd } from './simd.wasm';

/** Half to float: the bits shifted into place are the value times 2^-112, subnormals included. */
// @ts-ignore: decorator
@inline
export function half(at: usize): f32 {
  const bits = load<u16>(at) as u32;
  const sign = (bits & 0x8000) << 16;
  if ((bits & 0x7c00) == 0x7c00) return reinterpret<f32>(sign | 0x7f800000 | ((bits & 1023) << 13));
  const magnitude = reinterpret<f32>((bits & 0x7fff) << 13) * reinterpret<f32>(0x77800000);
  return reinterpret<f32>(sign | reinterpret<u32>(magnitude));
}

/** The same for scales of blocks: an infinite one, which only a broken file holds, becomes 65536. */
// @ts-ignore: decorator
@inline
export function finiteHalf(at: usize): f32 {
  return reinterpret<f32>(((load<i16>(at) as i32) << 13) & 0x8fffe000) * reinterpret<f32>(0x77800000);
}

/** `out[0..16] = bytes * scale + offset` */
// @ts-ignore: decorator
@inline
function store16(out: usize, bytes: v128, scale: v128, offset: v128): void {
  const low = i16x8.extend_low_i8x16_s(bytes);
  const high = i16x8.extend_high_i8x16_s(bytes);
  v128.store(out, madd(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(low)), scale, offset));
  v128.store(out, madd(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(low)), scale, offset), 16);
  v128.store(out, madd(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(high)), scale, offset), 32);
  v128.store(out, madd(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(high)), scale, offset), 48);
}

/** Bytes 16 where bit `i` of the 16 bits at `at` is set, else 0: the fifth bits of 16 weights. */
// @ts-ignore: decorator
@inline
export function fifthBits(at: usize): v128 {
  const bits = i8x16.swizzle(v128.load16_splat(at), i8x16(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
  const place = i8x16(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128);
  return v128.and(i8x16.eq(v128.and(bits, place), place), i8x16.splat(16));
}

// @ts-ignore: decorator
@inline
export function lowNibbles(bytes: v128): v128 {
  return v128.and(bytes, i8x16.splat(15));
}

// @ts-ignore: decorator
@inline
export function highNibbles(bytes: v128): v128 {
  return i8x16.shr_u(bytes, 4);
}

function f16Row(row: usize, out: usize, cols: i32): void {
  let i = 0;
  for (; i + 4 <= cols; i += 4, row += 8, out += 16) {
    const bits = v128.load16x4_u(row);
    const magnitude = i32x4.shl(v128.and(bits, i32x4.splat(0x7fff)), 13);
    const value = f32x4.mul(magnitude, i32x4.splat(0x77800000));
    // infinity and NaN keep their exponent full
    const isFull = i32x4.ge_s(magnitude, i32x4.splat(0x0f800000));
    const special = v128.and(isFull, i32x4.splat(0x7f800000));
    const sign = i32x4.shl(v128.and(bits, i32x4.splat(0x8000)), 16);
    v128.store(out, v128.or(v128.or(value, special), sign));
  }
  for (; i < cols; i++, row += 2, out += 4) store<f32>(out, half(row));
}

function bf16Row(row: usize, out: usize, cols: i32): void {
  let i = 0;
  for (; i + 4 <= cols; i += 4, row += 8, out += 16) v128.store(out, i32x4.shl(v128.load16x4_u(row), 16));
  for (; i < cols; i++, row += 2, out += 4) store<u32>(out, (load<u16>(row) as u32) << 16);
}

/** Q4_0, Q4_1, Q5_0, Q5_1: scale, minimum (`_1`), fifth bits (`Q5`), nibbles. */
// @ts-ignore: decorator
@inline
function nibbleRow(row: usize, out: usize, cols: i32, hasMin: bool, hasFifth: bool): void {
  const fifthAt: usize = hasMin ? 4 : 2;
  const nibblesAt: usize = hasFifth ? fifthAt + 4 : fifthAt;
  const zero = hasFifth ? 16 : 8;
  for (let i = 0; i < cols; i += 32, row += nibblesAt + 16, out += 128) {
    const d = half(row);
    const scale = f32x4.splat(d);
    const offset = f32x4.splat(hasMin ? half(row + 2) : -d * (zero as f32));
    const nibbles = v128.load(row + nibblesAt);
    let low = lowNibbles(nibbles);
    let high = highNibbles(nibbles);
    if (hasFifth) {
      low = v128.or(low, fifthBits(row + fifthAt));
      high = v128.or(high, fifthBits(row + fifthAt + 2));
    }
    store16(out, low, scale, offset);
    store16(out + 64, high, scale, offset);
  }
}

function q8_0Row(row: usize, out: usize, cols: i32): void {
  for (let i = 0; i < cols; i += 32, row += 34, out += 128) {
    const scale = f32x4.splat(half(row));
    store16(out, v128.load(row + 2), scale, f32x4.splat(0));
    store16(out + 64, v128.load(row + 18), scale, f32x4.splat(0));
  }
}

/** Scale `s` of 8 in the 12 bytes at `at` of a K block: six bits, the last four's upper two set apart. */
// @ts-ignore: decorator
@inline
export function scale6(at: usize, s: usize): f32 {
  if (s < 4) return ((load<u8>(at + s) as u32) & 63) as f32;
  return (((load<u8>(at + s, 4) as u32) & 15) | (((load<u8>(at + s - 4) as u32) >> 6) << 4)) as f32;
}

/** Minimum `s` of 8, likewise. */
// @ts-ignore: decorator
@inline
export function min6(at: usize, s: usize): f32 {
  if (s < 4) return ((load<u8>(at + s, 4) as u32) & 63) as f32;
  return (((load<u8>(at + s, 4) as u32) >> 4) | (((load<u8>(at + s) as u32) >> 6) << 4)) as f32;
}

/** Sixteen weights of run `s` of 8 of a Q4_K or Q5_K block, the first or (`part` 16) the second of the run. */
// @ts-ignore: decorator
@inline
export function weights45k(row: usize, s: i32, part: usize, hasFifth: bool): v128 {
  const nibblesAt: usize = hasFifth ? 48 : 16;
  const nibbles = v128.load(row + nibblesAt + ((s >> 1) as usize) * 32 + part);
  const q = s & 1 ? highNibbles(nibbles) : lowNibbles(nibbles);
  if (!hasFifth) return q;
  const bit = v128.and(i8x16.shr_u(v128.load(row + 16 + part), s), i8x16.splat(1));
  return v128.or(q, i8x16.shl(bit, 4));
}

/** Sixteen signed weights, run `run` of 16, of a Q6_K block. */
// @ts-ignore: decorator
@inline
export function weights6k(row: usize, run: i32): v128 {
  // half `part` of the block, quarter `quarter` of the half, 16 of the quarter's 32
  const part = (run >> 3) as usize;
  const quarter = (run >> 1) & 3;
  const at = ((run & 1) as usize) << 4;
  const bytes = v128.load(row + part * 64 + ((quarter & 1) as usize) * 32 + at);
  const low = quarter & 2 ? highNibbles(bytes) : lowNibbles(bytes);
  const pairs = i8x16.shr_u(v128.load(row + 128 + part * 32 + at), quarter << 1);
  const high = i8x16.shl(v128.and(pairs, i8x16.splat(3)), 4);
  return i8x16.sub(v128.or(low, high), i8x16.splat(32));
}

/** Q4_K, Q5_K: 8 runs of 32 weights, each with its scale and minimum. */
// @ts-ignore: decorator
@inline
function q45kRow(row: usize, out: usize, cols: i32, hasFifth: bool): void {
  const nibblesAt: usize = hasFifth ? 48 : 16;
  for (let i = 0; i < cols; i += 256, row += nibblesAt + 128) {
    const d = half(row);
    const m = half(row + 2);
    for (let s = 0; s < 8; s++, out += 128) {
      const scale = f32x4.splat(d * scale6(row + 4, s as usize));
      const offset = f32x4.splat(-m * min6(row + 4, s as usize));
      for (let part: usize = 0; part < 32; part += 16) {
        store16(out + (part << 2), weights45k(row, s, part, hasFifth), scale, offset);
      }
    }
  }
}

function q6_kRow(row: usize, out: usize, cols: i32): void {
  for (let i = 0; i < cols; i += 256, row += 210) {
    const d = half(row + 208);
    for (let run = 0; run < 16; run++, out += 64) {
      const scale = f32x4.splat(d * (load<i8>(row + 192 + (run as usize)) as f32));
      store16(out, weights6k(row, run), scale, f32x4.splat(0));
    }
  }
}

/** Decodes the row at `row` to `cols` floats at `out`. */
export function dequantizeRow(type: i32, row: usize, out: usize, cols: i32): void {
  switch (type) {
    case F32:
      memory.copy(out, row, (cols as usize) << 2);
      return;
    case F16:
      return f16Row(row, out, cols);
    case BF16:
      return bf16Row(row, out, cols);
    case Q4_0:
      return nibbleRow(row, out, cols, false, false);
    case Q4_1:
      return nibbleRow(row, out, cols, true, false);
    case Q5_0:
      return nibbleRow(row, out, cols, false, true);
    case Q5_1:
      return nibbleRow(row, out, cols, true, true);
    case Q8_0:
      return q8_0Row(row, out, cols);
    case Q4_K:
      return q45kRow(row, out, cols, false);
    case Q5_K:
      return q45kRow(row, out, cols, true);
    case Q6_K:
      return q6_kRow(row, out, cols);
  }
}

/** Items are ids. `out[r] = factor * table[ids[r]]`, `ids` `[n]` f32, `table` rows of `rowBytes` stored bytes. */
export function gatherRows(
  scratch: usize,
  begin: i32,
  end: i32,
  out: usize,
  table: usize,
  type: i32,
  rowBytes: usize,
  ids: usize,
  cols: i32,
  factor: f32,
): void {
  const outBytes = (cols as usize) << 2;
  for (let r = begin; r < end; r++) {
    const id = load<f32>(ids + ((r as usize) << 2)) as usize;
    const to = out + (r as usize) * outBytes;
    dequantizeRow(type, table + id * rowBytes, to, cols);
    if (factor != 1) for (let i: usize = 0; i < outBytes; i += 4) store<f32>(to + i, load<f32>(to + i) * factor);
  }
}
