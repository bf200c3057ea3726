/** A file lists its tensors, and the list is checked before one byte is read or allocated from it. */
import { FormatError, UnsupportedError } from '../errors.ts';
import { rowBytes, TENSOR_TYPES, type TensorType } from '../tensorTypes.ts';
import type { TensorEntry } from './checkpoint.ts';
import type { Source } from './source.ts';

export type StoredTensor = Omit<TensorEntry, 'source' | 'interleavedHeadDim'>;

/**
 * Sizes a tensor from its listing.
 *
 * @param type The file's name of the storage type; the tensor is refused unless it is one of `supported`.
 * @param shape The slowest dimension comes first.
 */
export function storedTensor(
  origin: string,
  name: string,
  type: string,
  supported: readonly TensorType[],
  shape: readonly number[],
  byteOffset: number,
): StoredTensor {
  const where = `${origin}: tensor ${name}`;
  if (!isOneOf(supported, type)) {
    throw new UnsupportedError(`${where} has type ${type}; supported: ${supported.join(', ')}`);
  }
  if (shape.length !== 1 && shape.length !== 2) {
    throw new UnsupportedError(`${where} has ${shape.length} dimensions; wanted 1 or 2 (experts have 3)`);
  }
  if (!shape.every((size) => Number.isSafeInteger(size) && size > 0)) {
    throw new FormatError(`${where} has shape [${shape}]; wanted whole numbers above 0`);
  }
  const [rows, cols] = shape.length === 1 ? [1, shape[0]] : shape;
  const { blockLen } = TENSOR_TYPES[type];
  if (cols % blockLen !== 0) {
    throw new FormatError(
      `${where} has rows of ${cols} numbers; wanted a multiple of ${blockLen}, the block of ${type}`,
    );
  }
  return { name, type, rows, cols, byteOffset, nBytes: rows * rowBytes(type, cols) };
}

const isOneOf = (supported: readonly TensorType[], type: string): type is TensorType =>
  (supported as readonly string[]).includes(type);

/** Checks that names are unique, every range lies in the file, and no two ranges share a byte. */
export function checkRanges(source: Source, tensors: readonly StoredTensor[]): void {
  const names = new Set<string>();
  let [previous, previousEnd] = ['', 0];
  for (const { name, byteOffset, nBytes } of tensors.toSorted((a, b) => a.byteOffset - b.byteOffset)) {
    const end = byteOffset + nBytes;
    if (names.has(name)) throw new FormatError(`${source.name}: tensor ${name} is listed twice`);
    if (!Number.isSafeInteger(end) || end > source.size) {
      throw new FormatError(
        `${source.name}: tensor ${name} ends at byte ${end}, but the file has ${source.size}; ` +
          'it is truncated or corrupt, download it again',
      );
    }
    if (byteOffset < previousEnd) {
      throw new FormatError(`${source.name}: tensors ${previous} and ${name} overlap at byte ${byteOffset}`);
    }
    names.add(name);
    [previous, previousEnd] = [name, end];
  }
}
