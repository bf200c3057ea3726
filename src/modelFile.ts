/**
 * From a checkpoint to a model: `openModel` reads headers only; `load` brings the weights into memory for one context length and
 * one method. The entries of the package bind this to their platform.
 */
import { type Attention, attentionOf } from './attention.ts';
import { type BackendKind, openBackend, settledBackend } from './backends/open.ts';
import { defaultThreads, kernelBytes } from './backends/wasmScratch.ts';
import type { Precision } from './backends/wasmStage.ts';
import type { Checkpoint } from './checkpoint/checkpoint.ts';
import { openCheckpoint } from './checkpoint/open.ts';
import { loadWeights, weightBytes } from './checkpoint/weights.ts';
import { type ModelConfig, trainedWindow } from './config.ts';
import { PLAIN } from './dualChunk.ts';
import { UnsupportedError } from './errors.ts';
import { allocKvCache, pagesFor } from './kvCache.ts';
import { DEFAULT_KV_TYPE, type KvType } from './kvTypes.ts';
import { checkFits, MAX_LOGIT_ROWS, MEMORY, type MemoryPlan, memoryPlan } from './memoryPlan.ts';
import { type Method, resolveMethod } from './method.ts';
import { Model, type SessionSource, sessionOpener } from './model.ts';
import { checkOptions } from './options.ts';
import type { Scale } from './placement.ts';
import type { ModelSource, Platform } from './platform/platform.ts';
import { Engine } from './runtime/engine.ts';
import { type Sampling, samplingOf } from './sampler.ts';
import type { SessionFile } from './session/file.ts';
import { type Identity, modelIdentity } from './session/identity.ts';
import { makeTokenizer, type Tokenizer } from './tokenizer/tokenizer.ts';
import { callSizes, makeTransformer } from './transformer.ts';

export interface LoadOptions {
  /** Tokens that prompt and answer may have together; the KV cache is allocated for them. Default: the trained window, at most 8192. */
  context?: number;
  /**
   * Texts that are read and written at once, each with room for a whole context of its own. More wait for their turn.
   * 1 to 256, default 1.
   */
  sequences?: number;
  /** `none`, `dca`, `dca:chunkllama:logn`, … (see `method.ts`). Default: `none` within the trained window, `dca` beyond. */
  method?: string;
  /** Attention scale of DCA. Default `logn`, or what the model's own dual chunk config says. */
  scale?: Scale;
  /**
   * `wasm` runs everywhere, `webgpu` is for those with a GPU; `reference` is float64 and slow. `auto`, the default, takes a GPU
   * where there is one and no option is given that only `wasm` knows.
   */
  backend?: BackendKind | 'auto';
  /** Threads of the wasm backend, 1 to 256. Default: as many as the machine has cores. */
  threads?: number;
  /**
   * How the wasm backend computes products: `int8` (attention in 8 bits where the engine has relaxed SIMD, matrices in 16),
   * `int16` in both, or `f32`, products in float32. Default `int8`.
   */
  precision?: Precision;
  /** How the wasm backend stores keys and values: `f32`, `bf16` or `q8_0`. Default `bf16`. */
  kvType?: KvType;
  /**
   * A folder in which pages of texts are kept when the cache has no room for them any more, or the process has ended: a text that
   * begins as one before is read on from there. Default: none. Node, Deno and Bun only.
   */
  cacheDir?: string;
  /** Bytes that this folder may have; what was used longest ago goes. Default 8 GiB. */
  cacheBytes?: number;
  /** Called as weights arrive, with bytes. */
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** What a memory plan depends on besides the context. */
export interface PlanningOptions extends Pick<LoadOptions, 'sequences' | 'backend' | 'kvType' | 'threads'> {
  /** Some methods keep keys twice. Default: one that keeps them once. */
  method?: Method;
}

/** A model that is not loaded yet. */
export interface ModelFile {
  readonly name: string;
  readonly format: 'GGUF' | 'safetensors';
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  /** What `generate` draws tokens by unless told: what the model says, else what llama.cpp takes. */
  readonly sampling: Sampling;
  /** Stored tensors by type, bytes and count. */
  readonly tensorTypes: ReadonlyMap<string, { count: number; bytes: number }>;
  /**
   * Bytes the model takes with a context of so many tokens; `auto` counts as `wasm`.
   * @throws UnsupportedError when the context or an option is out of its range.
   */
  memoryPlan(context: number, options?: PlanningOptions): MemoryPlan;
  /** @throws FormatError, UnsupportedError when the weights or the options do not work out. */
  load(options?: LoadOptions): Promise<Model>;
  close(): Promise<void>;
}

const DEFAULT_CACHE_BYTES = 8 * 2 ** 30;

/** What the package offers first; its entries bind it to a platform with `modelsOn`. */
export interface Models {
  /**
   * Opens a model and loads it.
   *
   * @param source A .gguf file or a Hugging Face folder: see `ModelSource`.
   * @throws FormatError when the files are not what they claim, or cannot be read; UnsupportedError when the model, an option
   *   or the memory needed is out of reach.
   */
  loadModel(source: ModelSource, options?: LoadOptions): Promise<Model>;
  /** Opens a model without loading its weights. Close it when done. @throws as `loadModel`. */
  openModel(source: ModelSource): Promise<ModelFile>;
  /**
   * Opens a session that was saved, for what its head says: which model, method, cache and context it wants. Close it when done.
   * @throws FormatError when the file is no session, damaged or cut off; UnsupportedError when a later version wrote it.
   */
  openSession(source: SessionSource): Promise<SessionFile>;
  /**
   * What a backend would compute on, such as `webgpu (nvidia, tensor cores, f16 cache)`. Default `auto`.
   * @throws UnsupportedError where it cannot be opened.
   */
  backendName(kind?: BackendKind | 'auto', options?: LoadOptions): Promise<string>;
}

export function modelsOn(platform: Platform): Models {
  const { machine } = platform;
  const openSession = sessionOpener(platform);
  async function openModel(source: ModelSource): Promise<ModelFile> {
    const checkpoint = await openCheckpoint(source, platform);
    try {
      return modelFile(checkpoint, platform);
    } catch (error) {
      await checkpoint.close();
      throw error;
    }
  }
  return {
    openModel,
    openSession,
    async loadModel(source, options = {}) {
      checkOptions('load', options);
      const kind = await settledBackend(options.backend ?? 'auto', machine, options);
      const file = await openModel(source);
      try {
        return await file.load({ ...options, backend: kind });
      } finally {
        await file.close();
      }
    },
    async backendName(choice = 'auto', options = {}) {
      checkOptions('load', { ...options, backend: choice });
      const backend = await openBackend(await settledBackend(choice, machine, options), machine, options, 1);
      await backend.dispose();
      return backend.name;
    },
  };
}

// --- internal ---

function modelFile(checkpoint: Checkpoint, platform: Platform): ModelFile {
  const { machine } = platform;
  const { name, format, config } = checkpoint;
  const { tokenizerJson, tokenizerConfig } = checkpoint;
  const tokenizer = makeTokenizer(tokenizerJson, tokenizerConfig, name, config.vocabSize);
  const sampling = samplingOf(checkpoint.sampling);
  const tensorTypes = new Map<string, { count: number; bytes: number }>();
  for (const { type, nBytes } of checkpoint.tensors.values()) {
    const { count, bytes } = tensorTypes.get(type) ?? { count: 0, bytes: 0 };
    tensorTypes.set(type, { count: count + 1, bytes: bytes + nBytes });
  }
  const attention = ({ placement, ropeScaling = config.ropeScaling, longest }: Method): Attention =>
    attentionOf({ ...config, ropeScaling }, placement, longest);
  function plan(context: number, options: PlanningOptions): MemoryPlan {
    const { method = resolveMethod('none', 'none', config, context), kvType = DEFAULT_KV_TYPE } = options;
    const { backend = 'auto', sequences = 1, threads = defaultThreads(machine) } = options;
    const kind = backend === 'auto' ? 'wasm' : backend;
    const { stageLimit, blockLen } = MEMORY[kind];
    const kept = { wasm: kvType, webgpu: 'bf16', reference: 'f32' } as const; // a GPU's halves take what bf16 takes
    const sizes = callSizes(config, {
      blockLen: Math.min(blockLen, sequences * context),
      nPages: sequences * pagesFor(context),
    });
    return memoryPlan(config, weightBytes(checkpoint), context, {
      kvType: kept[kind],
      sequences,
      keyForms: method.placement.keyPositions.length,
      nKinds: attention(method).kinds.length,
      stageLimit,
      blockLen,
      kernels: kind === 'wasm' ? kernelBytes(sizes, threads) : 0,
    });
  }
  let closing: Promise<void> | undefined;

  async function load(options: LoadOptions = {}): Promise<Model> {
    checkOptions('load', options);
    const {
      context = Math.min(trainedWindow(config), 8192),
      backend: choice = 'auto',
      scale = 'none',
      sequences = 1,
    } = options;
    const method = resolveMethod(options.method, options.scale, config, context);
    if (scale !== 'none' && method.placement === PLAIN) {
      throw new UnsupportedError(
        `scale ${scale} has no effect on plain attention, which a context of ${context} tokens gets; give method dca too, or no scale`,
      );
    }
    const { cacheDir, cacheBytes = DEFAULT_CACHE_BYTES } = options;
    if (cacheDir !== undefined && !platform.openStore) {
      throw new UnsupportedError('cacheDir needs a file system, which is not here; leave it out');
    }
    const store = cacheDir === undefined ? undefined : platform.openStore?.(cacheDir, cacheBytes);
    const kind = await settledBackend(choice, machine, options);
    const planOf = (tokens: number) => plan(tokens, { ...options, backend: kind, method });
    checkFits(planOf, context, kind, machine.availableMemory());
    const { stageOf, stageBytes } = planOf(context);
    const backend = await openBackend(kind, machine, options, stageBytes.length);
    try {
      const nPages = sequences * pagesFor(context);
      const blockLen = Math.min(MEMORY[kind].blockLen, sequences * context);
      const sizes = { blockLen, maxLogitRows: MAX_LOGIT_ROWS, nPages };
      const samples: Uint8Array[] = [];
      const onSample = (bytes: Uint8Array) => samples.push(bytes);
      const weights = await loadWeights(checkpoint, backend, stageOf, { ...options, onSample });
      const layersAttend = attention(method);
      const cache = allocKvCache(backend, config, layersAttend, nPages, stageOf);
      const transformer = makeTransformer(backend, config, weights, layersAttend, sizes);
      await backend.submit(); // tells of memory that did not suffice
      const { vocabSize } = config;
      const engine = new Engine({ backend, transformer, cache, context, sequences, ...sizes, vocabSize });
      const made = async (): Promise<Identity> => ({
        ...(await modelIdentity({ config, tensors: checkpoint.tensors.values(), samples, tokenizerJson })),
        method: config.ropeScaling?.ropeType === 'dynamic' ? `${method.name} to ${method.longest}` : method.name,
        cache: backend.pageLayout,
      });
      let known: Promise<Identity> | undefined;
      const identity = () => {
        known ??= made(); // few ask for it
        return known;
      };
      return new Model({ name, config, tokenizer, sampling, method, engine, backend, identity, platform, store });
    } catch (error) {
      await backend.dispose();
      throw closing ? new UnsupportedError(`${name}: the file was closed; open the model again`) : error;
    }
  }

  return {
    ...{ name, format, config, tokenizer, sampling, tensorTypes },
    memoryPlan(context, options = {}) {
      const { method, ...others } = options;
      checkOptions('load', { context, ...others });
      return plan(context, options);
    },
    load,
    close() {
      closing ??= checkpoint.close();
      return closing;
    },
  };
}
