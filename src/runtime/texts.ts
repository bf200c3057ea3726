/** The two things that texts are read for: to write on, and to tell how well the model foresees them. */
import type { Choice } from '../kernels/draw.ts';
import { type LogProb, logprobsOf, logSumExp, makeSampler, type Sampler, type SamplingOptions } from '../sampler.ts';
import { Sequence } from './sequence.ts';

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
  /** It is of this text alone; the tokens in `stopTokens` are its own to allow. */
  constraint?: Constraint;
}

export type Logits = Float32Array | Float64Array;

/** What the tokens of one text must keep to. */
export interface Constraint {
  /** Sets the logits of tokens that may not come next to minus infinity. @throws UnsupportedError when none may. */
  mask(logits: Logits): void;
  /** Takes the next token, which the mask allowed and which does not end the text. */
  accept(token: number): void;
  /** Whether the text is complete, so that nothing may follow. */
  readonly isComplete: boolean;
}

export interface GeneratedToken {
  token: number;
  logprob?: number;
  topLogprobs?: LogProb[];
}

/** A text that is written on, token by token. */
export class Writing extends Sequence<GeneratedToken> {
  /** Tokens that it makes before its reader asks, while other texts are written beside it. */
  readonly ahead = 1;
  readonly #options: GenerateOptions;
  readonly #sampler: Sampler;
  readonly #context: number;
  readonly #promptLen: number;
  /** How tokens are drawn that are not known yet, by their place in the text: they stay the same when it is read again. */
  readonly #choices = new Map<number, Choice>();

  constructor(prompt: readonly number[], options: GenerateOptions, context: number, onAsk: () => void) {
    super(prompt, options.onProgress, onAsk);
    this.#options = options;
    this.#sampler = makeSampler(options, prompt.length);
    this.#context = context;
    this.#promptLen = prompt.length;
  }

  /** Where reading is to get to next: to the last token, which gives the next one. */
  get target(): number {
    return this.tokens.length;
  }

  /** Tokens of it that may be found in the cache: the last one gives the logits. */
  get reusable(): number {
    return this.tokens.length - 1;
  }

  /** What comes of reading tokens `start..end`. */
  gives(_start: number, end: number): 'token' | 'nothing' {
    return end >= this.target ? 'token' : 'nothing';
  }

  /** Whether the backend may draw its tokens. */
  get isDrawn(): boolean {
    const { logprobs, constraint } = this.#options;
    return this.#sampler.isForBackends && logprobs === undefined && !constraint;
  }

  /** Whether the token at a place is the last that it gives. */
  isLast(place: number): boolean {
    const { maxTokens = DEFAULT_MAX_TOKENS } = this.#options;
    return place - this.#promptLen + 1 >= maxTokens || place >= this.#context;
  }

  choiceAt(place: number): Choice {
    const choice = this.#choices.get(place) ?? this.#sampler.choose();
    this.#choices.set(place, choice);
    return choice;
  }

  /** The next token, from its logits, which it may change. */
  sample(logits: Logits): GeneratedToken {
    const { logprobs, constraint } = this.#options;
    const modelLogits = logprobs === undefined ? undefined : logits.slice();
    constraint?.mask(logits);
    const token = this.#sampler.sample(logits, this.tokens, this.choiceAt(this.tokens.length));
    return { token, ...(modelLogits && logprobsOf(modelLogits, token, logprobs)) };
  }

  /** Takes the next token of the text. */
  accept(generated: GeneratedToken): void {
    const place = this.tokens.length;
    this.#choices.delete(place);
    const isStop = this.#options.stopTokens?.has(generated.token) ?? false;
    if (!isStop) {
      this.tokens.push(generated.token);
      this.#options.constraint?.accept(generated.token);
      this.give(generated);
    }
    if (isStop || this.#options.constraint?.isComplete || this.isLast(place)) this.finish();
  }
}

/** A text of which each token is compared with what the model expected; its losses are given a block at a time. */
export class Scoring extends Sequence<Float64Array> {
  readonly ahead = 0;
  /** Tokens that losses were given for. Where the cache has fewer, they are read again first. */
  #scored = 0;

  get target(): number {
    return (this.path?.length ?? 0) < this.#scored ? this.#scored : this.tokens.length;
  }

  /** All are read but those that were scored: each gives logits. */
  get reusable(): number {
    return this.#scored;
  }

  /** As of a text that is written. */
  gives(start: number): 'losses' | 'nothing' {
    return start < this.#scored ? 'nothing' : 'losses';
  }

  /** The tokens that rows of a block from `start` on foresee; none where they only are read again. */
  targets(start: number, nRows: number): number[] | undefined {
    return start < this.#scored ? undefined : this.tokens.slice(start + 1, start + nRows + 1);
  }

  accept(losses: Float64Array): void {
    this.#scored = this.path?.length ?? 0;
    this.give(losses);
    if (this.#scored === this.tokens.length) this.finish();
  }
}

/** `-ln p(target)` of a row of logits. */
export const lossOf = (logits: Logits, target: number): number => logSumExp(logits) - logits[target];
