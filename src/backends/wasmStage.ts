/**
 * One memory of at most 4 GiB with weights, cache and scratch, and the kernels whose operands lie in it. A call
 * becomes a command: what it reads and writes, how much of it a thread takes at once, and whether it must wait. Weights
 * stay as they are stored; activations are quantised before they meet them.
 */
import { UnsupportedError } from '../errors.ts';
import * as abi from '../kernels/abi.ts';
import { placeOf } from '../kernels/attend.ts';
import { SIGMOID_OF } from '../kernels/elementwise.ts';
import { calls } from '../kernels/wasmBinary.ts';
import { KV_TYPES, type KvType, PAGE_LEN } from '../kvTypes.ts';
import type { Slice, Stretch } from '../placement.ts';
import { rowBytes, TENSOR_TYPES } from '../tensorTypes.ts';
import { type Backend, type CallSizes, type KvLayer, notFinite, type Tensor } from './backend.ts';
import { type Call, type Command, MAX_CALLS, type Scratch } from './wasmProgram.ts';
import { keySplits, LINE, largestScratch, MANY_TOKENS, quantizedBytes, queryTiles, roundUp } from './wasmScratch.ts';

export type Precision = 'int8' | 'int16' | 'f32';

export interface WasmTensor extends Tensor {
  /** Byte address. */
  readonly at: number;
}

/** Bytes `at..end` of a memory. */
interface Range {
  at: number;
  end: number;
}

/** Addresses of a quantised tensor; see kernels/quantize.wasm.ts. */
interface Quantized {
  xq: number;
  xScales: number;
}

/** Addresses; layouts in kernels/kv.wasm.ts. */
export interface WasmKv extends KvLayer {
  readonly keyForms: number;
  readonly keys: number; // of all forms
  readonly keyScales: number;
  readonly values: number;
  readonly valueScales: number;
}

const PAGE = 65536;
const MAX_PAGES = 65536;

/** Where kernels met what is not finite, or too large to attend to; see kernels/fault.wasm.ts. */
const FAULTS: Record<number, string> = {
  [abi.IN_ACTIVATIONS]: 'what a matrix multiplies',
  [abi.IN_QUERIES]: 'the queries of attention',
  [abi.IN_KEYS_OR_VALUES]: 'the keys or values of attention',
};

const NOT_QUANTIZED: Quantized = { xq: 0, xScales: 0 };

const at = (tensor: Tensor) => (tensor as WasmTensor).at;
const areApart = (a: Range, b: Range) => a.end <= b.at || b.end <= a.at;

/** A memory that may grow to 4 GiB; only what is touched takes room. @throws UnsupportedError where addresses run out. */
function reserveMemory(shared: boolean): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES, shared });
  } catch {
    throw new UnsupportedError(
      'the system has no addresses for a WebAssembly memory, which V8 wants 10 GiB of; raise `ulimit -v`',
    );
  }
}

/** A backend has these once for all of its stages. */
type OfBackend =
  | ('name' | 'pageLayout' | 'view' | 'reserve')
  | ('submit' | 'read' | 'readPage' | 'writePage' | 'dispose');

/**
 * One memory, and the kernels whose operands lie in it.
 * @internal `WebAssembly` is a type only where a consumer has those of browsers.
 */
export interface WasmStage extends Omit<Backend, OfBackend> {
  readonly memory: WebAssembly.Memory;
  reserve(sizes: CallSizes): void;
  /** Makes ready to run what was recorded, and to record the next program. */
  prepare(): Scratch;
  /** @throws UnsupportedError once when kernels met numbers that nothing can be computed from since it was asked last. */
  checkNumbers(): void;
  numbers(tensor: Tensor): Float32Array;
}

interface StageOptions {
  threads: number;
  /** Whether threads share its memory. */
  isShared: boolean;
  precision: Precision;
  /** As kernels/abi.ts numbers them. */
  attentionFormat: number;
  kvType: KvType;
}

/** Opens stage number `stage`, which records into `commands`. @internal */
export function openStage(
  stage: number,
  commands: Command[],
  { threads, isShared, precision, kvType, attentionFormat }: StageOptions,
): WasmStage {
  const memory = reserveMemory(isShared);

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
        `the wasm backend cannot hold ${(end / 2 ** 30).toFixed(2)} GiB in one memory: it ends at 4 GiB or at what the system gives; use a shorter context or a smaller model`,
      );
    }
    used = end;
    return address;
  }

  let scratch = 0;
  let scratchBytes = 0;
  let scratchWanted = 0;
  function record(call: Call, nItems: number, grain: number, { scratchNeed = 0, waits = true } = {}) {
    if (nItems > 0) commands.push({ stage, nItems, grain, waits, calls: [call] });
    scratchWanted = Math.max(scratchWanted, roundUp(scratchNeed, LINE));
  }

  /** The last command if its items are rows, and what its calls touch. */
  const chain: { command?: Command; operands: Range[] } = { operands: [] };
  /**
   * Records a kernel whose items are rows of its operands, so that row `r` needs no other row. It joins the command before
   * where that is so of both together: a row then stays in a core's cache, and no thread waits.
   */
  function recordRows(call: Call, rows: number, operands: Range[], scratchNeed = 0) {
    if (rows === 0) return;
    const command = commands.at(-1);
    const isChained =
      command !== undefined &&
      command === chain.command &&
      command.calls.length < MAX_CALLS &&
      command.nItems === rows &&
      operands.every((a) => chain.operands.every((b) => areApart(a, b) || (a.at === b.at && a.end === b.end)));
    if (isChained) command.calls.push(call);
    else {
      record(call, rows, rowsEach(rows));
      Object.assign(chain, { command: commands.at(-1), operands: [] });
    }
    chain.operands.push(...operands);
    scratchWanted = Math.max(scratchWanted, roundUp(scratchNeed, LINE));
  }
  const range = (tensor: Tensor): Range => ({
    at: at(tensor),
    end: at(tensor) + tensor.rows * rowBytes(tensor.type, tensor.cols),
  });
  const rowsOf = (tensor: Tensor, row: number, rows: number) =>
    ({ ...tensor, rows, at: at(tensor) + 4 * row * tensor.cols }) as WasmTensor;
  const rowsEach = (rows: number) => Math.max(1, Math.ceil(rows / (threads * 4)));
  const numbers = (tensor: Tensor) => new Float32Array(memory.buffer, at(tensor), tensor.rows * tensor.cols);

  function prepare(): Scratch {
    kept.used = 0;
    shared.clear();
    const wanted = scratchWanted;
    scratchWanted = 0; // a demand that cannot be met is forgotten with the program that had it
    if (wanted > scratchBytes) {
      scratch = allocBytes(wanted * threads);
      scratchBytes = wanted;
    }
    return { at: scratch, nBytes: scratchBytes };
  }

  function checkNumbers(): void {
    const faultWord = new Int32Array(memory.buffer, abi.FAULT, 1);
    const fault = faultWord[0];
    faultWord[0] = 0;
    if (fault !== 0) throw notFinite(FAULTS[fault]);
  }

  /** Room for the numbers that recorded calls read, such as ids, which may be many in one program. */
  const kept = { at: 0, length: 0, used: 0 };
  const roomForKept = (length: number) => Object.assign(kept, { at: allocBytes(4 * length), length, used: 0 });
  /** Keeps numbers of 32 bits until the program has run; their address. */
  function keep(values: ArrayLike<number>, Words: Float32ArrayConstructor | Int32ArrayConstructor): number {
    // What was recorded keeps the old room.
    if (kept.used + values.length > kept.length) roomForKept(2 * kept.length + values.length);
    const address = kept.at + 4 * kept.used;
    new Words(memory.buffer, address, values.length).set(values);
    kept.used += values.length;
    return address;
  }
  /** Addresses of what calls of a program share: all layers take the same slices, stretches and pages. */
  const shared = new Map<object, number>();
  function keepOnce(key: object, values: () => ArrayLike<number>): number {
    const address = shared.get(key) ?? keep(values(), Int32Array);
    shared.set(key, address);
    return address;
  }
  const keepPlaces = (slices: readonly Slice[], n: number) =>
    keepOnce(slices, () => {
      const places = new Int32Array(n);
      for (const { row, nRows, start, pages } of slices) {
        for (let r = 0; r < nRows; r++) places[row + r] = placeOf(pages, start + r);
      }
      return places;
    });
  const keepSpans = ({ spans }: Stretch) =>
    keepOnce(spans, () =>
      spans.flatMap(({ rotation, keyForm, from, to, fromMoves, toMoves }) => [
        ...[rotation, keyForm, from, to],
        ...[Number(fromMoves), Number(toMoves)],
      ]),
    );

  /** Memory that one command fills and the next ones read. Where more is asked than was reserved, it doubles at least. */
  function makeRoom() {
    let [address, length] = [0, 0];
    return (nBytes: number): number => {
      if (nBytes > length) {
        length = Math.max(nBytes, 2 * length);
        address = allocBytes(length);
      }
      return address;
    };
  }
  const roomForQuantized = makeRoom();
  const roomForSplits = makeRoom();

  /** Records the quantisation of `x` for tiles, or in blocks for dot products, where there are no scales apart. */
  function quantize(x: Tensor, forTiles: boolean): Quantized {
    const { rows, cols } = x;
    const { numberBytes, nBytes } = quantizedBytes(rows, cols, forTiles);
    const xq = roomForQuantized(nBytes);
    const xScales = forTiles ? xq + numberBytes : 0;
    const call = forTiles
      ? calls.quantizeForTiles({ q: xq, scales: xScales, x: at(x), cols })
      : calls.quantizeForDots({ q: xq, x: at(x), cols });
    recordRows(call, rows, [range(x), { at: xq, end: xq + nBytes }]);
    return { xq, xScales };
  }
  /** The last command if it is a product, and what it multiplies. */
  const product: { command?: Command; source: string; quantized: Quantized; outs: Range[] } = {
    source: '',
    quantized: NOT_QUANTIZED,
    outs: [],
  };

  return {
    memory,
    prepare,
    checkNumbers,
    numbers,
    get nBytes() {
      return used;
    },
    alloc: (type, rows, cols) =>
      ({ type, rows, cols, stage, at: allocBytes(rows * rowBytes(type, cols)) }) as WasmTensor,
    allocKv(nPages, nKvHeads, headDim, _stage, keyForms = 1) {
      const numbers = nPages * PAGE_LEN * nKvHeads; // of each dimension
      const { numberBytes, scaleDims } = KV_TYPES[kvType];
      const half = (forms: number) => allocBytes(forms * numbers * headDim * numberBytes);
      const scales = (forms: number) => allocBytes(scaleDims && 4 * forms * numbers * Math.ceil(headDim / scaleDims));
      const [keys, keyScales, values, valueScales] = [half(keyForms), scales(keyForms), half(1), scales(1)];
      return { nPages, nKvHeads, headDim, stage, keys, keyScales, values, valueScales, keyForms } as WasmKv;
    },
    reserve(sizes) {
      const { thread, quantized, parts } = largestScratch(sizes, threads);
      scratchWanted = Math.max(scratchWanted, thread);
      roomForQuantized(quantized);
      roomForSplits(parts);
      roomForKept(sizes.kept);
    },
    write: (tensor, values) => new Float32Array(memory.buffer, at(tensor), values.length).set(values),
    load: (tensor, bytes, byteOffset) =>
      new Uint8Array(memory.buffer, at(tensor) + byteOffset, bytes.length).set(bytes),

    gatherRows(out, table, ids, factor = 1) {
      const { type, cols } = table;
      const [n, idsAt] = 'length' in ids ? [ids.length, keep(ids, Float32Array)] : [ids.rows, at(ids)];
      const call = calls.gatherRows({
        out: at(out),
        table: at(table),
        type: TENSOR_TYPES[type].number,
        rowBytes: rowBytes(type, cols),
        ids: idsAt,
        cols,
        factor,
      });
      // a row may be any of the table's, so it is no row of the commands before and after
      record(call, n, rowsEach(n));
    },
    rmsNorm(out, x, weight, eps) {
      const call = calls.rmsNorm({ out: at(out), x: at(x), weight: at(weight), cols: x.cols, eps });
      recordRows(call, x.rows, [out, x, weight].map(range));
    },
    matmul(out, x, weight, bias) {
      const { type, rows: N, cols: K } = weight;
      const isBlocks = TENSOR_TYPES[type].blockLen > 1;
      const forTiles = x.rows >= (isBlocks ? MANY_TOKENS : abi.INT_TILE_ROWS);
      const isInt = precision !== 'f32' && (forTiles || isBlocks);
      // q, k and v, or gate and up, multiply the same: quantised once, and none waits for the one before.
      const source = `${at(x)} ${x.rows} ${K} ${isInt} ${forTiles}`;
      const touched = [out, x, weight, ...(bias ? [bias] : [])].map(range);
      const goesOn =
        commands.at(-1) === product.command &&
        source === product.source &&
        touched.every((a) => product.outs.every((b) => areApart(a, b)));
      if (!goesOn)
        Object.assign(product, { source, outs: [], quantized: isInt ? quantize(x, forTiles) : NOT_QUANTIZED });
      product.outs.push(range(out));
      const call = calls.matmul({
        out: at(out),
        x: at(x),
        xq: product.quantized.xq,
        xScales: product.quantized.xScales,
        weight: at(weight),
        type: TENSOR_TYPES[type].number,
        rowBytes: rowBytes(type, K),
        bias: bias ? at(bias) : 0,
        n: x.rows,
        N,
        K,
      });
      const scratchNeed = abi.matmulScratch(K);
      const groups = Math.ceil(N / abi.COLUMN_GROUP);
      const grain = x.rows < abi.INT_TILE_ROWS ? Math.ceil(groups / (4 * threads)) : 1; // a few rows are soon done
      record(call, groups, grain, { scratchNeed, waits: !goesOn });
      product.command = commands.at(-1);
    },
    rotate(out, x, cos, sin) {
      for (let row = 0; row < out.rows; row += x.rows) {
        const [to, cosRows, sinRows] = [out, cos, sin].map((tensor) => rowsOf(tensor, row, x.rows));
        const call = calls.rotate({
          out: at(to),
          x: at(x),
          cos: at(cosRows),
          sin: at(sinRows),
          cols: x.cols,
          halfDim: cos.cols,
        });
        recordRows(call, x.rows, [to, x, cosRows, sinRows].map(range));
      }
    },
    append(kv, keyTensors, v, slices) {
      const { keys, keyScales, values, valueScales, nPages, nKvHeads, headDim } = kv as WasmKv;
      const capacity = nPages * PAGE_LEN;
      const { number, numberBytes, scaleDims } = KV_TYPES[kvType];
      const places = keepPlaces(slices, v.rows);
      keyTensors.forEach((k, form) => {
        const numbers = form * capacity * nKvHeads; // of each dimension, in the forms before
        const keysOfForm = keys + numbers * headDim * numberBytes;
        const call = calls.append({
          kvType: number,
          keys: keysOfForm,
          keyScales: keyScales + (scaleDims && 4 * numbers * Math.ceil(headDim / scaleDims)),
          values,
          valueScales,
          k: at(k),
          v: at(v),
          places,
          nKvHeads,
          headDim,
          capacity,
        });
        // Row by row only calls with the same places agree on where rows lie in the cache: these stand for it.
        const tokens = { at: keysOfForm, end: keysOfForm + places };
        recordRows(call, k.rows, [range(k), range(v), tokens], 4 * headDim);
      });
    },
    attend(out, q, kv, stretches) {
      const { keys, keyScales, values, valueScales, nPages, nKvHeads, headDim } = kv as WasmKv;
      const nHeads = out.cols / headDim;
      const group = nHeads / nKvHeads;
      const cut = stretches.map(({ nRows, spans }) => {
        const nSeen = spans.reduce((sum, { from, to, toMoves }) => sum + to - from + (toMoves ? nRows - 1 : 0), 0);
        const tiles = queryTiles(nRows, group, headDim, precision !== 'f32');
        const nSplits = keySplits(tiles.nTiles, nKvHeads * stretches.length, nSeen, threads);
        const nBytes = nSplits > 1 ? nKvHeads * nSplits * abi.partBytes(tiles.rows, headDim) : 0;
        return { ...tiles, nSplits, nBytes };
      });
      let parts = roomForSplits(cut.reduce((sum, { nBytes }) => sum + nBytes, 0));
      const merges: { call: Call; nItems: number }[] = [];
      stretches.forEach((stretch, nth) => {
        const { row, nRows: n, spans, pages } = stretch;
        const { tileLen, nTiles, isInt, step, rows, nSplits, nBytes } = cut[nth];
        const [to, from] = [out, q].map((tensor) => at(tensor) + row * out.cols * 4);
        const call = calls.attend({
          out: to,
          q: from,
          rotationBytes: out.rows * out.cols * 4,
          kvType: KV_TYPES[kvType].number,
          keys,
          keyScales,
          values,
          valueScales,
          n,
          nHeads,
          nKvHeads,
          headDim,
          capacity: nPages * PAGE_LEN,
          spans: keepSpans(stretch),
          nSpans: spans.length,
          pages: keepOnce(pages, () => pages),
          tileLen,
          tileRows: step,
          format: isInt ? attentionFormat : abi.FLOAT32,
          nSplits,
          parts,
        });
        const scratchNeed = abi.attendScratch(rows, headDim);
        // Stretches write rows of their own, so that none waits for another.
        record(call, nTiles * nSplits * nKvHeads, 1, { scratchNeed, waits: nth === 0 });
        if (nSplits > 1) {
          const merge = calls.mergeSplits({ out: to, parts, T: rows, nHeads, nKvHeads, headDim, nSplits });
          merges.push({ call: merge, nItems: n * nHeads });
        }
        parts += nBytes;
      });
      merges.forEach(({ call, nItems }, nth) => {
        record(call, nItems, rowsEach(nItems), { waits: nth === 0 });
      });
    },
    glu(out, gate, up, activation) {
      const [a, b] = SIGMOID_OF[activation];
      const call = calls.glu({ out: at(out), gate: at(gate), up: at(up), cols: out.cols, a, b });
      recordRows(call, out.rows, [out, gate, up].map(range));
    },
    add(x, y) {
      recordRows(calls.add({ x: at(x), y: at(y), cols: x.cols }), x.rows, [x, y].map(range));
    },
    copy(out, x) {
      record({ kernel: 'copy', args: [at(out), at(x), x.stage, x.cols] }, x.rows, rowsEach(x.rows));
    },
  };
}
