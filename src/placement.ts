/**
 * How a method reads far: which keys a query sees, and at which positions RoPE turns both. A query sees its keys in spans, each
 * at a position of its own; Dual Chunk Attention (arXiv 2402.17463) has three of them. A key has one position for good, in some
 * methods another for far queries. `i` is a query's index, `j` a key's. Keys and the cache never depend on the text's length.
 */

/** Keys `from..to` that a query sees from one position; none where `to <= from`. */
export interface QuerySpan {
  readonly from: number;
  readonly to: number;
  readonly position: number;
  /** Which of the keys' positions counts here. Default 0. */
  readonly keyForm?: number;
}

export interface Placement {
  /** The keys query `i` sees, all at or before it. Every query has as many spans, some empty; they do not overlap. */
  spans(i: number): readonly QuerySpan[];
  /** Where keys stand. With a second entry the cache keeps keys twice. */
  readonly keyPositions: readonly ((j: number) => number)[];
  /** Factor on the logits of query `i`, at least 1. */
  attentionScale(i: number): number;
}

/** Tokens `start..start + nRows` of one text: rows `row..row + nRows` of a block. Its keys lie in `pages` of the cache. */
export interface Slice {
  readonly row: number;
  readonly nRows: number;
  readonly start: number;
  /** The page of tokens `PAGE_LEN * p` and on is `pages[p]`. */
  readonly pages: readonly number[];
}

/**
 * Keys that rows of a block see under one rotation of their queries. The ends are those of the first row; an end that moves
 * is one key further in every next row.
 */
export interface Span {
  readonly rotation: number;
  readonly keyForm: number;
  readonly from: number;
  readonly to: number;
  readonly fromMoves: boolean;
  readonly toMoves: boolean;
}

/** Rows `row..row + nRows` of a block, of one text, whose spans stand still or move with the row. None of them is empty. */
export interface Stretch {
  readonly row: number;
  readonly nRows: number;
  readonly spans: readonly Span[];
  /** Pages of the text, as in its slice. */
  readonly pages: readonly number[];
}

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
export function relativePosition(i: number, j: number, { spans, keyPositions }: Placement): number | undefined {
  const span = spans(i).find(({ from, to }) => from <= j && j < to);
  return span && span.position - keyPositions[span.keyForm ?? 0](j);
}

/** Where the spans of a row that is `r` rows behind the first one begin and end. */
export const endsAt = ({ from, to, fromMoves, toMoves }: Span, r: number): [from: number, to: number] => [
  from + (fromMoves ? r : 0),
  to + (toMoves ? r : 0),
];

/**
 * Cuts slices into stretches, as few as there are changes in how their spans move. A span's rotation is its number among
 * `used`, the spans of the placement that any row has keys in.
 * @param window Keys with `i - j >= window` are not seen, whatever the placement says.
 */
export function stretchesOf(
  { spans }: Pick<Placement, 'spans'>,
  slices: readonly Slice[],
  window = Infinity,
): { stretches: Stretch[]; used: number[] } {
  const cut = slices.flatMap((slice) => cutSlice(spans, slice, window));
  const used = [...new Set(cut.flatMap((stretch) => stretch.spans.map(({ rotation }) => rotation)))].sort(
    (a, b) => a - b,
  );
  const stretches = cut.map((stretch) => ({
    ...stretch,
    spans: stretch.spans.map((span) => ({ ...span, rotation: used.indexOf(span.rotation) })),
  }));
  return { stretches, used };
}

/** Cuts one slice; rotations are numbers of the placement's spans. */
function cutSlice(
  spans: Placement['spans'],
  { row: firstRow, nRows: n, start, pages }: Slice,
  window: number,
): Stretch[] {
  /** From and to of every span, [0, 0] where it has no keys. */
  const endsOf = (row: number) => {
    const oldest = start + row - window + 1;
    return spans(start + row).flatMap(({ from, to }) => {
      const seen = Math.max(from, oldest);
      return to > seen ? [seen, to] : [0, 0];
    });
  };
  const keyForms = spans(start).map(({ keyForm = 0 }) => keyForm);
  const stretches: Stretch[] = [];
  for (let row = 0; row < n; ) {
    const first = endsOf(row);
    const second = row + 1 < n ? endsOf(row + 1) : first;
    const moves = second.map((end, e) => end - first[e]);
    let nRows = 1;
    // A second row whose ends jump begins a stretch of its own.
    const goesOn = (ends: number[]) => ends.every((end, e) => end === first[e] + (moves[e] === 1 ? nRows : 0));
    while (row + nRows < n && goesOn(endsOf(row + nRows))) nRows++;
    const moving = (e: number) => nRows > 1 && moves[e] === 1;
    const seen = keyForms.map((keyForm, rotation): Span => {
      const [from, to] = [2 * rotation, 2 * rotation + 1];
      return { rotation, keyForm, from: first[from], to: first[to], fromMoves: moving(from), toMoves: moving(to) };
    });
    stretches.push({ row: firstRow + row, nRows, spans: seen.filter((span) => isSeen(span, nRows)), pages });
    row += nRows;
  }
  return stretches;
}

/** Whether any of `nRows` rows has keys in the span. */
const isSeen = ({ from, to, toMoves }: Span, nRows: number) => to + (toMoves ? nRows - 1 : 0) > from;
