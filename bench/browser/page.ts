/** What runs in the page of `bench/browser.bench.ts`: one engine, one prompt, times by the page's clock. */
import { startWorker } from 'dualchunk/browser';

/** What is used of wllama, so that types can be checked while it is not installed. */
interface Wllama {
  loadModel(files: Blob[], options: object): Promise<void>;
  createCompletion(options: object): Promise<AsyncIterable<Chunk>>;
  isMultithread(): boolean;
  getNumThreads(): number;
  exit(): Promise<void>;
}
interface Chunk {
  readonly choices: readonly { text: string }[];
  readonly usage?: { prompt_tokens: number } | null;
  readonly timings?: { prompt_n?: number };
}

export interface Order {
  readonly engine: 'dualchunk' | 'wllama';
  readonly threads: number;
  readonly isGpu: boolean;
  /** Addresses, relative to the page. */
  readonly model: string;
  /** Tokens of prompt and answer. */
  readonly context: number;
  readonly prompt: string;
  readonly nAnswer: number;
  /** Of wllama. */
  readonly flashAttention: boolean;
}

export interface Timing {
  /** As the engine counts them. */
  readonly promptTokens: number;
  readonly prefillSeconds: number;
  /** Milliseconds for each token behind the first. */
  readonly decode: number;
  readonly text: string;
  readonly runsOn: string;
  readonly loadSeconds: number;
}

declare global {
  var measure: (order: Order) => Promise<Timing>;
}

globalThis.measure = (order) => (order.engine === 'wllama' ? ofWllama(order) : ofDualchunk(order));

const seconds = (from: number) => (performance.now() - from) / 1000;

/** Times the pieces of an answer: the first comes behind the prompt, the others a token each. */
async function timed(pieces: AsyncIterable<{ text: string; nTokens: number }>) {
  const from = performance.now();
  let [first, last, nTokens, text] = [0, 0, 0, ''];
  for await (const piece of pieces) {
    if (nTokens === 0) first = performance.now();
    last = performance.now();
    nTokens += piece.nTokens;
    text += piece.text;
  }
  return { prefillSeconds: (first - from) / 1000, decode: (last - first) / (nTokens - 1), text };
}

async function ofDualchunk({ threads, isGpu, model: address, context, prompt, nAnswer }: Order): Promise<Timing> {
  const models = startWorker();
  const from = performance.now();
  const options = isGpu ? { backend: 'webgpu' as const } : { backend: 'wasm' as const, threads };
  const model = await models.loadModel(address, { context, ...options });
  const loadSeconds = seconds(from);
  await warmUp(model.generate('Once', { maxTokens: 4, temperature: 0 }));
  const promptTokens = (await model.encode(prompt)).length;
  async function* pieces() {
    const options = { maxTokens: nAnswer, temperature: 0, stopTokens: [] };
    for await (const { text, tokens } of model.generate(prompt, options)) yield { text, nTokens: tokens.length };
  }
  const timing = await timed(pieces());
  models.terminate();
  return { ...timing, promptTokens, runsOn: model.backendName, loadSeconds };
}

async function warmUp(pieces: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of pieces);
}

async function ofWllama(order: Order): Promise<Timing> {
  const { threads, isGpu, model, context, prompt, nAnswer, flashAttention } = order;
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
  await warmUp(await wllama.createCompletion({ prompt: 'Once', max_tokens: 4, temperature: 0, stream: true }));
  let promptTokens = 0;
  async function* pieces() {
    const stream = await wllama.createCompletion({ prompt, max_tokens: nAnswer, temperature: 0, stream: true });
    for await (const { choices, usage, timings } of stream) {
      promptTokens = usage?.prompt_tokens ?? timings?.prompt_n ?? promptTokens;
      const { text } = choices[0] ?? { text: '' };
      if (text !== '') yield { text, nTokens: 1 };
    }
  }
  const timing = await timed(pieces());
  const runsOn = `${wllama.isMultithread() ? `${wllama.getNumThreads()} threads` : 'one thread'}, flash_attn ${flashAttention}`;
  await wllama.exit();
  return { ...timing, promptTokens, runsOn, loadSeconds };
}
