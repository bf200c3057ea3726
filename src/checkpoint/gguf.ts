/**
 * GGUF is the single-file format of llama.cpp (ggml `docs/gguf.md`): counts, key-value pairs, a list of tensors,
 * weights. Every count is held against the bytes that are left before anything is allocated for it.
 */
import { FormatError, UnsupportedError } from '../errors.ts';
import { TENSOR_TYPES, type TensorType } from '../tensorTypes.ts';
import { Cursor } from './cursor.ts';
import { describe } from './record.ts';
import type { Source } from './source.ts';
import { STAND_IN_BYTES, standIn } from './standIn.ts';
import { checkRanges, type StoredTensor, storedTensor } from './storedTensor.ts';

export interface Gguf {
  readonly version: number;
  /**
   * The file has these key-value pairs. Lists of numbers are typed arrays, lists of flags are bytes 0 and 1. 64-bit
   * integers have become numbers, single ones above 2^53 are bigint.
   */
  readonly metadata: Record<string, unknown>;
  readonly tensors: readonly GgufTensor[];
}

/** A tensor is named as in the file; `byteOffset` counts from the beginning of the file. */
export type GgufTensor = StoredTensor;

const SUPPORTED_TYPES = Object.keys(TENSOR_TYPES) as TensorType[];

/** ggml numbers its storage types so (`ggml.h`); a dash is a type that ggml gave up. */
const GGML_TYPES = (
  'F32 F16 Q4_0 Q4_1 - - Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S ' +
  'IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16 - - - TQ1_0 TQ2_0 - - - MXFP4'
).split(' ');

/** A list of numbers is read from its bytes by its `gguf_metadata_value_type`. 64-bit integers become numbers. */
const NUMBER_LISTS: Partial<Record<number, { itemBytes: number; read(bytes: ArrayBuffer): ArrayLike<number> }>> = {
  0: { itemBytes: 1, read: (bytes) => new Uint8Array(bytes) },
  1: { itemBytes: 1, read: (bytes) => new Int8Array(bytes) },
  2: { itemBytes: 2, read: (bytes) => new Uint16Array(bytes) },
  3: { itemBytes: 2, read: (bytes) => new Int16Array(bytes) },
  4: { itemBytes: 4, read: (bytes) => new Uint32Array(bytes) },
  5: { itemBytes: 4, read: (bytes) => new Int32Array(bytes) },
  6: { itemBytes: 4, read: (bytes) => new Float32Array(bytes) },
  7: { itemBytes: 1, read: (bytes) => new Uint8Array(bytes) },
  10: { itemBytes: 8, read: (bytes) => Float64Array.from(new BigUint64Array(bytes), Number) },
  11: { itemBytes: 8, read: (bytes) => Float64Array.from(new BigInt64Array(bytes), Number) },
  12: { itemBytes: 8, read: (bytes) => new Float64Array(bytes) },
};
const BOOL = 7;
const TEXT = 8;
const LIST = 9;

/** So many bytes stand before the first key: magic, version, tensor count, key count. */
const FIXED_HEADER_BYTES = 24;

/** A thousand layers have 12 thousand tensors, and no published file has a thousand keys. */
const MAX_TENSORS = 2 ** 17;
const MAX_KEYS = 2 ** 16;
/** GGUF allows a key so many characters. */
const MAX_KEY = 2 ** 16 - 1;

/** ggml has four dimensions at most (`GGML_MAX_DIMS`). */
const MAX_DIMENSIONS = 4;

/** Reads and checks everything but the weights. @throws FormatError, UnsupportedError */
export async function readGguf(source: Source): Promise<Gguf> {
  const version = await checkedVersion(source);
  const cursor = new Cursor(source, 8);
  await cursor.fill(16);
  const nTensors = checkedCount(cursor.length(), 'tensors', MAX_TENSORS, source);
  const nKeys = checkedCount(cursor.length(), 'keys', MAX_KEYS, source);
  const metadata = await readMetadata(cursor, nKeys, source.name);
  refuseSplit(metadata, source.name);
  const alignment = checkedAlignment(metadata, source.name);
  const listings: Listing[] = [];
  while (listings.length < nTensors) listings.push(await readListing(cursor, source.name));
  const dataOffset = Math.ceil(cursor.position / alignment) * alignment;
  const tensors = listings.map(({ name, type, shape, offset }) => {
    if (offset % BigInt(alignment) !== 0n) {
      throw new FormatError(`${source.name}: tensor ${name} is at byte ${offset}; wanted a multiple of ${alignment}`);
    }
    return storedTensor(source.name, name, type, SUPPORTED_TYPES, shape, dataOffset + Number(offset));
  });
  checkRanges(source, tensors);
  return { version, metadata, tensors };
}

async function checkedVersion(source: Source): Promise<number> {
  const start = await source.read(0, Math.min(source.size, STAND_IN_BYTES));
  const inPlace = standIn(start);
  if (inPlace) throw new FormatError(`${source.name}: ${inPlace}`);
  if (source.size < FIXED_HEADER_BYTES) {
    throw new FormatError(`${source.name}: has ${source.size} bytes; that is too short for a GGUF file`);
  }
  if (String.fromCharCode(...start.subarray(0, 4)) !== 'GGUF') {
    throw new FormatError(`${source.name}: not a GGUF file; give a .gguf file or a Hugging Face folder`);
  }
  const version = new DataView(start.buffer, start.byteOffset).getUint32(4, true);
  if (version !== 0 && (version & 0xffff) === 0) {
    throw new UnsupportedError(`${source.name}: big-endian GGUF; supported: little-endian`);
  }
  if (version !== 2 && version !== 3) {
    throw new UnsupportedError(`${source.name}: GGUF version ${version}; supported: 2 and 3, convert the model again`);
  }
  return version;
}

function checkedCount(count: number, what: string, limit: number, { name }: Source): number {
  if (count <= limit) return count;
  throw new FormatError(`${name}: claims ${count} ${what}; wanted at most ${limit}, the file is corrupt`);
}

async function readMetadata(cursor: Cursor, nKeys: number, origin: string): Promise<Record<string, unknown>> {
  const pairs = new Map<string, unknown>();
  while (pairs.size < nKeys) {
    const key = await readText(cursor, () => `key ${pairs.size}`);
    if (key.length > MAX_KEY) {
      throw new FormatError(`${origin}: key ${pairs.size} has ${key.length} characters; wanted at most ${MAX_KEY}`);
    }
    if (pairs.has(key)) throw new FormatError(`${origin}: key ${key} comes twice; convert the model again`);
    await cursor.fill(4);
    const type = cursor.u32();
    pairs.set(key, type === LIST ? await readList(cursor, key, origin) : await readSingle(cursor, type, key, origin));
  }
  return Object.fromEntries(pairs);
}

async function readText(cursor: Cursor, what: () => string): Promise<string> {
  await cursor.fill(8);
  const nBytes = cursor.length();
  await cursor.fill(nBytes);
  return cursor.text(nBytes, what);
}

async function readSingle(cursor: Cursor, type: number, key: string, origin: string): Promise<unknown> {
  if (type === TEXT) return readText(cursor, () => key);
  if (type === 10 || type === 11) {
    await cursor.fill(8);
    const value = type === 10 ? cursor.u64() : BigInt.asIntN(64, cursor.u64());
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }
  const [value] = Array.from(await readNumbers(cursor, type, 1, key, origin));
  return type === BOOL ? value === 1 : value;
}

async function readList(cursor: Cursor, key: string, origin: string): Promise<ArrayLike<string | number>> {
  await cursor.fill(12);
  const type = cursor.u32();
  const length = cursor.length();
  if (type === LIST) throw new FormatError(`${origin}: ${key} is a list of lists; wanted a list`);
  if (type !== TEXT) return readNumbers(cursor, type, length, key, origin);
  const texts: string[] = [];
  for (let i = 0; i < length; i++) {
    // Waiting takes far longer than reading what is there.
    if (!cursor.has(8)) await cursor.fill(8);
    const nBytes = cursor.length();
    if (!cursor.has(nBytes)) await cursor.fill(nBytes);
    texts.push(nBytes === 0 ? '' : cursor.text(nBytes, () => `${key}[${i}]`));
  }
  return texts;
}

async function readNumbers(cursor: Cursor, type: number, length: number, key: string, origin: string) {
  const list = NUMBER_LISTS[type];
  if (!list) throw new FormatError(`${origin}: ${key} has the unknown type ${type}; the file is corrupt`);
  await cursor.fill(length * list.itemBytes);
  const numbers = list.read(cursor.take(length * list.itemBytes).slice().buffer);
  const other = type === BOOL ? Array.prototype.find.call(numbers, (byte) => byte > 1) : undefined;
  if (other !== undefined) throw new FormatError(`${origin}: ${key} is ${other}; wanted a flag of 0 or 1`);
  return numbers;
}

interface Listing {
  readonly name: string;
  readonly type: string;
  /** The slowest dimension comes first. */
  readonly shape: readonly number[];
  /** The tensor begins so many bytes behind the beginning of the weights. */
  readonly offset: bigint;
}

async function readListing(cursor: Cursor, origin: string): Promise<Listing> {
  const name = await readText(cursor, () => 'the name of a tensor');
  await cursor.fill(4);
  const nDimensions = cursor.u32();
  if (nDimensions > MAX_DIMENSIONS) {
    throw new FormatError(`${origin}: tensor ${name} has ${nDimensions} dimensions; the file is corrupt`);
  }
  await cursor.fill(8 * nDimensions + 12);
  const shape = Array.from({ length: nDimensions }, () => cursor.length()).reverse();
  const type = cursor.u32();
  const typeName = (GGML_TYPES[type] ?? '-').replace('-', `number ${type}`);
  return { name, type: typeName, shape, offset: cursor.u64() };
}

function checkedAlignment(metadata: Record<string, unknown>, origin: string): number {
  const alignment = metadata['general.alignment'] ?? 32;
  const isPower = typeof alignment === 'number' && alignment >= 1 && Number.isInteger(Math.log2(alignment));
  if (isPower && alignment <= 2 ** 20) return alignment;
  throw new FormatError(
    `${origin}: general.alignment is ${describe(alignment)}; wanted a power of two up to ${2 ** 20}`,
  );
}

function refuseSplit(metadata: Record<string, unknown>, origin: string): void {
  const count = metadata['split.count'];
  if (typeof count !== 'number' || count <= 1) return;
  throw new UnsupportedError(
    `${origin}: one of ${count} files of a split model; merge them first: ` +
      'llama-gguf-split --merge <first file> <merged file>',
  );
}
