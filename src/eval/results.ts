/**
 * Finished samples become figures: means with their standard errors, loss by position, RULER's summary, the longest
 * length that held. Nothing here knows how samples were made or how figures are shown.
 */
import type { Result, SampleRecord } from './records.ts';

/** The loss of one stretch of positions takes all windows of a length together. */
export interface Position {
  task: string;
  model: string;
  method: string;
  length: number;
  from: number;
  /** The stretch ends before it. */
  to: number;
  /** The loss is in nats a token. */
  nll: number;
  standardError: number;
  tokens: number;
}

/** RULER's threshold is what Llama2-7B reaches at 4k (arXiv 2404.06654, section 4). */
export const RULER_THRESHOLD = 0.856;
export const RULER_MEAN = 'ruler mean';
const RULER_TASK = /^(ruler .+|niah_\w+|vt|cwe|fwe|qa_\d)$/;

/** Tells one of RULER's 13 tasks, under its own name or behind `ruler `. */
export const isRuler = (task: string): boolean => RULER_TASK.test(task) && task !== RULER_MEAN;

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const mean = (values: readonly number[]) => sum(values) / values.length;

/**
 * The standard error of the mean is sqrt(variance / n), the variance with n - 1. It is 0 of a single value, of which
 * nothing is known.
 */
function standardErrorOf(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const centre = mean(values);
  const variance = sum(values.map((value) => (value - centre) ** 2)) / (values.length - 1);
  return Math.sqrt(variance / values.length);
}

/** Groups items in the order of their first appearance. */
function groupBy<T>(items: readonly T[], keyOf: (item: T) => unknown): T[][] {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = JSON.stringify(keyOf(item));
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return [...groups.values()];
}

/** Makes a row for every task, model, method, length and depth; lengths and depths ascend, the rest stays in order. */
export function resultsOf(records: readonly SampleRecord[]): Result[] {
  const sameFigure = ({ task, model, method, length, depth }: SampleRecord) => [task, model, method, length, depth];
  const results = groupBy(records, sameFigure).map(resultOf);
  const runs = groupBy(results, ({ task, model, method }) => [task, model, method]);
  return runs.flatMap((run) => run.sort((a, b) => a.length - b.length || (a.depth ?? 0) - (b.depth ?? 0)));
}

/** Does what `resultsOf` does, with all depths taken together. */
export const resultsByLength = (records: readonly SampleRecord[]): Result[] =>
  resultsOf(records.map(({ depth: _, ...record }) => record));

function resultOf(records: readonly SampleRecord[]): Result {
  const [{ task, model, method, length, depth, scores }] = records;
  return {
    ...{ task, model, method, length },
    ...(depth === undefined ? {} : { depth }),
    ...('nll' in scores ? perplexityOf(records) : accuracyOf(records)),
    samples: records.length,
    seconds: sum(records.map(({ seconds }) => seconds)),
  };
}

function accuracyOf(records: readonly SampleRecord[]) {
  const accuracies = records.map(({ scores }) => scores.accuracy);
  return { accuracy: mean(accuracies), standardError: standardErrorOf(accuracies) };
}

/**
 * Perplexity is exp(nats of all tokens / tokens). Its standard error is that of the mean loss times the perplexity
 * (delta method). The loss varies across windows, of which there must be two; of one window, the loss of its tokens is
 * taken as if each were drawn on its own, which is a lower bound.
 */
function perplexityOf(records: readonly SampleRecord[]) {
  const nats = sum(records.map(({ scores }) => scores.nll));
  const tokens = sum(records.map(({ scores }) => scores.tokens));
  const perplexity = Math.exp(nats / tokens);
  const lossError =
    records.length < 2 ? tokenError(records[0].buckets ?? []) : standardErrorOf(records.map(windowLoss));
  return { perplexity, standardError: perplexity * lossError };
}

const windowLoss = ({ scores }: SampleRecord) => scores.nll / scores.tokens;

/** Gives the standard error of the mean loss from sums and squares over tokens. */
function tokenError(buckets: NonNullable<SampleRecord['buckets']>): number {
  const [nats, squares, tokens] = [1, 2, 3].map((column) => sum(buckets.map((bucket) => bucket[column])));
  if (tokens < 2) return 0;
  const variance = Math.max(0, squares - nats ** 2 / tokens) / (tokens - 1);
  return Math.sqrt(variance / tokens);
}

/** Gives the loss by position, joined over the windows of a length, in order of position. */
export function lossByPosition(records: readonly SampleRecord[]): Position[] {
  const windows = groupBy(records, ({ task, model, method, length }) => [task, model, method, length]);
  return windows.flatMap((sameLength) => {
    const [{ task, model, method, length }] = sameLength;
    const buckets = sameLength.flatMap((record) => record.buckets ?? []).sort((a, b) => a[0] - b[0]);
    const stretches = groupBy(buckets, ([from]) => from);
    return stretches.map((stretch, at) => {
      const [nats, tokens] = [1, 3].map((column) => sum(stretch.map((bucket) => bucket[column])));
      const from = stretch[0][0];
      const longest = stretch.reduce((most, bucket) => Math.max(most, bucket[3]), 0);
      const to = stretches[at + 1]?.[0][0] ?? from + longest;
      const figures = { nll: nats / tokens, standardError: tokenError(stretch), tokens };
      return { ...{ task, model, method, length, from, to }, ...figures };
    });
  });
}

/** Lists all lengths that were measured, the shortest first. */
export const lengthsOf = (results: readonly Result[]): number[] =>
  [...new Set(results.map(({ length }) => length))].sort((a, b) => a - b);

/**
 * Gives the mean over RULER's tasks, each as heavy as the others, by model, method and length, as rows of one task
 * more.
 */
export function rulerMeans(results: readonly Result[]): Result[] {
  const ofRuler = results.filter(({ task }) => isRuler(task)).sort((a, b) => a.length - b.length);
  return groupBy(ofRuler, ({ model, method, length }) => [model, method, length]).map((tasks) => {
    const [{ model, method, length }] = tasks;
    return {
      ...{ task: RULER_MEAN, model, method, length },
      accuracy: mean(tasks.map(({ accuracy = 0 }) => accuracy)),
      standardError: Math.sqrt(sum(tasks.map(({ standardError }) => standardError ** 2))) / tasks.length,
      samples: sum(tasks.map(({ samples }) => samples)),
      seconds: sum(tasks.map(({ seconds }) => seconds)),
    };
  });
}

/** Finds the longest length that holds, as all shorter ones do; `undefined` when not even the shortest does. */
export function longestHeld(results: readonly Result[], holds: (result: Result) => boolean): number | undefined {
  const ascending = results.toSorted((a, b) => a.length - b.length);
  const failure = ascending.findIndex((result) => !holds(result));
  return (failure < 0 ? ascending : ascending.slice(0, failure)).at(-1)?.length;
}

/** Gives RULER's effective length, from the `rulerMeans` of one model and method. */
export const effectiveLength = (means: readonly Result[]): number | undefined =>
  longestHeld(means, ({ accuracy = 0 }) => accuracy >= RULER_THRESHOLD);

/** A cell is one setting of a sweep over DCA's two lengths. */
export interface SweepCell extends Result {
  chunkLen: number;
  /** Distances up to this stay exact over a chunk border. */
  localWindow: number;
  /** Parts and scale are written as the method's name ends. */
  settings: string;
}

/** Takes methods named `dca:CHUNKLEN/MAXDISTANCE`, with what follows; others are left out. */
export const sweepCells = (results: readonly Result[]): SweepCell[] =>
  results.flatMap((result) => {
    const named = /^dca:(\d+)\/(\d+)(?::(.+))?$/.exec(result.method);
    if (!named) return [];
    const [chunkLen, maxDistance] = [Number(named[1]), Number(named[2])];
    return [{ ...result, chunkLen, localWindow: maxDistance - chunkLen, settings: named[3] ?? '' }];
  });

const COLUMNS = [
  ...(['task', 'model', 'method', 'length', 'depth', 'perplexity', 'accuracy', 'standardError'] as const),
  ...(['samples', 'seconds'] as const),
] satisfies (keyof Result)[];

/**
 * Writes CSV by RFC 4180, with a line of names; what a row lacks stays empty. A name, which may be a server's, that a
 * spreadsheet would run as a formula stands behind an apostrophe.
 */
export function csvOf(results: readonly Result[]): string {
  const lines = [COLUMNS, ...results.map((result) => COLUMNS.map((column) => result[column] ?? ''))];
  return lines.map((cells) => `${cells.map(quote).join(',')}\r\n`).join('');
}

function quote(cell: string | number): string {
  const text = typeof cell === 'string' && /^[=+\-@\t\r\n]/.test(cell) ? `'${cell}` : `${cell}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
