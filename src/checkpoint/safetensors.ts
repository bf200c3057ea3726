/** safetensors (huggingface.co/docs/safetensors) has eight bytes of header length, a JSON header, then the numbers. */
import { FormatError, isRecord } from '../errors.ts';
import type { TensorType } from '../tensorTypes.ts';
import { fieldsOf, parseRecord } from './record.ts';
import type { Source } from './source.ts';
import { STAND_IN_BYTES, standIn } from './standIn.ts';
import { checkRanges, type StoredTensor, storedTensor } from './storedTensor.ts';

/** A thousand layers take 2 MB. The format allows 100 MB, but hostile JSON takes sixty times its size to parse. */
const MAX_HEADER_BYTES = 16 * 2 ** 20;

const SUPPORTED_TYPES: TensorType[] = ['F32', 'F16', 'BF16'];

/** Reads and checks the header. @throws FormatError, UnsupportedError */
export async function readSafetensors(source: Source): Promise<StoredTensor[]> {
  const headerBytes = await checkedHeaderBytes(source);
  const headerText = await source.read(8, headerBytes);
  // The Rust library, too, lets nothing stand before the record.
  if (headerText[0] !== 0x7b) throw new FormatError(`${source.name}: its header does not begin with {; it is corrupt`);
  const header = parseRecord(headerText, source.name);
  const tensors = Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, listing]) => tensorOf(source.name, name, listing, 8 + headerBytes));
  checkRanges(source, tensors);
  refuseHoles(source, tensors, 8 + headerBytes);
  return tensors;
}

/** Refuses data that no tensor has: ranges that do not overlap fill it where their lengths add up to it. */
function refuseHoles({ name, size }: Source, tensors: readonly StoredTensor[], dataOffset: number): void {
  const total = tensors.reduce((sum, { nBytes }) => sum + nBytes, 0);
  if (total === size - dataOffset) return;
  throw new FormatError(
    `${name}: has ${size - dataOffset} bytes of data, but its tensors take ${total}; it is corrupt, download it again`,
  );
}

async function checkedHeaderBytes(source: Source): Promise<number> {
  const inPlace = standIn(await source.read(0, Math.min(source.size, STAND_IN_BYTES)));
  if (inPlace) throw new FormatError(`${source.name}: ${inPlace}`);
  if (source.size < 8) throw new FormatError(`${source.name}: has ${source.size} bytes; not a safetensors file`);
  const start = await source.read(0, 8);
  const headerBytes = Number(new DataView(start.buffer, start.byteOffset).getBigUint64(0, true));
  const limit = Math.min(MAX_HEADER_BYTES, source.size - 8);
  if (headerBytes > limit) {
    throw new FormatError(
      `${source.name}: claims a header of ${headerBytes} bytes, at most ${limit} are possible; ` +
        'it is truncated or not a safetensors file',
    );
  }
  return headerBytes;
}

function tensorOf(origin: string, name: string, listing: unknown, dataOffset: number): StoredTensor {
  if (!isRecord(listing)) throw new FormatError(`${origin}: tensor ${name} has no dtype, shape and data_offsets`);
  const fields = fieldsOf(listing, `${origin}: tensor ${name}`);
  const shape = numbersOf(fields.get('shape'));
  const offsets = numbersOf(fields.get('data_offsets'));
  if (!shape) throw fields.fault('shape', 'a list of whole numbers');
  if (offsets?.length !== 2) throw fields.fault('data_offsets', 'two whole numbers');
  const [begin, end] = offsets;
  const tensor = storedTensor(origin, name, fields.string('dtype'), SUPPORTED_TYPES, shape, dataOffset + begin);
  if (end - begin !== tensor.nBytes) {
    throw new FormatError(
      `${origin}: tensor ${name} has bytes ${begin} to ${end}; wanted ${tensor.nBytes} bytes for ` +
        `[${shape}] numbers of type ${tensor.type}`,
    );
  }
  return tensor;
}

const numbersOf = (value: unknown): number[] | undefined =>
  Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0) ? value : undefined;
