/**
 * Characters of JSON strings as bytes. A string has one spelling here, that of `JSON.stringify`: UTF-8, with escapes only where
 * there must be. So lengths, patterns and names are told from the bytes.
 */
import { bytes, choice, EMPTY, NEVER, type Node, repeat, sequence } from './automaton.ts';

/** Code points from and to, in order and apart. */
export type Ranges = readonly (readonly [from: number, to: number])[];

export const ALL: Ranges = [
  [0, 0xd7ff],
  [0xe000, 0x10ffff],
];

const utf8 = new TextEncoder();

export const literal = (text: string): Node => sequence(...Array.from(utf8.encode(text), (byte) => bytes(byte)));

/** One of some texts, whose common beginnings are read once. */
export function literals(texts: Iterable<string>): Node {
  return one(
    Array.from(new Set(texts), (text) => utf8.encode(text)),
    0,
  );
}

/** One character of the ranges. */
export function characters(ranges: Ranges): Node {
  const options = intersect(ranges, PLAIN).flatMap(([from, to]) => utf8Ranges(from, to));
  const isIn = (code: number) => ranges.some(([from, to]) => from <= code && code <= to);
  const escaped = ESCAPED.filter(isIn).map((code) => JSON.stringify(String.fromCodePoint(code)).slice(1, -1));
  return choice(...options, ...(escaped.length > 0 ? [literals(escaped)] : []));
}

/** All but the given; lone surrogates are no characters. */
export function complement(ranges: Ranges): Ranges {
  let from = 0;
  const between: [number, number][] = [];
  for (const [first, last] of union(ranges)) {
    if (first > from) between.push([from, first - 1]);
    from = last + 1;
  }
  if (from <= 0x10ffff) between.push([from, 0x10ffff]);
  return intersect(between, ALL);
}

/** Sorts ranges and joins those that touch. */
export function union(ranges: Ranges): Ranges {
  const joined: [number, number][] = [];
  for (const [from, to] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = joined.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}

export const intersect = (some: Ranges, others: Ranges): Ranges =>
  some.flatMap(([from, to]) =>
    others.flatMap(([first, last]) => {
      const range = [Math.max(from, first), Math.min(to, last)] as const;
      return range[0] <= range[1] ? [range] : [];
    }),
  );

/** Characters that stand for themselves in JSON. */
const PLAIN: Ranges = [
  [0x20, 0x21],
  [0x23, 0x5b],
  [0x5d, 0xd7ff],
  [0xe000, 0x10ffff],
];
const ESCAPED = [...Array.from({ length: 0x20 }, (_, code) => code), 0x22, 0x5c];

const ANY = characters(ALL);

/** From `min` to `max` characters, whichever they are. */
export const anyText = (min = 0, max = Infinity): Node => repeat(ANY, min, max, true);

/** Items by what they have in common, in the order in which that comes. */
export function groupedBy<T, K>(items: readonly T[], keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

// --- internal ---

/** What follows the first `at` bytes, which are the same. */
function one(texts: readonly Uint8Array[], at: number): Node {
  const [first] = texts;
  if (!first) return NEVER;
  let end = at;
  while (end < first.length && texts.every((text) => text[end] === first[end])) end++;
  const shared = Array.from(first.subarray(at, end), (byte) => bytes(byte));
  if (texts.length === 1) return sequence(...shared);
  const byNext = groupedBy(texts, (text) => text[end] as number | undefined);
  return sequence(
    ...shared,
    choice(...Array.from(byNext, ([next, some]) => (next === undefined ? EMPTY : one(some, end)))),
  );
}

/** Cuts a range where UTF-8 gets longer. */
function utf8Ranges(from: number, to: number): Node[] {
  return (
    [
      [0, 0x7f],
      [0x80, 0x7ff],
      [0x800, 0xffff],
      [0x10000, 0x10ffff],
    ] as const
  ).flatMap(([first, last]) => {
    const [low, high] = [Math.max(from, first), Math.min(to, last)];
    if (low > high) return [];
    return between(utf8.encode(String.fromCodePoint(low)), utf8.encode(String.fromCodePoint(high)));
  });
}

/** All from `low` to `high`, which are equally long. */
function between(low: Uint8Array, high: Uint8Array): Node {
  let [first, last] = [low[0], high[0]];
  if (low.length === 1) return bytes(first, last);
  const [lowRest, highRest] = [low.subarray(1), high.subarray(1)];
  if (first === last) return sequence(bytes(first), between(lowRest, highRest));
  const [least, most] = [lowRest.map(() => 0x80), lowRest.map(() => 0xbf)];
  const options: Node[] = [];
  if (lowRest.some((byte) => byte !== 0x80)) options.push(sequence(bytes(first++), between(lowRest, most)));
  if (highRest.some((byte) => byte !== 0xbf)) options.push(sequence(bytes(last--), between(least, highRest)));
  if (first <= last) options.push(sequence(bytes(first, last), between(least, most)));
  return options.length === 0 ? NEVER : choice(...options);
}
