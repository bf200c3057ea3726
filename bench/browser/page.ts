/** What runs in the page of `bench/browser.bench.ts`: one engine, one prompt, times by the page's clock. */
import { startWorker } from 'dualchunk/browser';
import { checked, measured, N_CHECK, type Order, type Timed, type Timing, timed } from './timing.ts';

/** What is used of wllama, so that types can be checked while it is not installed. */
interface Wllama {
  isSupportWebGPU(): boolean;
  loadModel(files: Blob[], options: object): Promise<void>;
  createCompletion(options: object): Promise<AsyncIterable<Chunk>>;
  isMultithread(): boolean;
  getNumThreads(): number;
  exit(): Promise<void>;
}
interface Chunk {
  readonly choices: readonly { text: string }[];
  /** Of the last chunk. */
  readonly usage?: { completion_tokens: number };
  readonly timings?: { prompt_n: number };
}

declare global {
  var measure: (order: Order) => Promise<Timing>;
}

globalThis.measure = (order) => (order.engine === 'wllama' ? ofWllama(order) : ofDualchunk(order));

const seconds = (from: number) => (performance.now() - from) / 1000;

async function ofDualchunk(order: Order): Promise<Timing> {
  const models = startWorker();
  const from = performance.now();
  const { threads, context } = order;
  const options = order.isGpu ? { backend: 'webgpu' as const } : { backend: 'wasm' as const, threads };
  const model = await models.loadModel(order.model, { context, ...options });
  const loadSeconds = seconds(from);
  const timing = await measured(model, order);
  models.terminate();
  return { ...timing, loadSeconds };
}

async function ofWllama(order: Order): Promise<Timing> {
  const { threads, isGpu, model, context, check, prompt, nAnswer, flashAttention } = order;
  const address: string = './wllama.js'; // a plain string, so that neither compiler nor bundler looks for it
  const peer: { Wllama: new (paths: object, options: object) => Wllama } = await import(/* @vite-ignore */ address);
  const wllama = new peer.Wllama(
    { default: new URL('./wllama.wasm', location.href).href },
    { suppressNativeLog: true },
  );
  const from = performance.now();
  await wllama.loadModel([await (await fetch(model)).blob()], {
    ...{ n_ctx: context, n_threads: threads, flash_attn: flashAttention, n_gpu_layers: isGpu ? 999 : 0 },
    // It holds contexts to the window of the file, which is one of its numbers; the list must end in an empty one.
    kv_overrides: { 'llama.context_length': `int:${Math.max(8192, context)}`, '': 'int:0' },
  });
  const loadSeconds = seconds(from);
  let promptTokens = 0;
  async function* pieces(prompt: string, nAnswer: number): AsyncGenerator<Timed> {
    const options = { prompt, max_tokens: nAnswer, temperature: 0, ignore_eos: true, stream: true };
    for await (const { choices, usage, timings } of await wllama.createCompletion(options)) {
      promptTokens = timings?.prompt_n ?? promptTokens;
      yield { text: choices[0]?.text ?? '', nTokens: usage?.completion_tokens ?? 0 };
    }
  }
  const first = await checked(pieces(check, N_CHECK));
  const timing = await timed(pieces(prompt, nAnswer));
  const place = isGpu && wllama.isSupportWebGPU() ? 'WebGPU, ' : '';
  const runsOn = `${place}${wllama.isMultithread() ? `${wllama.getNumThreads()} threads` : 'one thread'}, flash_attn ${flashAttention}`;
  await wllama.exit();
  return { ...timing, check: first, promptTokens, runsOn, loadSeconds };
}
