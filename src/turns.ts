/**
 * Who may use the engine's one cache. Texts take turns, first come, first served. A text whose reader asks for nothing
 * while others wait loses its turn after a while, so that one left lying stops nobody.
 */

/** Milliseconds that a text may rest while others wait. */
const PATIENCE = 1000;

/** All texts of one cache. */
export class Turns {
  readonly waiting: Turn[] = [];
  /** Whose turn it is. */
  holder?: Turn;
  /** Why there are no more turns. */
  closed?: Error;
  #timer?: ReturnType<typeof setTimeout>;

  /** Stops all texts, those to come as well: what they wait for rejects with `reason`. */
  close(reason: Error): void {
    this.closed = reason;
    for (const turn of [...this.waiting, this.holder]) turn?.stop();
  }

  /** Gives the cache to the next text, or sees to it that a holder who rests does not keep it for ever. */
  advance(): void {
    clearTimeout(this.#timer);
    if (this.waiting.length === 0) return;
    const { holder } = this;
    if (!holder) {
      this.holder = this.waiting.shift();
      this.holder?.begin();
    } else if (holder.restsSince !== undefined) {
      this.#timer = setTimeout(() => holder.leave(), PATIENCE - (performance.now() - holder.restsSince));
    }
  }
}

/** One text's place among them. */
export class Turn {
  /** In milliseconds; absent while the text does not rest. */
  restsSince?: number;
  /** Begins the turn that is waited for. */
  begin: () => void = () => {};
  readonly #turns: Turns;
  readonly #signal?: AbortSignal;
  /** Rejects what the text waits for, its turn or work. */
  #reject: (reason: unknown) => void = () => {};
  /** Work that still runs, perhaps after the text was stopped. */
  #work?: Promise<unknown>;

  /** @param signal Stops the text. */
  constructor(turns: Turns, signal?: AbortSignal) {
    this.#turns = turns;
    this.#signal = signal;
  }

  /** Whether the text was aborted, or all were. */
  get isStopped(): boolean {
    return this.#reason !== undefined;
  }

  /** Waits until the cache is this text's. True where it has stayed so since `rest`; else others may have used it. */
  async hold(): Promise<boolean> {
    this.check();
    const turns = this.#turns;
    this.restsSince = undefined;
    if (this.#isHeld) {
      turns.advance(); // it no longer rests
      return true;
    }
    this.#signal?.addEventListener('abort', this.stop);
    await new Promise<void>((resolve, reject) => {
      this.begin = resolve;
      this.#reject = reject;
      turns.waiting.push(this);
      turns.advance();
    });
    return false;
  }

  /** Settles as `work` does, or rejects as soon as the text is stopped; nobody gets the cache before `work` is done. */
  run<T>(work: Promise<T>): Promise<T> {
    const done = () => {
      this.#work = undefined;
    };
    this.#work = work.then(done, done);
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      work.then(resolve, reject);
      if (this.#reason !== undefined) reject(this.#reason);
    });
  }

  /** Throws where the text was stopped. */
  check(): void {
    if (this.#reason !== undefined) throw this.#reason;
  }

  /** The reader has what it asked for: the cache is not used before the next `hold`. */
  rest(): void {
    this.restsSince = performance.now();
    this.#turns.advance();
  }

  /** The text needs the cache no more, or has lost it. */
  leave(): void {
    const turns = this.#turns;
    this.#signal?.removeEventListener('abort', this.stop);
    const at = turns.waiting.indexOf(this);
    if (at >= 0) turns.waiting.splice(at, 1);
    const free = () => {
      if (this.#isHeld) turns.holder = undefined;
      turns.advance();
    };
    if (this.#work) void this.#work.then(free);
    else free();
  }

  /** Ends what the text waits for. Where it waits for nothing, it loses its turn at once. */
  readonly stop = (): void => {
    this.#reject(this.#reason);
    if (!this.#isHeld || this.restsSince !== undefined) this.leave();
  };

  get #isHeld(): boolean {
    return this.#turns.holder === this;
  }

  get #reason(): unknown {
    return this.#turns.closed ?? (this.#signal?.aborted ? this.#signal.reason : undefined);
  }
}
