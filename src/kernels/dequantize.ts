/**
 * Definition: stored blocks to numbers, one row. Layouts are ggml's (`ggml-quants.c`, `dequantize_row_*`): `d` is a
 * block's scale, `m` its minimum, and a 4-bit block keeps weights 0..15 in low nibbles and 16..31 in high ones.
 */
import type { TensorType } from '../tensorTypes.ts';

/** IEEE half precision. */
export function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** Writes `cols` numbers of the row of `bytes` that begins at `offset`. */
type DecodeRow = (bytes: DataView, offset: number, out: Float64Array) => void;

const half = (bytes: DataView, at: number) => halfToNumber(bytes.getUint16(at, true));

/** Types stored one number at a time. */
const plain =
  (size: number, number: (bytes: DataView, at: number) => number): DecodeRow =>
  (bytes, offset, out) => {
    for (let i = 0; i < out.length; i++) out[i] = number(bytes, offset + i * size);
  };

/** Types stored in blocks. `weight` decodes number `i` of the block that begins at `at`. */
const blocks =
  (blockLen: number, blockBytes: number, weight: (bytes: DataView, at: number, i: number) => number): DecodeRow =>
  (bytes, offset, out) => {
    for (let i = 0; i < out.length; i++) {
      out[i] = weight(bytes, offset + Math.floor(i / blockLen) * blockBytes, i % blockLen);
    }
  };

/** Four bits of weight `i` of 32. */
const nibble = (bytes: DataView, at: number, i: number) => (bytes.getUint8(at + (i & 15)) >> (i < 16 ? 0 : 4)) & 15;

/** The fifth bit of weight `i` of 32, at its place. */
const fifthBit = (bytes: DataView, at: number, i: number) => ((bytes.getUint32(at, true) >>> i) & 1) << 4;

/** Scale and minimum `s` of 8 in the 12 bytes of a K block: six bits each, the last four's upper bits set apart. */
function scaleAndMin(bytes: DataView, at: number, s: number): [scale: number, min: number] {
  const byte = (i: number) => bytes.getUint8(at + i);
  return s < 4
    ? [byte(s) & 63, byte(s + 4) & 63]
    : [(byte(s + 4) & 15) | ((byte(s - 4) >> 6) << 4), (byte(s + 4) >> 4) | ((byte(s) >> 6) << 4)];
}

const decoders: Record<TensorType, DecodeRow> = {
  F32: plain(4, (bytes, at) => bytes.getFloat32(at, true)),
  F16: plain(2, half),
  BF16: (bytes, offset, out) => {
    const word = new DataView(new ArrayBuffer(4));
    for (let i = 0; i < out.length; i++) {
      word.setUint16(0, bytes.getUint16(offset + 2 * i, true));
      out[i] = word.getFloat32(0);
    }
  },
  Q4_0: blocks(32, 18, (b, at, i) => half(b, at) * (nibble(b, at + 2, i) - 8)),
  Q4_1: blocks(32, 20, (b, at, i) => half(b, at) * nibble(b, at + 4, i) + half(b, at + 2)),
  Q5_0: blocks(32, 22, (b, at, i) => half(b, at) * ((nibble(b, at + 6, i) | fifthBit(b, at + 2, i)) - 16)),
  Q5_1: blocks(32, 24, (b, at, i) => half(b, at) * (nibble(b, at + 8, i) | fifthBit(b, at + 4, i)) + half(b, at + 2)),
  Q8_0: blocks(32, 34, (b, at, i) => half(b, at) * b.getInt8(at + 2 + i)),
  Q4_K: blocks(256, 144, (b, at, i) => {
    const [scale, min] = scaleAndMin(b, at + 4, i >> 5);
    const q = (b.getUint8(at + 16 + (i >> 6) * 32 + (i & 31)) >> (i & 32 ? 4 : 0)) & 15;
    return half(b, at) * scale * q - half(b, at + 2) * min;
  }),
  Q5_K: blocks(256, 176, (b, at, i) => {
    const [scale, min] = scaleAndMin(b, at + 4, i >> 5);
    const low = (b.getUint8(at + 48 + (i >> 6) * 32 + (i & 31)) >> (i & 32 ? 4 : 0)) & 15;
    const high = (b.getUint8(at + 16 + (i & 31)) >> (i >> 5)) & 1;
    return half(b, at) * scale * (low | (high << 4)) - half(b, at + 2) * min;
  }),
  Q6_K: blocks(256, 210, (b, at, i) => {
    // Two halves of 128; in each, 64 bytes of low nibbles and 32 bytes that hold four pairs of high bits.
    const [part, r] = [i >> 7, i & 127];
    const low = (b.getUint8(at + part * 64 + (r & 63)) >> (r & 64 ? 4 : 0)) & 15;
    const high = (b.getUint8(at + 128 + part * 32 + (r & 31)) >> ((r >> 5) * 2)) & 3;
    return half(b, at + 208) * b.getInt8(at + 192 + (i >> 4)) * ((low | (high << 4)) - 32);
  }),
};

/** Decodes one row of stored `type` that begins at byte `offset`; `out` is `[cols]`. */
export function dequantizeRow(type: TensorType, bytes: DataView, offset: number, out: Float64Array): void {
  decoders[type](bytes, offset, out);
}
