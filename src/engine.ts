/**
 * Token ids in, token ids out. The engine reads a prompt in blocks, decodes, and remembers which tokens its cache holds:
 * a prompt that begins like the last one is only read from where it differs. It knows nothing of text.
 */
import type { Backend, Tensor } from './backends/backend.ts';
import { UnsupportedError } from './errors.ts';
import type { KvCache } from './kvCache.ts';
import { checkedToken, logSumExp, makeSampler, type Sampler, type SamplingOptions } from './sampler.ts';
import type { Transformer } from './transformer.ts';

export interface PrefillOptions {
  /** Stops between blocks of tokens; the call then rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Called before the first block and after each: tokens read of tokens to read, those found in the cache left out. */
  onProgress?: (done: number, total: number) => void;
}

export interface GenerateOptions extends SamplingOptions, PrefillOptions {
  /** Most tokens to generate; the context's end may come first. Default 256. */
  maxTokens?: number;
  /** Tokens that end the text; they are not part of it. */
  stopTokens?: ReadonlySet<number>;
  /** How many of the likeliest tokens to report with each one; absent: no log-probabilities. */
  logprobs?: number;
}

export interface LogProb {
  token: number;
  /** Natural logarithm of the model's own probability, before penalty, temperature and filters. */
  logprob: number;
}

export interface GeneratedToken {
  token: number;
  logprob?: number;
  topLogprobs?: LogProb[];
}

export interface EngineParts {
  backend: Backend;
  transformer: Transformer;
  cache: KvCache;
  /** Tokens read at a time. */
  blockLen: number;
  /** Rows of logits the transformer can give at once. */
  maxLogitRows: number;
  /** Token ids are below it. */
  vocabSize: number;
}

interface Picker {
  /** Picks the token behind a row of the last block. */
  pick(row: number): Promise<GeneratedToken>;
  /** Where the picked token will be, F32 `[1, 1]`: reading may go on from there before the token is known here. */
  readonly drawn?: Tensor;
}

export class Engine {
  readonly #parts: EngineParts;
  /** Where a backend that can draws tokens, F32 `[1, 1]`. */
  readonly #drawn?: Tensor;
  /** Tokens whose keys the cache holds; while a text is generated, the cache may be a token ahead. */
  readonly #cached: number[] = [];
  #isBusy = false;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    if (parts.backend.draw) this.#drawn = parts.backend.alloc('F32', 1, 1);
  }

  /** Tokens that prompt and answer may have together. */
  get context(): number {
    return this.#parts.cache.capacity;
  }

  /**
   * Reads `prompt`, then yields one token at a time until a stop token, `maxTokens` or the end of the context.
   *
   * @throws UnsupportedError when `prompt` is empty, does not fit the context, or has a token the model does not know.
   */
  async *generate(prompt: readonly number[], options: GenerateOptions = {}): AsyncGenerator<GeneratedToken> {
    this.#check(prompt);
    yield* this.#alone(this.#generate(prompt, options, makeSampler(options)));
  }

  /**
   * Negative log-likelihood of every token but the first given those before it, in nats; one array a block, in order.
   *
   * @throws UnsupportedError as `generate`.
   */
  async *score(tokens: readonly number[], options: PrefillOptions = {}): AsyncGenerator<Float64Array> {
    this.#check(tokens);
    yield* this.#alone(this.#score(tokens, options));
  }

  /** Frees the backend and with it everything. */
  dispose(): Promise<void> {
    return this.#parts.backend.dispose();
  }

  // --- internal ---

  #check(tokens: readonly number[]): void {
    if (tokens.length === 0) throw new UnsupportedError('the prompt is empty; give at least one token');
    const stranger = tokens.find((id) => !Number.isInteger(id) || id < 0 || id >= this.#parts.vocabSize);
    if (stranger !== undefined) {
      throw new UnsupportedError(
        `token ${stranger} is not in the vocabulary; wanted 0 to ${this.#parts.vocabSize - 1}`,
      );
    }
    if (tokens.length > this.context) {
      throw new UnsupportedError(
        `the prompt has ${tokens.length} tokens, but the context holds ${this.context}; load the model with a larger context or shorten the prompt`,
      );
    }
  }

  /** Reads `tokens` but for what the cache holds of them, and picks the one behind the last. */
  async #prefill(
    tokens: readonly number[],
    { signal, onProgress }: PrefillOptions,
    pick: Picker['pick'],
  ): Promise<GeneratedToken> {
    const { blockLen } = this.#parts;
    const common = tokens.findIndex((token, at) => token !== this.#cached[at]);
    const kept = Math.min(common < 0 ? tokens.length : common, tokens.length - 1); // the last token gives the logits
    this.#trim(kept);
    let block: readonly number[] = [];
    for (let at = kept; at < tokens.length; at += block.length) {
      onProgress?.(at - kept, tokens.length - kept);
      signal?.throwIfAborted();
      block = tokens.slice(at, at + blockLen);
      this.#forward(block);
      if (at + block.length < tokens.length) await this.#parts.backend.submit(); // the last goes with its logits
    }
    const first = await pick(block.length - 1);
    onProgress?.(tokens.length - kept, tokens.length - kept);
    return first;
  }

  async *#generate(
    prompt: readonly number[],
    options: GenerateOptions,
    sampler: Sampler,
  ): AsyncGenerator<GeneratedToken> {
    const { maxTokens = 256, stopTokens, signal } = options;
    if (maxTokens < 1) return;
    const { transformer, cache } = this.#parts;
    const { pick, drawn } = this.#picker(options, sampler);
    const readOn = (token: readonly number[] | Tensor): Promise<GeneratedToken> => {
      transformer.forward(token, cache);
      const picked = pick(0);
      picked.catch(() => {}); // of no interest unless the text gets there
      return picked;
    };
    let next: GeneratedToken | Promise<GeneratedToken> = await this.#prefill(prompt, options, pick);
    try {
      for (let n = 1; ; n++) {
        const isLast = n === maxTokens || cache.length === this.context;
        const current = next;
        if (drawn && !isLast) next = readOn(drawn);
        const generated = await current;
        signal?.throwIfAborted();
        if (stopTokens?.has(generated.token)) return;
        yield generated;
        if (isLast) return;
        this.#cached.push(generated.token);
        if (!drawn) next = readOn([generated.token]);
      }
    } finally {
      cache.length = this.#cached.length; // what was read ahead in vain is forgotten
    }
  }

  /** The backend draws where it can: nothing waits for logits to come here then. */
  #picker({ logprobs }: GenerateOptions, { sample, choose }: Sampler): Picker {
    const { backend, transformer } = this.#parts;
    const drawn = this.#drawn;
    if (drawn && choose && logprobs === undefined) {
      return {
        drawn,
        async pick(row) {
          backend.draw?.(drawn, transformer.logits(row, 1), choose());
          const [token] = await backend.read(drawn);
          return { token: checkedToken(token) };
        },
      };
    }
    return {
      pick: async (row) => {
        const logits = await this.#logits(row, 1);
        const modelLogits = logprobs === undefined ? undefined : logits.slice(); // the sampler may change them
        const token = sample(logits, this.#cached);
        return { token, ...(modelLogits && withLogprobs(modelLogits, token, logprobs)) };
      },
    };
  }

  async *#score(tokens: readonly number[], { signal, onProgress }: PrefillOptions): AsyncGenerator<Float64Array> {
    this.#trim(0);
    const { blockLen } = this.#parts;
    for (let at = 0; at < tokens.length; at += blockLen) {
      onProgress?.(at, tokens.length);
      signal?.throwIfAborted();
      const block = tokens.slice(at, at + blockLen);
      this.#forward(block);
      yield await this.#losses(tokens.slice(at + 1, at + block.length + 1));
    }
    onProgress?.(tokens.length, tokens.length);
  }

  #trim(length: number): void {
    this.#cached.length = Math.min(this.#cached.length, length);
    this.#parts.cache.length = this.#cached.length;
  }

  /** `-ln p(target)` of each row of the last block. */
  async #losses(targets: readonly number[]): Promise<Float64Array> {
    const { maxLogitRows } = this.#parts;
    const losses = new Float64Array(targets.length);
    for (let row = 0; row < targets.length; row += maxLogitRows) {
      const nRows = Math.min(maxLogitRows, targets.length - row);
      const logits = await this.#logits(row, nRows);
      const vocabSize = logits.length / nRows;
      for (let r = 0; r < nRows; r++) {
        const rowLogits = logits.subarray(r * vocabSize, (r + 1) * vocabSize);
        losses[row + r] = logSumExp(rowLogits) - rowLogits[targets[row + r]];
      }
    }
    return losses;
  }

  /** One text at a time: there is one cache. */
  async *#alone<T>(work: AsyncGenerator<T>): AsyncGenerator<T> {
    if (this.#isBusy) throw new Error('this model is already reading a text; wait for it or load the model again');
    this.#isBusy = true;
    try {
      yield* work;
    } finally {
      this.#isBusy = false;
    }
  }

  /** Records the reading of a block; it runs with what is asked of the backend next. */
  #forward(block: readonly number[]): void {
    const { transformer, cache } = this.#parts;
    transformer.forward(block, cache);
    for (const token of block) this.#cached.push(token);
  }

  #logits(row: number, nRows: number): Promise<Float32Array | Float64Array> {
    return this.#parts.backend.read(this.#parts.transformer.logits(row, nRows));
  }
}

function withLogprobs(logits: Float32Array | Float64Array, token: number, count = 0) {
  const total = logSumExp(logits);
  const logprobOf = (id: number): LogProb => ({ token: id, logprob: logits[id] - total });
  const threshold = count > 0 ? (logits.slice().sort().at(-count) ?? -Infinity) : Infinity;
  const ids = Array.from(logits.keys()).filter((id) => logits[id] >= threshold);
  const topLogprobs = ids.map(logprobOf).sort((a, b) => b.logprob - a.logprob);
  return { logprob: logprobOf(token).logprob, topLogprobs: topLogprobs.slice(0, count) };
}
