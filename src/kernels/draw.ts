/** Definition: how a token is drawn from the logits of one row, `[vocabSize]`; its number is its place there. */

/** Filters run in Hugging Face's order, as they stand here; each keeps some of the likeliest that the one before left. */
export interface Choice {
  /** Tokens to keep, the first of equals first; 0 keeps all. 1 is greedy, whatever the rest says. */
  readonly topK: number;
  /** Divides the logits; above 0. */
  readonly temperature: number;
  /** Probability that the fewest tokens to keep reach together; 1 keeps all. */
  readonly topP: number;
  /** Least probability of a token to keep, as a share of the likeliest's; 0 keeps all. */
  readonly minP: number;
  /** Where to draw in the probabilities of what is kept, laid end to end: in [0, 1). */
  readonly u: number;
}

/** Largest `topK` that a backend's `draw` takes; it takes no 0. */
export const MAX_TOP_K = 256;

/** The token that `choice` draws, or -1 where a logit is not a number or the largest is infinite. */
export function draw(logits: ArrayLike<number>, { topK, temperature, topP, minP, u }: Choice): number {
  const best = argmax(logits);
  if (!Number.isFinite(logits[best])) return -1;
  if (topK === 1) return best;
  const weight = (id: number) => Math.exp((logits[id] - logits[best]) / temperature);
  const total = (some: Uint32Array) => some.reduce((sum, id) => sum + weight(id), 0);

  let ids = new Uint32Array(logits.length).map((_, id) => id);
  if (topK > 0) ids = likeliest(logits, ids, (_, n) => n === topK);
  if (topP < 1) {
    let missing = topP * total(ids);
    ids = likeliest(logits, ids, (id) => {
      missing -= weight(id);
      return missing <= 0;
    });
  }
  if (minP > 0) ids = ids.filter((id) => weight(id) >= minP);

  let left = u * total(ids);
  const drawn = ids.find((id) => {
    left -= weight(id);
    return left < 0;
  });
  return drawn ?? best;
}

/** Index of the largest value, the first of several; -1 where a value is not a number. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) return -1;
    if (values[i] > values[best]) best = i;
  }
  return best;
}

/**
 * Those of `ids` whose logits are largest, in order, the first of equals first: up to one that `isLast`, the `n`th. They
 * come off a heap, so that a few of many cost no sorting of the rest.
 */
export function likeliest(
  logits: ArrayLike<number>,
  ids: Uint32Array,
  isLast: (id: number, n: number) => boolean,
): Uint32Array<ArrayBuffer> {
  const heap = ids.slice();
  const isBefore = (a: number, b: number) => logits[a] > logits[b] || (logits[a] === logits[b] && a < b);
  /** Puts `id` where it belongs at or below place `at` of the first `length`. */
  const sink = (id: number, at: number, length: number) => {
    for (let child = 2 * at + 1; child < length; child = 2 * at + 1) {
      if (child + 1 < length && isBefore(heap[child + 1], heap[child])) child++;
      if (isBefore(id, heap[child])) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = id;
  };
  for (let at = heap.length >> 1; at-- > 0; ) sink(heap[at], at, heap.length);
  const found: number[] = [];
  for (let length = heap.length; length > 0; ) {
    const first = heap[0];
    if (isLast(first, found.push(first))) break;
    length--;
    sink(heap[length], 0, length);
  }
  return Uint32Array.from(found);
}
