/**
 * The truth, slowly: every kernel is its float64 definition. Every tensor is an array of its own, so a stage is only a
 * number. Calls wait for `submit` or `read` as on the fast backends, so that a mistake in their order shows here too.
 */
import { cut, joined } from '../bytes.ts';
import { UnsupportedError } from '../errors.ts';
import { attend, placeOf } from '../kernels/attend.ts';
import { dequantizeRow } from '../kernels/dequantize.ts';
import { add, glu } from '../kernels/elementwise.ts';
import { matmul } from '../kernels/matmul.ts';
import { rmsNorm } from '../kernels/rmsNorm.ts';
import { rotate } from '../kernels/rotate.ts';
import { PAGE_LEN } from '../kvTypes.ts';
import { rowBytes } from '../tensorTypes.ts';
import { type Backend, clearBehind, DISPOSED, type KvLayer, notFinite, type Tensor } from './backend.ts';

interface ReferenceTensor extends Tensor {
  /** F32: the numbers, in float64. */
  readonly numbers: Float64Array;
  /** Other types: rows as stored. */
  readonly bytes: Uint8Array;
}

interface ReferenceKv extends KvLayer {
  readonly keys: readonly Float64Array[]; // a form each, [nPages * PAGE_LEN, nKvHeads, headDim]
  readonly values: Float64Array;
}

/** The bytes of a page of one layer: tokens lie one behind the other, so that all of its heads do too. */
function pageOf({ keys, values, nKvHeads, headDim }: ReferenceKv, page: number): Uint8Array[] {
  const length = PAGE_LEN * nKvHeads * headDim;
  return [...keys, values].map((numbers) => {
    const { buffer, byteOffset, byteLength } = numbers.subarray(page * length, (page + 1) * length);
    return new Uint8Array(buffer, byteOffset, byteLength);
  });
}

const numbersOf = (tensor: Tensor) => (tensor as ReferenceTensor).numbers;

/** Row `r` of a tensor of any type, decoded. */
function decodedRow(tensor: Tensor, r: number): Float64Array {
  const { type, cols, numbers, bytes } = tensor as ReferenceTensor;
  if (type === 'F32') return numbers.subarray(r * cols, (r + 1) * cols);
  const row = new Float64Array(cols);
  dequantizeRow(type, new DataView(bytes.buffer), r * rowBytes(type, cols), row);
  return row;
}

/** Magnitude that attention takes on no backend: a score of such would not be finite in float32. */
const TOO_LARGE = 2 ** 58;

/** @throws UnsupportedError when a number is not finite or too large. @param what Names the tensor. */
function checkFinite(tensor: Tensor, what: string): void {
  if (!numbersOf(tensor).every((value) => Math.abs(value) < TOO_LARGE)) throw notFinite(what);
}

/** Opens the float64 backend. It needs no device and no threads. */
export const openReference = (): Backend => deferred(openEager());

/** `backend`, whose kernels run as soon as they are called, with calls that wait for `submit` or `read`. */
export function deferred(backend: Backend): Backend {
  let calls: (() => void)[] = [];
  let isDisposed = false;
  const run = () => {
    const recorded = calls;
    calls = [];
    if (isDisposed) throw new UnsupportedError(DISPOSED);
    for (const call of recorded) call();
  };
  const later =
    <Operands extends unknown[]>(kernel: (...operands: Operands) => void) =>
    (...operands: Operands): void => {
      calls.push(() => kernel.apply(backend, operands));
    };
  const draw = backend.draw && later(backend.draw);
  return {
    ...backend,
    get nBytes() {
      return backend.nBytes;
    },
    gatherRows(out, table, ids, factor) {
      const asCalled = 'length' in ids ? Array.from(ids) : ids;
      calls.push(() => backend.gatherRows(out, table, asCalled, factor));
    },
    rmsNorm: later(backend.rmsNorm),
    matmul: later(backend.matmul),
    rotate: later(backend.rotate),
    append: later(backend.append),
    attend: later(backend.attend),
    glu: later(backend.glu),
    add: later(backend.add),
    copy: later(backend.copy),
    ...(draw && { draw }),
    async submit() {
      run();
    },
    async read(tensor) {
      run();
      return backend.read(tensor);
    },
    async readPage(layers, page, nTokens) {
      run();
      return backend.readPage(layers, page, nTokens);
    },
    async writePage(layers, page, bytes) {
      run();
      return backend.writePage(layers, page, bytes);
    },
    async dispose() {
      isDisposed = true;
    },
  };
}

/** The float64 backend with kernels that run as soon as they are called; a base for others with other arithmetic. */
export function openEager(): Backend {
  let nBytes = 0;
  const counted = <T extends ArrayBufferView>(array: T): T => {
    nBytes += array.byteLength;
    return array;
  };
  return {
    name: 'reference',
    pageLayout: 'reference f64',
    get nBytes() {
      return nBytes;
    },
    alloc(type, rows, cols, stage = 0) {
      const isF32 = type === 'F32';
      const numbers = counted(new Float64Array(isF32 ? rows * cols : 0));
      const bytes = counted(new Uint8Array(isF32 ? 0 : rows * rowBytes(type, cols)));
      return { type, rows, cols, stage, numbers, bytes } as ReferenceTensor;
    },
    allocKv(nPages, nKvHeads, headDim, stage = 0, keyForms = 1) {
      const room = () => counted(new Float64Array(nPages * PAGE_LEN * nKvHeads * headDim));
      const keys = Array.from({ length: keyForms }, room);
      return { nPages, nKvHeads, headDim, stage, keys, values: room() } as ReferenceKv;
    },
    view(tensor, rows, cols, offset = 0) {
      return { ...tensor, rows, cols, numbers: numbersOf(tensor).subarray(offset, offset + rows * cols) } as Tensor;
    },
    write: (tensor, values) => numbersOf(tensor).set(values),
    load(tensor, bytes, byteOffset) {
      if (tensor.type !== 'F32') return (tensor as ReferenceTensor).bytes.set(bytes, byteOffset);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const first = byteOffset / 4;
      dequantizeRow('F32', view, 0, numbersOf(tensor).subarray(first, first + bytes.length / 4));
    },

    gatherRows(out, table, ids, factor = 1) {
      const rows = 'length' in ids ? ids : numbersOf(ids);
      const scaled = (row: number) => decodedRow(table, row).map((value) => factor * value);
      for (let r = 0; r < rows.length; r++) numbersOf(out).set(scaled(rows[r]), r * out.cols);
    },
    rmsNorm: (out, x, weight, eps) => rmsNorm(numbersOf(out), numbersOf(x), numbersOf(weight), eps),
    matmul: (out, x, weight, bias) =>
      matmul(numbersOf(out), numbersOf(x), (r) => decodedRow(weight, r), bias && numbersOf(bias), out.cols, x.cols),
    rotate: (out, x, cos, sin) =>
      rotate(numbersOf(out), numbersOf(x), numbersOf(cos), numbersOf(sin), x.cols, cos.cols),
    append(kv, keys, v, slices) {
      const cache = kv as ReferenceKv;
      for (const tensor of [...keys, v]) checkFinite(tensor, 'the keys or values of attention');
      const put = (to: Float64Array, from: Float64Array, place: number, row: number) =>
        to.set(from.subarray(row * v.cols, (row + 1) * v.cols), place * v.cols);
      for (const { row, nRows, start, pages } of slices) {
        for (let r = 0; r < nRows; r++) {
          const place = placeOf(pages, start + r);
          keys.forEach((k, form) => {
            put(cache.keys[form], numbersOf(k), place, row + r);
          });
          put(cache.values, numbersOf(v), place, row + r);
        }
      }
    },
    attend(out, q, kv, stretches) {
      const { nKvHeads, headDim, keys, values } = kv as ReferenceKv;
      checkFinite(q, 'the queries of attention');
      attend(numbersOf(out), numbersOf(q), keys, values, stretches, { nHeads: out.cols / headDim, nKvHeads, headDim });
    },
    glu: (out, gate, up, activation) => glu(numbersOf(out), numbersOf(gate), numbersOf(up), activation),
    add: (x, y) => add(numbersOf(x), numbersOf(y)),
    copy: (out, x) => numbersOf(out).set(numbersOf(x)),

    submit: async () => {},
    read: async (tensor) => numbersOf(tensor).slice(),
    async readPage(layers, page, nTokens) {
      const parts = layers.flatMap((kv) => pageOf(kv as ReferenceKv, page));
      const bytes = joined(parts);
      for (const part of cut(bytes, parts)) clearBehind(part, nTokens);
      return bytes;
    },
    async writePage(layers, page, bytes) {
      const parts = layers.flatMap((kv) => pageOf(kv as ReferenceKv, page));
      const pieces = cut(bytes, parts);
      for (const [nth, part] of parts.entries()) part.set(pieces[nth]);
    },
    dispose: async () => {},
  };
}
