import { describe, expect, it } from 'vitest';
import type { Result, SampleRecord } from './records.ts';
import {
  csvOf,
  effectiveLength,
  isRuler,
  longestHeld,
  lossByPosition,
  resultsByLength,
  resultsOf,
  rulerMeans,
  sweepCells,
} from './results.ts';

const base = { task: 'passkey', model: 'm', method: 'dca', length: 1024, sample: 's', seed: 1, setup: 'x', seconds: 2 };
const answered = (accuracy: number, more: Partial<SampleRecord> = {}): SampleRecord => ({
  ...base,
  scores: { accuracy },
  ...more,
});
const read = (nll: number, tokens: number, more: Partial<SampleRecord> = {}): SampleRecord => ({
  ...base,
  task: 'perplexity',
  scores: { nll, tokens },
  ...more,
});
const result = (length: number, accuracy: number, more: Partial<Result> = {}): Result => ({
  ...{ task: 'vt', model: 'm', method: 'dca', length, accuracy, standardError: 0, samples: 1, seconds: 1 },
  ...more,
});

describe('accuracy', () => {
  it('is a mean, its error sqrt(variance / n), seconds are summed', () => {
    // mean 3/4; variance (3 * 1/16 + 9/16) / 3 = 1/4; error sqrt(1/4 / 4)
    const [row, ...others] = resultsOf([1, 1, 0, 1].map((accuracy) => answered(accuracy)));
    expect(others).toEqual([]);
    const { sample: _, seed: __, setup: ___, ...shared } = base;
    expect(row).toEqual({ ...shared, accuracy: 0.75, standardError: 0.25, samples: 4, seconds: 8 });
  });

  it('has no error of one sample, nor of equal ones', () => {
    expect(resultsOf([answered(1)])[0].standardError).toBe(0);
    expect(resultsOf([answered(0.4), answered(0.4)])[0].standardError).toBe(0);
  });

  it('is by depth, or all depths together', () => {
    const records = [answered(1, { depth: 0.9 }), answered(0, { depth: 0.1 }), answered(0, { depth: 0.1 })];
    expect(resultsOf(records).map(({ depth, accuracy }) => [depth, accuracy])).toEqual([
      [0.1, 0],
      [0.9, 1],
    ]);
    expect(resultsByLength(records)).toMatchObject([{ accuracy: 1 / 3, samples: 3 }]);
    expect(resultsByLength(records)[0]).not.toHaveProperty('depth');
  });

  it('keeps the order of methods and sorts lengths', () => {
    const records = [answered(1, { length: 4096 }), answered(1, { method: 'none' }), answered(1)];
    const rows = resultsOf(records).map(({ method, length }) => [method, length]);
    expect(rows).toEqual([
      ['dca', 1024],
      ['dca', 4096],
      ['none', 1024],
    ]);
  });
});

describe('perplexity', () => {
  it('weighs windows by their tokens; its error is across windows', () => {
    // (20 + 120) nats of (10 + 30) tokens; window means 2 and 4, variance 2, error of the loss sqrt(2 / 2) = 1
    const [row] = resultsOf([read(20, 10), read(120, 30)]);
    expect(row.perplexity).toBeCloseTo(Math.exp(3.5), 10);
    expect(row.standardError).toBeCloseTo(Math.exp(3.5), 10);
  });

  it('takes the error of one window from its tokens', () => {
    // losses 1, 3, 1, 3: mean 2, variance 4/3, error sqrt(4/3 / 4)
    const buckets: SampleRecord['buckets'] = [
      [0, 4, 10, 2],
      [512, 4, 10, 2],
    ];
    expect(resultsOf([read(8, 4, { buckets })])[0].standardError).toBeCloseTo(Math.exp(2) * Math.sqrt(1 / 3), 10);
    expect(resultsOf([read(8, 4)])[0].standardError).toBe(0);
  });

  it('is joined by position over windows', () => {
    const first: SampleRecord['buckets'] = [
      [0, 12, 50, 3],
      [4, 4, 6, 4],
    ];
    const second: SampleRecord['buckets'] = [
      [0, 6, 14, 3],
      [4, 12, 38, 4],
    ];
    const rows = lossByPosition([read(16, 7, { buckets: first }), read(18, 7, { buckets: second }), read(1, 1)]);
    expect(rows.map(({ from, to, nll, tokens }) => [from, to, nll, tokens])).toEqual([
      [0, 4, 3, 6],
      [4, 8, 2, 8],
    ]);
    // 64 - 18² / 6 = 10 over 5 is the variance of the first six
    expect(rows[0].standardError).toBeCloseTo(Math.sqrt(2 / 6), 10);
  });
});

it('takes any number of windows', () => {
  const buckets: SampleRecord['buckets'] = Array.from({ length: 200_000 }, () => [0, 2, 4, 1]);
  expect(lossByPosition([read(400_000, 200_000, { buckets })])).toMatchObject([{ from: 0, to: 1, nll: 2 }]);
});

describe('RULER', () => {
  it('knows its tasks', () => {
    expect(['niah_single_1', 'vt', 'cwe', 'fwe', 'qa_2', 'ruler vt'].filter(isRuler)).toHaveLength(6);
    expect(['passkey', 'needle', 'kv', 'ruler mean', 'vtx'].filter(isRuler)).toEqual([]);
  });

  it('weighs tasks alike', () => {
    const tasks = [result(4096, 0.9, { standardError: 0.03 }), result(4096, 0.5, { task: 'cwe', standardError: 0.04 })];
    const [mean] = rulerMeans([...tasks, result(4096, 0, { task: 'passkey' })]);
    expect(mean).toMatchObject({ task: 'ruler mean', length: 4096, samples: 2 });
    expect(mean.accuracy).toBeCloseTo(0.7, 10);
    expect(mean.standardError).toBeCloseTo(0.05 / 2, 10);
  });

  it.each([
    [[0.9, 0.86, 0.856, 0.5], 4096],
    [[0.9, 0.85, 0.99, 0.99], 1024],
    [[0.9, 0.9, 0.9, 0.9], 8192],
    [[0.8, 0.9, 0.9, 0.9], undefined],
    [[], undefined],
  ])('%j from 1k on: effective length %s', (accuracies, length) => {
    const means = accuracies.map((accuracy, at) => result(1024 * 2 ** at, accuracy));
    expect(effectiveLength(means.reverse())).toBe(length);
  });
});

it('tells the longest length that held, as all shorter ones did', () => {
  const rows = [result(1, 1), result(4, 0), result(2, 1), result(8, 1)];
  expect(longestHeld(rows, ({ accuracy }) => accuracy === 1)).toBe(2);
});

it('takes the two lengths of a sweep from the name of the method', () => {
  const named = (method: string) => result(1024, 1, { method });
  expect(sweepCells([named('dca:640/768:logn'), named('dca:paper:logn'), named('dca:512/512')])).toMatchObject([
    { chunkLen: 640, localWindow: 128, settings: 'logn' },
    { chunkLen: 512, localWindow: 0, settings: '' },
  ]);
});

it('writes CSV, quoted where it must be', () => {
  const odd = result(1024, 0.5, { model: 'a "b", c', method: 'line\nbreak', depth: 0.25 });
  expect(csvOf([odd])).toBe(
    'task,model,method,length,depth,perplexity,accuracy,standardError,samples,seconds\r\n' +
      'vt,"a ""b"", c","line\nbreak",1024,0.25,,0.5,0,1,1\r\n',
  );
});

it.each(['=HYPERLINK("http://x")', '+1', '-2+3', '@SUM(A1)', '\t=1', '\r=1'])(
  'writes no formula into CSV: %j',
  (model) => {
    const [, row] = csvOf([result(-1, 0.5, { model })]).split(/\r\n(?!$)/);
    expect(row).toMatch(/^vt,"?'/);
    expect(row).toContain(',dca,-1,,,0.5,'); // numbers stay
  },
);
