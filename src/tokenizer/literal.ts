/** Text that makes no control token, wherever a chat template puts it. */
import { UnsupportedError } from '../errors.ts';
import type { AddedToken } from './tokenizerJson.ts';

/**
 * The character before it is no part of a control token. One that Unicode reserves for use inside a program, so no text
 * loses anything with it; the encoder takes it out once added tokens are cut out.
 */
export const MARK = '\ufdd0';

/** A pattern of these strings, the longest first where two begin alike. */
export function anyOf(strings: readonly string[]): string {
  const longestFirst = [...strings].sort((a, b) => b.length - a.length);
  return longestFirst.map((string) => string.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|') || '(?!)';
}

/**
 * Makes texts literal. Marked is every character that a special token begins with, in either case, so that a template may
 * change what follows; and the first and the last, where a template may put the rest of a token. Added tokens that are not
 * special, such as `<think>`, keep their meaning.
 */
export function makeLiteral(added: readonly AddedToken[]): (text: string) => string {
  const special = added.filter((token) => token.special).map(({ content }) => content.toLowerCase());
  const firsts = new Set(special.flatMap((token) => [...(token.trimStart() || token)].slice(0, 1)));
  const harmless = new Set(harmlessTokens(added, special));
  const pattern = new RegExp(`${anyOf([...harmless])}|[^]`, 'gu');
  return (given) => {
    const text = given.replaceAll(MARK, '').toWellFormed();
    // A template may trim white space.
    const first = text.length - text.trimStart().length;
    const end = text.trimEnd().length;
    return text.replace(pattern, (part, at: number) => {
      const isEdge = at === first || at + part.length === end;
      return (isEdge || firsts.has(part.toLowerCase())) && !harmless.has(part) ? part + MARK : part;
    });
  };
}

/** Characters of an added token that is looked at; longer ones count as text. */
const MAX_HARMLESS = 256;

/** Added tokens that make no special one with what may stand beside them. */
function harmlessTokens(added: readonly AddedToken[], special: readonly string[]): string[] {
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
  const all = special.join('\0');
  const anySpecial = new RegExp(anyOf(special));
  return added
    .map(({ content }) => content)
    .filter((content) => {
      const folded = content.toLowerCase();
      if (folded.length > MAX_HARMLESS || anySpecial.test(folded) || all.includes(folded)) return false;
      return Array.from(folded, (_, at) => folded.slice(at)).every((end) => !begins(end));
    });
}

/** `change` of all texts in what JSON can hold. @throws UnsupportedError when a name in it holds a special token. */
export function mapTexts<T>(value: T, change: (text: string) => string, special: RegExp): T {
  if (typeof value === 'string') return change(value) as T;
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, change, special)) as T;
  if (typeof value !== 'object' || value === null || ![Object.prototype, null].includes(Object.getPrototypeOf(value))) {
    return value;
  }
  const entries = Object.entries(value).map(([name, item]) => {
    if (!special.test(name)) return [name, mapTexts(item, change, special)];
    throw new UnsupportedError(`the name ${JSON.stringify(name)} holds a control token; choose another name`);
  });
  return Object.fromEntries(entries) as T;
}
