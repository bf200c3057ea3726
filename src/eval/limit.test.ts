import { describe, expect, it } from 'vitest';
import { UnsupportedError } from '../errors.ts';
import { findLimit } from './limit.ts';
import type { SampleRecord } from './records.ts';

const record = (task: string, length: number, scores: SampleRecord['scores']): SampleRecord => ({
  ...{ task: `limit ${task}`, model: 'm', method: 'dca', length, sample: '0', seed: 0, setup: 's', scores, seconds: 1 },
});
/** One token, whose loss is that of this perplexity. */
const reads = (length: number, perplexity: number) =>
  record('perplexity', length, { nll: Math.log(perplexity), tokens: 1 });
const finds = (length: number, depth: number, accuracy: number): SampleRecord => ({
  ...record('passkey', length, { accuracy }),
  depth,
});

describe('findLimit', () => {
  it('doubles the length until perplexity is above 1.5 times that in the window', async () => {
    const perplexities: Record<number, number> = { 16: 20, 32: 29.9, 64: 30.2 };
    const { records, ...limit } = await findLimit(async (length) => [reads(length, perplexities[length])], 16);
    expect(records.map(({ length }) => length)).toEqual([16, 32, 64]);
    expect(limit).toEqual({ held: 32, broken: { length: 64, why: 'perplexity 30.2, in the window 20.0' } });
  });

  it('ends where fewer than half of the keys are found, over all depths', async () => {
    const measure = async (length: number) =>
      [0.2, 0.5, 0.8].map((depth) => finds(length, depth, Number(depth * length > (length === 64 ? 40 : 5))));
    const { held, broken } = await findLimit(measure, 16);
    expect({ held, broken }).toEqual({ held: 32, broken: { length: 64, why: '33% of keys found' } });
  });

  it('may end in the window already', async () => {
    const { held, broken } = await findLimit(async (length) => [finds(length, 0.5, 0)], 16);
    expect({ held, broken }).toEqual({ held: undefined, broken: { length: 16, why: '0% of keys found' } });
  });

  it('goes no further than it is told, by default 64 windows', async () => {
    const measure = async (length: number) => [reads(length, 9)];
    for (const [upTo, held] of [
      [63, 32],
      [64, 64],
      [undefined, 1024],
    ] as const) {
      const { broken, impossible, ...limit } = await findLimit(measure, 16, upTo);
      expect({ broken, impossible, held: limit.held }).toEqual({ broken: undefined, impossible: undefined, held });
    }
    await expect(findLimit(measure, 16, 15)).rejects.toThrow('the search begins at the trained window, 16 tokens');
  });

  it('tells what kept it from longer samples, and lets faults pass', async () => {
    const until =
      (length: number, error: Error) =>
      async (now: number): Promise<SampleRecord[]> => {
        if (now >= length) throw error;
        return [reads(now, 9)];
      };
    const end = new UnsupportedError('the text ends');
    expect(await findLimit(until(64, end), 16)).toMatchObject({ held: 32, impossible: end });
    await expect(findLimit(until(16, end), 16)).rejects.toBe(end);
    await expect(findLimit(until(64, new Error('a fault')), 16)).rejects.toThrow('a fault');
  });
});
