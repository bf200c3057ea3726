/** Answers are scored by SCROLLS' F1, exact match and ROUGE (arXiv 2201.03533), and RULER's string match. */
import { stemmer } from 'stemmer';

/** Makes a text lower case, without punctuation, articles and more white space than needed. */
export const normalize = (text: string): string =>
  text
    .toLowerCase()
    .replace(/[!-/:-@[-`{-~]/g, '')
    .replace(/\b(a|an|the)\b/g, ' ')
    .split(/\s+/)
    .filter((word) => word !== '')
    .join(' ');

/** Gives 1 where both say the same, else 0. */
export const exactMatch = (answer: string, reference: string): number =>
  Number(normalize(answer) === normalize(reference));

/** Gives the harmonic mean of the shares of words they have in common. */
export function f1(answer: string, reference: string): number {
  const [ours, theirs] = [normalize(answer), normalize(reference)].map((text) => text.split(' '));
  return harmonic(overlap(ours, theirs), ours.length, theirs.length);
}

/**
 * Gives the geometric mean of ROUGE-1, ROUGE-2 and ROUGE-L, each the F-measure of Google's `rouge_score` with stemming;
 * NLTK's few irregular stems, such as `dying`, are Porter's.
 */
export function rouge(answer: string, reference: string): number {
  const [ours, theirs] = [rougeTokens(answer), rougeTokens(reference)];
  return Math.cbrt(rougeN(ours, theirs, 1) * rougeN(ours, theirs, 2) * rougeL(ours, theirs));
}

/** Compares runs of `n` words: this is ROUGE-1 or ROUGE-2. */
export function rougeN(ours: readonly string[], theirs: readonly string[], n: number): number {
  const grams = (words: readonly string[]) =>
    words.slice(0, Math.max(0, words.length - n + 1)).map((_, at) => words.slice(at, at + n).join(' '));
  const [a, b] = [grams(ours), grams(theirs)];
  return harmonic(overlap(a, b), a.length, b.length);
}

/** Compares by the longest common subsequence of words. */
export function rougeL(ours: readonly string[], theirs: readonly string[]): number {
  let row = new Array<number>(theirs.length + 1).fill(0);
  for (const word of ours) {
    const next = [0];
    theirs.forEach((other, at) => {
      next.push(word === other ? row[at] + 1 : Math.max(row[at + 1], next[at]));
    });
    row = next;
  }
  return harmonic(row[theirs.length], ours.length, theirs.length);
}

/** Takes words of letters and digits; those of more than three letters are stemmed. */
export const rougeTokens = (text: string): string[] =>
  (text.toLowerCase().match(/[a-z0-9]+/g) ?? []).map((word) => (word.length > 3 ? stemmer(word) : word));

/** Gives the share of references that the answer contains, in any case, as RULER's `string_match_all` does. */
export const stringMatchAll = (answer: string, references: readonly string[]): number =>
  references.filter((reference) => answer.toLowerCase().includes(reference.toLowerCase())).length / references.length;

// --- internal ---

/** Counts the words that are in both, each as often as in the one that has fewer. */
function overlap(a: readonly string[], b: readonly string[]): number {
  const counts = new Map<string, number>();
  for (const word of b) counts.set(word, (counts.get(word) ?? 0) + 1);
  return a.filter((word) => {
    const left = counts.get(word) ?? 0;
    counts.set(word, left - 1);
    return left > 0;
  }).length;
}

/** Gives the F-measure of `common` out of `a` and of `b`. */
const harmonic = (common: number, a: number, b: number) => (common === 0 ? 0 : (2 * common) / (a + b));
