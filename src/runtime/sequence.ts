/**
 * A text that is being read or written: its tokens, its pages of the cache, and what its reader has not fetched yet. What it
 * gives, `T`, is a token at a time or the losses of a block.
 */
import type { Path } from './pages.ts';

export class Sequence<T> {
  /** All that is known of the text. */
  readonly tokens: number[];
  /** Its pages, while it has a place in the cache. */
  path?: Path;
  /** It is read in forwards of its own, since one that it shared with others has failed. */
  isAlone = false;
  /** Tokens that were found in the cache when the text was begun. */
  found?: number;
  /** When its reader last had all that was made for it, in milliseconds; absent while the text is asked for more. */
  restsSince?: number = performance.now();
  readonly #made: T[] = [];
  /** Tokens that were reported as read. */
  #reported = -1;
  #end?: { readonly error?: unknown };
  #reader?: { resolve(item: T | undefined): void; reject(error: unknown): void };
  readonly #promptLen: number;
  readonly #onProgress?: (done: number, total: number) => void;
  readonly #onAsk: () => void;

  /**
   * @param onProgress Is told before the first block of the prompt and after each: tokens read of tokens to read.
   * @param onAsk Is called when the reader waits for more than there is.
   */
  constructor(
    tokens: readonly number[],
    onProgress: ((done: number, total: number) => void) | undefined,
    onAsk: () => void,
  ) {
    this.tokens = [...tokens];
    this.#promptLen = tokens.length;
    this.#onProgress = onProgress;
    this.#onAsk = onAsk;
  }

  /** Tells how much of the prompt was read, as far as it is read for the first time; ends the text where that throws. */
  report(length: number): void {
    if (this.isEnded || this.#reported >= this.#promptLen || length <= this.#reported) return;
    this.#reported = length;
    try {
      this.#onProgress?.(length - (this.found ?? 0), this.#promptLen - (this.found ?? 0));
    } catch (error) {
      this.fail(error);
    }
  }

  /** Whether the reader waits. */
  get isAsked(): boolean {
    return this.#reader !== undefined;
  }

  /** Whether there is nothing that the reader has not fetched. */
  get isFetched(): boolean {
    return this.#made.length === 0;
  }

  get isEnded(): boolean {
    return this.#end !== undefined;
  }

  /** The next of what the text gives; undefined at its end. @throws what ended it otherwise. */
  next(): Promise<T | undefined> {
    const item = this.#made.shift();
    this.restsSince = performance.now();
    if (item !== undefined) return Promise.resolve(item);
    if (this.#end) return 'error' in this.#end ? Promise.reject(this.#end.error) : Promise.resolve(undefined);
    this.restsSince = undefined;
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
      this.#onAsk();
    });
  }

  /** Hands an item to the reader, or keeps it until it is asked for. */
  give(item: T): void {
    if (this.isEnded) return;
    this.restsSince ??= performance.now();
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader) reader.resolve(item);
    else this.#made.push(item);
  }

  /** The text is complete. */
  finish(): void {
    if (this.isEnded) return;
    this.#end = {};
    this.#reader?.resolve(undefined);
    this.#reader = undefined;
  }

  /** Nothing more comes, not even what was not fetched: the reader gets the error. */
  fail(error: unknown): void {
    if (this.#end && 'error' in this.#end) return;
    this.#made.length = 0;
    this.#end = { error };
    this.#reader?.reject(error);
    this.#reader = undefined;
  }
}
