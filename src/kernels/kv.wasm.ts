/**
 * The cache of one layer, and its storage types: float32, bfloat16, and 8 bits with a scale for every 32 dimensions.
 * Keys lie in panels of eight, `[nKvHeads, capacity / 8, headDim, 8]`, values in rows, `[nKvHeads, capacity, headDim]`;
 * scales, where there are any, `[nKvHeads, ceil(headDim / 32), capacity]` float32. The capacity, in tokens, is that of all
 * pages; where there are two forms of keys, the second lies behind the first.
 */
import { FAULT, IN_KEYS_OR_VALUES, KV_BF16, KV_F32, KV_SCALE_DIMS, PAGE_LEN } from './abi';
import { absMaxBits, TOO_LARGE } from './fault.wasm';
import { hadamard } from './hadamard.wasm';
import { max4 } from './simd.wasm';

/** Bytes of `n` stored numbers. */
// @ts-ignore: decorator
@inline
export function kvBytes(kvType: i32, n: usize): usize {
  return kvType == KV_F32 ? n << 2 : kvType == KV_BF16 ? n << 1 : n;
}

/** Bytes of the scales of one head. */
// @ts-ignore: decorator
@inline
export function scaleBytes(headDim: i32, capacity: i32): usize {
  return (((headDim + KV_SCALE_DIMS - 1) / KV_SCALE_DIMS) as usize) * ((capacity as usize) << 2);
}

// @ts-ignore: decorator
@inline
function bf16(at: usize): u16 {
  const bits = load<u32>(at);
  // to the nearest, ties to even
  return ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
}

/** Where a text's token `j` lies in the cache, in tokens: `pages` is an i32 a page. */
// @ts-ignore: decorator
@inline
export function placeOf(pages: usize, j: i32): i32 {
  return load<i32>(pages + ((j / PAGE_LEN) << 2)) * PAGE_LEN + (j & (PAGE_LEN - 1));
}

/** Items are tokens. Puts keys and values `[n, nKvHeads, headDim]` into the cache, token `r` at `places[r]`, an i32 each. */
export function append(
  scratch: usize,
  begin: i32,
  end: i32,
  kvType: i32,
  keys: usize,
  keyScales: usize,
  values: usize,
  valueScales: usize,
  k: usize,
  v: usize,
  places: usize,
  nKvHeads: i32,
  headDim: i32,
  capacity: i32,
): void {
  const headBytes = (headDim as usize) << 2;
  const cacheBytes = kvBytes(kvType, (capacity as usize) * (headDim as usize));
  const scalesOfHead = scaleBytes(headDim, capacity);
  for (let r = begin; r < end; r++) {
    const j = load<i32>(places + ((r as usize) << 2)) as usize;
    for (let head: usize = 0; head < (nKvHeads as usize); head++) {
      const from = ((r as usize) * (nKvHeads as usize) + head) * headBytes;
      const panel = keys + head * cacheBytes + kvBytes(kvType, (j >> 3) * 8 * (headDim as usize) + (j & 7));
      const row = values + head * cacheBytes + kvBytes(kvType, j * (headDim as usize));
      const scaleAt = head * scalesOfHead + (j << 2);
      if (max(absMaxBits(k + from, headDim), absMaxBits(v + from, headDim)) >= TOO_LARGE) {
        store<i32>(FAULT, IN_KEYS_OR_VALUES);
      }
      memory.copy(scratch, k + from, headBytes);
      hadamard(scratch, headDim);
      storeVector(kvType, scratch, panel, 8, keyScales + scaleAt, headDim, capacity);
      storeVector(kvType, v + from, row, 1, valueScales + scaleAt, headDim, capacity);
    }
  }
}

/** One head's vector at `from` to stored numbers `stride` numbers apart; its scales lie `capacity` floats apart. */
function storeVector(kvType: i32, from: usize, to: usize, stride: usize, scales: usize, headDim: i32, capacity: i32): void {
  if (kvType == KV_F32) {
    for (let d: usize = 0; d < (headDim as usize); d++) store<u32>(to + ((d * stride) << 2), load<u32>(from + (d << 2)));
  } else if (kvType == KV_BF16) {
    for (let d: usize = 0; d < (headDim as usize); d++) store<u16>(to + ((d * stride) << 1), bf16(from + (d << 2)));
  } else {
    for (let first = 0; first < headDim; first += KV_SCALE_DIMS, scales += (capacity as usize) << 2) {
      const last = min(first + KV_SCALE_DIMS, headDim) as usize;
      let largest = f32x4.splat(0);
      for (let d = first as usize; d < last; d += 4) largest = f32x4.pmax(largest, f32x4.abs(v128.load(from + (d << 2))));
      const limit = max4(largest);
      const factor: f32 = limit > 0 ? 127 / limit : 0;
      store<f32>(scales, limit / 127);
      for (let d = first as usize; d < last; d++) store<i8>(to + d * stride, nearest<f32>(load<f32>(from + (d << 2)) * factor) as i8);
    }
  }
}

/** Four stored numbers as floats, not yet scaled. */
// @ts-ignore: decorator
@inline
export function load4(kvType: i32, at: usize): v128 {
  if (kvType == KV_F32) return v128.load(at);
  if (kvType == KV_BF16) return i32x4.shl(v128.load16x4_u(at), 16);
  return f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(at))));
}

/** Panels of keys from token `base` on, as float32 `[nPanels][headDim][8]`. For types other than float32. */
export function expandKeys(
  kvType: i32,
  keys: usize,
  scales: usize,
  base: i32,
  nPanels: i32,
  headDim: i32,
  capacity: i32,
  out: usize,
): void {
  const four = kvBytes(kvType, 4);
  let at = keys + kvBytes(kvType, (base as usize) * (headDim as usize));
  for (let p = 0; p < nPanels; p++) {
    const scaleAt = scales + ((base as usize) << 2) + ((p as usize) << 5);
    for (let d = 0; d < headDim; d++, at += 2 * four, out += 32) {
      let low = load4(kvType, at);
      let high = load4(kvType, at + four);
      if (kvType != KV_BF16) {
        const scale = scaleAt + ((d / KV_SCALE_DIMS) as usize) * ((capacity as usize) << 2);
        low = f32x4.mul(low, v128.load(scale));
        high = f32x4.mul(high, v128.load(scale, 16));
      }
      v128.store(out, low);
      v128.store(out, high, 16);
    }
  }
}

/** `n` rows of values from token `base` on, as float32 `[n][headDim]`. For types other than float32. */
export function expandValues(
  kvType: i32,
  values: usize,
  scales: usize,
  base: i32,
  n: i32,
  headDim: i32,
  capacity: i32,
  out: usize,
): void {
  const four = kvBytes(kvType, 4);
  let at = values + kvBytes(kvType, (base as usize) * (headDim as usize));
  for (let j = 0; j < n; j++) {
    const scaleAt = scales + ((base + j) as usize) * 4;
    for (let d = 0; d < headDim; d += 4, at += four, out += 16) {
      let v = load4(kvType, at);
      if (kvType != KV_BF16) {
        v = f32x4.mul(v, v128.load32_splat(scaleAt + ((d / KV_SCALE_DIMS) as usize) * ((capacity as usize) << 2)));
      }
      v128.store(out, v);
    }
  }
}
