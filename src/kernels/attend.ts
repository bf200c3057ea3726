/**
 * Definition: attention of queries to the cached keys they see, span by span, each with the query's rotation for that span
 * (`placement.ts`), and one softmax over all. Queries carry the softmax scale already.
 */
import { PAGE_LEN } from '../kvTypes.ts';
import { endsAt, type Stretch } from '../placement.ts';

export interface AttendShape {
  nHeads: number;
  nKvHeads: number;
  headDim: number;
}

/** Where a text's token `j` lies in the cache, in tokens. */
export const placeOf = (pages: readonly number[], j: number): number =>
  PAGE_LEN * pages[Math.floor(j / PAGE_LEN)] + (j % PAGE_LEN);

/**
 * `out` `[n, nHeads, headDim]`, `queries` `[nRotations, n, nHeads, headDim]`, `values` and every form of `keys`
 * `[nPages * PAGE_LEN, nKvHeads, headDim]`. Rows of `out` that no stretch has stay as they were.
 */
export function attend(
  out: Float64Array,
  queries: Float64Array,
  keys: readonly Float64Array[],
  values: Float64Array,
  stretches: readonly Stretch[],
  { nHeads, nKvHeads, headDim }: AttendShape,
): void {
  for (const { row, nRows, spans, pages } of stretches) {
    for (let r = 0; r < nRows; r++) {
      for (let head = 0; head < nHeads; head++) {
        const kvHead = Math.floor((head * nKvHeads) / nHeads);
        const at = ((row + r) * nHeads + head) * headDim;
        const logits: number[] = [];
        const seen: number[] = []; // where their values begin
        for (const span of spans) {
          const q = span.rotation * out.length + at;
          const [from, to] = endsAt(span, r);
          for (let j = from; j < to; j++) {
            const k = (placeOf(pages, j) * nKvHeads + kvHead) * headDim;
            let logit = 0;
            for (let d = 0; d < headDim; d++) logit += queries[q + d] * keys[span.keyForm][k + d];
            logits.push(logit);
            seen.push(k);
          }
        }
        const max = logits.reduce((a, b) => Math.max(a, b), -Infinity);
        const weights = logits.map((logit) => Math.exp(logit - max));
        const sum = weights.reduce((a, b) => a + b, 0);
        out.fill(0, at, at + headDim);
        seen.forEach((v, s) => {
          for (let d = 0; d < headDim; d++) out[at + d] += (weights[s] / sum) * values[v + d];
        });
      }
    }
  }
}
