/**
 * WebAssembly SIMD on all cores: which kernels and threads to run on, and the stages that hold everything
 * (`wasmStage.ts`). Calls of kernels are recorded as commands (`wasmProgram.ts`) and run by threads (`wasmThreads.ts`).
 */
import { fromBase64, joined } from '../bytes.ts';
import { UnsupportedError } from '../errors.ts';
import { FLOAT32, INT8, INT8_FUSED, INT16 } from '../kernels/abi.ts';
import { unshared } from '../kernels/unshared.ts';
import { PLAIN_SIMD, RELAXED_SIMD } from '../kernels/wasmBinary.ts';
import { DEFAULT_KV_TYPE, KV_TYPES, type KvType } from '../kvTypes.ts';
import type { Machine } from '../platform/machine.ts';
import type { Backend, KvLayer, Tensor } from './backend.ts';
import { readPage, writePage } from './wasmPages.ts';
import { type Command, runHere } from './wasmProgram.ts';
import { defaultThreads, MAX_THREADS } from './wasmScratch.ts';
import { openStage, type Precision, type WasmKv, type WasmStage, type WasmTensor } from './wasmStage.ts';
import { startThreads } from './wasmThreads.ts';

export interface WasmOptions {
  /** Default: as many as the machine has cores; 1 where threads cannot share memory. */
  threads?: number;
  /** Use relaxed SIMD (fused multiply-add) where the engine has it. Default true. */
  relaxed?: boolean;
  /**
   * How products are computed. `int8`: in integers, with errors near 1e-2 in attention (8 bits, relaxed SIMD only) and 5e-4
   * in matrix products (16 bits); `int16`: 16 bits in both; `f32`: float32. Default `int8`.
   */
  precision?: Precision;
  /** How keys and values are stored. Default `bf16`. */
  kvType?: KvType;
  /** Memories, which all are made at once. Default 1. */
  stages?: number;
}

/** The format that attention computes in. */
const FORMATS: Record<Precision, number> = { f32: FLOAT32, int16: INT16, int8: INT8 };

/** The build this engine can run, relaxed if it may and can. */
function compileKernels(relaxed: boolean, isShared: boolean, machine: Machine) {
  const bytesOf = (base64: string) => {
    const bytes = fromBase64(base64);
    return isShared ? bytes : unshared(bytes);
  };
  const bytes = bytesOf(RELAXED_SIMD);
  if (relaxed && !WebAssembly.validate(bytes)) machine.allowRelaxedSimd?.();
  if (relaxed && WebAssembly.validate(bytes)) return { module: new WebAssembly.Module(bytes), isRelaxed: true };
  return { module: new WebAssembly.Module(bytesOf(PLAIN_SIMD)), isRelaxed: false };
}

/**
 * Opens the WASM backend on a machine. Without threads there, kernels run on the calling thread.
 * @throws UnsupportedError for threads other than 1 to 256, for more than one where there are none, for an unknown precision
 *   or KV type, and where the system has no room for the memories.
 */
export function openWasm(
  machine: Machine,
  {
    threads = defaultThreads(machine),
    relaxed = true,
    precision: wanted = 'int8',
    kvType = DEFAULT_KV_TYPE,
    stages: nStages = 1,
  }: WasmOptions = {},
): Backend {
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw new UnsupportedError(`threads is ${threads}; wanted a whole number from 1 to ${MAX_THREADS}`);
  }
  if (threads > 1 && !machine.startThread) {
    throw new UnsupportedError(
      `threads is ${threads}, but threads cannot share memory here; leave it out, or make the page cross-origin isolated`,
    );
  }
  if (!Object.hasOwn(FORMATS, wanted)) {
    throw new UnsupportedError(`unknown precision "${wanted}"; wanted ${Object.keys(FORMATS).join(', ')}`);
  }
  if (!Object.hasOwn(KV_TYPES, kvType)) {
    throw new UnsupportedError(`unknown KV type "${kvType}"; wanted ${Object.keys(KV_TYPES).join(', ')}`);
  }
  const isShared = machine.startThread !== undefined;
  const { module, isRelaxed } = compileKernels(relaxed, isShared, machine);
  const precision = wanted === 'int8' && !isRelaxed ? 'int16' : wanted; // without relaxed SIMD 8 bits are slower
  // V8 has an instruction for fused products of 8 bits from version 13 on.
  const isFusedSlow = machine.v8Version !== undefined && machine.v8Version < 13;
  const attentionFormat = precision === 'int8' && !isFusedSlow ? INT8_FUSED : FORMATS[precision];
  const runsOn = isShared ? `${threads} thread${threads === 1 ? '' : 's'}` : 'calling thread';
  const commands: Command[] = [];
  const stages = Array.from({ length: nStages }, (_, stage) =>
    openStage(stage, commands, { threads, isShared, precision, kvType, attentionFormat }),
  );
  const kernels = { module, memories: stages.map(({ memory }) => memory) };
  const runner = machine.startThread ? startThreads(kernels, threads, machine.startThread) : runHere(kernels);

  function stageAt(index: number): WasmStage {
    if (index >= nStages) throw new Error(`there is no stage ${index}: the backend was opened with ${nStages}`);
    return stages[index];
  }

  /** The stage of a kernel's operands: the address of one means something else in another's memory. */
  function stageOf(out: Tensor | KvLayer, ...others: (Tensor | KvLayer | undefined)[]): WasmStage {
    for (const operand of others) {
      if (operand && operand.stage !== out.stage) {
        throw new Error(`operands of a kernel lie in stages ${out.stage} and ${operand.stage}; copy into one before`);
      }
    }
    return stages[out.stage];
  }

  async function submit() {
    const program = commands.splice(0);
    const scratch = stages.map((stage) => stage.prepare());
    await runner.run(program, scratch);
    for (const stage of stages) stage.checkNumbers();
  }

  return {
    name: `wasm (${[isRelaxed ? 'relaxed SIMD' : 'SIMD', precision, `${kvType} cache`, runsOn].join(', ')})`,
    pageLayout: `wasm ${kvType}`,
    get nBytes() {
      return stages.reduce((sum, stage) => sum + stage.nBytes, 0);
    },
    alloc: (type, rows, cols, stage = 0) => stageAt(stage).alloc(type, rows, cols),
    allocKv: (nPages, nKvHeads, headDim, stage = 0, keyForms = 1) =>
      stageAt(stage).allocKv(nPages, nKvHeads, headDim, stage, keyForms),
    reserve: (sizes, stage = 0) => stageAt(stage).reserve(sizes),
    view: (tensor, rows, cols, offset = 0) =>
      ({ ...tensor, rows, cols, at: (tensor as WasmTensor).at + 4 * offset }) as WasmTensor,
    write: (tensor, values) => stageOf(tensor).write(tensor, values),
    load: (tensor, bytes, byteOffset) => stageOf(tensor).load(tensor, bytes, byteOffset),

    gatherRows: (out, table, ids, factor) =>
      stageOf(out, table, 'length' in ids ? undefined : ids).gatherRows(out, table, ids, factor),
    rmsNorm: (out, x, weight, eps) => stageOf(out, x, weight).rmsNorm(out, x, weight, eps),
    matmul: (out, x, weight, bias) => stageOf(out, x, weight, bias).matmul(out, x, weight, bias),
    rotate: (out, x, cos, sin) => stageOf(out, x, cos, sin).rotate(out, x, cos, sin),
    append: (kv, keys, v, slices) => stageOf(kv, v, ...keys).append(kv, keys, v, slices),
    attend: (out, q, kv, stretches) => stageOf(out, q, kv).attend(out, q, kv, stretches),
    glu: (out, gate, up, activation) => stageOf(out, gate, up).glu(out, gate, up, activation),
    add: (x, y) => stageOf(x, y).add(x, y),
    copy: (out, x) => stageOf(out).copy(out, x),

    submit,
    async readPage(layers, page, nTokens) {
      await submit();
      return joined(layers.map((kv) => readPage(stageOf(kv).memory.buffer, kvType, kv as WasmKv, page, nTokens)));
    },
    async writePage(layers, page, bytes) {
      await submit();
      let left = bytes;
      for (const kv of layers) left = writePage(stageOf(kv).memory.buffer, kvType, kv as WasmKv, page, left);
    },
    async read(tensor) {
      await submit();
      return stageOf(tensor).numbers(tensor).slice();
    },
    dispose: () => runner.stop(),
  };
}
