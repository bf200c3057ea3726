/**
 * An evaluation leaves behind a record for every finished sample, from the records a row for every figure, and facts of
 * how both came to be. Records and facts that were written as JSON are checked before they are believed.
 */
import { FormatError, isRecord } from '../errors.ts';

/** A record is one finished sample, and one line of `samples.jsonl`. */
export interface SampleRecord {
  task: string;
  /** This names the model's file or folder, or the server's model. */
  model: string;
  /** The method is named with all its settings, such as `dca:paper:logn`. */
  method: string;
  length: number;
  depth?: number;
  sample: string;
  seed: number;
  /** This says what samples were made of besides, in words: texts, filler, form of the prompt, precision. */
  setup: string;
  /** An answer has an `accuracy` from 0 to 1; perplexity has `nll`, the nats of all tokens together, and `tokens`. */
  scores: Record<string, number>;
  /** Perplexity has its nats and tokens by position, `[first position, nats, squares of nats, tokens]`. */
  buckets?: [from: number, sum: number, squares: number, tokens: number][];
  /** The model said this. */
  answer?: string;
  /**
   * So long it took. What it shares with a sample before was not read again, so this is not how long its text takes.
   */
  seconds: number;
}

/** A result is a row of figures, each a mean over samples. `method` begins with the name the user gave. */
export interface Result {
  task: string;
  model: string;
  method: string;
  length: number;
  depth?: number;
  perplexity?: number;
  accuracy?: number;
  /** The figure has this standard error, perplexity in its own units. */
  standardError: number;
  samples: number;
  /** All samples together took so long, without what was read before. */
  seconds: number;
}

/** The report says this about how figures came to be. */
export interface RunFacts {
  dualchunk: string;
  date: string;
  hardware: string;
  runtime: string;
  /** Each model, by its name, has facts such as format, trained window, parameters in words, backend, cache. */
  models: Record<string, Record<string, string | number>>;
  /** Each method, by its name, does this, in words and numbers. */
  methods: Record<string, string>;
  /** Each task, by its name, has these settings. */
  tasks: Record<string, Record<string, string | number>>;
  seed: number;
}

/** Runs say this of their models, methods and tasks, and it adds up over runs. */
export type RunParts = Pick<RunFacts, 'models' | 'methods' | 'tasks'>;

/**
 * Reads a finished sample from its line of JSON.
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

/** Reads what a text of JSON says of runs; undefined where it is torn or damaged. */
export function parseFacts(text: string): RunParts | undefined {
  const facts = parsed(text);
  const isWhole = isRecord(facts) && Object.entries(PARTS).every(([field, check]) => check(facts[field]));
  return isWhole ? (facts as unknown as RunParts) : undefined;
}

/** Adds what earlier runs said of their models, methods and tasks to the facts of a run. */
export const withEarlier = (facts: RunFacts, earlier?: RunParts): RunFacts => ({
  ...facts,
  models: { ...earlier?.models, ...facts.models },
  methods: { ...earlier?.methods, ...facts.methods },
  tasks: { ...earlier?.tasks, ...facts.tasks },
});

/** Gives what the text says, or undefined where it is no JSON. */
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
