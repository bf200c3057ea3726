/**
 * Dual Chunk Attention (arXiv 2402.17463) as integer arithmetic on positions. A key sits at `j mod chunkLen`; a query
 * takes one of three positions, by how many chunks the key lies behind it. No distance ever exceeds `maxDistance`,
 * and a key's position never changes. Plain attention is one infinite chunk.
 */
import { attentionScale, type Placement, type Scale } from './placement.ts';

/** Which parts of the method are on; all but `full` are the paper's ablations (section 4.4). */
export type Parts = 'full' | 'intra+inter' | 'intra';

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

export function dualChunk({ chunkLen, maxDistance, parts, scale, trainedLen }: DualChunk): Placement {
  return {
    spans(i) {
      const position = i % chunkLen;
      const own = i - position; // first token of the query's chunk
      const before = Math.max(0, own - chunkLen); // first token of the chunk before
      const intra = { from: own, to: i + 1, position };
      if (parts === 'intra' || chunkLen === Infinity) return [intra];
      // Without the successive rule the chunk before counts as an earlier one.
      const successive = parts === 'full' ? Math.min(position + chunkLen, maxDistance) : maxDistance;
      return [{ from: 0, to: before, position: maxDistance }, { from: before, to: own, position: successive }, intra];
    },
    keyPositions: [(j) => j % chunkLen],
    attentionScale: (i) => attentionScale(i, scale, trainedLen),
  };
}

/** Ordinary RoPE attention. */
export const PLAIN: Placement = dualChunk({
  chunkLen: Infinity,
  maxDistance: Infinity,
  parts: 'full',
  scale: 'none',
  trainedLen: Infinity,
});
