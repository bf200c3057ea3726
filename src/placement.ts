/**
 * How a method reads far: which keys a query sees, and at which positions RoPE turns both. A query sees up to three bands of
 * keys, named after Dual Chunk Attention (arXiv 2402.17463): of its own chunk (intra), of the chunk before (succ), and of
 * all earlier ones (inter). It has a position against each; a key has one for good, in some methods another for the inter
 * band. `i` is a query's index, `j` a key's. Keys and the cache never depend on the text's length.
 */

/** One of each band. */
export interface Bands<T> {
  readonly inter: T;
  readonly succ: T;
  readonly intra: T;
}

/** Keys `from..to`, none where `to <= from`. */
export type Keys = readonly [from: number, to: number];

export interface Placement {
  /** The keys query `i` sees, all at or before it; bands do not overlap. */
  bands(i: number): Bands<Keys>;
  queryPositions(i: number): Bands<number>;
  keyPosition(j: number): number;
  /** Where keys stand for the inter band, if elsewhere: the cache then keeps them twice. */
  interKeyPosition?(j: number): number;
  /** Factor on the logits of query `i`, at least 1. */
  attentionScale(i: number): number;
}

/** Ends of a band at a piece's first row; an end that moves is one key further in every next row. */
export interface Band {
  readonly from: number;
  readonly to: number;
  readonly fromMoves: boolean;
  readonly toMoves: boolean;
}

/** Rows `row..row + nRows` of a block of queries whose bands stand still or move with the query. */
export interface Piece {
  readonly row: number;
  readonly nRows: number;
  readonly bands: Bands<Band>;
}

export const NO_KEYS: Keys = [0, 0];

/** How a factor on the logits grows with the query's own position, since a softmax over more keys is flatter. */
export type Scale = 'none' | 'yarn' | 'logn';

/** `yarn`: Qwen2, vLLM, SGLang; `logn`: kexue.fm/archives/8823. `trainedLen` in tokens is where it begins to grow. */
export function attentionScale(i: number, scale: Scale, trainedLen: number): number {
  const beyond = Math.max(1, (i + 1) / trainedLen);
  if (scale === 'yarn') return (1 + 0.1 * Math.log(beyond)) ** 2;
  // The logarithm of a window of one token is 0.
  if (scale === 'logn') return 1 + Math.log(beyond) / Math.log(Math.max(2, trainedLen));
  return 1;
}

/** Distance RoPE sees between query `i` and key `j`; undefined where the query does not see the key. */
export function relativePosition(i: number, j: number, placement: Placement): number | undefined {
  const bands = placement.bands(i);
  const names = ['inter', 'succ', 'intra'] as const;
  const band = names.find((name) => bands[name][0] <= j && j < bands[name][1]);
  if (band === undefined) return undefined;
  const isElsewhere = band === 'inter' && placement.interKeyPosition !== undefined;
  const key = isElsewhere ? placement.interKeyPosition?.(j) : placement.keyPosition(j);
  return placement.queryPositions(i)[band] - (key as number);
}

/**
 * Cuts a block of `n` queries from token `start` on into pieces, as few as there are changes in how its bands move.
 * @param window Keys with `i - j >= window` are not seen, whatever the placement says.
 */
export function piecesOf({ bands }: Pick<Placement, 'bands'>, start: number, n: number, window = Infinity): Piece[] {
  const endsOf = (row: number) => {
    const { inter, succ, intra } = bands(start + row);
    const oldest = start + row - window + 1;
    return [inter, succ, intra].flatMap(([from, to]) => {
      const seen = Math.max(from, oldest);
      return to > seen ? [seen, to] : [0, 0];
    });
  };
  const pieces: Piece[] = [];
  for (let row = 0; row < n; ) {
    const first = endsOf(row);
    const second = row + 1 < n ? endsOf(row + 1) : first;
    const moves = second.map((end, e) => end - first[e]);
    let nRows = 1;
    // a second row whose ends jump begins a piece of its own
    const goesOn = (ends: number[]) => ends.every((end, e) => end === first[e] + (moves[e] === 1 ? nRows : 0));
    while (row + nRows < n && goesOn(endsOf(row + nRows))) nRows++;
    const band = (e: number): Band => ({
      from: first[e],
      to: first[e + 1],
      fromMoves: nRows > 1 && moves[e] === 1,
      toMoves: nRows > 1 && moves[e + 1] === 1,
    });
    pieces.push({ row, nRows, bands: { inter: band(0), succ: band(2), intra: band(4) } });
    row += nRows;
  }
  return pieces;
}
