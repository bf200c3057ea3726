/** Text whose control tokens stay characters where a chat template puts it unchanged; one that rewrites it may still make some. */
import { MARK } from './encoder.ts';

/**
 * What makes a text literal: special tokens in it are broken by a mark, and so is one that begins at its end, which
 * another text could complete.
 *
 * @param asLiteral Breaks the whole ones.
 */
export function literalText(asLiteral: (text: string) => string, special: readonly string[]): (text: string) => string {
  const beginnings = new Set<string>();
  for (const token of special) for (let n = 1; n < token.length; n++) beginnings.add(token.slice(0, n));
  const longest = special.reduce((length, token) => Math.max(length, token.length - 1), 0);
  return (text) => {
    let literal = asLiteral(text);
    // White space may be trimmed by the template.
    const end = literal.trimEnd().length;
    for (let n = 1; n <= Math.min(longest, end); n++) {
      if (!beginnings.has(literal.slice(end - n, end))) continue;
      const [first] = literal.slice(end - n);
      const at = end - n + first.length;
      if (literal[at] !== MARK) literal = literal.slice(0, at) + MARK + literal.slice(at);
    }
    return literal;
  };
}

/** The same of all texts in what JSON can hold. */
export function mapTexts<T>(value: T, change: (text: string) => string): T {
  if (typeof value === 'string') return change(value) as T;
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, change)) as T;
  if (typeof value !== 'object' || value === null || ![Object.prototype, null].includes(Object.getPrototypeOf(value))) {
    return value;
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapTexts(item, change)])) as T;
}
