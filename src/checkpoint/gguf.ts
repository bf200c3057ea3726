/**
 * GGUF, the single-file format of llama.cpp (ggml `docs/gguf.md`). `@huggingface/gguf` walks the header; it trusts the
 * file in several places, so what it returns is measured against the bytes it came from before anyone may use it.
 */
import { GGMLQuantizationType, type GGUFTypedMetadata, GGUFValueType, gguf } from '@huggingface/gguf';
import { FormatError, UnsupportedError } from '../errors.ts';
import { TENSOR_TYPES, type TensorType } from '../tensorTypes.ts';
import type { Source } from './source.ts';
import { checkRanges, type StoredTensor, storedTensor } from './storedTensor.ts';

export interface Gguf {
  readonly version: number;
  /** Key-value pairs of the file; 64-bit integers have become numbers. */
  readonly metadata: Record<string, unknown>;
  readonly tensors: readonly GgufTensor[];
}

/** Named as in the file; `byteOffset` counts from the beginning of the file. */
export type GgufTensor = StoredTensor;

const SUPPORTED_TYPES = Object.keys(TENSOR_TYPES) as TensorType[];

/** Bytes that the library may ask for past the end: it reads this far ahead of what it parses. */
const LOOK_AHEAD = 500_000;

/** Bytes before the first key: magic, version, tensor count, key count. */
const FIXED_HEADER_BYTES = 24;

/** Reads and checks everything but the weights. @throws FormatError, UnsupportedError */
export async function readGguf(source: Source): Promise<Gguf> {
  const version = await checkedVersion(source);
  const { typedMetadata, tensorInfos, tensorInfoByteRange } = await parse(source);
  const [metadataEnd, headerEnd] = tensorInfoByteRange;
  // The library reads zeros behind the end of a file.
  if (headerEnd > source.size) throw truncated(source);
  const metadata = checkedMetadata(typedMetadata, metadataEnd - FIXED_HEADER_BYTES, source.name);
  refuseSplit(metadata, source.name);
  const alignment = checkedAlignment(metadata, source.name);
  const dataOffset = Math.ceil(headerEnd / alignment) * alignment;
  const tensors = tensorInfos.map(({ name, dtype, shape, offset }) => {
    if (offset % BigInt(alignment) !== 0n) {
      throw new FormatError(`${source.name}: tensor ${name} is at byte ${offset}; wanted a multiple of ${alignment}`);
    }
    const type = GGMLQuantizationType[dtype] ?? `number ${dtype}`;
    const slowestFirst = shape.map(Number).reverse();
    return storedTensor(source.name, name, type, SUPPORTED_TYPES, slowestFirst, dataOffset + Number(offset));
  });
  checkRanges(source, tensors);
  return { version, metadata, tensors };
}

async function checkedVersion(source: Source): Promise<number> {
  if (source.size < FIXED_HEADER_BYTES) {
    throw new FormatError(`${source.name}: has ${source.size} bytes; that is too short for a GGUF file`);
  }
  const header = await source.read(0, FIXED_HEADER_BYTES);
  if (String.fromCharCode(...header.subarray(0, 4)) !== 'GGUF') {
    throw new FormatError(`${source.name}: not a GGUF file; give a .gguf file or a Hugging Face folder`);
  }
  const version = new DataView(header.buffer, header.byteOffset).getUint32(4, true);
  if (version !== 0 && (version & 0xffff) === 0) {
    throw new UnsupportedError(`${source.name}: big-endian GGUF; supported: little-endian`);
  }
  if (version !== 2 && version !== 3) {
    throw new UnsupportedError(`${source.name}: GGUF version ${version}; supported: 2 and 3, convert the model again`);
  }
  return version;
}

async function parse(source: Source) {
  try {
    return await gguf('http://source.invalid/', { fetch: fetchFrom(source), typedMetadata: true });
  } catch (error) {
    if (error instanceof FormatError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new FormatError(`${source.name}: header cannot be read (${reason}); the file is corrupt, download it again`, {
      cause: error,
    });
  }
}

/** Serves the library's range requests out of `source`, so it needs neither a network nor a file system. */
function fetchFrom(source: Source): typeof fetch {
  return async (_address, init) => {
    const range = new Headers(init?.headers).get('range') ?? '';
    const [first, last] = (range.match(/\d+/g) ?? []).map(Number);
    if (first > source.size + LOOK_AHEAD) throw truncated(source);
    const end = Math.max(first, Math.min(last + 1, source.size));
    const bytes = first < end ? await source.read(first, end - first) : new Uint8Array();
    const headers = { 'content-range': `bytes ${first}-${end - 1}/${source.size}` };
    return new Response(bytes as Uint8Array<ArrayBuffer>, { status: 206, headers });
  };
}

const truncated = ({ name, size }: Source) =>
  new FormatError(`${name}: ends at byte ${size}, inside its header; it is truncated, download it again`);

function checkedAlignment(metadata: Record<string, unknown>, origin: string): number {
  const alignment = metadata['general.alignment'] ?? 32;
  if (
    typeof alignment !== 'number' ||
    !Number.isInteger(Math.log2(alignment)) ||
    alignment < 1 ||
    alignment > 2 ** 20
  ) {
    throw new FormatError(`${origin}: general.alignment is ${alignment}; wanted a power of two up to ${2 ** 20}`);
  }
  return alignment;
}

function refuseSplit(metadata: Record<string, unknown>, origin: string): void {
  const count = metadata['split.count'];
  if (typeof count !== 'number' || count <= 1) return;
  throw new UnsupportedError(
    `${origin}: one of ${count} files of a split model; merge them first: ` +
      'llama-gguf-split --merge <first file> <merged file>',
  );
}

/**
 * The pairs that the library read, proved complete: written again they take `nBytes`, as in the file. That fails for a
 * key that comes twice (the library keeps one), for text that is not UTF-8, and for a text at the end of the library's
 * buffer, which it silently cuts.
 */
function checkedMetadata(typed: GGUFTypedMetadata, nBytes: number, origin: string): Record<string, unknown> {
  const { version: _version, tensor_count: _tensors, kv_count: _keys, ...pairs } = typed;
  const metadata: Record<string, unknown> = {};
  let [measured, nEmpty] = [0, 0];
  for (const [key, { value, type, subType }] of Object.entries(pairs)) {
    if (subType === GGUFValueType.ARRAY) throw new FormatError(`${origin}: ${key} is a list of lists; wanted a list`);
    const values = Array.isArray(value) ? value : [value];
    measured += storedBytes(GGUFValueType.STRING, key) + 4 + (Array.isArray(value) ? 12 : 0);
    for (const item of values) measured += storedBytes(subType ?? type, item);
    if (subType === GGUFValueType.STRING) nEmpty += values.filter((item) => item === '').length;
    metadata[key] = Array.isArray(value) ? value.map(plain) : plain(value);
  }
  if (measured === nBytes) return metadata;
  // A byte order mark is a token of Llama 2, and the library's decoder drops it: an empty text three bytes short.
  if (nEmpty > 0 && measured + 3 * nEmpty === nBytes) return withByteOrderMarks(metadata);
  throw new FormatError(
    `${origin}: metadata takes ${nBytes} bytes, but what it says takes ${measured}; ` +
      'a key comes twice or a text is not UTF-8, convert the model again',
  );
}

const SCALAR_BYTES: Partial<Record<GGUFValueType, number>> = {
  [GGUFValueType.UINT8]: 1,
  [GGUFValueType.INT8]: 1,
  [GGUFValueType.UINT16]: 2,
  [GGUFValueType.INT16]: 2,
  [GGUFValueType.UINT32]: 4,
  [GGUFValueType.INT32]: 4,
  [GGUFValueType.FLOAT32]: 4,
  [GGUFValueType.BOOL]: 1,
  [GGUFValueType.UINT64]: 8,
  [GGUFValueType.INT64]: 8,
  [GGUFValueType.FLOAT64]: 8,
};

const plain = (value: unknown) => (typeof value === 'bigint' ? Number(value) : value);

const utf8 = new TextEncoder();

const storedBytes = (type: GGUFValueType, value: unknown): number =>
  SCALAR_BYTES[type] ?? 8 + utf8.encode(String(value)).length;

function withByteOrderMarks(metadata: Record<string, unknown>): Record<string, unknown> {
  const restore = (value: unknown) =>
    Array.isArray(value) ? value.map((item) => (item === '' ? '\ufeff' : item)) : value;
  return Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, restore(value)]));
}
