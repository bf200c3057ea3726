/**
 * Token ids in, token ids out. Texts share a cache and its forwards: a step reads a row of every text that is being written
 * and blocks of prompts (`scheduler.ts`), and hands out what comes of that. What texts have in common at their beginnings is
 * read once (`pages.ts`). The engine knows nothing of words.
 */
import type { Tensor } from '../backends/backend.ts';
import { shown, UnsupportedError } from '../errors.ts';
import { pagesFor } from '../kvCache.ts';
import { PAGE_LEN } from '../kvTypes.ts';
import { Arriving, Leaving, type LeavingOptions } from './moving.ts';
import { PageTree, type Path } from './pages.ts';
import { owedAfter, schedule } from './scheduler.ts';
import { type EngineParts, type Entry, isDrawn, type Result, runStep, type Text } from './step.ts';
import { type GeneratedToken, type GenerateOptions, type PrefillOptions, Scoring, Writing } from './texts.ts';

/** Milliseconds that a text may keep its place while its reader asks for nothing and others wait. */
const PATIENCE = 1000;

/** A forward that was recorded, and what its entries get from it, in their order. */
interface Step {
  readonly entries: readonly Entry[];
  readonly results: Promise<readonly Result[]>;
}

export class Engine {
  readonly #parts: EngineParts;
  readonly #tree: PageTree;
  /** Where a backend that can draws tokens, F32 `[sequences, 1]`. */
  readonly #drawn?: Tensor;
  /** Texts without a place in the cache that want one, in the order in which they came. */
  readonly #waiting: Text[] = [];
  /** Texts with a place, the one that was served longest ago first. */
  readonly #seated: Text[] = [];
  /** A step that was recorded before the tokens it reads were known here. */
  #ahead?: Step;
  #isRunning = false;
  /** Milliseconds for which texts that are being written go on alone, as prompts were read beside them. */
  #owed = 0;
  #timer?: ReturnType<typeof setTimeout>;
  #closed?: Error;
  #disposal?: Promise<void>;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.#tree = new PageTree(parts.cache.nPages);
    if (parts.backend.draw) this.#drawn = parts.backend.alloc('F32', parts.sequences, 1);
  }

  /** Tokens that prompt and answer may have together. */
  get context(): number {
    return this.#parts.context;
  }

  /**
   * Reads `prompt`, then yields one token at a time until a stop token, `maxTokens` or the end of the context. Texts that
   * are generated at once are read together, as many as there is room for; others wait for their turn.
   *
   * @throws UnsupportedError when `prompt` is empty, does not fit the context, or has a token the model does not know;
   *   when what the model computes is not finite; when the engine is disposed.
   */
  async *generate(prompt: readonly number[], options: GenerateOptions = {}): AsyncGenerator<GeneratedToken> {
    this.#check(prompt);
    if (options.maxTokens === 0) return;
    const text = new Writing(prompt, options, this.context, () => this.#run());
    yield* this.#read(text, () => text.next(), options.signal);
  }

  /**
   * Negative log-likelihood of every token but the first given those before it, in nats; one array a block, in order.
   *
   * @throws UnsupportedError as `generate`.
   */
  async *score(tokens: readonly number[], options: PrefillOptions = {}): AsyncGenerator<Float64Array> {
    this.#check(tokens);
    const text = new Scoring(tokens, options.onProgress, () => this.#run());
    yield* this.#read(text, () => text.next(), options.signal);
  }

  /**
   * Reads a text as far as the cache has not got it, then gives its pages from `firstPage` on, as the backend has them; the last
   * one may be full in part. With `isCachedOnly` nothing is read, and only full pages are given that the cache has.
   *
   * @throws UnsupportedError as `generate`.
   */
  async *pages(
    tokens: readonly number[],
    firstPage: number,
    options: PrefillOptions & LeavingOptions = {},
  ): AsyncGenerator<Uint8Array> {
    this.#check(tokens);
    const text = new Leaving(tokens, firstPage, options, () => this.#run());
    yield* this.#read(text, () => text.next(), options.signal);
  }

  /**
   * Puts a text into the cache whose pages `pages` gave, in this engine or in one whose model, method and layout of pages are the
   * same.
   *
   * @param pageAt Gives the bytes of a page; asked only for those that the cache has not got.
   * @throws UnsupportedError as `generate`; what `pageAt` throws.
   */
  async adopt(
    tokens: readonly number[],
    pageAt: (nth: number) => Promise<Uint8Array>,
    { signal, onProgress }: PrefillOptions = {},
  ): Promise<void> {
    this.#check(tokens);
    const text = new Arriving(tokens, () => this.#run());
    for await (const nth of this.#read(text, () => text.next(), signal)) {
      onProgress?.(PAGE_LEN * nth, tokens.length);
      text.brought = { nth, bytes: await pageAt(nth) };
    }
    onProgress?.(tokens.length, tokens.length);
  }

  /** Ends all calls, which reject, and frees the backend and with it everything. */
  dispose(): Promise<void> {
    this.#closed ??= new UnsupportedError('the model was disposed; load it again');
    for (const text of [...this.#waiting, ...this.#seated]) text.fail(this.#closed);
    clearTimeout(this.#timer);
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

  /** What a text gives, to its reader. It has a place from when it is first asked until its end. */
  async *#read<T>(text: Text, next: () => Promise<T | undefined>, signal?: AbortSignal): AsyncGenerator<T> {
    if (this.#closed) throw this.#closed;
    signal?.throwIfAborted();
    const stop = () => {
      text.fail(signal?.reason);
      this.#run();
    };
    signal?.addEventListener('abort', stop);
    try {
      for (;;) {
        const isSeated = this.#seated.includes(text);
        if (!isSeated && !text.isEnded && !this.#waiting.includes(text)) this.#waiting.push(text);
        const item = await next();
        if (item === undefined) return;
        yield item;
      }
    } finally {
      signal?.removeEventListener('abort', stop);
      text.finish();
      this.#run();
    }
  }

  /** Runs steps for as long as a reader waits for what they give. */
  #run(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    void (async () => {
      // Readers that were given something ask for more before the next step is chosen.
      await undefined;
      while (await this.#step());
    })();
  }

  /** One step; false where there is nothing to do, which is said at once, lest a reader asks in between. It never throws: texts do. */
  async #step(): Promise<boolean> {
    this.#seat();
    const wanted = this.#seated.filter((text) => this.#isWanted(text));
    if (wanted.length === 0) {
      this.#isRunning = false;
      return false;
    }
    const startedAt = performance.now();
    const asked: Text[] = [];
    for (const text of wanted) if (!(await this.#movePage(text))) asked.push(text);
    const step = this.#ahead ?? this.#begin(asked);
    this.#ahead = undefined;
    if (!step) return true;
    this.#ahead = this.#goOn(step, asked);
    try {
      const results = await step.results;
      step.entries.forEach((entry, nth) => {
        this.#finish(entry, results[nth]);
      });
    } catch (error) {
      this.#failed(step, error);
    }
    const milliseconds = performance.now() - startedAt;
    const isOfLongPrompt = step.entries.some(({ slice, gives }) => slice.nRows > 1 && gives !== 'token');
    const isBoth = isOfLongPrompt && step.entries.some(({ slice }) => slice.nRows === 1);
    // Time that short prompts take counts too: however many come, a long one has its turn.
    this.#owed = isBoth ? owedAfter(milliseconds) : this.#owed - milliseconds;
    return true;
  }

  /** Whether a text is to be read on: its reader waits, or will ask soon while others are read anyway. */
  #isWanted(text: Text): boolean {
    if (text.isEnded) return false;
    return text.isAsked || (text.ahead > 0 && text.isFetched && this.#seated.length > 1);
  }

  /** Gives places to texts that wait, those of texts that have ended, or that rest while others wait. */
  #seat(): void {
    clearTimeout(this.#timer);
    const { sequences } = this.#parts;
    for (const text of [...this.#seated]) if (text.isEnded) this.#unseat(text);
    for (let at = this.#waiting.length - 1; at >= 0; at--) if (this.#waiting[at].isEnded) this.#waiting.splice(at, 1);
    while (this.#waiting.length > 0) {
      if (this.#seated.length >= sequences) {
        const rests = ({ isAsked, restsSince = Infinity }: Text) => (isAsked ? Infinity : restsSince);
        const idlest = this.#seated.reduce((a, b) => (rests(b) < rests(a) ? b : a));
        const left = PATIENCE - (performance.now() - rests(idlest));
        if (left > 0) {
          if (left <= PATIENCE) this.#timer = setTimeout(() => this.#run(), left);
          return;
        }
        this.#unseat(idlest);
      }
      const text = this.#waiting.shift() as Text;
      text.path = this.#tree.begin();
      this.#seated.push(text);
    }
  }

  #unseat(text: Text): void {
    this.#seated.splice(this.#seated.indexOf(text), 1);
    if (text.path) this.#tree.release(text.path);
    text.path = undefined;
  }

  /** Gives a page of a text that is read, or takes one that was brought; false where the text is to be read on. */
  async #movePage(text: Text): Promise<boolean> {
    if (!(text instanceof Leaving || text instanceof Arriving)) return false;
    const { backend, cache } = this.#parts;
    const path = this.#adopt(text);
    const { length } = text.tokens;
    try {
      if (text instanceof Arriving) {
        const nth = Math.floor(path.length / PAGE_LEN);
        if (text.brought?.nth === nth && path.length < length) {
          const end = Math.min(length, PAGE_LEN * (nth + 1));
          this.#tree.reserve(path, end);
          await backend.writePage(cache.layers, path.nodes[nth].page, text.brought.bytes);
          this.#tree.commit(path, text.tokens, end);
        }
        text.brought = undefined;
        if (path.length < length) text.give(Math.floor(path.length / PAGE_LEN));
        else text.finish();
        return true;
      }
      if (path.length < length && !text.isCachedOnly) return false;
      const nPages = text.isCachedOnly ? Math.floor(path.length / PAGE_LEN) : path.nodes.length;
      if (text.nGiven >= nPages) text.finish();
      else {
        const nth = text.nGiven++;
        const nTokens = Math.min(PAGE_LEN, path.length - PAGE_LEN * nth);
        text.give(await backend.readPage(cache.layers, path.nodes[nth].page, nTokens));
      }
    } catch (error) {
      text.fail(error);
    }
    return true;
  }

  /** The text's path, as far as the cache has what it can use of it. */
  #adopt(text: Text): Path {
    const path = text.path as Path;
    this.#tree.adopt(path, text.tokens, text.reusable);
    text.found ??= path.length;
    text.report(path.length);
    return path;
  }

  /** Records what the scheduler chooses for those who ask. */
  #begin(asked: readonly Text[]): Step | undefined {
    for (const text of asked) this.#adopt(text);
    const waiting = asked.filter(({ isEnded }) => !isEnded);
    const unread = ({ target, path }: Text) => target - (path as Path).length;
    const shares = schedule(
      waiting.map((text) => ({ unread: unread(text), isAlone: text.isAlone })),
      this.#parts.blockLen,
      this.#owed > 0,
    );
    let row = 0;
    const entries = shares.map(({ nth, nRows }): Entry => {
      const entry = this.#entry(waiting[nth], row, (waiting[nth].path as Path).length, nRows);
      row += nRows;
      return entry;
    });
    if (entries.length === 0) return undefined;
    const ids = entries.flatMap(({ text, slice, end }) => text.tokens.slice(slice.start, end));
    return this.#record(entries, ids);
  }

  #entry(text: Text, row: number, start: number, nRows: number): Entry {
    const path = text.path as Path;
    const end = start + nRows;
    this.#tree.reserve(path, end);
    const pages = path.nodes.slice(0, pagesFor(end)).map(({ page }) => page);
    return { text, path, slice: { row, nRows, start, pages }, end, gives: text.gives(start, end) };
  }

  /** The step behind one that is not known yet: where all its tokens are drawn by the backend, and none may be the last. */
  #goOn({ entries }: Step, asked: readonly Text[]): Step | undefined {
    const goesOn = ({ text, gives, end }: Entry) =>
      gives === 'token' && isDrawn(text) && !text.isAlone && !text.isLast(end) && asked.includes(text);
    const isAll = entries.length === asked.length && this.#waiting.length === 0;
    if (!this.#drawn || !isAll || !entries.every(goesOn)) return undefined;
    const next = entries.map(({ text, end }, row) => this.#entry(text, row, end, 1));
    return this.#record(next, this.#parts.backend.view(this.#drawn, entries.length, 1));
  }

  /** Records a forward of the entries' rows, and what they are for. */
  #record(entries: readonly Entry[], tokens: readonly number[] | Tensor): Step {
    const results = runStep(this.#parts, this.#drawn, entries, tokens);
    results.catch(() => {}); // of no interest unless the step counts
    return { entries, results };
  }

  /** A submission is done: only now what it wrote counts as cached. */
  #finish({ text, path, end }: Entry, result: Result): void {
    if (text.path !== path) return; // it has lost its place, and its pages may be others' by now
    this.#tree.commit(path, text.tokens, end);
    if (text.isEnded) return;
    text.report(end);
    if (text instanceof Writing && result && 'token' in result) text.accept(result);
    if (text instanceof Scoring && result instanceof Float64Array) text.accept(result);
    if (result) text.isAlone = false;
    // Who was served goes to the end, for the sake of fairness.
    this.#seated.push(...this.#seated.splice(this.#seated.indexOf(text), 1));
  }

  /**
   * Nothing that is cached is sure any more: a GPU tells of numbers that are not finite some submissions late. A text that
   * was read alone has failed; of several it is not known which one has, and each is tried again alone.
   */
  #failed({ entries }: Step, error: unknown): void {
    this.#ahead = undefined;
    for (const text of this.#seated) text.path = this.#tree.begin();
    this.#tree.reset();
    for (const { text } of entries) {
      if (entries.length === 1) text.fail(error);
      else text.isAlone = true;
    }
  }
}
