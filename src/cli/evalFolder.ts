/**
 * The folder of an evaluation: a line for every finished sample, the facts of all runs that wrote there, and what is drawn
 * from both. A line is written as soon as its sample is finished, so that an interrupted run goes on where it was.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FormatError } from '../errors.ts';
import type { RunFacts, SampleRecord } from '../eval/records.ts';
import { reportHtml } from '../eval/report.ts';
import { csvOf, resultsOf } from '../eval/results.ts';
import { note } from './terminal.ts';

export interface EvalFolder {
  readonly path: string;
  readonly records: readonly SampleRecord[];
  append(record: SampleRecord): void;
  /** Adds to what earlier runs said of their models, methods and tasks, and writes report and tables anew. */
  finish(facts: RunFacts): void;
}

/** @throws FormatError when a line is not a finished sample. */
export function openFolder(path: string): EvalFolder {
  mkdirSync(path, { recursive: true });
  const file = join(path, 'samples.jsonl');
  const records = existsSync(file) ? readRecords(file) : [];
  return {
    path,
    records,
    append(record) {
      records.push(record);
      appendFileSync(file, `${JSON.stringify(record)}\n`);
    },
    finish(facts) {
      const factsFile = join(path, 'facts.json');
      const before: RunFacts | undefined = existsSync(factsFile) ? readFacts(factsFile) : undefined;
      const all: RunFacts = {
        ...facts,
        models: { ...before?.models, ...facts.models },
        methods: { ...before?.methods, ...facts.methods },
        tasks: { ...before?.tasks, ...facts.tasks },
      };
      const results = resultsOf(records);
      writeFileSync(factsFile, `${JSON.stringify(all, undefined, 1)}\n`);
      writeFileSync(join(path, 'results.json'), `${JSON.stringify(results, undefined, 1)}\n`);
      writeFileSync(join(path, 'results.csv'), csvOf(results));
      writeFileSync(join(path, 'report.html'), reportHtml(records, all));
      note(`${join(path, 'report.html')}, results.csv, results.json; every sample is in samples.jsonl`);
    },
  };
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

const FIELDS = {
  task: 'string',
  model: 'string',
  method: 'string',
  length: 'number',
  sample: 'string',
  scores: 'object',
};

function readRecord(line: string, where: string): SampleRecord {
  const remedy = 'mend or delete the line, or give another --out';
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(line);
  } catch {
    throw new FormatError(`${where}: not JSON; ${remedy}`);
  }
  for (const [field, type] of Object.entries(FIELDS)) {
    if (record === null || typeof record[field] !== type) {
      throw new FormatError(`${where}: no ${field} of type ${type}, so not a finished sample; ${remedy}`);
    }
  }
  return record as unknown as SampleRecord;
}

function readFacts(file: string): RunFacts {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    throw new FormatError(`${file}: not JSON; mend or delete it, or give another --out`);
  }
}
