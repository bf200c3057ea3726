import { describe, expect, it } from 'vitest';
import { UnsupportedError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { SampleRecord } from './records.ts';
import { type EvalRun, type Job, type Reader, runEvaluation } from './run.ts';
import type { Sample, Scores } from './task.ts';

const ids = (length: number, first = 0) => Array.from({ length }, (_, at) => first + at);

const asked = (id: string, length: number, maxTokens = 2): Sample => ({
  ...{ id, length, maxTokens, answers: ['yes'] },
  ids: ids(length - maxTokens),
});

/** A task whose answer is right where it says yes. */
const answering: Job = {
  task: 'asking',
  makeSamples: ({ length, samples }) => ids(samples).map((n) => asked(`s${n}`, length)),
  score: (answer: string, { answers }: Sample): Scores => ({ accuracy: answer === answers[0] ? 1 : 0 }),
  ...{ setup: 's', lengths: [16, 32] },
};

/** Windows that begin at the same places at every length. */
const scoring: Job = {
  task: 'losing',
  makeSamples: ({ length }) => [0, 100].map((at) => ({ ...asked(`at ${at}`, length, 0), ids: ids(length, at) })),
  score: (losses: Float64Array): Scores => ({ nll: losses.reduce((a, b) => a + b, 0), tokens: losses.length }),
  ...{ setup: 's', lengths: [16, 64] },
};

/** Reads by noting what it was asked; a token's loss is its id. */
function recorder(answer = 'yes') {
  const seen: string[] = [];
  let isOpen = 0;
  const open = async (context: number): Promise<Reader> => {
    isOpen++;
    seen.push(`open ${context}`);
    return {
      async answer({ id, length }, onTokens) {
        onTokens(length);
        seen.push(`${id} ${length}`);
        return answer;
      },
      async losses({ id, ids }) {
        seen.push(`${id} ${ids.length}`);
        return Float64Array.from(ids.slice(1));
      },
      async close() {
        isOpen--;
      },
    };
  };
  return { seen, open, isOpen: () => isOpen };
}

function evaluation(jobs: readonly Job[], methods: EvalRun['methods'], finished: SampleRecord[] = []) {
  const records: SampleRecord[] = [];
  const progress: [number, number][] = [];
  const run: EvalRun = {
    ...{ model: 'm', jobs, methods, samples: 2, seed: 7, finished },
    ...{ tokenizer: {} as Tokenizer, texts: [], frame: { before: [], after: [] } }, // these tasks make their own ids
    onRecord: (record) => records.push(record),
    onProgress: (done, total) => progress.push([done, total]),
  };
  return { run, records, progress };
}

describe('runEvaluation', () => {
  it('puts every sample to every method, and hands out each as it is finished', async () => {
    const { seen, open, isOpen } = recorder();
    const { run, records, progress } = evaluation([answering], [{ method: 'none', lengths: [16, 32], open }]);
    const all = await runEvaluation(run);
    expect(seen).toEqual(['open 32', 's0 32', 's1 32', 's0 16', 's1 16']);
    expect(records).toHaveLength(4);
    expect(records[0]).toMatchObject({
      ...{ task: 'asking', model: 'm', method: 'none', length: 32, sample: 's0', seed: 7, setup: 's' },
      ...{ scores: { accuracy: 1 }, answer: 'yes' },
    });
    expect(all).toEqual(records);
    expect(progress.at(-1)).toEqual([96, 96]);
    expect(progress.every(([done], at) => at === 0 || done >= progress[at - 1][0])).toBe(true);
    expect(isOpen()).toBe(0);
  });

  it('asks nothing again that was finished, and opens no model for it', async () => {
    const first = evaluation([answering], [{ method: 'none', lengths: [16, 32], open: recorder().open }]);
    await runEvaluation(first.run);
    const { seen, open } = recorder();
    const methods = [
      { method: 'none', lengths: [16, 32], open },
      { method: 'dca', lengths: [16], open },
    ];
    const second = evaluation([answering], methods, first.records.slice(0, 4));
    const all = await runEvaluation(second.run);
    expect(seen).toEqual(['open 16', 's0 16', 's1 16']);
    expect(second.records.map(({ method }) => method)).toEqual(['dca', 'dca']);
    expect(all).toEqual([...first.records, ...second.records]);
  });

  it('takes the losses of a window from a longer one that begins alike', async () => {
    const { seen, open } = recorder();
    const { run, records } = evaluation([scoring], [{ method: 'none', lengths: [16, 64], open }]);
    await runEvaluation(run);
    expect(seen).toEqual(['open 64', 'at 0 64', 'at 100 64']);
    const sum = (from: number, n: number) => ids(n - 1, from + 1).reduce((a, b) => a + b, 0);
    expect(records.map(({ length, scores }) => [length, scores.nll, scores.tokens])).toEqual([
      [64, sum(0, 64), 63],
      [64, sum(100, 64), 63],
      [16, sum(0, 16), 15],
      [16, sum(100, 16), 15],
    ]);
    for (const { buckets = [], scores } of records) {
      expect(buckets.reduce((all, [, nats]) => all + nats, 0)).toBeCloseTo(scores.nll, 9);
      expect(buckets.reduce((all, [, , , tokens]) => all + tokens, 0)).toBe(scores.tokens);
    }
  });

  it('closes the reader and keeps what is finished when one sample fails', async () => {
    const { open, isOpen } = recorder();
    const failing = async (context: number): Promise<Reader> => {
      const reader = await open(context);
      const answer: Reader['answer'] = (sample, onTokens) =>
        sample.id === 's1' ? Promise.reject(new Error('cut off')) : reader.answer(sample, onTokens);
      return { ...reader, answer };
    };
    const { run, records } = evaluation([answering], [{ method: 'none', lengths: [32], open: failing }]);
    await expect(runEvaluation(run)).rejects.toThrow('cut off');
    expect(records.map(({ sample }) => sample)).toEqual(['s0']);
    expect(isOpen()).toBe(0);
  });

  it('leaves out a task at a length where its samples cannot be made, if it may', async () => {
    const short: Job = {
      ...{ ...answering, task: 'short' },
      makeSamples: (making) => {
        if (making.length > 16) throw new UnsupportedError('too long');
        return answering.makeSamples(making);
      },
    };
    const methods = ['none', 'dca'].map((method) => ({ method, lengths: [16, 32], open: recorder().open }));
    const strict = evaluation([answering, short], methods);
    await expect(runEvaluation(strict.run)).rejects.toThrow('too long');
    expect(strict.records).toEqual([]);
    const { run, records } = evaluation([answering, short], methods);
    const leftOut: unknown[] = [];
    await runEvaluation({ ...run, onLeftOut: (task, length, { message }) => leftOut.push([task, length, message]) });
    expect(leftOut).toEqual([['short', 32, 'too long']]);
    const seen = (method: string) => records.filter((record) => record.method === method).map((one) => one.task);
    for (const method of ['none', 'dca']) expect(seen(method)).toEqual([...Array(4).fill('asking'), 'short', 'short']);
  });
});
