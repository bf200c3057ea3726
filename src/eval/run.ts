/**
 * Runs an evaluation: samples are made once and put to every method. Whoever answers, a model here or a server, is a
 * `Reader`; whatever is finished is handed out at once, and what was finished before is not asked again.
 */

import { UnsupportedError } from '../errors.ts';
import { byPosition } from './perplexity.ts';
import type { SampleRecord } from './records.ts';
import type { Making, Sample, Task } from './task.ts';

/** Who answers. What a sample shares with the one before, a reader need not read again. */
export interface Reader {
  answer(sample: Sample, onProgress: OnTokens): Promise<string>;
  /** Nats of every token but the first. */
  losses(sample: Sample, onProgress: OnTokens): Promise<Float64Array>;
  close(): Promise<void>;
}

/** Tokens of the sample read so far. */
export type OnTokens = (done: number) => void;

export interface Job {
  /** As records name it. */
  task: string;
  makeSamples: Task['makeSamples'];
  score: Task['score'] | Task<Float64Array>['score'];
  /** What samples are made of besides seed and length, in words. */
  setup: string;
  lengths: readonly number[];
}

export interface MethodRun {
  /** With all its settings; the same for all lengths that share a reader. */
  method: string;
  lengths: readonly number[];
  /** @param context Tokens of the longest sample. */
  open(context: number): Promise<Reader>;
}

export interface EvalRun {
  model: string;
  jobs: readonly Job[];
  methods: readonly MethodRun[];
  making: Omit<Making, 'length'>;
  /** Finished before, by `keyOf`. */
  finished: ReadonlySet<string>;
  onRecord(record: SampleRecord): void;
  /** Tokens of all samples, and of those done; a sample's method, task and length. */
  onProgress(done: number, total: number, what: string): void;
  /** A task whose samples cannot be made at a length is left out there; without this it stops the evaluation. */
  onLeftOut?(task: string, length: number, reason: UnsupportedError): void;
}

/** What a finished sample is known by. */
export const keyOf = ({ task, model, method, length, sample, seed, setup }: SampleName): string =>
  JSON.stringify([task, model, method, length, sample, seed, setup]);

type SampleName = Pick<SampleRecord, 'task' | 'model' | 'method' | 'length' | 'sample' | 'seed' | 'setup'>;

/**
 * Returns the keys of all samples asked for, those finished before among them.
 * @throws UnsupportedError before anything is read, when samples cannot be made and may not be left out.
 */
export async function runEvaluation(run: EvalRun): Promise<Set<string>> {
  const { model, jobs, methods, making, finished, onRecord, onProgress, onLeftOut } = run;
  const { seed } = making;
  const asked = new Set<string>();
  const samplesOf = new Map<string, Sample[]>();
  const samples = (job: Job, length: number): Sample[] => {
    const key = `${job.task} ${length}`;
    const known = samplesOf.get(key);
    if (known) return known;
    let made: Sample[] = [];
    try {
      made = [...job.makeSamples({ ...making, length })];
    } catch (error) {
      if (!onLeftOut || !(error instanceof UnsupportedError)) throw error;
      onLeftOut(job.task, length, error);
    }
    samplesOf.set(key, made);
    return made;
  };
  // the longest first: a window that begins like one read before needs no reading
  const plan = methods.map(({ method, lengths, open }) => {
    const wanted = jobs.flatMap((job) =>
      job.lengths
        .filter((length) => lengths.includes(length))
        .toSorted((a, b) => b - a)
        .flatMap((length) => samples(job, length).map((sample) => ({ job, length, sample }))),
    );
    const left = wanted.filter(({ job: { task, setup }, length, sample }) => {
      const key = keyOf({ task, model, method, length, sample: sample.id, seed, setup });
      asked.add(key);
      return !finished.has(key);
    });
    return { method, open, left };
  });
  const total = plan.reduce((sum, { left }) => left.reduce((all, { length }) => all + length, sum), 0);
  let done = 0;
  for (const { method, open, left } of plan) {
    if (left.length === 0) continue;
    const reader = await open(Math.max(...left.map(({ length }) => length)));
    try {
      const read = new Map<string, { ids: readonly number[]; losses: Float64Array }>();
      for (const { job, length, sample } of left) {
        const what = `${job.task} ${length} ${method}`;
        const onTokens = (tokens: number) => onProgress(done + Math.min(tokens, length), total, what);
        onTokens(0);
        const startedAt = performance.now();
        let output: string | Float64Array;
        if (sample.maxTokens > 0) output = await reader.answer(sample, onTokens);
        else {
          const longer = read.get(sample.id);
          const isRead = longer && sample.ids.every((id, at) => id === longer.ids[at]);
          output = isRead ? longer.losses.subarray(0, sample.ids.length - 1) : await reader.losses(sample, onTokens);
          if (!isRead) read.set(sample.id, { ids: sample.ids, losses: output });
        }
        const seconds = (performance.now() - startedAt) / 1000;
        const scores = (job.score as (output: string | Float64Array, sample: Sample) => Record<string, number>)(
          output,
          sample,
        );
        onRecord({
          ...{ task: job.task, model, method, length },
          ...(sample.depth !== undefined && { depth: sample.depth }),
          ...{ sample: sample.id, seed, setup: job.setup, scores },
          ...(typeof output === 'string' ? { answer: output } : { buckets: byPosition(output) }),
          seconds: Math.round(seconds * 1000) / 1000,
        });
        done += length;
      }
    } finally {
      await reader.close();
    }
  }
  if (total > 0) onProgress(total, total, '');
  return asked;
}
