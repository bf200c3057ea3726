import { describe, expect, it } from 'vitest';
import { f32Bytes, mutations, safetensorsBytes, sourceOf } from '../../test/checkpointBytes.ts';
import { FormatError, UnsupportedError } from '../errors.ts';
import { readSafetensors } from './safetensors.ts';

const data = f32Bytes([1, 2, 3, 4, 5, 6, 7, 8]);

const x = { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] };
const y = { dtype: 'BF16', shape: [4], data_offsets: [24, 32] };

const read = (header: object | string, headerBytes?: bigint) =>
  readSafetensors(sourceOf(safetensorsBytes(header, data, headerBytes)));

describe('readSafetensors', () => {
  it('reads matrices and vectors', async () => {
    const header = { __metadata__: { format: 'pt' }, x, y };
    const start = 8 + JSON.stringify(header).length;
    expect(await read(header)).toEqual([
      { name: 'x', type: 'F32', rows: 2, cols: 3, byteOffset: start, nBytes: 24 },
      { name: 'y', type: 'BF16', rows: 1, cols: 4, byteOffset: start + 24, nBytes: 8 },
    ]);
  });

  it.each<[string, object | string, string]>([
    ['an unsupported type', { x: { ...x, dtype: 'F8_E4M3' } }, 'x has type F8_E4M3; supported: F32, F16, BF16'],
    ['a type only GGUF has', { x: { ...x, dtype: 'Q8_0' } }, 'supported: F32, F16, BF16'],
    ['a type that is no text', { x: { ...x, dtype: 3 } }, 'dtype is 3'],
    ['no type', { x: { ...x, dtype: undefined } }, 'dtype is missing'],
    ['three dimensions', { x: { ...x, shape: [1, 2, 3] } }, '3 dimensions'],
    ['fractions in a shape', { x: { ...x, shape: [2, 1.5] } }, 'shape is a list of 2'],
    ['an empty shape', { x: { ...x, shape: [0, 3] } }, 'shape [0,3]'],
    ['a negative shape', { x: { ...x, shape: [-2, -3] } }, 'shape is a list of 2'],
    ['another size than the shape', { x: { ...x, shape: [2, 2] } }, 'wanted 16 bytes'],
    ['absurd shapes', { x: { ...x, shape: [2 ** 52, 2 ** 52] } }, 'x has bytes 0 to 24'],
    ['offsets that are missing', { x: { ...x, data_offsets: [0] } }, 'data_offsets is a list of 1'],
    ['offsets that run backwards', { x: { ...x, data_offsets: [24, 0] } }, 'bytes 24 to 0'],
    ['offsets past the end', { x: { ...x, data_offsets: [16, 40] } }, 'truncated'],
    ['overlap', { x, y: { ...y, data_offsets: [16, 24] } }, 'x and y overlap'],
    ['a hole at the end', { x }, 'has 32 bytes of data, but its tensors take 24'],
    ['a hole at the beginning', { y }, 'has 32 bytes of data, but its tensors take 8'],
    ['spaces before the header', ` ${JSON.stringify({ x, y })}`, 'does not begin with {'],
    ['a tensor that is no object', { x: 3 }, 'no dtype'],
    ['a header that is no object', '[1]', 'does not begin with {'],
    ['a header that is no JSON', '{"x":', 'not valid JSON'],
  ])('refuses %s', async (_what, header, message) => {
    await expect(read(header)).rejects.toThrow(message);
  });

  it('refuses a header longer than the file, before it reads one', async () => {
    for (const length of [1000, 100_000_001, 2 ** 53]) {
      await expect(read({ x }, BigInt(length))).rejects.toThrow('claims a header');
    }
    await expect(read({ x }, 2n ** 64n - 1n)).rejects.toThrow('claims a header');
  });

  it('refuses a header that is not UTF-8', async () => {
    const bytes = safetensorsBytes('{"a":0}');
    bytes[10] = 0xff;
    await expect(readSafetensors(sourceOf(bytes))).rejects.toThrow('not valid UTF-8');
  });

  it('refuses every beginning of a file', async () => {
    const bytes = safetensorsBytes({ x, y }, data);
    for (let length = 0; length < bytes.length; length++) {
      await expect(readSafetensors(sourceOf(bytes.subarray(0, length))), `${length}`).rejects.toThrow(FormatError);
    }
  });

  it('reads or refuses whatever bytes change', async () => {
    for (const bytes of mutations(safetensorsBytes({ x, y }, data), 5000, 2)) {
      await readSafetensors(sourceOf(bytes)).catch((error) => {
        if (!(error instanceof FormatError || error instanceof UnsupportedError)) throw error;
      });
    }
  });
});
