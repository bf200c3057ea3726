/** A text that a model has read: its tokens and, for as long as nothing else needs the room, its pages in the cache. */
import { UnsupportedError } from '../errors.ts';
import { pagesFor } from '../kvCache.ts';
import type { Engine } from '../runtime/engine.ts';
import type { PrefillOptions } from '../runtime/texts.ts';
import { streamOf } from '../streams.ts';
import { type SessionHead, sessionBytes } from './file.ts';

export interface SessionParts {
  readonly engine: Pick<Engine, 'pages'>;
  readonly tokens: readonly number[];
  readonly head: Omit<SessionHead, 'nTokens' | 'pageBytes'>;
  /** Puts bytes in place of a file, where there is a file system. */
  readonly replaceFile?: (path: string, pieces: AsyncIterable<Uint8Array>) => Promise<void>;
}

export interface SaveOptions {
  signal?: AbortSignal;
  /** Called with pages written of pages to write. */
  onProgress?: (done: number, total: number) => void;
}

export class Session {
  /**
   * The text, as the model reads it. A prompt that begins with these tokens reads on from there, such as
   * `model.generate([...session.tokens, ...ids])`, or messages that are rendered so.
   */
  readonly tokens: readonly number[];
  /** What was given when the text was read. */
  readonly about: unknown;
  readonly #parts: SessionParts;

  constructor(parts: SessionParts) {
    this.tokens = parts.tokens;
    this.about = parts.head.about;
    this.#parts = parts;
  }

  /**
   * The session's bytes, from which `loadSession` makes it again, in another process too. Pages that the cache has lost in the
   * meantime are read again first. They are taken as they are asked for, so that little of them is in memory twice.
   *
   * @throws UnsupportedError when the model is disposed or a number is not finite, through the stream.
   */
  stream({ signal, onProgress }: SaveOptions = {}): ReadableStream<Uint8Array> {
    return streamOf(this.#pieces({ signal }, onProgress));
  }

  /**
   * Writes the session to a file. It is there whole or, whatever happens, as it was before.
   * @throws UnsupportedError when it cannot be written, as where the disk is full, where there is no file system, and as `stream`.
   */
  async save(path: string, { signal, onProgress }: SaveOptions = {}): Promise<void> {
    const { replaceFile } = this.#parts;
    if (!replaceFile) {
      throw new UnsupportedError(
        'there is no file system here; pipe session.stream() to where the session is to be kept',
      );
    }
    await replaceFile(path, this.#pieces({ signal }, onProgress));
  }

  async *#pieces(options: PrefillOptions, onProgress?: SaveOptions['onProgress']) {
    const { engine, tokens, head } = this.#parts;
    const pages = engine.pages(tokens, 0, options);
    try {
      const first = await pages.next();
      if (first.done) throw new UnsupportedError('the session has no tokens; read a text first');
      const nPages = pagesFor(tokens.length);
      onProgress?.(0, nPages);
      async function* all() {
        yield first.value as Uint8Array;
        let done = 1;
        onProgress?.(done, nPages);
        for await (const page of pages) {
          yield page;
          onProgress?.(++done, nPages);
        }
      }
      yield* sessionBytes({ ...head, nTokens: tokens.length, pageBytes: first.value.length }, tokens, all());
    } finally {
      await pages.return(undefined);
    }
  }
}
