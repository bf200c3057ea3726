/** The bytes of all tokens as trees in typed arrays, made once for a tokenizer. */

/** Tokens as a tree of bytes, node behind node as they are met going down first. */
export interface Trie {
  /** The byte that leads to a node. */
  readonly bytes: Uint8Array;
  /** Bytes of a node, less 1. */
  readonly depths: Uint16Array;
  /** The node behind all that lie below a node. */
  readonly ends: Uint32Array;
  /** Where a node's tokens begin in `tokens`; they end where those of the next begin. */
  readonly firsts: Uint32Array;
  readonly tokens: Uint32Array;
}

/**
 * Tokens that are whole characters, none of which ends a JSON string or a line or begins an escape, are told from others: within a string
 * they fit by their lengths, and only the others are looked at one by one.
 */
export interface Vocabulary {
  /** One more than the highest id. */
  readonly size: number;
  readonly plain: Trie;
  readonly other: Trie;
  /** Characters of each plain token, 0 for the others, by id. */
  readonly plainLengths: Uint16Array;
  readonly longestPlain: number;
}

/** Longer tokens are never produced: no text needs one. */
const MAX_BYTES = 1024;

/** @param bytesOf The bytes that an id adds to a text; none for those that are never to be produced. */
export function makeVocabulary(size: number, bytesOf: (id: number) => Uint8Array): Vocabulary {
  const all = Array.from({ length: size }, (_, id) => bytesOf(id));
  const plainLengths = Uint16Array.from(all, plainLength);
  const ids = [...all.keys()].filter((id) => all[id].length > 0 && all[id].length <= MAX_BYTES);
  const order = ids.sort((a, b) => compare(all[a], all[b]));
  return {
    size,
    plain: makeTrie(
      order.filter((id) => plainLengths[id] > 0),
      all,
    ),
    other: makeTrie(
      order.filter((id) => plainLengths[id] === 0),
      all,
    ),
    plainLengths,
    longestPlain: plainLengths.reduce((a, b) => Math.max(a, b), 0),
  };
}

// --- internal ---

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

/** Characters of a token that stands for itself in a string, else 0. */
function plainLength(token: Uint8Array): number {
  if (
    token.length > MAX_BYTES ||
    token.length === 0 ||
    token.some((byte) => byte < 0x20 || byte === 0x22 || byte === 0x5c)
  )
    return 0;
  const text = utf8.decode(token);
  if (/[\ufffd\u2028\u2029]/.test(text)) return 0; // not whole, or that very character; or a line end
  let length = 0;
  for (const byte of token) if ((byte & 0xc0) !== 0x80) length++;
  return length;
}

function compare(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) if (a[at] !== b[at]) return a[at] - b[at];
  return a.length - b.length;
}

/** @param order Ids by their bytes. */
function makeTrie(order: readonly number[], all: readonly Uint8Array[]): Trie {
  const bytes: number[] = [];
  const depths: number[] = [];
  const ends: number[] = [];
  const firsts: number[] = [];
  const open: number[] = []; // nodes on the way to the token before
  order.forEach((id, nth) => {
    const token = all[id];
    let shared = 0;
    const before = nth > 0 ? all[order[nth - 1]] : token.subarray(0, 0);
    while (shared < before.length && before[shared] === token[shared]) shared++;
    for (const node of open.splice(shared)) ends[node] = bytes.length;
    for (let depth = shared; depth < token.length; depth++) {
      open.push(bytes.length);
      firsts.push(nth);
      depths.push(depth);
      bytes.push(token[depth]);
      ends.push(0);
    }
  });
  for (const node of open) ends[node] = bytes.length;
  firsts.push(order.length);
  return {
    bytes: Uint8Array.from(bytes),
    depths: Uint16Array.from(depths),
    ends: Uint32Array.from(ends),
    firsts: Uint32Array.from(firsts),
    tokens: Uint32Array.from(order),
  };
}
