/**
 * Definition: attention of `n` queries to the cached keys, with the query's position chosen by how many chunks the key
 * lies behind it (`dualChunk.ts`). Queries carry the softmax scale already. `i` is a query's token, `j` a key's.
 */
export interface AttendShape {
  nHeads: number;
  nKvHeads: number;
  headDim: number;
  /** Token of the first query. */
  start: number;
  chunkLen: number;
  maxChunksBehind: number;
  window: number;
}

/** `out`, `q*` `[n, nHeads, headDim]`; `keys`, `values` `[capacity, nKvHeads, headDim]`, keys rotated. */
export function attend(
  out: Float64Array,
  qIntra: Float64Array,
  qSucc: Float64Array,
  qInter: Float64Array,
  keys: Float64Array,
  values: Float64Array,
  { nHeads, nKvHeads, headDim, start, chunkLen, maxChunksBehind, window }: AttendShape,
): void {
  const n = out.length / (nHeads * headDim);
  for (let r = 0; r < n; r++) {
    const i = start + r;
    for (let head = 0; head < nHeads; head++) {
      const kvHead = Math.floor((head * nKvHeads) / nHeads);
      const at = (r * nHeads + head) * headDim;
      const logits: number[] = [];
      const seen: number[] = [];
      for (let j = Math.max(0, i - window + 1); j <= i; j++) {
        const chunksBehind = Math.floor(i / chunkLen) - Math.floor(j / chunkLen);
        if (chunksBehind > maxChunksBehind) continue;
        const q = chunksBehind === 0 ? qIntra : chunksBehind === 1 ? qSucc : qInter;
        let logit = 0;
        for (let d = 0; d < headDim; d++) logit += q[at + d] * keys[(j * nKvHeads + kvHead) * headDim + d];
        logits.push(logit);
        seen.push(j);
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
