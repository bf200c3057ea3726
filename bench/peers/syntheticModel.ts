/**
 * A Q8_0 model to compare with where none is given: SmolLM2-135M-Instruct, its Q4_1 weights stored again as Q8_0, which
 * changes speed and not sense. Where the Q4_1 file is missing, a model of the same shape with random weights.
 */
import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { GGMLQuantizationType, type GGUFTypedMetadata, GGUFValueType, gguf } from '@huggingface/gguf';
import { readGguf } from '../../src/checkpoint/gguf.ts';
import { dequantizeRow, halfToNumber } from '../../src/kernels/dequantize.ts';
import { openFile } from '../../src/platform/node.ts';
import { rowBytes } from '../../src/tensorTypes.ts';

export const REAL = 'models/SmolLM2-135M-Instruct.Q8_0.gguf';
export const RANDOM = 'models/random-135M.Q8_0.gguf';
const SOURCE = 'models/SmolLM2-135M-Instruct.Q4_1.gguf';

/** llama.cpp's `general.file_type` of a file whose matrices are Q8_0. */
const MOSTLY_Q8_0 = 7;
const ALIGNMENT = 32;

/** Path of a model, written first if it is not there. */
export async function syntheticModel(): Promise<string> {
  if (existsSync(REAL)) return REAL;
  if (existsSync(SOURCE)) {
    console.log(`writing ${REAL} from ${SOURCE}`);
    await requantize(SOURCE, REAL);
    return REAL;
  }
  if (!existsSync(RANDOM)) {
    console.log(`writing ${RANDOM}: random weights, as ${SOURCE} is missing (npm run fetch-model)`);
    writeGguf(RANDOM, randomMetadata(), randomTensors());
  }
  return RANDOM;
}

type Metadata = Record<string, { type: GGUFValueType; subType?: GGUFValueType; value: unknown }>;

/** Matrices are written as Q8_0, vectors (one row) as F32. */
interface TensorRows {
  name: string;
  rows: number;
  cols: number;
  /** Fills `out` with one row. */
  read(row: number, out: Float64Array): void;
}

async function requantize(from: string, to: string): Promise<void> {
  const source = await openFile(from);
  const { tensors } = await readGguf(source);
  const { version, tensor_count, kv_count, ...metadata }: GGUFTypedMetadata = (
    await gguf(from, { allowLocalFile: true, typedMetadata: true })
  ).typedMetadata;
  const rowsOf = tensors.map(async ({ name, type, rows, cols, byteOffset, nBytes }): Promise<TensorRows> => {
    const { buffer } = await source.read(byteOffset, nBytes);
    const bytes = new DataView(buffer);
    return { name, rows, cols, read: (row, out) => dequantizeRow(type, bytes, row * rowBytes(type, cols), out) };
  });
  const fileType = { type: GGUFValueType.UINT32, value: MOSTLY_Q8_0 };
  writeGguf(to, { ...metadata, 'general.file_type': fileType }, await Promise.all(rowsOf));
  await source.close();
}

// --- random weights in the shape of SmolLM2-135M ---

const SHAPE = { layers: 30, hidden: 576, heads: 9, kvHeads: 3, headDim: 64, intermediate: 1536, vocab: 49152 };

function randomMetadata(): Metadata {
  const u32 = (value: number) => ({ type: GGUFValueType.UINT32, value });
  const f32 = (value: number) => ({ type: GGUFValueType.FLOAT32, value });
  const text = (value: string) => ({ type: GGUFValueType.STRING, value });
  const list = (subType: GGUFValueType, value: unknown[]) => ({ type: GGUFValueType.ARRAY, subType, value });
  const end = '<|endoftext|>';
  const bytes = Array.from({ length: 256 }, (_, byte) => byteCharacter(byte));
  // As many pairs of bytes as there is room for, each merged from its two bytes.
  const pairs = bytes.flatMap((a) => bytes.map((b) => [a, b])).slice(0, SHAPE.vocab - 257);
  const tokens = [end, ...bytes, ...pairs.map((pair) => pair.join(''))];
  const [normal, control] = [1, 3]; // llama.cpp's token types
  return {
    'general.architecture': text('llama'),
    'general.name': text('random weights'),
    'general.file_type': u32(MOSTLY_Q8_0),
    'general.quantization_version': u32(2),
    'llama.context_length': u32(8192),
    'llama.block_count': u32(SHAPE.layers),
    'llama.embedding_length': u32(SHAPE.hidden),
    'llama.feed_forward_length': u32(SHAPE.intermediate),
    'llama.attention.head_count': u32(SHAPE.heads),
    'llama.attention.head_count_kv': u32(SHAPE.kvHeads),
    'llama.attention.layer_norm_rms_epsilon': f32(1e-5),
    'llama.rope.dimension_count': u32(SHAPE.headDim),
    'llama.rope.freq_base': f32(100_000),
    'llama.vocab_size': u32(SHAPE.vocab),
    'tokenizer.ggml.model': text('gpt2'),
    'tokenizer.ggml.pre': text('smollm'),
    'tokenizer.ggml.tokens': list(GGUFValueType.STRING, tokens),
    'tokenizer.ggml.token_type': list(
      GGUFValueType.INT32,
      tokens.map((token) => (token === end ? control : normal)),
    ),
    'tokenizer.ggml.merges': list(
      GGUFValueType.STRING,
      pairs.map((pair) => pair.join(' ')),
    ),
    'tokenizer.ggml.bos_token_id': u32(0),
    'tokenizer.ggml.eos_token_id': u32(0),
  };
}

/** GPT-2 writes a byte as itself where that is visible, else as the next free character from 256 on. */
function byteCharacter(byte: number): string {
  const isVisible = (b: number) => (b > 32 && b < 127) || (b > 160 && b !== 173);
  const nHidden = Array.from({ length: byte }, (_, b) => b).filter((b) => !isVisible(b)).length;
  return String.fromCharCode(isVisible(byte) ? byte : 256 + nHidden);
}

function randomTensors(): TensorRows[] {
  const { layers, hidden, heads, kvHeads, headDim, intermediate, vocab } = SHAPE;
  // Variance 1/cols keeps the size of what a matrix multiplies.
  const matrix = (name: string, rows: number, cols: number): TensorRows => ({
    ...{ name, rows, cols },
    read: (_, out) => out.set(out.map(() => (Math.random() * 2 - 1) * Math.sqrt(3 / cols))),
  });
  const norm = (name: string): TensorRows => ({ name, rows: 1, cols: hidden, read: (_, out) => out.fill(1) });
  const blocks = Array.from({ length: layers }, (_, layer) => `blk.${layer}.`).flatMap((block) => [
    norm(`${block}attn_norm.weight`),
    matrix(`${block}attn_q.weight`, heads * headDim, hidden),
    matrix(`${block}attn_k.weight`, kvHeads * headDim, hidden),
    matrix(`${block}attn_v.weight`, kvHeads * headDim, hidden),
    matrix(`${block}attn_output.weight`, hidden, heads * headDim),
    norm(`${block}ffn_norm.weight`),
    matrix(`${block}ffn_gate.weight`, intermediate, hidden),
    matrix(`${block}ffn_up.weight`, intermediate, hidden),
    matrix(`${block}ffn_down.weight`, hidden, intermediate),
  ]);
  return [matrix('token_embd.weight', vocab, hidden), ...blocks, norm('output_norm.weight')];
}

// --- writing ---

function writeGguf(path: string, metadata: Metadata, tensors: readonly TensorRows[]): void {
  const typeOf = ({ rows }: TensorRows) => (rows === 1 ? 'F32' : 'Q8_0');
  const header = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(Object.keys(metadata).length)];
  for (const [key, { type, subType, value }] of Object.entries(metadata)) {
    header.push(text(key), u32(type));
    if (subType === undefined) header.push(valueBytes(type, value));
    else {
      const items = value as unknown[];
      header.push(u32(subType), u64(items.length), ...items.map((item) => valueBytes(subType, item)));
    }
  }
  let offset = 0;
  for (const tensor of tensors) {
    const { name, rows, cols } = tensor;
    const shape = rows === 1 ? [cols] : [cols, rows];
    header.push(
      text(name),
      u32(shape.length),
      ...shape.map(u64),
      u32(GGMLQuantizationType[typeOf(tensor)]),
      u64(offset),
    );
    offset += aligned(rows * rowBytes(typeOf(tensor), cols));
  }
  mkdirSync(dirname(path), { recursive: true });
  const file = openSync(`${path}.part`, 'w'); // renamed when whole
  writeSync(file, padded(Buffer.concat(header)));
  for (const tensor of tensors) writeSync(file, padded(tensorBytes(tensor, typeOf(tensor))));
  closeSync(file);
  renameSync(`${path}.part`, path);
}

const aligned = (nBytes: number) => Math.ceil(nBytes / ALIGNMENT) * ALIGNMENT;
const padded = (bytes: Buffer) => Buffer.concat([bytes], aligned(bytes.length));

function bytesOf(size: number, write: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(size);
  write(bytes);
  return bytes;
}

const u32 = (value: number) => bytesOf(4, (b) => b.writeUInt32LE(value));
const u64 = (value: number) => bytesOf(8, (b) => b.writeBigUInt64LE(BigInt(value)));
const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

function valueBytes(type: GGUFValueType, value: unknown): Buffer {
  if (type === GGUFValueType.STRING) return text(String(value));
  if (type === GGUFValueType.BOOL) return Buffer.from([Number(value)]);
  if (type === GGUFValueType.UINT32) return u32(Number(value));
  if (type === GGUFValueType.INT32) return bytesOf(4, (b) => b.writeInt32LE(Number(value)));
  if (type === GGUFValueType.FLOAT32) return bytesOf(4, (b) => b.writeFloatLE(Number(value)));
  throw new Error(`metadata of type ${GGUFValueType[type]} cannot be written`);
}

function tensorBytes({ rows, cols, read }: TensorRows, type: 'F32' | 'Q8_0'): Buffer {
  const row = new Float64Array(cols);
  const nBytes = rowBytes(type, cols);
  const bytes = Buffer.alloc(rows * nBytes);
  for (let r = 0; r < rows; r++) {
    read(r, row);
    if (type === 'Q8_0') encodeQ8(row, bytes, r * nBytes);
    else for (const [i, x] of row.entries()) bytes.writeFloatLE(x, r * nBytes + 4 * i);
  }
  return bytes;
}

/** Blocks of 32 signed bytes behind a half-precision scale, the largest weight at 127. */
function encodeQ8(row: Float64Array, bytes: Buffer, offset: number): void {
  for (let start = 0, at = offset; start < row.length; start += 32, at += 34) {
    const block = row.subarray(start, start + 32);
    const scaleBits = toHalf(block.reduce((max, x) => Math.max(max, Math.abs(x)), 0) / 127);
    const scale = halfToNumber(scaleBits);
    bytes.writeUInt16LE(scaleBits, at);
    for (let i = 0; i < 32; i++) {
      const q = scale === 0 ? 0 : Math.round(block[i] / scale);
      bytes.writeInt8(Math.max(-127, Math.min(127, q)), at + 2 + i);
    }
  }
}

/** Half precision of a number from 0 to 65504; a fraction rounded up to 2048 carries into the exponent, as it should. */
function toHalf(x: number): number {
  const exponent = Math.max(-14, Math.floor(Math.log2(x)));
  return ((exponent + 14) << 10) + Math.round(x / 2 ** (exponent - 10));
}
