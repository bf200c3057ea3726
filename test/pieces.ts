/** Which keys a block of queries sees, said as tests like to. */
import { NO_KEYS, type Piece, piecesOf } from '../src/placement.ts';

export interface Seen {
  /** Queries, the first of them token `start`. */
  n: number;
  start?: number;
  chunkLen?: number;
  /** Chunks further behind are not seen. */
  maxChunksBehind?: number;
  /** Keys of `i - j >= window` are not seen. */
  window?: number;
  /** In place of chunks: keys of `i - j < near` in the intra band, and the first `nFar` before them in the inter band. */
  near?: number;
  nFar?: number;
}

export function pieces(seen: Seen): Piece[] {
  const { n, start = 0, chunkLen = Infinity, maxChunksBehind = Infinity, window, near, nFar = Infinity } = seen;
  const byChunk = (i: number) => {
    const own = i - (i % chunkLen);
    const chunk = (behind: number) => Math.max(0, behind === 0 ? own : own - behind * chunkLen);
    const [oldest, before] = [chunk(maxChunksBehind), chunk(Math.min(1, maxChunksBehind))];
    return { inter: [oldest, before], succ: [before, own], intra: [own, i + 1] } as const;
  };
  const byDistance = (i: number) => {
    const from = Math.max(0, i - (near as number) + 1);
    return { inter: [0, Math.min(nFar, from)], succ: NO_KEYS, intra: [from, i + 1] } as const;
  };
  return piecesOf({ bands: near === undefined ? byChunk : byDistance }, start, n, window);
}
