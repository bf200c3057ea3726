/**
 * Pages that outlive the cache: full ones are kept in a store under a name that follows from all tokens up to their end, and
 * found again by the next text that begins so, in another process too.
 */
import { hexOf } from '../bytes.ts';
import { PAGE_LEN } from '../kvTypes.ts';
import type { Engine } from '../runtime/engine.ts';
import { type Identity, sha256, utf8 } from './identity.ts';

/** Pages by name. What is damaged is as good as gone. */
export interface PageStore {
  has(name: string): boolean;
  read(name: string): Promise<Uint8Array | undefined>;
  /** Pages that were used longest ago go where there is no room. A page that cannot be written is not kept. */
  write(name: string, bytes: Uint8Array): Promise<void>;
}

const GONE = Symbol('a page that the store has lost');

export class KeptPages {
  readonly #engine: Pick<Engine, 'pages' | 'adopt'>;
  readonly #store: PageStore;
  readonly #identity: () => Promise<Identity>;
  /** Writes one text after the other, behind the answers. */
  #writing: Promise<void> = Promise.resolve();

  constructor(engine: Pick<Engine, 'pages' | 'adopt'>, store: PageStore, identity: () => Promise<Identity>) {
    this.#engine = engine;
    this.#store = store;
    this.#identity = identity;
  }

  /** Puts into the cache what the store has of a text's beginning, once what the cache may lose to this text is written. */
  async bring(tokens: readonly number[], signal?: AbortSignal): Promise<void> {
    await this.#writing;
    const names: string[] = [];
    for await (const name of this.#namesOf(tokens)) {
      if (!this.#store.has(name)) break;
      names.push(name);
    }
    if (names.length === 0) return;
    const pageAt = async (nth: number) => {
      const bytes = await this.#store.read(names[nth]);
      if (!bytes) throw GONE;
      return bytes;
    };
    try {
      await this.#engine.adopt(tokens.slice(0, PAGE_LEN * names.length), pageAt, { signal });
    } catch (error) {
      if (error !== GONE) throw error; // what could be brought is there
    }
  }

  /** Writes the full pages of a text that the cache has and the store has not; behind what is still to be written. */
  keep(tokens: readonly number[]): void {
    const before = this.#writing;
    this.#writing = before.then(() => this.#write(tokens)).catch(() => {}); // the model was disposed
  }

  /** Resolves when nothing is left to write. */
  settled = (): Promise<void> => this.#writing;

  async #write(tokens: readonly number[]): Promise<void> {
    const names: string[] = [];
    for await (const name of this.#namesOf(tokens)) names.push(name);
    const first = names.findIndex((name) => !this.#store.has(name));
    if (first < 0) return;
    const full = tokens.slice(0, PAGE_LEN * names.length);
    let nth = first;
    for await (const bytes of this.#engine.pages(full, first, { isCachedOnly: true })) {
      await this.#store.write(names[nth++], bytes);
    }
  }

  /** Names of the full pages. */
  async *#namesOf(tokens: readonly number[]): AsyncGenerator<string> {
    let name = await nameOf(JSON.stringify(await this.#identity()));
    for (let end = PAGE_LEN; end <= tokens.length; end += PAGE_LEN) {
      name = await nameOf(`${name} ${tokens.slice(end - PAGE_LEN, end).join()}`);
      yield name;
    }
  }
}

/** Half of a digest is name enough. */
const nameOf = async (text: string): Promise<string> => hexOf((await sha256(utf8(text))).subarray(0, 16));
