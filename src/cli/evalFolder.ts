/**
 * The folder of an evaluation: a line for every finished sample, the facts of all runs that wrote there, and what is drawn
 * from both. A line is written as soon as its sample is finished, so that an interrupted run goes on where it was; all else
 * is written beside what was there and takes its place when it is whole.
 */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { FormatError, UnsupportedError } from '../errors.ts';
import type { RunFacts, SampleRecord } from '../eval/records.ts';
import { reportHtml } from '../eval/report.ts';
import { csvOf, resultsOf } from '../eval/results.ts';
import { note } from './terminal.ts';

export interface EvalFolder {
  readonly path: string;
  readonly records: readonly SampleRecord[];
  /** @throws UnsupportedError when the line cannot be written; the record is in neither file nor `records` then. */
  append(record: SampleRecord): void;
  /**
   * Adds to what earlier runs said of their models, methods and tasks, and writes report and tables anew.
   * @throws UnsupportedError when they cannot be written; what was there before stays.
   */
  finish(facts: RunFacts): void;
}

/** Names that Windows keeps for devices. */
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;
const LONGEST_NAME = 40;

/** A name out of a file or from a server as part of a path: it leads out of no folder, and is no other name's. */
export function fileNameOf(name: string): string {
  const plain = Array.from(name.toWellFormed().replace(/[^\p{L}\p{N}._ -]+/gu, '_'))
    .slice(0, LONGEST_NAME)
    .join('');
  const safe = plain.replace(/^[. ]+|[. ]+$/g, '');
  if (safe === name && safe !== '' && !RESERVED.test(safe)) return name;
  return `_${safe}-${createHash('sha256').update(name).digest('hex').slice(0, 8)}`;
}

/**
 * @throws FormatError when a line is not a finished sample.
 * @throws UnsupportedError when the folder cannot be used, or another run uses it.
 */
export function openFolder(path: string): EvalFolder {
  writing(path, () => mkdirSync(path, { recursive: true }));
  lock(path);
  const file = join(path, 'samples.jsonl');
  const records = existsSync(file) ? readRecords(file) : [];
  return {
    path,
    records,
    append(record) {
      const size = existsSync(file) ? statSync(file).size : 0;
      writing(file, () => {
        try {
          appendFileSync(file, `${JSON.stringify(record)}\n`);
        } catch (error) {
          if (existsSync(file)) truncateSync(file, size); // half a line is none
          throw error;
        }
      });
      records.push(record);
    },
    finish(facts) {
      const factsFile = join(path, 'facts.json');
      const before = existsSync(factsFile) ? readFacts(factsFile) : undefined;
      const all: RunFacts = {
        ...facts,
        models: { ...before?.models, ...facts.models },
        methods: { ...before?.methods, ...facts.methods },
        tasks: { ...before?.tasks, ...facts.tasks },
      };
      const results = resultsOf(records);
      replaceFiles(path, {
        'facts.json': `${JSON.stringify(all, undefined, 1)}\n`,
        'results.json': `${JSON.stringify(results, undefined, 1)}\n`,
        'results.csv': csvOf(results),
        'report.html': reportHtml(records, all),
      });
      note(`${join(path, 'report.html')}, results.csv, results.json; every sample is in samples.jsonl`);
    },
  };
}

/** The system's refusal to write as an error of ours. */
function writing<T>(path: string, write: () => T): T {
  try {
    return write();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    const fault = code === 'ENOSPC' ? 'the disk is full' : message;
    throw new UnsupportedError(
      `${path}: cannot be written (${fault}); what was there before is kept, and the same command goes on from it`,
      { cause: error },
    );
  }
}

/** Writes all files beside those they replace, and only then puts them in their places. */
function replaceFiles(folder: string, texts: Record<string, string>): void {
  const names = Object.keys(texts);
  const made = (name: string) => join(folder, `${name}.${process.pid}.tmp`);
  try {
    for (const name of names) {
      writing(join(folder, name), () => {
        const file = openSync(made(name), 'w');
        try {
          writeFileSync(file, texts[name]);
          fsyncSync(file);
        } finally {
          closeSync(file);
        }
      });
    }
    for (const name of names) writing(join(folder, name), () => renameSync(made(name), join(folder, name)));
  } finally {
    for (const name of names) rmSync(made(name), { force: true });
  }
}

/** Locks that this process holds, until it ends. */
const locks = new Set<string>();
process.on('exit', () => {
  for (const file of locks) rmSync(file, { force: true });
});

/** Keeps other processes out of the folder as long as this one lives. */
function lock(folder: string): void {
  const file = join(folder, 'lock');
  if (existsSync(file)) {
    const holder = Number.parseInt(readFileSync(file, 'utf8'), 10);
    if (holder === process.pid) return;
    if (isAlive(holder)) {
      throw new UnsupportedError(
        `${folder}: process ${holder} writes there; wait for it, give another --out, or delete ${file} if that is no evaluation`,
      );
    }
    rmSync(file, { force: true });
  }
  writing(folder, () => writeFileSync(file, `${process.pid}\n`, { flag: 'wx' }));
  locks.add(file);
}

function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0); // signal 0 only asks
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function readRecords(file: string): SampleRecord[] {
  const text = readFileSync(file, 'utf8');
  const end = text.lastIndexOf('\n') + 1;
  if (end < text.length) truncateSync(file, Buffer.byteLength(text.slice(0, end))); // its writing was interrupted
  return text
    .slice(0, end)
    .split('\n')
    .flatMap((line, at) => (line === '' ? [] : [readRecord(line, `${file}:${at + 1}`)]));
}

type Check = (value: unknown) => boolean;
const isText: Check = (value) => typeof value === 'string';
const isNumber: Check = (value) => Number.isFinite(value);
const isTextOrNumber: Check = (value) => isText(value) || isNumber(value);
const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
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

function readRecord(line: string, where: string): SampleRecord {
  const remedy = 'mend or delete the line, or give another --out';
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch {
    throw new FormatError(`${where}: not JSON; ${remedy}`);
  }
  for (const [field, [check, wanted]] of Object.entries(RECORD)) {
    if (!isRecord(record) || !check(Object.hasOwn(record, field) ? record[field] : undefined)) {
      throw new FormatError(`${where}: ${field} is not ${wanted}, so this is no finished sample; ${remedy}`);
    }
  }
  return record as SampleRecord;
}

const FACTS: Record<'models' | 'methods' | 'tasks', Check> = {
  models: recordOf(recordOf(isTextOrNumber)),
  methods: recordOf(isText),
  tasks: recordOf(recordOf(isTextOrNumber)),
};

/** What earlier runs said of themselves; nothing where that was torn, as every figure comes from the samples. */
function readFacts(file: string): Pick<RunFacts, keyof typeof FACTS> | undefined {
  try {
    const facts: unknown = JSON.parse(readFileSync(file, 'utf8'));
    if (isRecord(facts) && Object.entries(FACTS).every(([field, check]) => check(facts[field]))) {
      return facts as unknown as RunFacts;
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  note(`${file}: not the facts of an evaluation; written anew, without what it said of earlier runs`);
  return undefined;
}
