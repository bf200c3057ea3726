/**
 * Texts whose pages leave the cache or come into it: one is read and its pages are given, one after the other; of the other
 * the pages were read before, perhaps by another process.
 */
import { Sequence } from './sequence.ts';

export interface LeavingOptions {
  isCachedOnly?: boolean;
  onProgress?: (done: number, total: number) => void;
}

/** A text that is read, and whose pages are then given as they lie in the cache. */
export class Leaving extends Sequence<Uint8Array> {
  readonly ahead = 0;
  /** Pages that were given, or that nobody wants. */
  nGiven: number;
  /** Nothing is read: where the cache has no more of it, it ends, before a page that is not full. */
  readonly isCachedOnly: boolean;

  /** @param firstPage The first one that is wanted. */
  constructor(tokens: readonly number[], firstPage: number, options: LeavingOptions, onAsk: () => void) {
    super(tokens, options.onProgress, onAsk);
    this.nGiven = firstPage;
    this.isCachedOnly = options.isCachedOnly ?? false;
  }

  get target(): number {
    return this.tokens.length;
  }

  /** All of it may be found in the cache, as no logits are wanted. */
  get reusable(): number {
    return this.tokens.length;
  }

  readonly gives = (): 'nothing' => 'nothing';
}

/** A text whose pages are brought one after the other: it gives the number of the one that the cache lacks. */
export class Arriving extends Sequence<number> {
  readonly ahead = 0;
  /** The page that was brought for the last number given. */
  brought?: { readonly nth: number; readonly bytes: Uint8Array };

  constructor(tokens: readonly number[], onAsk: () => void) {
    super(tokens, undefined, onAsk);
  }

  /** Nothing of it is read. */
  get target(): number {
    return this.path?.length ?? 0;
  }

  get reusable(): number {
    return this.tokens.length;
  }

  readonly gives = (): 'nothing' => 'nothing';
}
