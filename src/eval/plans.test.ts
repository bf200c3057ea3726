import { expect, it } from 'vitest';
import { allPlan, measuredBy, perplexityPlan, planOf, sweepMethods, usualLengths } from './plans.ts';
import { tableOf } from './table.ts';
import { TASKS, taskNamed } from './tasks.ts';

it('plans tasks at lengths, and says what samples are made of', () => {
  const { jobs, ...making } = planOf([taskNamed('passkey'), taskNamed('kv')], { lengths: [64, 128], form: 'chat' });
  expect(making).toEqual({ samples: 1, depths: 1, filler: 'book', form: 'chat' });
  expect(jobs.map(({ task, setup, lengths }) => [task, setup, lengths])).toEqual([
    ['passkey', 'filler book, prompts chat', [64, 128]],
    ['kv', 'filler book, prompts chat', [64, 128]],
  ]);
  const setupOf = (stride?: number) => perplexityPlan({ lengths: [64], stride }).jobs.map(({ setup }) => setup);
  expect([setupOf(), setupOf(8)]).toEqual([['windows side by side'], ['stride 8']]);
  expect(allPlan({ lengths: [64] }).jobs.map(({ task }) => task)).toEqual(['perplexity', ...Object.keys(TASKS)]);
});

it('measures by two tasks under other names, and refuses more', () => {
  const { jobs } = measuredBy('limit', ['passkey', 'perplexity'], { lengths: [64] });
  expect(jobs.map(({ task }) => task)).toEqual(['limit passkey', 'limit perplexity']);
  expect(() => measuredBy('sweep', ['needle'], { lengths: [64] })).toThrow(
    'unknown task "needle" for sweep; wanted perplexity, passkey',
  );
});

it('takes lengths and chunks from the trained window', () => {
  expect(usualLengths(1000)).toEqual([1000, 2000, 4000, 8000]);
  expect(sweepMethods(64)).toHaveLength(27); // 7 times 4, but for the one local that is longer than its chunk
  expect(sweepMethods(64).slice(0, 3)).toEqual(['dca:16/20', 'dca:16/24', 'dca:16/32']);
  expect(sweepMethods(64, [40], [8, 41])).toEqual(['dca:40/48']);
});

it('draws a table of results, and of depths the mean', () => {
  const of = { model: 'm', standardError: 0, samples: 1, seconds: 1 };
  const table = tableOf([
    { ...of, task: 'perplexity', method: 'none', length: 2048, perplexity: 123.456 },
    { ...of, task: 'perplexity', method: 'none', length: 512, perplexity: 9.87654 },
    { ...of, task: 'perplexity', method: 'dca', length: 512, perplexity: 10 },
    { ...of, task: 'passkey', method: 'dca', length: 2048, depth: 0.25, accuracy: 1 },
    { ...of, task: 'passkey', method: 'dca', length: 2048, depth: 0.75, accuracy: 0 },
  ]);
  expect(table.split('\n')).toEqual([
    '                    512  2,048',
    'perplexity  none  9.877  123.5',
    '            dca   10.00',
    'passkey     dca            50%',
    '',
  ]);
});
