/**
 * What an evaluation leaves behind: a record for every finished sample, from the records a row for every figure, and how
 * both came to be. Records and facts that were written as JSON are checked before they are believed.
 */
import { FormatError, isRecord } from '../errors.ts';

/** One finished sample, one line of `samples.jsonl`. */
export interface SampleRecord {
  task: string;
  /** Name of the model's file or folder, or of the server's model. */
  model: string;
  /** With all its settings, `dca:paper:logn`. */
  method: string;
  length: number;
  depth?: number;
  sample: string;
  seed: number;
  /** What samples were made of besides, in words: texts, filler, form of the prompt, precision. */
  setup: string;
  /** `accuracy` 0 to 1; of perplexity `nll`, nats of all tokens together, and `tokens`. */
  scores: Record<string, number>;
  /** Of perplexity: nats and tokens by position, `[first position, nats, squares of nats, tokens]`. */
  buckets?: [from: number, sum: number, squares: number, tokens: number][];
  /** Of an answer: what the model said. */
  answer?: string;
  /** Spent on it. What it shares with a sample before was not read again, so this is not how long its text takes. */
  seconds: number;
}

/** One row of results: a mean over samples. `method` begins with the name the user gave. */
export interface Result {
  task: string;
  model: string;
  method: string;
  length: number;
  depth?: number;
  perplexity?: number;
  accuracy?: number;
  /** Of the figure; for perplexity in its own units. */
  standardError: number;
  samples: number;
  /** Spent on all samples together, without what was read before. */
  seconds: number;
}

/** What the report says about how figures came to be. */
export interface RunFacts {
  dualchunk: string;
  date: string;
  hardware: string;
  runtime: string;
  /** By model name: format, trained window, parameters in words, backend, cache. */
  models: Record<string, Record<string, string | number>>;
  /** By method name: what it does, in words and numbers. */
  methods: Record<string, string>;
  /** By task: its settings. */
  tasks: Record<string, Record<string, string | number>>;
  seed: number;
}

/** What runs say of their models, methods and tasks, which adds up over runs. */
export type RunParts = Pick<RunFacts, 'models' | 'methods' | 'tasks'>;

/**
 * A finished sample of its line of JSON.
 * @param where Names the line in errors, such as `samples.jsonl:17`.
 * @throws FormatError when the line is no finished sample.
 */
export function parseRecord(line: string, where: string): SampleRecord {
  const record = parsed(line);
  if (record === undefined) throw new FormatError(`${where}: not JSON; mend or delete the line`);
  for (const [field, [check, wanted]] of Object.entries(RECORD)) {
    if (!isRecord(record) || !check(Object.hasOwn(record, field) ? record[field] : undefined)) {
      throw new FormatError(
        `${where}: ${field} is not ${wanted}, so this is no finished sample; mend or delete the line`,
      );
    }
  }
  return record as SampleRecord;
}

/** What a text of JSON says of runs; undefined where it is torn or damaged. */
export function parseFacts(text: string): RunParts | undefined {
  const facts = parsed(text);
  const isWhole = isRecord(facts) && Object.entries(PARTS).every(([field, check]) => check(facts[field]));
  return isWhole ? (facts as unknown as RunParts) : undefined;
}

/** Facts of a run with what earlier runs said of their models, methods and tasks. */
export const withEarlier = (facts: RunFacts, earlier?: RunParts): RunFacts => ({
  ...facts,
  models: { ...earlier?.models, ...facts.models },
  methods: { ...earlier?.methods, ...facts.methods },
  tasks: { ...earlier?.tasks, ...facts.tasks },
});

/** What the text says, or undefined where it is no JSON. */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// --- internal ---

type Check = (value: unknown) => boolean;
const isText: Check = (value) => typeof value === 'string';
const isNumber: Check = (value) => Number.isFinite(value);
const isTextOrNumber: Check = (value) => isText(value) || isNumber(value);
const recordOf =
  (check: Check): Check =>
  (value) =>
    isRecord(value) && Object.values(value).every(check);
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);

/** Scores are of perplexity, or of an answer. */
const isScores: Check = (value) =>
  recordOf(isNumber)(value) &&
  ('nll' in (value as object) ? Number((value as Record<string, number>).tokens) > 0 : 'accuracy' in (value as object));
const isBucket: Check = (value) => Array.isArray(value) && value.length === 4 && value.every(isNumber);

const RECORD: Record<keyof SampleRecord, [check: Check, wanted: string]> = {
  task: [isText, 'a text'],
  model: [isText, 'a text'],
  method: [isText, 'a text'],
  length: [(value) => isNumber(value) && Number(value) > 0, 'a number above 0'],
  depth: [optional(isNumber), 'a number'],
  sample: [isText, 'a text'],
  seed: [isNumber, 'a number'],
  setup: [isText, 'a text'],
  scores: [isScores, 'numbers by name, accuracy or nll with tokens'],
  buckets: [optional((value) => Array.isArray(value) && value.every(isBucket)), 'a list of lists of four numbers'],
  answer: [optional(isText), 'a text'],
  seconds: [isNumber, 'a number'],
};

const PARTS: Record<keyof RunParts, Check> = {
  models: recordOf(recordOf(isTextOrNumber)),
  methods: recordOf(isText),
  tasks: recordOf(recordOf(isTextOrNumber)),
};
