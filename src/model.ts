/**
 * Text in, text out: a checkpoint with its tokenizer, bound to an engine. `openModel` reads headers only; `load` brings
 * the weights into memory for one context length and one method.
 */
import type { Backend } from './backends/backend.ts';
import { openReference } from './backends/reference.ts';
import { openWasm } from './backends/wasm.ts';
import type { Precision } from './backends/wasmStage.ts';
import { openWebGpu } from './backends/webgpu.ts';
import { openCheckpoint } from './checkpoint/open.ts';
import { loadWeights, weightBytes } from './checkpoint/weights.ts';
import { type ModelConfig, trainedWindow } from './config.ts';
import { Engine, type GeneratedToken, type GenerateOptions, type PrefillOptions } from './engine.ts';
import { UnsupportedError } from './errors.ts';
import { allocKvCache } from './kvCache.ts';
import { DEFAULT_KV_TYPE, type KvType } from './kvTypes.ts';
import { checkFits, MAX_LOGIT_ROWS, MEMORY, type MemoryPlan, memoryPlan } from './memoryPlan.ts';
import { type Method, resolveMethod } from './method.ts';
import type { Placement, Scale } from './placement.ts';
import { ropeFrequencies } from './rope.ts';
import type { SamplingOptions } from './sampler.ts';
import { type Message, makeTokenizer, type Tokenizer } from './tokenizer/tokenizer.ts';
import { makeTransformer } from './transformer.ts';

export type BackendKind = 'wasm' | 'webgpu' | 'reference';

export interface LoadOptions {
  /** Tokens that prompt and answer may have together; the KV cache is allocated for them. Default: the trained window, at most 8192. */
  context?: number;
  /** `none`, `dca`, `dca:chunkllama:logn`, … (see `method.ts`). Default: `none` within the trained window, `dca` beyond. */
  method?: string;
  /** Attention scale of DCA. Default `logn`, or what the model's own dual chunk config says. */
  scale?: Scale;
  /** `wasm` runs everywhere, `webgpu` is for those with a GPU; `reference` is float64 and slow. Default `wasm`. */
  backend?: BackendKind;
  /** Threads of the wasm backend. Default: as many as the machine has cores. */
  threads?: number;
  /**
   * How the wasm backend computes products: `int8` (attention in 8 bits where the engine has relaxed SIMD, matrices in 16),
   * `int16` in both, or exact `f32`. Default `int8`.
   */
  precision?: Precision;
  /** How the wasm backend stores keys and values: `f32`, `bf16` or `q8_0`. Default `bf16`. */
  kvType?: KvType;
  /** Called as weights arrive, with bytes. */
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** A model that is still on disk. */
export interface ModelFile {
  readonly name: string;
  readonly format: 'GGUF' | 'safetensors';
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  /** Stored tensors by type, bytes and count. */
  readonly tensorTypes: ReadonlyMap<string, { count: number; bytes: number }>;
  /** Bytes the model takes with a context of so many tokens. `kvType` is `bf16` by default; some methods keep keys twice. */
  memoryPlan(context: number, kvType?: KvType, method?: Method, backend?: BackendKind): MemoryPlan;
  /** @throws FormatError, UnsupportedError when the weights or the options do not work out. */
  load(options?: LoadOptions): Promise<Model>;
  close(): Promise<void>;
}

export interface TextOptions extends Omit<GenerateOptions, 'stopTokens'> {
  /** Strings that end the answer; they are not part of it. A string split over tokens is held back. */
  stop?: readonly string[];
  /** Ids that end the answer. Default: the tokenizer's end-of-turn and end-of-text tokens. */
  stopTokens?: ReadonlySet<number>;
}

/** A piece of the answer. Pieces join to the whole; the last one may be empty and carries the reason. */
export interface Piece {
  text: string;
  /** Tokens generated since the piece before; their text may come with a later piece. */
  tokens: GeneratedToken[];
  /** `stop`: a stop token or string; `length`: `maxTokens` or the end of the context. */
  finishReason?: 'stop' | 'length';
  /** With the reason, the seed that was used. */
  seed?: number;
}

/** Plain text (BOS is added if the model wants it), a conversation (rendered by the model's template), or token ids. */
export type Prompt = string | readonly Message[] | readonly number[];

/**
 * Opens a model and loads it.
 *
 * @param path A .gguf file or a Hugging Face folder.
 * @throws FormatError when the files are not what they claim; UnsupportedError when the model, an option or the memory
 *   needed is out of reach.
 */
export async function loadModel(path: string, options: LoadOptions = {}): Promise<Model> {
  const file = await openModel(path);
  try {
    return await file.load(options);
  } finally {
    await file.close();
  }
}

/** Opens a model without loading its weights. Close it when done. @throws as `loadModel`. */
export async function openModel(path: string): Promise<ModelFile> {
  const checkpoint = await openCheckpoint(path);
  const { config } = checkpoint;
  try {
    const tokenizer = makeTokenizer(checkpoint.tokenizerJson, checkpoint.tokenizerConfig, path);
    if (tokenizer.vocabSize > config.vocabSize) {
      throw new UnsupportedError(
        `${path}: the tokenizer has ${tokenizer.vocabSize} ids, but the model has ${config.vocabSize} embeddings`,
      );
    }
    const tensorTypes = new Map<string, { count: number; bytes: number }>();
    for (const { type, nBytes } of checkpoint.tensors.values()) {
      const { count, bytes } = tensorTypes.get(type) ?? { count: 0, bytes: 0 };
      tensorTypes.set(type, { count: count + 1, bytes: bytes + nBytes });
    }
    const plan = (context: number, kvType: KvType = DEFAULT_KV_TYPE, method?: Method, kind: BackendKind = 'wasm') => {
      const forms = method && keyForms(method.placement);
      const { stageLimit, blockLen } = MEMORY[kind];
      return memoryPlan(config, weightBytes(checkpoint), context, kvType, stageLimit, forms, blockLen);
    };
    const { name, format } = checkpoint;
    return {
      ...{ name, format, config, tokenizer, tensorTypes },
      memoryPlan: plan,
      close: checkpoint.close,
      async load(options = {}) {
        const { context = Math.min(trainedWindow(config), 8192), backend: kind = 'wasm', kvType } = options;
        if (!Number.isInteger(context) || context < 1) {
          throw new UnsupportedError(`context is ${context}; wanted a whole number of tokens above 0`);
        }
        const method = resolveMethod(options.method, options.scale, config, context);
        const backend = await openBackend(kind, options);
        try {
          const planOf = (tokens: number) => plan(tokens, kind === 'reference' ? 'f32' : kvType, method, kind);
          checkFits(planOf, context, kind);
          const { stageOf } = planOf(context);
          const blockLen = Math.min(MEMORY[kind].blockLen, context);
          const weights = await loadWeights(checkpoint, backend, stageOf, options);
          const { placement, ropeScaling = config.ropeScaling, longest } = method;
          const rope = ropeFrequencies({ ...config, ropeScaling }, longest);
          const cache = allocKvCache(backend, config, context, stageOf, keyForms(placement));
          const transformer = makeTransformer(backend, config, weights, placement, rope, blockLen, MAX_LOGIT_ROWS);
          await backend.submit(); // tells of memory that did not suffice
          const engine = new Engine({
            backend,
            transformer,
            cache,
            blockLen,
            maxLogitRows: MAX_LOGIT_ROWS,
            vocabSize: config.vocabSize,
          });
          return new Model({ config, tokenizer, method, engine, backend });
        } catch (error) {
          await backend.dispose();
          throw error;
        }
      },
    };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

const keyForms = ({ interKeyPosition }: Placement) => (interKeyPosition ? 2 : 1);

async function openBackend(kind: string, { threads, precision, kvType }: LoadOptions): Promise<Backend> {
  if (kind === 'wasm') return openWasm({ threads, precision, kvType });
  if (kind === 'webgpu') return openWebGpu();
  if (kind === 'reference') return openReference();
  throw new UnsupportedError(`unknown backend "${kind}"; wanted wasm, webgpu or reference`);
}

/**
 * What a backend would compute on, such as `webgpu (nvidia, tensor cores, f16 cache)`.
 * @throws UnsupportedError where it cannot be opened.
 */
export async function backendName(kind: BackendKind, options: LoadOptions = {}): Promise<string> {
  const backend = await openBackend(kind, options);
  await backend.dispose();
  return backend.name;
}

interface ModelParts {
  config: ModelConfig;
  tokenizer: Tokenizer;
  method: Method;
  engine: Engine;
  backend: Backend;
}

/** A model in memory. One text at a time; what a prompt shares with the text before is not read again. */
export class Model {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  readonly method: Method;
  /** Defaults of `generate`. */
  readonly sampling: SamplingOptions = {};
  /** E.g. `wasm (relaxed SIMD, 2 threads)`. */
  readonly backendName: string;
  readonly #engine: Engine;

  constructor({ config, tokenizer, method, engine, backend }: ModelParts) {
    this.config = config;
    this.tokenizer = tokenizer;
    this.method = method;
    this.backendName = backend.name;
    this.#engine = engine;
  }

  /** Tokens that prompt and answer may have together. */
  get context(): number {
    return this.#engine.context;
  }

  /** Token ids of a prompt, as `generate` reads it. */
  encode(prompt: Prompt): number[] {
    if (typeof prompt === 'string') return this.tokenizer.encode(prompt);
    if (typeof prompt[0] === 'number') return [...(prompt as readonly number[])];
    const text = this.tokenizer.applyChatTemplate(prompt as readonly Message[]);
    return this.tokenizer.encode(text, { addSpecialTokens: false });
  }

  /**
   * Reads the prompt and streams the answer.
   *
   * @throws UnsupportedError when the prompt is empty or longer than the context, or a sampling option is out of range.
   */
  async *generate(prompt: Prompt, options: TextOptions = {}): AsyncGenerator<Piece> {
    const { stop = [], stopTokens = this.tokenizer.eosTokens, maxTokens = 256 } = options;
    const ids = this.encode(prompt);
    const decoder = this.tokenizer.streamDecoder({ midText: typeof prompt === 'string' });
    let held = ''; // text that may turn out to begin a stop string
    let tokens: GeneratedToken[] = [];
    let count = 0;
    for await (const token of this.#engine.generate(ids, { ...options, stopTokens })) {
      count++;
      tokens.push(token);
      held += decoder.push(token.token);
      const { safe, isStopped } = splitAtStop(held, stop);
      if (isStopped) return yield { text: safe, tokens, finishReason: 'stop' };
      if (safe === '') continue;
      held = held.slice(safe.length);
      yield { text: safe, tokens };
      tokens = [];
    }
    held += decoder.flush();
    const { safe, isStopped } = splitAtStop(held, stop);
    const isFull = count >= maxTokens || ids.length + count > this.context;
    yield { text: isStopped ? safe : held, tokens, finishReason: isFull && !isStopped ? 'length' : 'stop' };
  }

  /**
   * How well the model foresees a text: negative log-likelihood of every token but the first, in nats, a block at a time.
   * @throws UnsupportedError as `generate`.
   */
  score(text: string | readonly number[], options: PrefillOptions = {}): AsyncGenerator<Float64Array> {
    return this.#engine.score(typeof text === 'string' ? this.encode(text) : text, options);
  }

  /** Frees memory and threads. The model cannot be used afterwards. */
  dispose(): Promise<void> {
    return this.#engine.dispose();
  }
}

/** The part of `text` that can be shown: up to a stop string, or up to an end that may begin one. */
export function splitAtStop(text: string, stop: readonly string[]): { safe: string; isStopped: boolean } {
  const found = stop.map((s) => (s === '' ? -1 : text.indexOf(s))).filter((at) => at >= 0);
  if (found.length > 0) return { safe: text.slice(0, Math.min(...found)), isStopped: true };
  const longest = Math.max(0, ...stop.map((s) => s.length - 1));
  for (let at = Math.max(0, text.length - longest); at < text.length; at++) {
    const end = text.slice(at);
    if (stop.some((s) => s.startsWith(end))) return { safe: text.slice(0, at), isStopped: false };
  }
  return { safe: text, isStopped: false };
}
