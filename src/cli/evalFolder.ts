/**
 * The folder of an evaluation has a line for every finished sample, the facts of all runs that wrote there, and what is
 * drawn from both. A line is written as soon as its sample is finished, so that an interrupted run goes on where it
 * was; all else is written beside what was there and takes its place when it is whole.
 */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { UnsupportedError } from '../errors.ts';
import {
  parsed,
  parseFacts,
  parseRecord,
  type RunFacts,
  type RunParts,
  type SampleRecord,
  withEarlier,
} from '../eval/records.ts';
import { reportHtml } from '../eval/report.ts';
import { csvOf, resultsOf } from '../eval/results.ts';
import type { Job } from '../eval/run.ts';
import { note } from './terminal.ts';

export interface EvalFolder {
  readonly path: string;
  readonly records: readonly SampleRecord[];
  /** @throws UnsupportedError when samples of one of these tasks are there that were made otherwise. */
  checkSetups(model: string, jobs: readonly Job[]): void;
  /** @throws UnsupportedError when the line cannot be written; the record is in neither file nor `records` then. */
  append(record: SampleRecord): void;
  /**
   * Adds to what earlier runs said of their models, methods and tasks, and writes report and tables anew.
   * @throws UnsupportedError when they cannot be written; what was there before stays.
   */
  finish(facts: RunFacts): Promise<void>;
}

/** Windows keeps these names for devices. */
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;
const LONGEST_NAME = 40;

/** Makes a name out of a file or from a server part of a path: it leads out of no folder, and is no other name's. */
export function fileNameOf(name: string): string {
  const plain = Array.from(name.toWellFormed().replace(/[^\p{L}\p{N}._ -]+/gu, '_'))
    .slice(0, LONGEST_NAME)
    .join('');
  const safe = plain.replace(/^[. ]+|[. ]+$/g, '');
  if (safe === name && safe !== '' && !RESERVED.test(safe)) return name;
  return `_${safe}-${createHash('sha256').update(name).digest('hex').slice(0, 8)}`;
}

const FILES = {
  samples: 'samples.jsonl',
  facts: 'facts.json',
  results: 'results.json',
  table: 'results.csv',
  report: 'report.html',
} as const;

/**
 * Opens a folder, which is made where there is none, and keeps other processes out of it.
 * @throws FormatError when a line is not a finished sample.
 * @throws UnsupportedError when the folder cannot be used, or another run uses it.
 */
export function openFolder(path: string): EvalFolder {
  writing(path, () => makeFolder(path));
  // This is told before hours go into what could not be written then.
  for (const name of Object.values(FILES)) sizeOf(join(path, name));
  lock(path);
  const file = join(path, FILES.samples);
  const records = readRecords(file);
  const before = readFacts(join(path, FILES.facts));
  return {
    path,
    records,
    checkSetups(model, jobs) {
      for (const { task, setup } of jobs) {
        const other = records.find((one) => one.model === model && one.task === task && one.setup !== setup);
        if (!other) continue;
        throw new UnsupportedError(
          `${path} holds samples of ${task} made otherwise (${other.setup}; now ${setup}); give another --out`,
        );
      }
    },
    append(record) {
      writing(file, () => {
        const size = sizeOf(file);
        try {
          appendFileSync(file, `${JSON.stringify(record)}\n`);
        } catch (error) {
          if (sizeOf(file) !== undefined) truncateSync(file, size); // half a line is no sample
          throw error;
        }
      });
      records.push(record);
    },
    async finish(facts) {
      const all = withEarlier(facts, before);
      const results = resultsOf(records);
      replaceFiles(path, {
        [FILES.facts]: `${JSON.stringify(all, undefined, 1)}\n`,
        [FILES.results]: `${JSON.stringify(results, undefined, 1)}\n`,
        [FILES.table]: csvOf(results),
        [FILES.report]: await reportHtml(records, all),
      });
      note(`${join(path, FILES.report)}, ${FILES.table}, ${FILES.results}; every sample is in ${FILES.samples}`);
    },
  };
}

/**
 * Does what `mkdirSync` does with `recursive`, which tries for ever where the system says that there is nothing, as
 * `/proc` does.
 */
function makeFolder(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  const parent = dirname(path);
  if (parent !== path) makeFolder(parent);
  mkdirSync(path);
}

/**
 * Gives the bytes of a file, undefined where there is none.
 * @throws UnsupportedError where that cannot be told, or it is no file.
 */
function sizeOf(path: string): number | undefined {
  const info = reading(path, () => statSync(path, { throwIfNoEntry: false }));
  if (info && !info.isFile()) {
    throw new UnsupportedError(
      `${path}: ${info.isDirectory() ? 'a folder' : 'no plain file'}; move it elsewhere, or give another --out`,
    );
  }
  return info?.size;
}

/** Makes the system's refusal to read an error of ours. */
function reading<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const { message } = error as Error;
    throw new UnsupportedError(`${path}: cannot be read (${message}); mend that, or give another --out`, {
      cause: error,
    });
  }
}

/** Makes the system's refusal to write an error of ours. */
function writing<T>(path: string, write: () => T): T {
  try {
    return write();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    const fault = code === 'ENOSPC' ? 'the disk is full' : message;
    throw new UnsupportedError(
      `${path}: cannot be written (${fault}); what was there before is kept: mend that, and the same command goes on from ` +
        'it, or give another --out',
      { cause: error },
    );
  }
}

/**
 * Writes all files beside those they replace, under names that the next run takes again, and only then in their places.
 */
function replaceFiles(folder: string, texts: Record<string, string>): void {
  const names = Object.keys(texts);
  const made = (name: string) => join(folder, `${name}.tmp`);
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

/** This process holds these locks until it ends. */
const locks = new Set<string>();
process.on('exit', () => {
  for (const file of locks) {
    try {
      if (readFileSync(file, 'utf8') === OWN_LOCK) rmSync(file);
    } catch {} // whoever comes next finds that its process has ended
  }
});

/**
 * Tells when a process began, in the system's own count, as its number may be another's by now. The answer is empty
 * where nothing but its life is known, and undefined where it has ended.
 */
function beginOf(pid: number): string | undefined {
  try {
    process.kill(pid, 0); // signal 0 only asks
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return undefined;
  }
  try {
    const [, fields] = /^.*\) (.*)$/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
    return fields.split(' ')[19]; // `starttime`, of proc_pid_stat(5) the 22nd, after the name in parentheses
  } catch {
    return '';
  }
}

const OWN_LOCK = `${process.pid}\n${hostname()}\n${beginOf(process.pid)}\n`;
/** A lock names the number, machine and begin of a process; a file with the number alone is a lock too. */
const LOCK = /^([1-9]\d*)\n(?:(.*)\n(\d*)\n)?$/;

/** Keeps other processes out of the folder as long as this one lives. */
function lock(folder: string): void {
  const file = join(folder, 'lock');
  const door = join(folder, 'lock.door'); // only who made it looks at the lock and takes it, one at a time
  writing(folder, () => {
    try {
      mkdirSync(door);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      throw new UnsupportedError(
        `${folder}: another run begins there now; give the command again, or delete ${door} if there is none`,
      );
    }
    try {
      checkLock(folder, file);
      writeFileSync(file, OWN_LOCK);
      locks.add(file);
    } finally {
      rmdirSync(door);
    }
  });
}

/** @throws UnsupportedError unless the lock is nobody's, this process's, or that of one that has ended. */
function checkLock(folder: string, file: string): void {
  const text = sizeOf(file) ? reading(file, () => readFileSync(file, 'utf8')) : '';
  if (text === '' || text === OWN_LOCK) return;
  const [, pid, host = hostname(), begin = ''] = LOCK.exec(text) ?? [];
  if (pid === undefined) {
    throw new UnsupportedError(`${file}: not the lock of an evaluation; move it elsewhere, or give another --out`);
  }
  const isHere = host === hostname();
  const found = beginOf(Number(pid));
  if (isHere && (found === undefined || (found !== '' && begin !== '' && found !== begin))) return;
  throw new UnsupportedError(
    `${folder}: process ${pid}${isHere ? '' : ` on ${host}`} writes there; wait for it, give another --out, ` +
      `or delete ${file} if that is no evaluation`,
  );
}

/** Every line begins with this. */
const BEGIN = '{"task":';

/**
 * Reads all samples of a file, which is made where there is none. A line whose writing was interrupted is taken off.
 */
function readRecords(file: string): SampleRecord[] {
  writing(file, () => appendFileSync(file, ''));
  const bytes = reading(file, () => readFileSync(file));
  const lines = reading(file, () => bytes.toString()).split('\n');
  const rest = lines.pop() as string;
  const isTorn = parsed(rest) === undefined && (rest.startsWith(BEGIN) || BEGIN.startsWith(rest));
  if (!isTorn) lines.push(rest); // it is a whole line, or one that is not ours to delete
  const records = lines.flatMap((line, at) => (line.trim() === '' ? [] : [parseRecord(line, `${file}:${at + 1}`)]));
  if (!isTorn) writing(file, () => appendFileSync(file, '\n'));
  else if (rest !== '') writing(file, () => truncateSync(file, bytes.lastIndexOf('\n') + 1));
  return records;
}

/** Reads what earlier runs said of themselves; nothing where that was torn, as every figure comes from the samples. */
function readFacts(file: string): RunParts | undefined {
  if (sizeOf(file) === undefined) return undefined;
  const facts = parseFacts(reading(file, () => readFileSync(file, 'utf8')));
  if (!facts) note(`${file}: not the facts of an evaluation; written anew, without what it said of earlier runs`);
  return facts;
}
