/**
 * How far a method reads is found by doubling the length from the trained window on until the method is lost; search
 * and report go by the same rule.
 */
import { UnsupportedError } from '../errors.ts';
import type { Result, SampleRecord } from './records.ts';
import { resultsByLength } from './results.ts';

/** Beyond so many times the perplexity of the shortest text a method is lost. */
export const MOST_PERPLEXITY = 1.5;
/** Below this share of the pass keys a method is lost. */
export const LEAST_FOUND = 0.5;

/** Tells whether perplexity holds. @param shortest The method's result at the shortest length. */
export const readsOn = ({ perplexity = Infinity }: Result, shortest: Result): boolean =>
  perplexity <= MOST_PERPLEXITY * (shortest.perplexity ?? 0);

/** Tells whether enough keys are found. */
export const findsKeys = ({ accuracy = 0 }: Result): boolean => accuracy >= LEAST_FOUND;

/** A search finds out this about a method. */
export interface Limit {
  /** These samples are of all lengths that were tried. */
  records: SampleRecord[];
  /** The method held at so many tokens; undefined where it did not even hold in the window. */
  held?: number;
  /** The method was lost there, by these figures. */
  broken?: { length: number; why: string };
  /** Longer samples could not be read for this reason, such as a text that ends, which is no fault of the method. */
  impossible?: UnsupportedError;
}

/**
 * Doubles the length until the method is lost, samples cannot be read, or `upTo` is reached.
 *
 * @param measure Reads samples of a length, of the tasks that `measuredBy('limit', …)` plans.
 * @param window Tokens that the model was trained on, where the search begins.
 * @throws UnsupportedError when `upTo` is below the window, or not even samples of the window can be read.
 */
export async function findLimit(
  measure: (length: number) => Promise<SampleRecord[]>,
  window: number,
  upTo = 64 * window,
): Promise<Limit> {
  if (upTo < window) {
    throw new UnsupportedError(`the search begins at the trained window, ${window} tokens; wanted a limit beyond it`);
  }
  const records: SampleRecord[] = [];
  let shortest: Result[] | undefined;
  let held: number | undefined;
  for (let length = window; length <= upTo; length *= 2) {
    let found: SampleRecord[];
    try {
      found = await measure(length);
    } catch (error) {
      if (!(error instanceof UnsupportedError) || held === undefined) throw error;
      return { records, held, impossible: error };
    }
    records.push(...found);
    const results = resultsByLength(found);
    shortest ??= results;
    const why = lostBy(results, shortest);
    if (why !== undefined) return { records, held, broken: { length, why } };
    held = length;
  }
  return { records, held };
}

// --- internal ---

/** Says by which figures a method is lost; undefined while it holds. */
function lostBy(results: readonly Result[], shortest: readonly Result[]): string | undefined {
  const find = (list: readonly Result[], task: string) => list.find((result) => result.task === task);
  const [now, first] = [results, shortest].map((list) => find(list, 'limit perplexity'));
  if (now && first && !readsOn(now, first)) {
    return `perplexity ${now.perplexity?.toFixed(1)}, in the window ${first.perplexity?.toFixed(1)}`;
  }
  const keys = find(results, 'limit passkey');
  return keys && !findsKeys(keys) ? `${Math.round(100 * (keys.accuracy ?? 0))}% of keys found` : undefined;
}
