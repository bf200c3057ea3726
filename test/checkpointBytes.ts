/** Writers of small GGUF and safetensors files, so that tests can say exactly what is wrong with one. */
import type { Backend, Tensor } from '../src/backends/backend.ts';
import type { Source } from '../src/checkpoint/source.ts';
import { FormatError } from '../src/errors.ts';
import { seededRandom } from '../src/eval/random.ts';
import { dequantizeRow } from '../src/kernels/dequantize.ts';
import { rowBytes } from '../src/tensorTypes.ts';

/** A file in memory. */
export const sourceOf = (bytes: Uint8Array, name = 'test'): Source => ({
  name,
  size: bytes.length,
  async read(offset, length) {
    if (offset < 0 || offset + length > bytes.length) throw new FormatError(`${name}: bytes past the end`);
    return bytes.slice(offset, offset + length);
  },
  close: async () => {},
});

export type GgufValue = string | number | boolean | bigint | string[] | number[] | RawValue;

/** A value as its type's number and the bytes behind it. */
export interface RawValue {
  type: number;
  bytes: Uint8Array;
}

export interface GgufTensorBytes {
  name: string;
  /** ggml's number of the storage type; 0 is F32. */
  type?: number;
  /** As in the file: fastest dimension first. */
  shape: (number | bigint)[];
  data?: Uint8Array;
  /** Instead of the next free place. */
  offset?: number | bigint;
}

export interface GgufFile {
  version?: number;
  metadata?: [key: string, value: GgufValue][];
  tensors?: GgufTensorBytes[];
  nTensors?: bigint;
  nKeys?: bigint;
}

class Writer {
  readonly bytes: number[] = [];

  number(size: number, write: (view: DataView) => void): this {
    const view = new DataView(new ArrayBuffer(size));
    write(view);
    this.bytes.push(...new Uint8Array(view.buffer));
    return this;
  }
  u32 = (value: number) => this.number(4, (view) => view.setUint32(0, value, true));
  u64 = (value: number | bigint) => this.number(8, (view) => view.setBigUint64(0, BigInt(value), true));
  text(value: string): this {
    const bytes = new TextEncoder().encode(value);
    this.u64(bytes.length);
    for (const byte of bytes) this.bytes.push(byte);
    return this;
  }
  /** Whole numbers become UINT32, others FLOAT32; lists of numbers become INT32. */
  value(value: GgufValue): this {
    if (typeof value === 'boolean') return this.u32(7).number(1, (view) => view.setUint8(0, Number(value)));
    if (typeof value === 'string') return this.u32(8).text(value);
    if (typeof value === 'bigint') return this.u32(10).u64(value);
    if (typeof value === 'number' && Number.isInteger(value)) return this.u32(4).u32(value);
    if (typeof value === 'number') return this.u32(6).number(4, (view) => view.setFloat32(0, value, true));
    if (!Array.isArray(value)) {
      this.u32(value.type);
      for (const byte of value.bytes) this.bytes.push(byte);
      return this;
    }
    const isText = typeof value[0] === 'string';
    this.u32(9)
      .u32(isText ? 8 : 5)
      .u64(value.length);
    for (const item of value) {
      if (typeof item === 'string') this.text(item);
      else this.number(4, (view) => view.setInt32(0, item, true));
    }
    return this;
  }
  align(alignment: number): this {
    while (this.bytes.length % alignment) this.bytes.push(0);
    return this;
  }
}

export function ggufBytes({ version = 3, metadata = [], tensors = [], nTensors, nKeys }: GgufFile): Uint8Array {
  const writer = new Writer();
  writer.bytes.push(...new TextEncoder().encode('GGUF'));
  writer.u32(version);
  writer.u64(nTensors ?? tensors.length).u64(nKeys ?? metadata.length);
  for (const [key, value] of metadata) writer.text(key).value(value);
  const data = new Writer();
  for (const tensor of tensors) {
    const offset = tensor.offset ?? data.align(32).bytes.length;
    writer.text(tensor.name).u32(tensor.shape.length);
    for (const size of tensor.shape) writer.u64(size);
    writer.u32(tensor.type ?? 0).u64(offset);
    for (const byte of tensor.data ?? []) data.bytes.push(byte);
  }
  writer.align(32);
  return Uint8Array.from([...writer.bytes, ...data.bytes]);
}

/** `header` as an object, or as text to be written as it is. */
export function safetensorsBytes(
  header: object | string,
  data: Uint8Array = new Uint8Array(),
  headerBytes?: bigint,
): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const length = new Uint8Array(new BigUint64Array([headerBytes ?? BigInt(json.length)]).buffer);
  return Uint8Array.from([...length, ...json, ...data]);
}

export const f32Bytes = (values: ArrayLike<number>): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);

/** Shapes of a model with one layer, heads 2 of 8, hidden size 8; `[rows, cols]`, in llama.cpp's names. */
const TINY_SHAPES: Record<string, number[]> = {
  'token_embd.weight': [5, 8],
  'blk.0.attn_norm.weight': [8],
  'blk.0.attn_q.weight': [16, 8],
  'blk.0.attn_k.weight': [8, 8],
  'blk.0.attn_v.weight': [8, 8],
  'blk.0.attn_output.weight': [8, 16],
  'blk.0.ffn_norm.weight': [8],
  'blk.0.ffn_gate.weight': [12, 8],
  'blk.0.ffn_up.weight': [12, 8],
  'blk.0.ffn_down.weight': [8, 12],
  'output_norm.weight': [8],
};

/** A whole tiny llama; number `i` of every tensor is `i`. */
export function tinyLlama(overrides: Record<string, GgufValue | undefined> = {}, extra: GgufTensorBytes[] = []) {
  const metadata: Record<string, GgufValue | undefined> = {
    'general.architecture': 'llama',
    'llama.block_count': 1,
    'llama.context_length': 64,
    'llama.embedding_length': 8,
    'llama.feed_forward_length': 12,
    'llama.attention.head_count': 2,
    'llama.attention.head_count_kv': 1,
    'llama.attention.key_length': 8,
    'llama.attention.layer_norm_rms_epsilon': 0.001,
    'tokenizer.ggml.tokens': ['a', 'b', 'c', 'd', 'e'],
    ...overrides,
  };
  const tensors = Object.entries(TINY_SHAPES).map(([name, shape]) => ({
    name,
    shape: shape.toReversed(),
    data: f32Bytes(Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => i)),
  }));
  const pairs = Object.entries(metadata).filter((pair): pair is [string, GgufValue] => pair[1] !== undefined);
  return { metadata: pairs, tensors: [...tensors, ...extra] };
}

interface StoredBytes extends Tensor {
  readonly bytes: Uint8Array;
}

/** Only memory: what `loadWeights` uses of a backend. */
export function memoryBackend() {
  const allocated: Tensor[] = [];
  const backend: Pick<Backend, 'alloc' | 'load' | 'write'> = {
    alloc(type, rows, cols, stage = 0) {
      const tensor = { type, rows, cols, stage, bytes: new Uint8Array(rows * rowBytes(type, cols)) };
      allocated.push(tensor);
      return tensor;
    },
    load: (tensor, bytes, byteOffset) => (tensor as StoredBytes).bytes.set(bytes, byteOffset),
    write: (tensor, values) => (tensor as StoredBytes).bytes.set(f32Bytes(values)),
  };
  return { allocated, backend: backend as Backend };
}

/** All numbers of a tensor of the memory backend. */
export function numbersOf(tensor: Tensor): number[] {
  const { type, rows, cols, bytes } = tensor as StoredBytes;
  const row = new Float64Array(cols);
  return Array.from({ length: rows }, (_, r) => {
    dequantizeRow(type, new DataView(bytes.buffer), r * rowBytes(type, cols), row);
    return Array.from(row);
  }).flat();
}

/** Copies of `bytes` with one to four bytes changed; the same for the same seed. */
export function* mutations(bytes: Uint8Array, count: number, seed: number): Generator<Uint8Array> {
  const { integer, pick } = seededRandom(`mutations ${seed}`);
  for (let n = 0; n < count; n++) {
    const copy = bytes.slice();
    for (let flips = integer(1, 4); flips > 0; flips--) {
      copy[integer(0, copy.length - 1)] = pick([0, 1, 127, 128, 255, integer(0, 255)]);
    }
    yield copy;
  }
}
