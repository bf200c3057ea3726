/**
 * WebAssembly SIMD on all cores. One shared memory of at most 4 GiB holds weights, cache and scratch; kernel calls are
 * recorded as commands (`wasmWorkers.ts`) and run by threads. Arithmetic is float32; weights stay as they are stored.
 */
import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { UnsupportedError } from '../errors.ts';
import { PLAIN_SIMD, RELAXED_SIMD } from '../kernels/wasmBinary.ts';
import { rowBytes, TENSOR_TYPES, type TensorType } from '../tensorTypes.ts';
import type { Backend, KvLayer, Tensor } from './backend.ts';
import { type Command, startWorkers } from './wasmWorkers.ts';

interface WasmTensor extends Tensor {
  /** Byte address. */
  readonly at: number;
}

interface WasmKv extends KvLayer {
  readonly keys: number; // [nKvHeads, capacity / 8, headDim, 8]
  readonly values: number; // [nKvHeads, capacity, headDim]
}

export interface WasmOptions {
  /** Default: as many as the machine has cores. */
  threads?: number;
  /** Use relaxed SIMD (fused multiply-add) where the engine has it. Default true. */
  relaxed?: boolean;
}

const PAGE = 65536;
const MAX_PAGES = 65536;
const LINE = 64; // bytes; every allocation begins at a cache line
const NO_LIMIT = 0xffffffff;
const KEY_TILE = 64; // keys; see kernels/attend.wasm.ts
const QUERY_ROWS = 192; // rows of a query tile: enough to reuse a tile of keys, few enough to stay in L2
const COLUMN_GROUP = 32; // see kernels/matmul.wasm.ts

const at = (tensor: Tensor) => (tensor as WasmTensor).at;
const typeNumber = (type: TensorType) => Object.keys(TENSOR_TYPES).indexOf(type);
const u32 = (limit: number) => (limit === Infinity ? NO_LIMIT : limit);
const roundUp = (value: number, multiple: number) => Math.ceil(value / multiple) * multiple;

/** The build this engine can run, relaxed if it may and can. */
function compileKernels(relaxed: boolean): { module: WebAssembly.Module; isRelaxed: boolean } {
  // Node 20 has relaxed SIMD behind a flag; later versions have it without, and ignore the flag.
  if (relaxed) setFlagsFromString('--experimental-wasm-relaxed-simd');
  const bytes = Buffer.from(RELAXED_SIMD, 'base64');
  if (relaxed && WebAssembly.validate(bytes)) return { module: new WebAssembly.Module(bytes), isRelaxed: true };
  return { module: new WebAssembly.Module(Buffer.from(PLAIN_SIMD, 'base64')), isRelaxed: false };
}

/** Opens the WASM backend. @throws UnsupportedError when `threads` is not a whole number from 1 to 256. */
export function openWasm({ threads = availableParallelism(), relaxed = true }: WasmOptions = {}): Backend {
  if (!Number.isInteger(threads) || threads < 1 || threads > 256) {
    throw new UnsupportedError(`threads is ${threads}; wanted a whole number from 1 to 256`);
  }
  const { module, isRelaxed } = compileKernels(relaxed);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES, shared: true });
  const workers = startWorkers(module, memory, threads);

  let used = LINE; // address 0 stays free: it means "none"
  function allocBytes(nBytes: number): number {
    const address = used;
    const end = roundUp(address + nBytes, LINE);
    const missing = Math.ceil((end - memory.buffer.byteLength) / PAGE);
    try {
      if (end >= MAX_PAGES * PAGE) throw new RangeError('beyond 32-bit addresses');
      if (missing > 0) memory.grow(missing);
    } catch {
      throw new UnsupportedError(
        `the wasm backend cannot hold ${(end / 2 ** 30).toFixed(2)} GiB: its memory ends at 4 GiB or at what the system gives; use a shorter context or a smaller model`,
      );
    }
    used = end;
    return address;
  }

  let commands: Command[] = [];
  let scratch = 0;
  let scratchBytes = 0;
  let scratchWanted = 0;
  function record(kernel: string, nItems: number, grain: number, args: number[], scratchNeed = 0) {
    if (nItems > 0) commands.push({ kernel, nItems, grain, args });
    scratchWanted = Math.max(scratchWanted, roundUp(scratchNeed, LINE));
  }
  const rowsEach = (rows: number) => Math.max(1, Math.ceil(rows / (threads * 4)));
  const numbers = (tensor: Tensor) => new Float32Array(memory.buffer, at(tensor), tensor.rows * tensor.cols);

  async function submit() {
    const program = commands;
    commands = [];
    ids.used = 0;
    if (scratchWanted > scratchBytes) {
      scratchBytes = scratchWanted;
      scratch = allocBytes(scratchBytes * threads);
    }
    if (program.length > 0) await workers.run(program, scratch, scratchBytes);
  }

  /** Room for the ids of recorded calls, which may be many in one program. */
  const ids = { at: 0, length: 0, used: 0 };
  function keepIds(values: ArrayLike<number>): number {
    if (ids.used + values.length > ids.length) {
      const length = 2 * ids.length + values.length; // what was recorded keeps the old room
      Object.assign(ids, { at: allocBytes(4 * length), length, used: 0 });
    }
    const address = ids.at + 4 * ids.used;
    new Uint32Array(memory.buffer, address, values.length).set(values);
    ids.used += values.length;
    return address;
  }

  return {
    name: `wasm (${isRelaxed ? 'relaxed SIMD' : 'SIMD'}, ${threads} thread${threads === 1 ? '' : 's'})`,
    get nBytes() {
      return used;
    },
    alloc: (type, rows, cols) => ({ type, rows, cols, at: allocBytes(rows * rowBytes(type, cols)) }) as WasmTensor,
    allocKv(tokens, nKvHeads, headDim) {
      const capacity = roundUp(tokens, KEY_TILE);
      const nBytes = capacity * nKvHeads * headDim * 4;
      const [keys, values] = [allocBytes(nBytes), allocBytes(nBytes)];
      return { capacity, nKvHeads, headDim, keys, values } as WasmKv;
    },
    view: (tensor, rows, cols, offset = 0) => ({ ...tensor, rows, cols, at: at(tensor) + 4 * offset }) as WasmTensor,
    write: (tensor, values) => new Float32Array(memory.buffer, at(tensor), values.length).set(values),
    load: (tensor, bytes, byteOffset) =>
      new Uint8Array(memory.buffer, at(tensor) + byteOffset, bytes.length).set(bytes),

    gatherRows(out, table, rows) {
      const { type, cols } = table;
      const args = [at(out), at(table), typeNumber(type), rowBytes(type, cols), keepIds(rows), cols];
      record('gatherRows', rows.length, rowsEach(rows.length), args);
    },
    rmsNorm(out, x, weight, eps) {
      record('rmsNorm', x.rows, rowsEach(x.rows), [at(out), at(x), at(weight), x.cols, eps]);
    },
    matmul(out, x, weight, bias) {
      const { type, rows: N, cols: K } = weight;
      const operands = [at(out), at(x), at(weight), typeNumber(type), rowBytes(type, K), bias ? at(bias) : 0];
      record('matmul', Math.ceil(N / COLUMN_GROUP), 1, [...operands, x.rows, N, K], 160 * K + 192);
    },
    rotate(out, x, cos, sin) {
      record('rotate', x.rows, rowsEach(x.rows), [at(out), at(x), at(cos), at(sin), x.cols, cos.cols]);
    },
    append(kv, k, v, start) {
      const { keys, values, nKvHeads, headDim, capacity } = kv as WasmKv;
      const args = [keys, values, at(k), at(v), start, nKvHeads, headDim, capacity];
      record('append', k.rows, rowsEach(k.rows), args);
    },
    attend(out, { intra, succ, inter }, kv, { start, chunkLen, maxChunksBehind, window }) {
      const { keys, values, nKvHeads, headDim, capacity } = kv as WasmKv;
      const nHeads = out.cols / headDim;
      const group = nHeads / nKvHeads;
      const tileLen = Math.max(1, Math.floor(QUERY_ROWS / group));
      const T = roundUp(tileLen * group, 6);
      const scratchNeed = 4 * (4 * T * headDim + 2 * T + 6 * KEY_TILE);
      // One command for each chunk that the block touches: within one, all queries see a key at the same distance rule.
      for (let first = 0; first < out.rows; ) {
        const chunkEnd = chunkLen === Infinity ? Infinity : (Math.floor((start + first) / chunkLen) + 1) * chunkLen;
        const n = Math.min(out.rows - first, chunkEnd - (start + first));
        const rows = [out, intra, succ, inter].map((tensor) => at(tensor) + first * out.cols * 4);
        const shape = [n, start + first, nHeads, nKvHeads, headDim, capacity];
        const limits = [u32(chunkLen), u32(maxChunksBehind), u32(window)];
        const args = [...rows, keys, values, ...shape, ...limits, tileLen];
        record('attend', Math.ceil(n / tileLen) * nKvHeads, 1, args, scratchNeed);
        first += n;
      }
    },
    swiglu(out, gate, up) {
      const size = out.rows * out.cols;
      record('swiglu', size, roundUp(rowsEach(size), 4), [at(out), at(gate), at(up)]);
    },
    add(x, y) {
      const size = x.rows * x.cols;
      record('add', size, roundUp(rowsEach(size), 4), [at(x), at(y)]);
    },

    submit,
    async read(tensor) {
      await submit();
      return numbers(tensor).slice();
    },
    dispose: () => workers.stop(),
  };
}
