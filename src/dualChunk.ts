/**
 * Dual Chunk Attention (arXiv 2402.17463) as integer arithmetic on positions. A key sits at `j mod chunkLen`; a query
 * takes one of three positions, by how many chunks the key lies behind it. No distance ever exceeds `maxDistance`,
 * and a key's position never changes. Plain attention is one infinite chunk.
 */
import { attentionScale, NO_KEYS, type Placement, type Scale } from './placement.ts';

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
    bands(i) {
      const own = i - (i % chunkLen); // first token of the query's chunk
      const before = Math.max(0, own - chunkLen); // and of the chunk before
      if (parts === 'intra') return { inter: NO_KEYS, succ: NO_KEYS, intra: [own, i + 1] };
      return { inter: [0, before], succ: [before, own], intra: [own, i + 1] };
    },
    queryPositions(i) {
      const intra = i % chunkLen;
      // Without the successive rule the chunk before counts as an earlier one.
      const succ = parts === 'full' ? Math.min(intra + chunkLen, maxDistance) : maxDistance;
      return { intra, succ, inter: maxDistance };
    },
    keyPosition: (j) => j % chunkLen,
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
