/** One forward: rows of some texts go in, tokens and losses come out. */
import type { Backend, Tensor } from '../backends/backend.ts';
import type { KvCache } from '../kvCache.ts';
import type { Slice } from '../placement.ts';
import { checkedToken } from '../sampler.ts';
import type { Transformer } from '../transformer.ts';
import type { Arriving, Leaving } from './moving.ts';
import type { Path } from './pages.ts';
import { type GeneratedToken, lossOf, Scoring, Writing } from './texts.ts';

export interface EngineParts {
  backend: Backend;
  transformer: Transformer;
  cache: KvCache;
  /** Tokens that a text may have. */
  context: number;
  /** Texts that may have a place in the cache at once, each with room for a whole context. */
  sequences: number;
  /** Rows read at a time. */
  blockLen: number;
  /** Rows of logits the transformer can give at once. */
  maxLogitRows: number;
  /** Token ids are below it. */
  vocabSize: number;
}

export type Text = Writing | Scoring | Leaving | Arriving;

/** What a step reads of one text. */
export interface Entry {
  readonly text: Text;
  /** The text's pages as the step began; it may have lost them since. */
  readonly path: Path;
  readonly slice: Slice;
  /** Where the slice ends in the text. */
  readonly end: number;
  /** What its last row, or every row, is for; nothing where more of the text must be read first. */
  readonly gives: 'token' | 'losses' | 'nothing';
}

/** A token, the losses of a block, or nothing. */
export type Result = GeneratedToken | Float64Array | undefined;

/** Whether a backend that draws tokens may draw those of a text. */
export const isDrawn = (text: Text): text is Writing => text instanceof Writing && text.isDrawn;

/**
 * Records a forward of the entries' rows and runs it; returns their tokens and losses, in their order. All that the backend
 * draws, into `drawnIds`, is recorded before this returns.
 */
export async function runStep(
  parts: EngineParts,
  drawnIds: Tensor | undefined,
  entries: readonly Entry[],
  read: readonly number[] | Tensor,
): Promise<Result[]> {
  const { backend, transformer, cache, maxLogitRows, vocabSize } = parts;
  transformer.forward(
    read,
    entries.map(({ slice }) => slice),
    cache,
  );
  const results: Result[] = entries.map(() => undefined);
  const lastRow = ({ slice }: Entry) => slice.row + slice.nRows - 1;
  const numbered = entries.map((entry, nth) => ({ ...entry, nth }));
  const tokens = numbered.filter(({ gives }) => gives === 'token');
  const forBackend = ({ text }: Entry) => drawnIds !== undefined && isDrawn(text);
  const [drawn, sampled] = [true, false].map((of) => tokens.filter((entry) => forBackend(entry) === of));
  const scored = numbered.filter(({ gives }) => gives === 'losses');
  if (drawnIds && drawn.length > 0) {
    for (const run of runsOf(drawn, lastRow, maxLogitRows)) {
      const logits = transformer.logits(lastRow(run[0]), run.length);
      run.forEach(({ text, end }, row) => {
        const to = backend.view(drawnIds, 1, 1, drawn.indexOf(run[row]));
        const from = backend.view(logits, 1, vocabSize, row * vocabSize);
        if (text instanceof Writing) backend.draw?.(to, from, text.choiceAt(end));
      });
    }
    const found = await backend.read(backend.view(drawnIds, drawn.length, 1));
    drawn.forEach(({ nth }, row) => {
      results[nth] = { token: checkedToken(found[row]) };
    });
  }
  for (const run of runsOf(sampled, lastRow, maxLogitRows)) {
    const logits = await backend.read(transformer.logits(lastRow(run[0]), run.length));
    run.forEach(({ text, nth }, row) => {
      const ofRow = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
      if (text instanceof Writing && !text.isEnded) results[nth] = text.sample(ofRow);
    });
  }
  let isRead = tokens.length > 0;
  for (const { text, slice, nth } of scored) {
    const targets = text instanceof Scoring ? (text.targets(slice.start, slice.nRows) ?? []) : [];
    results[nth] = await losses(parts, targets, slice.row);
    isRead ||= targets.length > 0;
  }
  if (!isRead) await backend.submit();
  return results;
}

/** `-ln p(target)` of each row from `firstRow` on. */
async function losses(
  { backend, transformer, maxLogitRows, vocabSize }: EngineParts,
  targets: readonly number[],
  firstRow: number,
): Promise<Float64Array> {
  const found = new Float64Array(targets.length);
  for (let row = 0; row < targets.length; row += maxLogitRows) {
    const nRows = Math.min(maxLogitRows, targets.length - row);
    const logits = await backend.read(transformer.logits(firstRow + row, nRows));
    for (let r = 0; r < nRows; r++) {
      found[row + r] = lossOf(logits.subarray(r * vocabSize, (r + 1) * vocabSize), targets[row + r]);
    }
  }
  return found;
}

/** Cuts entries into runs whose rows follow each other, of at most `most`. */
function runsOf<T>(entries: readonly T[], rowOf: (entry: T) => number, most: number): T[][] {
  const runs: T[][] = [];
  for (const entry of entries) {
    const run = runs.at(-1);
    if (run && run.length < most && rowOf(run[run.length - 1]) + 1 === rowOf(entry)) run.push(entry);
    else runs.push([entry]);
  }
  return runs;
}
