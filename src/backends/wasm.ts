/**
 * WebAssembly SIMD on all cores: which kernels and threads to run on, and the stages that hold everything
 * (`wasmStage.ts`). Calls of kernels are recorded as commands and run by threads (`wasmWorkers.ts`).
 */
import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { UnsupportedError } from '../errors.ts';
import { FLOAT32, INT8, INT8_FUSED, INT16 } from '../kernels/abi.ts';
import { PLAIN_SIMD, RELAXED_SIMD } from '../kernels/wasmBinary.ts';
import { DEFAULT_KV_TYPE, KV_TYPES, type KvType } from '../kvTypes.ts';
import type { Backend, KvLayer, Tensor } from './backend.ts';
import { MAX_THREADS } from './wasmScratch.ts';
import { openStage, type Precision, type WasmStage, type WasmTensor } from './wasmStage.ts';
import { type Command, startWorkers } from './wasmWorkers.ts';

export interface WasmOptions {
  /** Default: as many as the machine has cores. */
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
}

/** A machine gets a thread for each of its cores. */
export const defaultThreads = (): number => Math.min(availableParallelism(), MAX_THREADS);

/** The format that attention computes in. */
const FORMATS: Record<Precision, number> = { f32: FLOAT32, int16: INT16, int8: INT8 };

/** The build this engine can run, relaxed if it may and can. */
function compileKernels(relaxed: boolean): { module: WebAssembly.Module; isRelaxed: boolean } {
  const bytes = Buffer.from(RELAXED_SIMD, 'base64');
  // V8 of Node 20 has relaxed SIMD behind a flag; later ones have it without, and complain of the flag.
  if (relaxed && !WebAssembly.validate(bytes)) setFlagsFromString('--experimental-wasm-relaxed-simd');
  if (relaxed && WebAssembly.validate(bytes)) return { module: new WebAssembly.Module(bytes), isRelaxed: true };
  return { module: new WebAssembly.Module(Buffer.from(PLAIN_SIMD, 'base64')), isRelaxed: false };
}

/**
 * Opens the WASM backend.
 * @throws UnsupportedError for threads other than 1 to 256, an unknown precision or KV type, and without shared memory.
 */
export function openWasm({
  threads = defaultThreads(),
  relaxed = true,
  precision: wanted = 'int8',
  kvType = DEFAULT_KV_TYPE,
}: WasmOptions = {}): Backend {
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw new UnsupportedError(`threads is ${threads}; wanted a whole number from 1 to ${MAX_THREADS}`);
  }
  if (!Object.hasOwn(FORMATS, wanted)) {
    throw new UnsupportedError(`unknown precision "${wanted}"; wanted ${Object.keys(FORMATS).join(', ')}`);
  }
  if (!Object.hasOwn(KV_TYPES, kvType)) {
    throw new UnsupportedError(`unknown KV type "${kvType}"; wanted ${Object.keys(KV_TYPES).join(', ')}`);
  }
  if (typeof SharedArrayBuffer === 'undefined') {
    throw new UnsupportedError(
      'the wasm backend needs SharedArrayBuffer, which this runtime does not have; a page must be cross-origin isolated',
    );
  }
  const { module, isRelaxed } = compileKernels(relaxed);
  const precision = wanted === 'int8' && !isRelaxed ? 'int16' : wanted; // without relaxed SIMD 8 bits are slower
  // V8 has an instruction for fused products of 8 bits from version 13 on.
  const isFusedSlow = Number.parseInt(globalThis.process?.versions?.v8 ?? '99', 10) < 13;
  const attentionFormat = precision === 'int8' && !isFusedSlow ? INT8_FUSED : FORMATS[precision];
  const workers = startWorkers(module, threads);
  const commands: Command[] = [];
  const stages: WasmStage[] = [];

  function stageAt(index: number): WasmStage {
    while (stages.length <= index) {
      const stage = openStage(stages.length, commands, { threads, precision, kvType, attentionFormat });
      workers.addStage(stage.memory);
      stages.push(stage);
    }
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
    await workers.run(program, scratch);
    for (const stage of stages) stage.checkNumbers();
  }

  return {
    name: `wasm (${isRelaxed ? 'relaxed SIMD' : 'SIMD'}, ${precision}, ${kvType} cache, ${threads} thread${threads === 1 ? '' : 's'})`,
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

    gatherRows: (out, table, ids) => stageOf(out, table, 'length' in ids ? undefined : ids).gatherRows(out, table, ids),
    rmsNorm: (out, x, weight, eps) => stageOf(out, x, weight).rmsNorm(out, x, weight, eps),
    matmul: (out, x, weight, bias) => stageOf(out, x, weight, bias).matmul(out, x, weight, bias),
    rotate: (out, x, cos, sin) => stageOf(out, x, cos, sin).rotate(out, x, cos, sin),
    append: (kv, keys, v, slices) => stageOf(kv, v, ...keys).append(kv, keys, v, slices),
    attend: (out, q, kv, stretches) => stageOf(out, q, kv).attend(out, q, kv, stretches),
    swiglu: (out, gate, up) => stageOf(out, gate, up).swiglu(out, gate, up),
    add: (x, y) => stageOf(x, y).add(x, y),
    copy: (out, x) => stageOf(out).copy(out, x),

    submit,
    async read(tensor) {
      await submit();
      return stageOf(tensor).numbers(tensor).slice();
    },
    dispose: () => workers.stop(),
  };
}
