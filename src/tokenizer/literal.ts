/** Literal text makes no control token, wherever a chat template puts it. */
import { UnsupportedError } from '../errors.ts';
import type { AddedToken } from './tokenizerJson.ts';

/**
 * The character before it is no part of a control token. Unicode reserves the mark for use inside a program, so no text
 * loses anything with it; the encoder takes it out once added tokens are cut out.
 */
export const MARK = '\ufdd0';

/**
 * Finds which of many strings begin at a place of a text, the shortest first. It halves a sorted list, as a regular
 * expression of a hundred thousand strings takes seconds to compile, and longer ones end the process.
 */
export function finderOf(strings: Iterable<string>): (text: string, at: number) => string[] {
  const sorted = [...new Set(strings)].filter((string) => string !== '').sort();
  const ranges = new Map<number, [low: number, high: number]>();
  for (const [i, string] of sorted.entries()) {
    const first = string.charCodeAt(0);
    ranges.set(first, [ranges.get(first)?.[0] ?? i, i + 1]);
  }
  return (text, at) => {
    const found: string[] = [];
    let [low, high] = ranges.get(text.charCodeAt(at)) ?? [0, 0];
    for (let length = 1; low < high; length++) {
      // Strings of this range agree as far as `length`, and the one that ends there is the first of them.
      if (sorted[low].length === length) found.push(sorted[low++]);
      if (at + length === text.length) break;
      const next = text.charCodeAt(at + length);
      const lowest = (code: number) => {
        let [begin, end] = [low, high];
        while (begin < end) {
          const middle = (begin + end) >> 1;
          if (sorted[middle].charCodeAt(length) < code) begin = middle + 1;
          else end = middle;
        }
        return begin;
      };
      [low, high] = [lowest(next), lowest(next + 1)];
    }
    return found;
  };
}

/**
 * Makes texts literal. Marked is every character that a special token begins with, in either case, so that a template
 * may change what follows; and the first and the last, where a template may put the rest of a token. Added tokens that
 * are not special, such as `<think>`, keep their meaning.
 */
export function makeLiteral(added: readonly AddedToken[]): (text: string) => string {
  const special = added.filter((token) => token.special).map(({ content }) => content.toLowerCase());
  const firsts = new Set(special.flatMap((token) => [...(token.trimStart() || token)].slice(0, 1)));
  let findHarmless: ReturnType<typeof finderOf> | undefined;
  return (given) => {
    findHarmless ??= finderOf(harmlessTokens(added, special));
    const text = given.replaceAll(MARK, '').toWellFormed();
    // A template may trim white space.
    const first = text.length - text.trimStart().length;
    const end = text.trimEnd().length;
    let marked = '';
    let done = 0;
    for (let at = 0; at < text.length; ) {
      const harmless = findHarmless(text, at).at(-1);
      const part = harmless ?? String.fromCodePoint(text.codePointAt(at) as number);
      const isEdge = at === first || at + part.length === end;
      at += part.length;
      if (harmless !== undefined || !(isEdge || firsts.has(part.toLowerCase()))) continue;
      marked += text.slice(done, at) + MARK;
      done = at;
    }
    return marked + text.slice(done);
  };
}

/** An added token of so many characters is looked at; longer ones count as text. */
const MAX_HARMLESS = 256;

/** Gives added tokens that make no special one with what may stand beside them. */
function harmlessTokens(added: readonly AddedToken[], special: readonly string[]): string[] {
  const others = added.filter((token) => !token.special && token.content.length <= MAX_HARMLESS);
  if (others.length === 0) return [];
  const sorted = [...special].sort();
  const begins = (end: string) => {
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] < end) low = middle + 1;
      else high = middle;
    }
    return sorted[low]?.startsWith(end) ?? false;
  };
  const findSpecial = finderOf(special);
  const findOther = finderOf(others.map(({ content }) => content.toLowerCase()));
  const within = new Set(special.flatMap((token) => Array.from(token, (_, at) => findOther(token, at)).flat()));
  return others
    .map(({ content }) => content)
    .filter((content) => {
      const folded = content.toLowerCase();
      if (within.has(folded) || holds(folded, findSpecial)) return false;
      return Array.from(folded, (_, at) => folded.slice(at)).every((end) => !begins(end));
    });
}

/** Tells whether a string that the finder knows is anywhere in the text. */
export function holds(text: string, find: ReturnType<typeof finderOf>): boolean {
  for (let at = 0; at < text.length; at++) if (find(text, at).length > 0) return true;
  return false;
}

/** Changes all texts in what JSON can hold. @throws UnsupportedError when a name in it is one that `isBad`. */
export function mapTexts<T>(value: T, change: (text: string) => string, isBad: (name: string) => boolean): T {
  if (typeof value === 'string') return change(value) as T;
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, change, isBad)) as T;
  if (typeof value !== 'object' || value === null || ![Object.prototype, null].includes(Object.getPrototypeOf(value))) {
    return value;
  }
  const entries = Object.entries(value).map(([name, item]) => {
    if (!isBad(name)) return [name, mapTexts(item, change, isBad)];
    throw new UnsupportedError(`the name ${JSON.stringify(name)} holds a control token; choose another name`);
  });
  return Object.fromEntries(entries) as T;
}
