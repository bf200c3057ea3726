/** Which keys a block of queries sees, said as tests like to. */
import { PAGE_LEN } from '../src/kvTypes.ts';
import { type QuerySpan, type Slice, type Stretch, stretchesOf } from '../src/placement.ts';

export interface Seen {
  /** Queries, the first of them token `start`. */
  n: number;
  start?: number;
  chunkLen?: number;
  /** Chunks further behind are not seen. */
  maxChunksBehind?: number;
  /** Keys of `i - j >= window` are not seen. */
  window?: number;
  /** In place of chunks: keys of `i - j < near` in one span, and the first `nFar` before them in another. */
  near?: number;
  nFar?: number;
  /** 2: keys before the query's own chunk and the one before it, or far ones, are seen in their second form. */
  keyForms?: number;
  /** Pages of the text; by default the cache's first ones in their order. */
  pages?: readonly number[];
}

/** Pages `0..` for so many tokens. */
export const firstPages = (length: number): number[] =>
  Array.from({ length: Math.ceil(length / PAGE_LEN) }, (_, page) => page);

/** The spans of the query `i`; positions are of no interest here. */
export function spansOf(i: number, seen: Seen): QuerySpan[] {
  const { chunkLen = Infinity, maxChunksBehind = Infinity, near, nFar = Infinity, keyForms = 1 } = seen;
  const span = (from: number, to: number, keyForm = 0) => ({ from, to, position: 0, keyForm });
  if (near !== undefined) {
    const from = Math.max(0, i - near + 1);
    return [span(0, Math.min(nFar, from), keyForms - 1), span(from, i + 1)];
  }
  const own = i - (i % chunkLen);
  const chunk = (behind: number) => Math.max(0, behind === 0 ? own : own - behind * chunkLen);
  const [oldest, before] = [chunk(maxChunksBehind), chunk(Math.min(1, maxChunksBehind))];
  return [span(oldest, before, keyForms - 1), span(before, own), span(own, i + 1)];
}

/** @returns Stretches, and how many rotations their spans name. */
export function stretches(seen: Seen): { stretches: Stretch[]; nRotations: number } {
  const { n, start = 0, window, pages = firstPages(start + n) } = seen;
  const { stretches, used } = stretchesOf({ spans: (i) => spansOf(i, seen) }, [slice(n, start, pages)], window);
  return { stretches, nRotations: used.length };
}

/** Numbers of queries, the same for every rotation. */
export const repeated = (values: ArrayLike<number>, nRotations: number): number[] =>
  Array.from({ length: nRotations }, () => Array.from(values)).flat();

/** A text's only slice, `n` rows from token `start` on, in the first pages of the cache. */
export const slice = (n: number, start = 0, pages: readonly number[] = firstPages(start + n)): Slice => ({
  row: 0,
  nRows: n,
  start,
  pages,
});
