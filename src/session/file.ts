/**
 * A session in bytes: a head, the text's tokens, and its pages as a backend's cache has them. A page is read only when it is
 * wanted, and each has a checksum over its bytes, its number and the head.
 *
 *     DUALCHNK | version u32 | bytes of the head u32 | head, JSON | tokens, u32 each | SHA-256 of all that
 *     for each page: its bytes | SHA-256
 */
import type { Source } from '../checkpoint/source.ts';
import { FormatError, isRecord, UnsupportedError } from '../errors.ts';
import { PAGE_LEN } from '../kvTypes.ts';
import { type Identity, sha256, utf8 } from './identity.ts';

/** What the head says. */
export interface SessionHead extends Identity {
  /** Of the model, for messages. */
  readonly modelName: string;
  /** Tokens that the model's context held. */
  readonly context: number;
  readonly nTokens: number;
  readonly pageLen: number;
  /** Of a page of all layers. */
  readonly pageBytes: number;
  /** What the user wants to know when it is opened again; anything that JSON holds. */
  readonly about?: unknown;
}

/** A session that is not in a cache. */
export interface SessionFile {
  readonly name: string;
  readonly head: SessionHead;
  readonly tokens: readonly number[];
  /** @throws FormatError when the page is damaged or cannot be read. */
  pageAt(nth: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

const MAGIC = 'DUALCHNK';
const VERSION = 1;
/** Bytes before the head. */
const BEFORE = 16;
const DIGEST = 32;
/** A head holds at most a text of the size that a command line reads, and a little. */
const MOST_HEAD_BYTES = 2 ** 29;

/** Bytes of a session, a piece at a time. @param pages Come in order, all of them. */
export async function* sessionBytes(
  head: SessionHead,
  tokens: readonly number[],
  pages: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const json = utf8(JSON.stringify(head));
  const front = new Uint8Array(BEFORE + json.length + 4 * tokens.length);
  front.set(utf8(MAGIC));
  const view = new DataView(front.buffer);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, json.length, true);
  front.set(json, BEFORE);
  for (const [nth, token] of tokens.entries()) view.setUint32(BEFORE + json.length + 4 * nth, token, true);
  const digest = await sha256(front);
  yield front;
  yield digest;
  let nth = 0;
  for await (const page of pages) {
    const record = new Uint8Array(page.length + DIGEST);
    record.set(page);
    record.set(await pageDigest(page, nth++, digest), page.length);
    yield record;
  }
}

/**
 * Opens a session's bytes.
 * @throws FormatError when they are none, damaged or cut off; UnsupportedError when a later version wrote them.
 */
export async function openSessionFile(source: Source): Promise<SessionFile> {
  const { name, size } = source;
  const damaged = (what: string) => new FormatError(`${name}: ${what}; the session is damaged, read the text again`);
  const before = await source.read(0, Math.min(size, BEFORE));
  if (before.length < BEFORE || new TextDecoder().decode(before.subarray(0, 8)) !== MAGIC) {
    throw new FormatError(`${name}: not a session; wanted a file that dualchunk read or session.save has written`);
  }
  const view = new DataView(before.buffer, before.byteOffset);
  const [version, headBytes] = [view.getUint32(8, true), view.getUint32(12, true)];
  if (version !== VERSION) {
    throw new UnsupportedError(
      `${name}: a session of version ${version}, and this program knows version ${VERSION}; read the text again`,
    );
  }
  if (headBytes > MOST_HEAD_BYTES || BEFORE + headBytes > size) throw damaged(`its head has ${headBytes} bytes`);
  const head = checkedHead(await source.read(BEFORE, headBytes), damaged);
  const { nTokens, pageBytes } = head;
  const frontBytes = BEFORE + headBytes + 4 * nTokens;
  const nPages = Math.ceil(nTokens / PAGE_LEN);
  const whole = frontBytes + DIGEST + nPages * (pageBytes + DIGEST);
  if (size !== whole) throw damaged(`it has ${size} bytes where ${whole} are wanted`);
  const front = Uint8Array.from(await source.read(0, frontBytes));
  const digest = await sha256(front);
  if (!isSame(digest, await source.read(frontBytes, DIGEST))) throw damaged('the checksum of its head is wrong');
  const ids = new DataView(front.buffer, BEFORE + headBytes);
  return {
    name,
    head,
    tokens: Array.from({ length: nTokens }, (_, nth) => ids.getUint32(4 * nth, true)),
    async pageAt(nth) {
      const record = await source.read(frontBytes + DIGEST + nth * (pageBytes + DIGEST), pageBytes + DIGEST);
      const page = record.subarray(0, pageBytes);
      const isWhole = isSame(await pageDigest(page, nth, digest), record.subarray(pageBytes));
      if (!isWhole) throw damaged(`the checksum of page ${nth + 1} of ${nPages} is wrong`);
      return page;
    },
    close: () => source.close(),
  };
}

// --- internal ---

const TEXTS = ['model', 'tokenizer', 'rope', 'method', 'cache', 'modelName'] as const;
const COUNTS = ['context', 'nTokens', 'pageLen', 'pageBytes'] as const;

function checkedHead(bytes: Uint8Array, damaged: (what: string) => Error): SessionHead {
  let head: unknown;
  try {
    head = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw damaged('its head is not JSON');
  }
  const isCount = (value: unknown) =>
    Number.isSafeInteger(value) && (value as number) > 0 && (value as number) < 2 ** 40;
  const isHead =
    isRecord(head) && TEXTS.every((key) => typeof head[key] === 'string') && COUNTS.every((key) => isCount(head[key]));
  if (!isHead) throw damaged('its head lacks what a session has');
  const made = head as unknown as SessionHead;
  if (made.pageLen !== PAGE_LEN) throw damaged(`its pages have ${made.pageLen} tokens, not ${PAGE_LEN}`);
  return made;
}

async function pageDigest(page: Uint8Array, nth: number, front: Uint8Array): Promise<Uint8Array> {
  const bytes = new Uint8Array(page.length + DIGEST + 4);
  bytes.set(page);
  bytes.set(front, page.length);
  new DataView(bytes.buffer).setUint32(page.length + DIGEST, nth, true);
  return sha256(bytes);
}

const isSame = (a: Uint8Array, b: Uint8Array) => a.length === b.length && a.every((byte, at) => byte === b[at]);
