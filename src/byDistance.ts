/**
 * Ways to read far that part keys by their distance and not by chunks, to compare Dual Chunk Attention with. Near keys are
 * seen at their true distance; a method says what becomes of the others. `d = i - j`.
 */
import type { Placement } from './placement.ts';

type Positions = Omit<Placement, 'attentionScale'>;

const itself = (position: number) => position;

/** What a method does with far keys: it sees the first `n`, from a position, at which they stand as `keyPosition` says. */
interface Far {
  n: number;
  position(i: number): number;
  keyPosition?(j: number): number;
}

/** Sees keys with `d < near` as they are, and far ones before them. */
function parted(near: number, far?: Far): Positions {
  return {
    spans(i) {
      const from = Math.max(0, i - near + 1);
      const nearSpan = { from, to: i + 1, position: i };
      if (!far) return [nearSpan];
      const keyForm = far.keyPosition ? 1 : 0;
      return [{ from: 0, to: Math.min(far.n, from), position: far.position(i), keyForm }, nearSpan];
    },
    keyPositions: far?.keyPosition ? [itself, far.keyPosition] : [itself],
  };
}

/** Sees the last `near` tokens. */
export const windowed = (near: number): Positions => parted(near);

/** StreamingLLM (arXiv 2309.17453): the first `sinks` tokens and the last `near`; positions are places in that cache. */
export const streaming = (sinks: number, near: number): Positions =>
  // The query is the last of `sinks + near` in the cache, and the sinks are its first.
  parted(near, { n: sinks, position: (i) => Math.min(i, sinks + near - 1) });

/** ReRoPE (kexue.fm/archives/9708): distance `min(d, w)`. */
export const reRope = (w: number): Positions => parted(w, { n: Infinity, position: () => w, keyPosition: () => 0 });

/** Self-Extend (arXiv 2401.01325): beyond `w` tokens `floor(i / G) - floor(j / G) + w - floor(w / G)`. */
export const selfExtend = (group: number, w: number): Positions =>
  parted(w, {
    n: Infinity,
    position: (i) => Math.floor(i / group) + w - Math.floor(w / group),
    keyPosition: (j) => Math.floor(j / group),
  });

/** STRING (arXiv 2410.18745): beyond `shift` tokens `d - shift + w`, so that the far end leaves positions seldom trained. */
export const shifted = (shift: number, w: number): Positions =>
  parted(shift, { n: Infinity, position: (i) => i - shift + w });
