/**
 * Definition: attention of `n` queries to the cached keys they see, band by band, each with the query's position for that
 * band (`placement.ts`), and one softmax over all. Queries carry the softmax scale already.
 */
import type { Bands, Piece } from '../placement.ts';

export interface AttendShape {
  nHeads: number;
  nKvHeads: number;
  headDim: number;
}

/**
 * `out` and `queries` `[n, nHeads, headDim]`, `keys` and `values` `[capacity, nKvHeads, headDim]`, keys rotated. Row `r` of a
 * piece sees keys `from..to` of a band, each end moved by `r` if it moves.
 */
export function attend(
  out: Float64Array,
  queries: Bands<Float64Array>,
  keys: Bands<Float64Array>,
  values: Float64Array,
  pieces: readonly Piece[],
  { nHeads, nKvHeads, headDim }: AttendShape,
): void {
  for (const { row, nRows, bands } of pieces) {
    for (let r = 0; r < nRows; r++) {
      for (let head = 0; head < nHeads; head++) {
        const kvHead = Math.floor((head * nKvHeads) / nHeads);
        const at = ((row + r) * nHeads + head) * headDim;
        const logits: number[] = [];
        const seen: number[] = [];
        for (const name of ['inter', 'succ', 'intra'] as const) {
          const { from, to, fromMoves, toMoves } = bands[name];
          const [q, k] = [queries[name], keys[name]];
          for (let j = from + (fromMoves ? r : 0); j < to + (toMoves ? r : 0); j++) {
            let logit = 0;
            for (let d = 0; d < headDim; d++) logit += q[at + d] * k[(j * nKvHeads + kvHead) * headDim + d];
            logits.push(logit);
            seen.push(j);
          }
        }
        const max = logits.reduce((a, b) => Math.max(a, b), -Infinity);
        const weights = logits.map((logit) => Math.exp(logit - max));
        const sum = weights.reduce((a, b) => a + b, 0);
        out.fill(0, at, at + headDim);
        seen.forEach((j, s) => {
          for (let d = 0; d < headDim; d++) {
            out[at + d] += (weights[s] / sum) * values[(j * nKvHeads + kvHead) * headDim + d];
          }
        });
      }
    }
  }
}
