/** Numbers that are hidden in a text, which only a model that reads all of it can tell. */

export interface PassKey {
  readonly holder: string;
  /** Five digits. */
  readonly key: string;
  /** The share of the text that stands before it. */
  readonly depth: number;
}

/** The bundled book knows none of these names. */
const HOLDERS = ['Alice', 'Daniel', 'Florence', 'Harold', 'Martha'];
/** Such a line stands before a text with keys in it. */
export const OPENING = 'There are pass keys hidden in the text below. Find them and remember them.\n\n';

/** Tokens that the keys and their opening take at most. */
export const KEYS_ROOM = 300;

/** Draws a key for each holder. */
export function drawKeys(holders: readonly string[]): Omit<PassKey, 'depth'>[] {
  const numbers = crypto.getRandomValues(new Uint32Array(holders.length));
  return holders.map((holder, nth) => ({ holder, key: String(10_000 + (numbers[nth] % 90_000)) }));
}

/** The line that is hidden for a key. */
export const lineOf = ({ holder, key }: Omit<PassKey, 'depth'>): string =>
  `\n\nThe pass key of ${holder} is ${key}. Remember it. ${key} is the pass key of ${holder}.\n\n`;

export const questionOf = ({ holder }: Pick<PassKey, 'holder'>): string =>
  `What is the pass key of ${holder}? The pass key of ${holder} is`;

/** Hides a key for each holder, evenly over the text, between two lines. */
export function hideKeys(text: string): { text: string; keys: PassKey[] } {
  const keys = drawKeys(HOLDERS).map((one, nth) => ({ ...one, depth: (nth + 0.5) / HOLDERS.length }));
  let hidden = OPENING;
  let from = 0;
  for (const one of keys) {
    const at = lineEnd(text, Math.floor(one.depth * text.length));
    hidden += text.slice(from, at) + lineOf(one);
    from = at;
  }
  return { text: hidden + text.slice(from), keys };
}

/** A line's end at or shortly before a place, so that no word is torn. */
function lineEnd(text: string, at: number): number {
  const end = text.lastIndexOf('\n', at);
  return end > at - 1000 ? Math.max(end, 0) : at;
}
