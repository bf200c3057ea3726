/**
 * Runs an evaluation: samples are made once and put to every method. Whoever answers, a model here or a server, is a
 * `Reader`; whatever is finished is handed out at once, and what was finished before is not asked again.
 */
import { UnsupportedError } from '../errors.ts';
import { frameOf } from './frame.ts';
import { byPosition } from './perplexity.ts';
import type { SampleRecord } from './records.ts';
import type { MakingOptions, Sample, Scores, Task } from './task.ts';

/** Answers samples. What a sample shares with the one before, a reader need not read again. */
export interface Reader {
  answer(sample: Sample, onProgress: OnTokens): Promise<string>;
  /** Gives nats of every token but the first. */
  losses(sample: Sample, onProgress: OnTokens): Promise<Float64Array>;
  close(): Promise<void>;
}

/** Takes how many tokens of the sample are read so far. */
export type OnTokens = (done: number) => void;

/** A job is a task at lengths. */
export interface Job {
  /** Records name the task so. */
  task: string;
  makeSamples: Task['makeSamples'];
  score: Task['score'] | Task<Float64Array>['score'];
  /** This says what samples are made of besides seed and length, in words. */
  setup: string;
  lengths: readonly number[];
}

/** A method is a way to read, at lengths that share a reader. */
export interface MethodRun {
  /** It is named with all its settings. */
  method: string;
  /** This says what it does, in words and numbers. */
  description?: string;
  lengths: readonly number[];
  /** Makes a reader. @param context Tokens of the longest sample. */
  open(context: number): Promise<Reader>;
}

export interface EvalRun extends MakingOptions {
  model: string;
  jobs: readonly Job[];
  methods: readonly MethodRun[];
  /** Samples of earlier runs are not asked again. */
  finished?: readonly SampleRecord[];
  /** Is called as soon as a sample is finished. */
  onRecord?(record: SampleRecord): void;
  /** Is called with the tokens of the samples done and of all, and with a sample's task, length and method. */
  onProgress?(done: number, total: number, what: string): void;
  /**
   * Is called where a task's samples cannot be made at a length, and are left out; without it they stop the evaluation.
   */
  onLeftOut?(task: string, length: number, reason: UnsupportedError): void;
}

/** Makes the key that a finished sample is known by. */
export const keyOf = ({ task, model, method, length, sample, seed, setup }: SampleName): string =>
  JSON.stringify([task, model, method, length, sample, seed, setup]);

type SampleName = Pick<SampleRecord, 'task' | 'model' | 'method' | 'length' | 'sample' | 'seed' | 'setup'>;

/**
 * Returns all samples asked for, those finished before among them, method by method; `resultsOf` makes figures of them.
 * @throws UnsupportedError before anything is read, when samples cannot be made and may not be left out.
 */
export async function runEvaluation(run: EvalRun): Promise<SampleRecord[]> {
  const { model, methods, seed = 0, finished, onRecord, onProgress } = run;
  const samplesOf = sampleMaker(run);
  const records = new Map(finished?.map((record) => [keyOf(record), record]));
  const asked: string[] = [];
  const plan = methods.map(({ method, lengths, open }) => {
    const wanted = run.jobs.flatMap((job) =>
      job.lengths
        .filter((length) => lengths.includes(length))
        .toSorted((a, b) => b - a) // a window that begins like a longer one read before needs no reading
        .flatMap((length) => samplesOf(job, length).map((sample) => ({ job, length, sample }))),
    );
    const left = wanted.filter(({ job: { task, setup }, length, sample }) => {
      const key = keyOf({ task, model, method, length, sample: sample.id, seed, setup });
      asked.push(key);
      return !records.has(key);
    });
    return { method, open, left };
  });
  const total = plan.reduce((sum, { left }) => left.reduce((all, { length }) => all + length, sum), 0);
  let done = 0;
  for (const { method, open, left } of plan) {
    if (left.length === 0) continue;
    const reader = await open(Math.max(...left.map(({ length }) => length)));
    const ask = asker(reader);
    try {
      for (const { job, length, sample } of left) {
        const what = `${job.task} ${length} ${method}`;
        const onTokens = (tokens: number) => onProgress?.(done + Math.min(tokens, length), total, what);
        onTokens(0);
        const startedAt = performance.now();
        const output = await ask(sample, onTokens);
        const seconds = (performance.now() - startedAt) / 1000;
        const record: SampleRecord = {
          ...{ task: job.task, model, method, length },
          ...(sample.depth !== undefined && { depth: sample.depth }),
          ...{ sample: sample.id, seed, setup: job.setup, scores: scoresOf(job, output, sample) },
          ...(typeof output === 'string' ? { answer: output } : { buckets: byPosition(output) }),
          seconds: Math.round(seconds * 1000) / 1000,
        };
        onRecord?.(record);
        records.set(keyOf(record), record);
        done += length;
      }
    } finally {
      await reader.close();
    }
  }
  if (total > 0) onProgress?.(total, total, '');
  return asked.flatMap((key) => records.get(key) ?? []);
}

// --- internal ---

type Output = string | Float64Array;

/** Makes the samples of a job at a length, once for all methods. */
function sampleMaker(run: EvalRun) {
  const { tokenizer, texts, samples = 1, depths = 1, seed = 0, filler = 'book', form = 'raw', onLeftOut } = run;
  const { frame = frameOf(tokenizer, form) } = run;
  const making = { tokenizer, texts, samples, depths, seed, filler, form, frame };
  const known = new Map<string, Sample[]>();
  return (job: Job, length: number): Sample[] => {
    const key = `${job.task} ${length}`;
    let made = known.get(key) ?? [];
    if (known.has(key)) return made;
    try {
      made = [...job.makeSamples({ ...making, length })];
    } catch (error) {
      if (!onLeftOut || !(error instanceof UnsupportedError)) throw error;
      onLeftOut(job.task, length, error);
    }
    known.set(key, made);
    return made;
  };
}

/** Asks a reader, but for a window that a longer one began with, whose losses are known. */
function asker(reader: Reader) {
  const read = new Map<string, { ids: readonly number[]; losses: Float64Array }>();
  return async (sample: Sample, onTokens: OnTokens): Promise<Output> => {
    if (sample.maxTokens > 0) return reader.answer(sample, onTokens);
    const longer = read.get(sample.id);
    if (longer && sample.ids.every((id, at) => id === longer.ids[at])) {
      return longer.losses.subarray(0, sample.ids.length - 1);
    }
    const losses = await reader.losses(sample, onTokens);
    read.set(sample.id, { ids: sample.ids, losses });
    return losses;
  };
}

const scoresOf = ({ score }: Job, output: Output, sample: Sample): Scores =>
  (score as (output: Output, sample: Sample) => Scores)(output, sample);
