/**
 * Dual Chunk Attention (arXiv 2402.17463) as integer arithmetic on positions. A key sits at `j mod chunkLen`; a query
 * takes one of three positions, by how many chunks the key lies behind it. No distance ever exceeds `maxDistance`,
 * and a key's position never changes. Plain attention is one infinite chunk. `i` is a query's index, `j` a key's.
 */

/** Which parts of the method are on; all but `full` are the paper's ablations (section 4.4). */
export type Parts = 'full' | 'intra+inter' | 'intra';

/** A factor on the logits that grows with the query's own position, since a softmax over more keys is flatter. */
export type Scale = 'none' | 'yarn' | 'logn';

export interface DualChunk {
  /** Tokens in a chunk: the paper's `s`, Hugging Face's `chunk_size - local_size`. Infinity is plain attention. */
  readonly chunkLen: number;
  /** Largest relative position ever used. The paper caps at `c - 1`; the public code and Qwen at `chunk_size`. */
  readonly maxDistance: number;
  readonly parts: Parts;
  readonly scale: Scale;
  /** Tokens the model was trained to read, `c`: where the scale starts to grow. */
  readonly trainedLen: number;
}

/** Ordinary RoPE attention. */
export const PLAIN: DualChunk = {
  chunkLen: Infinity,
  maxDistance: Infinity,
  parts: 'full',
  scale: 'none',
  trainedLen: Infinity,
};

export const chunkOf = (i: number, { chunkLen }: DualChunk): number => Math.floor(i / chunkLen);

export const keyPosition = (j: number, { chunkLen }: DualChunk): number => j % chunkLen;

/** Positions of query `i` against its own chunk, the chunk before, and all earlier ones. */
export function queryPositions(i: number, { chunkLen, maxDistance, parts }: DualChunk) {
  const intra = i % chunkLen;
  // Without the successive rule the chunk before counts as an earlier one.
  const succ = parts === 'full' ? Math.min(intra + chunkLen, maxDistance) : maxDistance;
  return { intra, succ, inter: maxDistance };
}

/** Distance RoPE sees between query `i` and key `j <= i`; undefined where the query does not see the key. */
export function relativePosition(i: number, j: number, dca: DualChunk): number | undefined {
  const { intra, succ, inter } = queryPositions(i, dca);
  const chunksBehind = chunkOf(i, dca) - chunkOf(j, dca);
  if (chunksBehind > 0 && dca.parts === 'intra') return undefined;
  return (chunksBehind === 0 ? intra : chunksBehind === 1 ? succ : inter) - keyPosition(j, dca);
}

/** Factor on the logits of query `i`, at least 1. `yarn`: Qwen2, vLLM, SGLang; `logn`: kexue.fm/archives/8823. */
export function attentionScale(i: number, { scale, trainedLen }: DualChunk): number {
  const beyond = Math.max(1, (i + 1) / trainedLen);
  if (scale === 'yarn') return (1 + 0.1 * Math.log(beyond)) ** 2;
  if (scale === 'logn') return 1 + Math.log(beyond) / Math.log(trainedLen);
  return 1;
}
