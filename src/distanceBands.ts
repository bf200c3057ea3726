/**
 * Ways to read far that part keys by their distance and not by chunks, to compare Dual Chunk Attention with. Near keys are
 * seen at their true distance; a method says what becomes of the others. `d = i - j`.
 */
import { NO_KEYS, type Placement } from './placement.ts';

type Positions = Omit<Placement, 'attentionScale'>;

const itself = (position: number) => position;

/** Keys with `d < near` in the intra band, and of those behind it the first `nFar` in the inter band. */
const byDistance = (near: number, nFar: number): Placement['bands'] => {
  return (i) => {
    const from = Math.max(0, i - near + 1);
    return { inter: [0, Math.min(nFar, from)], succ: NO_KEYS, intra: [from, i + 1] };
  };
};

/** Sees the last `near` tokens. */
export const windowed = (near: number): Positions => ({
  bands: byDistance(near, 0),
  queryPositions: (i) => ({ intra: i, succ: i, inter: i }),
  keyPosition: itself,
});

/** StreamingLLM (arXiv 2309.17453): the first `sinks` tokens and the last `near`; positions are places in that cache. */
export const streaming = (sinks: number, near: number): Positions => ({
  bands: byDistance(near, sinks),
  // the query is the last of `sinks + near` in the cache, and the sinks are its first
  queryPositions: (i) => ({ intra: i, succ: i, inter: Math.min(i, sinks + near - 1) }),
  keyPosition: itself,
});

/** ReRoPE (kexue.fm/archives/9708): distance `min(d, w)`. */
export const reRope = (w: number): Positions => ({
  bands: byDistance(w, Infinity),
  queryPositions: (i) => ({ intra: i, succ: i, inter: w }),
  keyPosition: itself,
  interKeyPosition: () => 0,
});

/** Self-Extend (arXiv 2401.01325): beyond `w` tokens `floor(i / G) - floor(j / G) + w - floor(w / G)`. */
export const selfExtend = (group: number, w: number): Positions => ({
  bands: byDistance(w, Infinity),
  queryPositions: (i) => ({
    intra: i,
    succ: i,
    inter: Math.floor(i / group) + w - Math.floor(w / group),
  }),
  keyPosition: itself,
  interKeyPosition: (j) => Math.floor(j / group),
});

/** STRING (arXiv 2410.18745): beyond `shift` tokens `d - shift + w`, so that the far end leaves positions seldom trained. */
export const string = (shift: number, w: number): Positions => ({
  bands: byDistance(shift, Infinity),
  queryPositions: (i) => ({ intra: i, succ: i, inter: i - shift + w }),
  keyPosition: itself,
});
