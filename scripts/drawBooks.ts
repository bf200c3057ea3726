/**
 * Draws `docs/books-16m.svg` from what `dualchunk eval` measured and `docs/results/books-16m` keeps: perplexity and pass
 * keys found against length, for five ways to read with the same weights.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import * as vega from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import type { Result } from '../src/eval/records.ts';

const SERIES: Record<string, string> = {
  none: 'plain RoPE',
  'ntk:32': 'NTK-aware',
  'yarn:32': 'YaRN',
  'dca:paper:none': 'DCA, no scale',
  'dca:paper:logn': 'DCA, log-n scale',
};
const { results }: { results: Result[] } = JSON.parse(readFileSync('docs/results/books-16m/results.json', 'utf8'));
const rows = results.map(({ task, method, length, perplexity, accuracy }) => ({
  task,
  method: SERIES[method],
  length,
  value: perplexity ?? accuracy,
}));

/** One panel; of pass keys the mean of all depths. */
const panel = (task: string, title: string, y: object) => ({
  title,
  width: 330,
  height: 240,
  data: { values: rows.filter((row) => row.task === task && row.method) },
  mark: { type: 'line', point: true, strokeWidth: 2 },
  encoding: {
    x: {
      field: 'length',
      type: 'quantitative',
      title: 'tokens read (trained on 1,024)',
      scale: { type: 'log', base: 2, nice: false },
      axis: { values: [1024, 2048, 4096, 8192, 16384, 32768], labelExpr: "datum.value / 1024 + 'k'", grid: false },
    },
    y: { field: 'value', aggregate: 'mean', type: 'quantitative', ...y },
    color: {
      field: 'method',
      title: null,
      scale: { domain: Object.values(SERIES) },
      legend: { orient: 'bottom', columns: 5 },
    },
  },
});

const spec = {
  config: { font: 'system-ui, sans-serif', view: { stroke: null } },
  background: 'white',
  hconcat: [
    panel('perplexity', 'Perplexity of two unseen books', { title: null, scale: { type: 'log', nice: false } }),
    panel('passkey', 'Pass keys found', { title: null, scale: { domain: [0, 1] }, axis: { format: '%' } }),
  ],
} as TopLevelSpec;

const view = new vega.View(vega.parse(compile(spec).spec), { renderer: 'none' });
writeFileSync('docs/books-16m.svg', await view.toSVG());
console.log('docs/books-16m.svg');
