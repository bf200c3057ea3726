/**
 * How tensors and caches lie in the GPU's buffers. Weights stay as they are stored, in planes
 * (`kernels/dequantize.wgsl.ts`); what is more than a device binds at once is split, a matrix by rows, a cache by heads.
 */
import { UnsupportedError } from '../errors.ts';
import { layoutOf } from '../kernels/dequantize.wgsl.ts';
import { PAGE_LEN } from '../kvTypes.ts';
import type { Backend, KvLayer, Tensor } from './backend.ts';
import type { BufferRange, Recorder } from './webgpuRecorder.ts';

/** Rows of a tensor that lie in one buffer; a device binds no more than so many bytes. */
interface Part {
  readonly buffer: GPUBuffer;
  readonly firstRow: number;
  readonly nRows: number;
}

interface WebGpuTensor extends Tensor {
  readonly parts: readonly Part[];
  /** Where the tensor's first number is in its buffer; F32 alone. */
  readonly at: number;
}

/** A cache has room for some tokens at first, and for twice as many when they come. */
export interface WebGpuKv extends KvLayer {
  readonly parts: readonly KvPart[];
  readonly keyForms: number;
  /** Tokens there is room for. */
  room: number;
}

/** Key-value heads that lie in buffers of their own; a device binds no more than so many bytes. */
export interface KvPart {
  readonly firstHead: number;
  readonly nHeads: number;
  keys: GPUBuffer; // [keyForms, nHeads, room, headDim]
  values: GPUBuffer; // [nHeads, room, headDim]
}

const MAX_HEAD_DIM = 256;
const FIRST_ROOM = 4096; // tokens

export const partsOf = (tensor: Tensor) => (tensor as WebGpuTensor).parts;
/** Of what a kernel computes with. @throws UnsupportedError where it is spread over several. */
export function bufferOf(tensor: Tensor): GPUBuffer {
  const parts = partsOf(tensor);
  if (parts.length > 1) {
    throw new UnsupportedError(
      `${tensor.rows} rows of ${tensor.cols} numbers are more than this GPU binds at once; use backend wasm, or a smaller model`,
    );
  }
  return parts[0].buffer;
}
export const at = (tensor: Tensor) => (tensor as WebGpuTensor).at;

/** Parts of a backend that see to memory. */
type Memory = Pick<Backend, 'alloc' | 'allocKv' | 'view' | 'write' | 'load'> & {
  /** Sees to room for `tokens` in a cache: what it holds moves within the GPU. @throws UnsupportedError as `alloc`. */
  growTo(kv: WebGpuKv, tokens: number): void;
  /** Finds where a page of some layers lies, keys of all heads form by form and then values. The caches must have room for it. */
  pageRanges(layers: readonly KvLayer[], page: number): BufferRange[];
};

/**
 * @param number What a cache holds.
 * @param put Writes bytes into a buffer at once.
 */
export function openMemory(
  recorder: Recorder,
  number: 'f16' | 'f32',
  put: (buffer: GPUBuffer, byteOffset: number, bytes: Uint8Array) => void,
): Memory {
  const { maxBytes } = recorder;
  const bytesOfNumber = number === 'f16' ? 2 : 4;
  return {
    alloc(type, rows, cols, stage = 0) {
      const { unitsPerRow, planes } = layoutOf(type, cols);
      const bytesOfRow = planes.reduce((sum, { stride }) => sum + stride, 0) * unitsPerRow;
      const rowsOfPart = Math.max(1, Math.min(rows, Math.floor(maxBytes / bytesOfRow)));
      const parts: Part[] = [];
      for (let firstRow = 0; firstRow < rows; firstRow += rowsOfPart) {
        const nRows = Math.min(rowsOfPart, rows - firstRow);
        parts.push({ buffer: recorder.alloc(nRows * bytesOfRow, `a row of ${cols} numbers`), firstRow, nRows });
      }
      return { type, rows, cols, stage, parts, at: 0 } as WebGpuTensor;
    },
    allocKv(nPages, nKvHeads, headDim, stage = 0, keyForms = 1) {
      const capacity = nPages * PAGE_LEN;
      if (headDim % 4 !== 0 || headDim > MAX_HEAD_DIM) {
        throw new UnsupportedError(
          `heads of ${headDim} dimensions do not run on webgpu; wanted a multiple of 4 up to ${MAX_HEAD_DIM}: use backend wasm`,
        );
      }
      const bytesOfHead = keyForms * capacity * headDim * bytesOfNumber;
      recorder.checkSize(bytesOfHead, `a head's cache of ${capacity} tokens`);
      const headsOfPart = Math.min(nKvHeads, Math.floor(maxBytes / bytesOfHead));
      const room = Math.min(capacity, FIRST_ROOM);
      const parts: KvPart[] = [];
      for (let firstHead = 0; firstHead < nKvHeads; firstHead += headsOfPart) {
        const nHeads = Math.min(headsOfPart, nKvHeads - firstHead);
        const half = (forms: number) =>
          recorder.alloc(forms * nHeads * room * headDim * bytesOfNumber, `a layer's cache of ${capacity} tokens`);
        parts.push({ firstHead, nHeads, keys: half(keyForms), values: half(1) });
      }
      return { nPages, nKvHeads, headDim, stage, parts, keyForms, room } as WebGpuKv;
    },
    view: (tensor, rows, cols, offset = 0) => ({ ...tensor, rows, cols, at: at(tensor) + offset }) as WebGpuTensor,
    write: (tensor, values) => put(bufferOf(tensor), 4 * at(tensor), new Uint8Array(Float32Array.from(values).buffer)),
    load(tensor, bytes, byteOffset) {
      const { type, cols } = tensor;
      const { unitBytes, unitsPerRow, planes } = layoutOf(type, cols);
      const [first, end] = [byteOffset / unitBytes, (byteOffset + bytes.length) / unitBytes];
      for (const { buffer, firstRow, nRows } of partsOf(tensor)) {
        const begin = firstRow * unitsPerRow;
        const [from, to] = [Math.max(first, begin), Math.min(end, begin + nRows * unitsPerRow)];
        if (from >= to) continue;
        const units = bytes.subarray((from - first) * unitBytes, (to - first) * unitBytes);
        let planeAt = 0;
        for (const { at, size, stride } of planes) {
          const isWhole = size === unitBytes && stride === unitBytes;
          put(
            buffer,
            planeAt + (from - begin) * stride,
            isWhole ? units : gathered(units, unitBytes, at, size, stride),
          );
          planeAt += nRows * unitsPerRow * stride;
        }
      }
    },
    pageRanges(layers, page) {
      // Devices that bind less have heads in more parts; the order is that of heads on all of them.
      const ofLayer = ({ parts, keyForms, room, headDim }: WebGpuKv) => {
        const tokenBytes = headDim * bytesOfNumber;
        const ofHeads = (half: 'keys' | 'values', form: number) =>
          parts.flatMap((part) =>
            Array.from({ length: part.nHeads }, (_, head) => {
              const first = (form * part.nHeads + head) * room;
              const byteOffset = (first + PAGE_LEN * page) * tokenBytes;
              return { buffer: part[half], byteOffset, length: PAGE_LEN * tokenBytes };
            }),
          );
        const keys = Array.from({ length: keyForms }, (_, form) => ofHeads('keys', form));
        return [...keys.flat(), ...ofHeads('values', 0)];
      };
      return layers.flatMap((kv) => ofLayer(kv as WebGpuKv));
    },
    growTo(kv, tokens) {
      if (tokens <= kv.room) return;
      const before = kv.room;
      kv.room = Math.min(kv.nPages * PAGE_LEN, Math.max(tokens, 2 * before));
      const [from, to] = [before, kv.room].map((room) => room * kv.headDim * bytesOfNumber);
      for (const part of kv.parts) {
        const moved = (old: GPUBuffer, forms: number) => {
          const nHeads = forms * part.nHeads;
          const grown = recorder.alloc(nHeads * to, `a layer's cache of ${kv.room} tokens`);
          for (let head = 0; head < nHeads; head++) recorder.copy(old, head * from, grown, head * to, from);
          recorder.free(old);
          return grown;
        };
        part.keys = moved(part.keys, kv.keyForms);
        part.values = moved(part.values, 1);
      }
    },
  };
}

// --- internal ---

/** Bytes `at..at + size` of every unit, `stride` bytes each. */
function gathered(units: Uint8Array, unitBytes: number, at: number, size: number, stride: number): Uint8Array {
  const nUnits = units.length / unitBytes;
  const plane = new Uint8Array(nUnits * stride);
  if (size < 64) {
    for (let u = 0; u < nUnits; u++) {
      for (let i = 0; i < size; i++) plane[u * stride + i] = units[u * unitBytes + at + i];
    }
  } else {
    for (let u = 0; u < nUnits; u++)
      plane.set(units.subarray(u * unitBytes + at, u * unitBytes + at + size), u * stride);
  }
  return plane;
}
