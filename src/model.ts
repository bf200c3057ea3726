/** Text in, text out: a tokenizer bound to an engine. `modelFile.ts` makes one of a checkpoint. */
import type { Backend } from './backends/backend.ts';
import type { ModelConfig } from './config.ts';
import { FormatError, shown, UnsupportedError } from './errors.ts';
import { pagesFor } from './kvCache.ts';
import { PAGE_LEN } from './kvTypes.ts';
import type { Method } from './method.ts';
import { checkOptions, idSet } from './options.ts';
import type { FileSource, Platform } from './platform/platform.ts';
import type { Engine } from './runtime/engine.ts';
import { DEFAULT_MAX_TOKENS, type GeneratedToken, type GenerateOptions, type PrefillOptions } from './runtime/texts.ts';
import { drawSeed, type Sampling } from './sampler.ts';
import { openSessionFile, type SessionFile } from './session/file.ts';
import { checkIdentity, type Identity } from './session/identity.ts';
import { KeptPages, type PageStore } from './session/kept.ts';
import { Session } from './session/session.ts';
import type { Message, Tokenizer } from './tokenizer/tokenizer.ts';

/** Sampling options are the model's own by default: `Model.sampling`. */
export interface TextOptions extends Omit<GenerateOptions, 'stopTokens' | 'constraint'> {
  /** Text or texts that end the answer; they are not part of it. One split over tokens is held back. */
  stop?: string | readonly string[];
  /** Ids that end the answer. Default: the tokenizer's end-of-turn and end-of-text tokens. */
  stopTokens?: Iterable<number>;
  /**
   * Whole number. The same seed, prompt and options give the same text; now and then another, where the model has read part
   * of the prompt before, since what is read in other blocks is rounded differently. Default: drawn, and told with the last
   * piece.
   */
  seed?: number;
  /**
   * The answer is JSON that fits this JSON Schema, with `{ type: 'object' }` any object: it parses and validates wherever the
   * last piece's `finishReason` is `stop`. What cannot be enforced is refused. Properties come in the schema's order.
   */
  jsonSchema?: object;
  /** What the chat template may ask for besides the messages, such as `{ enable_thinking: false }`. */
  templateVariables?: Record<string, unknown>;
}

export interface ReadOptions extends PrefillOptions, Pick<TextOptions, 'templateVariables'> {
  /** What is to be known of the session when it is opened again; anything that JSON holds. */
  about?: unknown;
}

/** A piece of the answer. Pieces join to the whole; the last one may be empty and carries the reason. */
export interface Piece {
  text: string;
  /** Tokens generated since the piece before; their text may come with a later piece. */
  tokens: GeneratedToken[];
  /** `stop`: a stop token or string, or complete JSON; `length`: `maxTokens` or the end of the context. */
  finishReason?: 'stop' | 'length';
  /** The stop text that ended the answer; of the last piece. */
  stop?: string;
  /** The seed the answer was drawn with; of the last piece. */
  seed?: number;
}

/** Plain text (BOS is added if the model wants it), a conversation (rendered by the model's template), or token ids. */
export type Prompt = string | readonly Message[] | readonly number[];

/** Where a session is: a path, where there is a file system, an address, or the file itself. */
export type SessionSource = string | URL | FileSource;

/** Opens a session's head. @throws as `Models.openSession`. */
export const sessionOpener =
  (platform: Platform) =>
  async (source: SessionSource): Promise<SessionFile> => {
    const opened = await platform.openFiles(source);
    if (!('read' in opened)) throw new FormatError(`${opened.name}: a folder; wanted the file of a session`);
    try {
      return await openSessionFile(opened);
    } catch (error) {
      await opened.close();
      throw error;
    }
  };

export interface ModelParts {
  name: string;
  config: ModelConfig;
  tokenizer: Tokenizer;
  sampling: Sampling;
  method: Method;
  engine: Engine;
  backend: Pick<Backend, 'name'>;
  /** What sessions are compared by. */
  identity: () => Promise<Identity>;
  platform: Platform;
  /** Where pages are kept beyond the cache. */
  store?: PageStore;
}

/**
 * A model in memory. As many texts as it was loaded for are read and written at once; further ones wait for their turn in the
 * order of their calls, and a text whose reader asks for no more pieces for a second lets others go first. What a prompt
 * shares with texts before it is not read again, as long as the cache has it.
 */
export class Model {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  /** What `generate` draws tokens by unless told: what the model says, else what llama.cpp takes. */
  readonly sampling: Sampling;
  readonly method: Method;
  /** E.g. `wasm (relaxed SIMD, 2 threads)`. */
  readonly backendName: string;
  readonly #engine: Engine;
  readonly #parts: Pick<ModelParts, 'name' | 'identity' | 'platform'>;
  readonly #kept?: KeptPages;
  /** Texts that are being generated. */
  #nWriting = 0;

  constructor(parts: ModelParts) {
    const { config, tokenizer, sampling, method, engine, backend } = parts;
    this.#parts = parts;
    this.config = config;
    this.tokenizer = tokenizer;
    this.sampling = sampling;
    this.method = method;
    this.backendName = backend.name;
    this.#engine = engine;
    this.#kept = parts.store && new KeptPages(engine, parts.store, parts.identity);
  }

  /** Tokens that prompt and answer may have together. */
  get context(): number {
    return this.#engine.context;
  }

  /**
   * Token ids of a prompt, as `generate` reads it. Special tokens written out in messages stay text.
   * @throws UnsupportedError when it is empty or not a prompt, or the chat template cannot be used.
   */
  encode(prompt: Prompt, options: Pick<TextOptions, 'templateVariables'> = {}): number[] {
    checkOptions('encode', options);
    const { templateVariables: variables } = options;
    const isText = typeof prompt === 'string';
    // Of views those of numbers, but not of bytes: a file that was read without an encoding would pass for token ids.
    const isNumbers = ArrayBuffer.isView(prompt) && !(prompt instanceof Uint8Array) && !(prompt instanceof DataView);
    if (!isText && !Array.isArray(prompt) && !isNumbers) {
      throw new UnsupportedError(
        `the prompt is ${shown(prompt)}; wanted a text, a list of messages or a list of token ids`,
      );
    }
    if (prompt.length === 0) throw new UnsupportedError('the prompt is empty; give a text, messages or token ids');
    if (typeof prompt[0] === 'object') {
      return this.tokenizer.encodeChat(prompt as readonly Message[], { variables });
    }
    if (variables) throw new UnsupportedError('templateVariables has no effect on a prompt that is not of messages');
    return isText ? this.tokenizer.encode(prompt) : [...(prompt as readonly number[])];
  }

  /**
   * Reads the prompt and streams the answer.
   *
   * @throws UnsupportedError when the prompt is empty or longer than the context, an option is unknown or out of its range,
   *   what the model computes is not finite, or the model is disposed; the reason of `signal` when that is aborted.
   */
  async *generate(prompt: Prompt, options: TextOptions = {}): AsyncGenerator<Piece> {
    checkOptions('generate', options);
    const { maxTokens = DEFAULT_MAX_TOKENS, seed = drawSeed(), templateVariables } = options;
    const stop = [options.stop ?? []].flat();
    const stopTokens = options.stopTokens ? idSet(options.stopTokens) : this.tokenizer.eosTokens;
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    const { jsonSchema } = options;
    if (jsonSchema && stop.length > 0) {
      throw new UnsupportedError('stop may cut the JSON that jsonSchema wants; give one of them');
    }
    const grammars = jsonSchema && (await import('./grammar/structuredOutput.ts')); // few ask for it
    const constraint = jsonSchema && grammars?.constraintOf(this.tokenizer, jsonSchema, stopTokens);
    const ids = this.encode(prompt, { templateVariables });
    // A text and ids are continued; after messages an answer begins.
    const midText = typeof prompt === 'string' || typeof prompt[0] === 'number';
    const decoder = this.tokenizer.streamDecoder({ midText });
    const sampled = { ...this.sampling, ...given, seed, stopTokens, constraint };
    let held = ''; // text that may turn out to begin a stop string
    let tokens: GeneratedToken[] = [];
    let count = 0;
    for await (const token of this.#write(ids, sampled)) {
      count++;
      tokens.push(token);
      held += decoder.push(token.token);
      const { safe, isStopped } = splitAtStop(held, stop);
      const met = stop.find((text) => held.startsWith(text, safe.length));
      if (isStopped) return yield { text: safe, tokens, finishReason: 'stop', stop: met, seed };
      if (safe === '') continue;
      held = held.slice(safe.length);
      yield { text: safe, tokens };
      tokens = [];
    }
    held += decoder.flush();
    const { safe, isStopped } = splitAtStop(held, stop);
    const isFull = count >= maxTokens || ids.length + count > this.context;
    const isCut = isFull && !isStopped && !constraint?.isComplete;
    yield { text: isStopped ? safe : held, tokens, finishReason: isCut ? 'length' : 'stop', seed };
  }

  /** Tokens behind `ids`. What the folder of pages has of a text is brought before, and what it has not is kept behind it. */
  async *#write(ids: readonly number[], options: GenerateOptions): AsyncGenerator<GeneratedToken> {
    const text = [...ids];
    this.#nWriting++;
    try {
      await this.#kept?.bring(ids, options.signal);
      for await (const token of this.#engine.generate(ids, options)) {
        text.push(token.token);
        yield token;
      }
    } finally {
      this.#nWriting--;
      this.#kept?.keep(text);
    }
  }

  /**
   * How well the model foresees a text: negative log-likelihood of every token but the first, in nats, a block at a time.
   * @throws UnsupportedError as `generate`.
   */
  async *score(text: string | readonly number[], options: PrefillOptions = {}): AsyncGenerator<Float64Array> {
    checkOptions('score', options);
    yield* this.#engine.score(this.encode(text), options);
  }

  /**
   * Reads a prompt as far as the cache has not got it, so that prompts that begin with it are answered at once, and it can be
   * saved. Of messages the whole rendering is read; `tokens` of two that differ in their question tell what they share.
   *
   * @throws UnsupportedError as `generate`.
   */
  async read(prompt: Prompt, options: ReadOptions = {}): Promise<Session> {
    checkOptions('read', options);
    const { about, templateVariables, ...reading } = options;
    const tokens = this.encode(prompt, { templateVariables });
    await this.#kept?.bring(tokens, reading.signal);
    for await (const _ of this.#engine.pages(tokens, pagesFor(tokens.length), reading));
    this.#kept?.keep(tokens);
    return this.#session(tokens, about);
  }

  /**
   * Puts a saved session into the cache, page by page, and returns it.
   *
   * @param source What `session.save` or `session.stream` gave, or what `openSession` has opened.
   * @throws FormatError when it is no session, damaged or cut off; UnsupportedError when it was made with another model,
   *   tokenizer, RoPE, method or type of cache, or is longer than the context.
   */
  async loadSession(source: SessionSource | SessionFile, options: PrefillOptions = {}): Promise<Session> {
    checkOptions('loadSession', options);
    const isOpen = typeof source === 'object' && 'pageAt' in source;
    const file = isOpen ? source : await sessionOpener(this.#parts.platform)(source);
    try {
      const { name, head, tokens, pageAt } = file;
      checkIdentity(name, head, await this.#parts.identity());
      await this.#engine.adopt(tokens, pageAt, options);
      return this.#session(tokens, head.about);
    } finally {
      if (!isOpen) await file.close();
    }
  }

  async #session(tokens: readonly number[], about: unknown): Promise<Session> {
    const { name, identity, platform } = this.#parts;
    const head = { ...(await identity()), modelName: name, context: this.context, pageLen: PAGE_LEN, about };
    return new Session({ engine: this.#engine, tokens, head, replaceFile: platform.replaceFile });
  }

  /**
   * Ends all calls, which reject, and frees memory and threads. The model cannot be used afterwards. Pages that are still to go to
   * the folder of `cacheDir` are written before, unless a text is being generated.
   */
  async dispose(): Promise<void> {
    if (this.#nWriting === 0) await this.#kept?.settled();
    await this.#engine.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

/** The part of `text` that can be shown: up to a stop string, or up to an end that may begin one. */
export function splitAtStop(text: string, stop: readonly string[]): { safe: string; isStopped: boolean } {
  const found = stop.map((s) => text.indexOf(s)).filter((at) => at >= 0);
  if (found.length > 0) return { safe: text.slice(0, Math.min(...found)), isStopped: true };
  const longest = Math.max(0, ...stop.map((s) => s.length - 1));
  for (let at = Math.max(0, text.length - longest); at < text.length; at++) {
    const end = text.slice(at);
    if (stop.some((s) => s.startsWith(end))) return { safe: text.slice(0, at), isStopped: false };
  }
  return { safe: text, isStopped: false };
}
