/**
 * Token ids in, token ids out. The engine reads a prompt in blocks, decodes, and remembers which tokens its cache holds:
 * a prompt that begins like the last one is only read from where it differs. Several texts take turns (`turns.ts`). It
 * knows nothing of words.
 */
import type { Backend, Tensor } from './backends/backend.ts';
import { shown, UnsupportedError } from './errors.ts';
import type { KvCache } from './kvCache.ts';
import {
  checkedToken,
  type LogProb,
  logprobsOf,
  logSumExp,
  makeSampler,
  type Sampler,
  type SamplingOptions,
} from './sampler.ts';
import type { Transformer } from './transformer.ts';
import { Turn, Turns } from './turns.ts';

export interface PrefillOptions {
  /** Ends the call, which rejects with the signal's reason; a block that is being read keeps the model busy to its end. */
  signal?: AbortSignal;
  /** Called before the first block and after each: tokens read of tokens to read, those found in the cache left out. */
  onProgress?: (done: number, total: number) => void;
}

/** Tokens that are generated unless told. */
export const DEFAULT_MAX_TOKENS = 256;

export interface GenerateOptions extends SamplingOptions, PrefillOptions {
  /** Most tokens to generate; the context's end may come first. Default 256. */
  maxTokens?: number;
  /** Tokens that end the text; they are not part of it. */
  stopTokens?: ReadonlySet<number>;
  /** How many of the likeliest tokens to report with each one; absent: no log-probabilities. */
  logprobs?: number;
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
  /**
   * Tokens whose keys a finished submission wrote; only these are built upon. The cache may be ahead of them, by what is
   * being read or what a failed submission left.
   */
  readonly #cached: number[] = [];
  readonly #turns = new Turns();
  #disposal?: Promise<void>;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    if (parts.backend.draw) this.#drawn = parts.backend.alloc('F32', 1, 1);
  }

  /** Tokens that prompt and answer may have together. */
  get context(): number {
    return this.#parts.cache.capacity;
  }

  /**
   * Reads `prompt`, then yields one token at a time until a stop token, `maxTokens` or the end of the context. It waits
   * for texts that were begun before.
   *
   * @throws UnsupportedError when `prompt` is empty, does not fit the context, or has a token the model does not know;
   *   when what the model computes is not finite; when the engine is disposed.
   */
  async *generate(prompt: readonly number[], options: GenerateOptions = {}): AsyncGenerator<GeneratedToken> {
    this.#check(prompt);
    const sampler = makeSampler(options);
    yield* this.#inTurn(options.signal, (turn) => this.#generate(turn, prompt, options, sampler));
  }

  /**
   * Negative log-likelihood of every token but the first given those before it, in nats; one array a block, in order.
   *
   * @throws UnsupportedError as `generate`.
   */
  async *score(tokens: readonly number[], options: PrefillOptions = {}): AsyncGenerator<Float64Array> {
    this.#check(tokens);
    yield* this.#inTurn(options.signal, (turn) => this.#score(turn, tokens, options));
  }

  /** Ends all calls, which reject, and frees the backend and with it everything. */
  dispose(): Promise<void> {
    this.#turns.close(new UnsupportedError('the model was disposed; load it again'));
    this.#disposal ??= this.#parts.backend.dispose();
    return this.#disposal;
  }

  // --- internal ---

  #check(tokens: readonly number[]): void {
    if (tokens.length === 0) throw new UnsupportedError('the prompt is empty; give at least one token');
    const { vocabSize } = this.#parts;
    // By its place: a stranger may be undefined itself, or a gap in the list.
    const at = tokens.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
    if (at >= 0) {
      throw new UnsupportedError(`token ${shown(tokens[at])} is not in the vocabulary; wanted 0 to ${vocabSize - 1}`);
    }
    if (tokens.length > this.context) {
      throw new UnsupportedError(
        `the prompt has ${tokens.length} tokens, but the context holds ${this.context}; load the model with a larger context or shorten the prompt`,
      );
    }
  }

  async *#inTurn<T>(signal: AbortSignal | undefined, work: (turn: Turn) => AsyncGenerator<T>): AsyncGenerator<T> {
    const turn = new Turn(this.#turns, signal);
    try {
      yield* work(turn);
    } catch (error) {
      // A GPU tells of numbers that are not finite some submissions late: nothing that is cached is sure any more.
      if (!turn.isStopped) this.#cached.length = 0;
      throw error;
    } finally {
      turn.leave();
    }
  }

  async *#generate(
    turn: Turn,
    prompt: readonly number[],
    options: GenerateOptions,
    sampler: Sampler,
  ): AsyncGenerator<GeneratedToken> {
    const { maxTokens = DEFAULT_MAX_TOKENS, stopTokens } = options;
    const { transformer, cache } = this.#parts;
    const text = [...prompt];
    const { pick, drawn } = this.#picker(options, sampler, text);
    const readOn = (token: readonly number[] | Tensor): Promise<GeneratedToken> => {
      transformer.forward(token, cache);
      const picked = pick(0);
      picked.catch(() => {}); // of no interest unless the text gets there
      return picked;
    };
    let next: Promise<GeneratedToken> | undefined;
    let isOurs = false; // the cache holds the text, but perhaps its last token
    for (let n = 1; n <= maxTokens; n++) {
      isOurs = (await turn.hold()) && isOurs;
      if (!next && isOurs) next = readOn(text.slice(-1));
      else if (!next) {
        next = Promise.resolve(await this.#prefill(turn, text, pick, n === 1 ? options.onProgress : undefined));
        isOurs = true;
      }
      const isLast = n === maxTokens || text.length === this.context;
      const current = next;
      next = drawn && isOurs && !isLast ? readOn(drawn) : undefined;
      const generated = await turn.run(current);
      if (isOurs) this.#keep(text);
      if (stopTokens?.has(generated.token)) return;
      text.push(generated.token);
      turn.rest();
      yield generated;
      if (isLast) return;
    }
  }

  /** Reads `tokens` but for what the cache holds of them, and picks the one behind the last. */
  async #prefill(
    turn: Turn,
    tokens: readonly number[],
    pick: Picker['pick'],
    onProgress: PrefillOptions['onProgress'],
  ): Promise<GeneratedToken> {
    const { blockLen } = this.#parts;
    const kept = Math.min(this.#common(tokens), tokens.length - 1); // the last token gives the logits
    const unread = tokens.length - kept;
    const lastBlock = kept + Math.floor((unread - 1) / blockLen) * blockLen;
    await this.#read(turn, tokens, kept, lastBlock, (at) => onProgress?.(at - kept, unread));
    onProgress?.(lastBlock - kept, unread);
    turn.check();
    this.#forward(tokens.slice(lastBlock));
    const first = await turn.run(pick(tokens.length - lastBlock - 1));
    this.#keep(tokens);
    onProgress?.(unread, unread);
    return first;
  }

  async *#score(turn: Turn, tokens: readonly number[], { onProgress }: PrefillOptions): AsyncGenerator<Float64Array> {
    const { blockLen } = this.#parts;
    for (let at = 0; at < tokens.length; at += blockLen) {
      const isOurs = await turn.hold();
      if (!isOurs) await this.#read(turn, tokens, at === 0 ? 0 : Math.min(this.#common(tokens), at), at);
      onProgress?.(at, tokens.length);
      turn.check();
      const end = Math.min(at + blockLen, tokens.length);
      this.#forward(tokens.slice(at, end));
      const losses = await turn.run(this.#losses(tokens.slice(at + 1, end + 1)));
      this.#keep(tokens, end);
      turn.rest();
      yield losses;
    }
    onProgress?.(tokens.length, tokens.length);
  }

  /** Forgets what the cache holds from `from` on, and reads `tokens` from there to `end`. */
  async #read(
    turn: Turn,
    tokens: readonly number[],
    from: number,
    end: number,
    onBlock?: (at: number) => void,
  ): Promise<void> {
    const { backend, blockLen, cache } = this.#parts;
    this.#cached.length = from;
    cache.length = from;
    for (let at = from; at < end; at = cache.length) {
      onBlock?.(at);
      turn.check();
      this.#forward(tokens.slice(at, Math.min(at + blockLen, end)));
      await turn.run(backend.submit());
      this.#keep(tokens, cache.length);
    }
  }

  /** How many of `tokens` the cache holds from their beginning. */
  #common(tokens: readonly number[]): number {
    const most = Math.min(tokens.length, this.#cached.length);
    let n = 0;
    while (n < most && tokens[n] === this.#cached[n]) n++;
    return n;
  }

  /** A finished submission has read `text` as far as `end`. */
  #keep(text: readonly number[], end = text.length): void {
    for (let at = this.#cached.length; at < end; at++) this.#cached.push(text[at]);
  }

  /** The backend draws where it can: nothing waits for logits to come here then. `text` grows with what is picked. */
  #picker({ logprobs }: GenerateOptions, { sample, choose }: Sampler, text: readonly number[]): Picker {
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
        const token = sample(logits, text);
        return { token, ...(modelLogits && logprobsOf(modelLogits, token, logprobs)) };
      },
    };
  }

  /** `-ln p(target)` of each row of the last block. */
  async #losses(targets: readonly number[]): Promise<Float64Array> {
    const { maxLogitRows, backend } = this.#parts;
    if (targets.length === 0) await backend.submit(); // no logits to go with
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

  /** Records the reading of a block; it runs with what is asked of the backend next. */
  #forward(block: readonly number[]): void {
    this.#parts.transformer.forward(block, this.#parts.cache);
  }

  #logits(row: number, nRows: number): Promise<Float32Array | Float64Array> {
    return this.#parts.backend.read(this.#parts.transformer.logits(row, nRows));
  }
}
