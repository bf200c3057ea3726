/** A prompt is made from files, pipes and a question. */
import { constants, createReadStream, fstatSync, openSync, type Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { FormatError, type Message, type ModelFile, type Tokenizer, trainedWindow, UnsupportedError } from '../node.ts';
import type { ModelFlags, TextFlags } from './options.ts';
import { count, note, size } from './terminal.ts';
import { decodeText } from './text.ts';

/** So many bytes are far more text than any context holds; they bound what a mistyped path may read into memory. */
const MAX_TEXT_BYTES = 256 * 2 ** 20;
/** So many bytes tell whether the rest is worth reading. */
const FIRST_BYTES = 2 ** 16;
/**
 * A pipe may stay silent so many milliseconds before a word about it, or before it is left alone where nobody named it.
 */
const PATIENCE = 3000;
/** Such a pipe has so many milliseconds where other texts are named. */
const LITTLE_PATIENCE = 300;
/** The end of what was read may have changed so many tokens before it. */
const UNSETTLED_TOKENS = 64;

/**
 * Reads the text of a file, a pipe, or of standard input for `-`.
 * @throws FormatError when it is missing, too large or no text.
 */
export async function readText(path: string): Promise<string> {
  const source = await openSource(path);
  return source.readAll();
}

/** These are names of standard input. Where it is a socket, the files cannot be opened. */
const STDIN = new Set(['-', '/dev/stdin', '/dev/fd/0', '/proc/self/fd/0']);
export const isStdin = (path: string): boolean => STDIN.has(path);

/** A source is bytes that are read as far as they are asked for. */
class Source {
  readonly name: string;
  readonly #open: () => Readable;
  #stream?: Readable;
  #chunks?: AsyncIterator<Buffer>;
  #bytes: Buffer = Buffer.alloc(0);
  /** The whole text is known once its end was read. */
  #whole?: string;

  /** @param open Is called for the first byte. */
  constructor(name: string, open: () => Readable) {
    this.name = name;
    this.#open = open;
  }

  /** Gives the first `nBytes` or a few more as text, with `isWhole` where that is all. */
  async read(nBytes: number): Promise<{ text: string; isWhole: boolean }> {
    if (this.#whole !== undefined) return { text: this.#whole, isWhole: true };
    const chunks = [this.#bytes];
    let isWhole = false;
    for (let length = this.#bytes.length; !isWhole && length < nBytes; ) {
      const { done, value } = await this.#next();
      if (done) isWhole = true;
      else chunks.push(value);
      length += value?.length ?? 0;
    }
    this.#bytes = Buffer.concat(chunks);
    const { text, isCut } = decodeText(this.#bytes, this.name, isWhole);
    if (isCut) note(`${this.name}: ends within a character, which is left out`);
    if (isWhole && text.trim() === '') {
      const what = this.#bytes.length === 0 ? 'empty' : 'nothing but white space';
      throw new FormatError(`${this.name}: ${what}; there is nothing to read`);
    }
    if (isWhole) this.#whole = text;
    return { text, isWhole };
  }

  async readAll(): Promise<string> {
    await this.read(FIRST_BYTES);
    const { text, isWhole } = await this.read(MAX_TEXT_BYTES + 1);
    if (isWhole) return text;
    this.close();
    throw new FormatError(`${this.name}: more than ${MAX_TEXT_BYTES / 2 ** 20} MiB; read the first part with --take`);
  }

  close(): void {
    this.#stream?.destroy();
  }

  async #next(): Promise<IteratorResult<Buffer, undefined>> {
    const waiting = setTimeout(() => note(`waiting for ${this.name}`), PATIENCE);
    try {
      this.#stream ??= this.#open();
      this.#chunks ??= this.#stream.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
      return await this.#chunks.next();
    } catch (error) {
      throw unreadable(this.name, error as NodeJS.ErrnoException);
    } finally {
      clearTimeout(waiting);
    }
  }
}

async function openSource(path: string): Promise<Source> {
  if (isStdin(path)) return new Source('standard input', () => process.stdin);
  const info = await stat(path).catch((error) => {
    throw unreadable(path, error);
  });
  if (info.isDirectory()) throw new FormatError(`${path}: a folder; give a text file`);
  if (info.isFile()) return new Source(path, () => createReadStream(path, { highWaterMark: 2 ** 20 }));
  if (info.isFIFO()) return new Source(path, () => openPipe(path));
  throw new FormatError(`${path}: ${info.isSocket() ? 'a socket' : 'a device'}; give a text file`);
}

function unreadable(path: string, { code = '' }: NodeJS.ErrnoException): FormatError {
  if (code === 'ENOENT' || code === 'ENOTDIR') return new FormatError(`no such file: ${path}`);
  const why: Record<string, string> = { EACCES: 'permission denied', EISDIR: 'a folder', ELOOP: 'a link to itself' };
  return new FormatError(`${path}: cannot be read (${why[code] ?? code})`);
}

/** Opens a pipe so that no thread waits in it: the process can end while nobody writes. */
const openPipe = (path: string): Readable =>
  new Socket({ fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), readable: true, writable: false });

/**
 * Gives standard input where text was piped into it and no flag names it. One that is open and gives nothing, as under
 * a supervisor, is left alone.
 */
async function pipedSource(patience: number): Promise<Source | undefined> {
  let info: Stats;
  try {
    info = fstatSync(0);
  } catch {
    return undefined; // it is closed
  }
  if (!info.isFIFO() && !info.isFile() && !info.isSocket()) return undefined;
  const { stdin } = process;
  let timer: NodeJS.Timeout | undefined;
  const isThere = await new Promise<boolean>((resolve) => {
    stdin.once('readable', () => resolve(stdin.readableLength > 0));
    stdin.once('error', () => resolve(false));
    if (patience === Infinity) return;
    timer = setTimeout(() => {
      note('standard input is open but gives nothing, so it is not read; -f - waits for it, </dev/null closes it');
      resolve(false);
    }, patience);
  });
  clearTimeout(timer);
  stdin.removeAllListeners('readable');
  if (isThere) return new Source('standard input', () => stdin);
  stdin.destroy();
  return undefined;
}

/**
 * Reads the texts in order and puts a blank line between; it takes only the first `take` tokens where that is given.
 * @param question The prompt of `run`, which also reads what is piped into it; undefined where standard input is not
 *   read.
 */
export async function readTexts(
  { file: paths = [], take }: TextFlags,
  tokenizer: Tokenizer,
  piped?: { question: string },
): Promise<string> {
  if (paths.filter(isStdin).length > 1) {
    throw new UnsupportedError('-f names standard input twice, and it can be read once; leave one out');
  }
  const sources: Source[] = [];
  for (const path of paths) sources.push(await openSource(path));
  if (piped && !paths.some(isStdin)) {
    const patience = piped.question === '' ? Infinity : PATIENCE;
    const source = await pipedSource(paths.length > 0 ? LITTLE_PATIENCE : patience);
    if (source) sources.push(source);
  }
  if (take !== undefined) return takeTokens(sources, take, tokenizer);
  const texts: string[] = [];
  for (const source of sources) texts.push(await source.readAll());
  return texts.join('\n\n');
}

/** Takes the first tokens, and reads no more than they need. */
async function takeTokens(sources: readonly Source[], take: number, tokenizer: Tokenizer): Promise<string> {
  const options = { addSpecialTokens: false, allowSpecial: false };
  let before = '';
  let isFull = false;
  for (const source of sources) {
    for (let nBytes = Math.max(FIRST_BYTES, 8 * take); !isFull; nBytes *= 2) {
      const { text, isWhole } = await source.read(nBytes);
      const read = before + text;
      const { ids, complete } = tokenizer.encodePrefix(read, take + (isWhole ? 0 : UNSETTLED_TOKENS), options);
      isFull = isWhole ? !complete : ids.length === take + UNSETTLED_TOKENS;
      if (isFull) {
        // A character cut in two by the last token is left out.
        before = tokenizer.decode(ids.slice(0, take), { skipSpecialTokens: false }).replace(/\ufffd+$/, '');
      } else if (isWhole) {
        before = `${read}\n\n`;
        break;
      } else if (nBytes > MAX_TEXT_BYTES) {
        throw new FormatError(`${source.name}: ${take} tokens take more than ${MAX_TEXT_BYTES / 2 ** 20} MiB of it`);
      }
    }
    source.close();
  }
  return isFull ? before : before.slice(0, -2);
}

/** A text of so many characters can be tokenised without a thought. */
const SHORT_TEXT = 2 ** 18;
const SAMPLE_LENGTH = 2 ** 13;
/** Texts are uneven: a sample may promise more tokens than there are. */
const CERTAINTY = 0.7;

/**
 * Refuses what cannot fit before hours go into tokenising it: samples from begin, middle and end tell how many tokens
 * there are. @throws UnsupportedError
 */
export function checkLength(text: string, file: ModelFile, flags: ModelFlags): void {
  if (text.length <= SHORT_TEXT) return;
  const startedAt = performance.now();
  const samples = [0, (text.length - SAMPLE_LENGTH) / 2, text.length - SAMPLE_LENGTH].map((at) =>
    file.tokenizer.encode(text.slice(at, at + SAMPLE_LENGTH), { addSpecialTokens: false, allowSpecial: false }),
  );
  const seconds = (performance.now() - startedAt) / 1000;
  const parts = text.length / (samples.length * SAMPLE_LENGTH);
  const about = samples.flat().length * parts;
  const refuse = (why: string, take: number) => {
    throw new UnsupportedError(
      `the text has about ${count(Number(about.toPrecision(3)))} tokens (${size(Buffer.byteLength(text))}), but ${why}; ` +
        `read only the first part with --take ${take}`,
    );
  };
  const least = Math.floor(CERTAINTY * about);
  if (flags.context !== undefined && least > flags.context) {
    refuse(`the context holds ${count(flags.context)}`, Math.ceil(flags.context / 2));
  }
  const { total } = file.memoryPlan(least, { kvType: flags.kvType, threads: flags.threads });
  if (flags.backend !== 'webgpu' && total > process.availableMemory()) {
    refuse(
      `this machine's memory holds ${size(process.availableMemory())} and they take ${size(total)} at least`,
      trainedWindow(file.config),
    );
  }
  if (seconds * parts > 2)
    note(`tokenising about ${count(Number(about.toPrecision(3)))} tokens takes about ${count(seconds * parts)} s`);
}

/** So many tokens are kept free for the conversation about a document. */
export const ROOM_TO_TALK = 4096;

/** `run` has read token ids, and where they come from a conversation, that too, as an answer begins behind it. */
export interface MadePrompt {
  ids: number[];
  messages?: Message[];
}

/** Puts the text and the question together as the model's chat template has them, or joins them as they are. */
export function makePrompt(
  { tokenizer }: ModelFile,
  text: string,
  { prompt, system, raw = false, templateVar: variables }: PromptFlags,
): MadePrompt {
  const content = [text, prompt].filter((part) => part !== undefined && part.trim() !== '').join('\n\n');
  if (content === '') {
    throw new UnsupportedError('nothing to read; give a prompt with -p or a text with -f, or pipe one in');
  }
  if (raw || tokenizer.chatTemplate === undefined) {
    const ignored = system === undefined ? variables && '--template-var' : '--system';
    if (ignored) {
      const why = raw ? '--raw is given' : 'the model has none';
      throw new UnsupportedError(`${ignored} goes into a chat template, but ${why}; leave it out`);
    }
    return { ids: tokenizer.encode(content, { allowSpecial: raw }) };
  }
  const opening = system === undefined ? [] : [{ role: 'system' as const, content: system }];
  const messages: Message[] = [...opening, { role: 'user', content }];
  return { ids: tokenizer.encodeChat(messages, { variables }), messages };
}

export interface PromptFlags {
  prompt?: string;
  system?: string;
  raw?: boolean;
  templateVar?: Record<string, unknown>;
}

/**
 * @param frameTokens What the prompt has without its texts.
 * @throws UnsupportedError when no token of the answer would fit.
 */
export function checkPromptFits(promptTokens: number, context: number, frameTokens: () => number): void {
  if (promptTokens < context) return;
  // Where all else leaves little room, no part of the texts is short enough. Cutting them may add a token or two.
  const isTextTooLong = frameTokens() < Math.min(promptTokens, context / 3);
  const shorter = isTextTooLong ? `read only the first part with --take ${Math.ceil(context / 2)}, or ` : '';
  throw new UnsupportedError(
    `the prompt has ${count(promptTokens)} tokens, but the context holds ${count(context)}; ${shorter}give a larger --context`,
  );
}
