/**
 * A session in bytes: a head, the text's tokens, and its pages as a backend's cache has them. A page is read only when it is
 * wanted, and each has a checksum over its bytes, its number and the head.
 *
 *     DUALCHNK | version u32 | bytes of the head u32 | head, JSON | tokens, u32 each | SHA-256 of all that
 *     for each page: its bytes | SHA-256
 */
import { joined } from '../bytes.ts';
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
  const front = joined([utf8(MAGIC), words([VERSION, json.length]), json, words(tokens)]);
  const digest = await sha256(front);
  yield front;
  yield digest;
  let nth = 0;
  for await (const page of pages) {
    yield joined([page, await pageDigest(page, nth++, digest)]);
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
  const json = await source.read(BEFORE, headBytes);
  const head = checkedHead(json, damaged);
  const { nTokens, pageBytes } = head;
  const frontBytes = BEFORE + headBytes + 4 * nTokens;
  const nPages = Math.ceil(nTokens / PAGE_LEN);
  const whole = frontBytes + DIGEST + nPages * (pageBytes + DIGEST);
  if (size !== whole) throw damaged(`it has ${size} bytes where ${whole} are wanted`);
  const ids = await source.read(BEFORE + headBytes, 4 * nTokens);
  const digest = await sha256(before, json, ids);
  if (!isSame(digest, await source.read(frontBytes, DIGEST))) throw damaged('the checksum of its head is wrong');
  const tokens = new DataView(ids.buffer, ids.byteOffset);
  return {
    name,
    head,
    tokens: Array.from({ length: nTokens }, (_, nth) => tokens.getUint32(4 * nth, true)),
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
  const isHead = (value: unknown): value is SessionHead =>
    isRecord(value) &&
    TEXTS.every((key) => typeof value[key] === 'string') &&
    COUNTS.every((key) => isCount(value[key]));
  if (!isHead(head)) throw damaged('its head lacks what a session has');
  if (head.pageLen !== PAGE_LEN) throw damaged(`its pages have ${head.pageLen} tokens, not ${PAGE_LEN}`);
  return head;
}

const pageDigest = (page: Uint8Array, nth: number, front: Uint8Array) => sha256(page, front, words([nth]));

/** Writes whole numbers in 32 bits each, the lowest byte first. */
function words(numbers: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 * numbers.length));
  for (const [nth, number] of numbers.entries()) view.setUint32(4 * nth, number, true);
  return new Uint8Array(view.buffer);
}

const isSame = (a: Uint8Array, b: Uint8Array) => a.length === b.length && a.every((byte, at) => byte === b[at]);
