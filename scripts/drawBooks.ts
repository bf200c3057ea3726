/**
 * Draws `docs/books-16m.svg` from what `npm run bench:books` measured: perplexity and pass keys found against length, for
 * four ways to read with the same weights.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import * as vega from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';

const SERIES: Record<string, string> = {
  none: 'plain RoPE',
  ntk: 'NTK-aware',
  'dca:none': 'DCA, no scale',
  'dca:logn': 'DCA, log-n scale',
};
const results: Record<string, { value: number }> = JSON.parse(readFileSync('docs/books-16m.json', 'utf8'));

const rows = Object.entries(results).map(([cell, { value }]) => {
  const [task, method, length] = cell.split('/');
  return { task: task.split(' ')[0], method: SERIES[method], length: Number(length), value };
});

/** One panel; of pass keys the mean of both fillers. */
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
      axis: { values: [1024, 2048, 4096, 8192, 16384], labelExpr: "datum.value / 1024 + 'k'", grid: false },
    },
    y: { field: 'value', aggregate: 'mean', type: 'quantitative', ...y },
    color: { field: 'method', title: null, scale: { domain: Object.values(SERIES) }, legend: { orient: 'bottom' } },
  },
});

const spec = {
  config: { font: 'system-ui, sans-serif', view: { stroke: null } },
  background: 'white',
  hconcat: [
    panel('perplexity', 'Perplexity of unseen books', {
      title: null,
      scale: { type: 'log', nice: false },
    }),
    panel('passkey', 'Pass keys found', { title: null, scale: { domain: [0, 1] }, axis: { format: '%' } }),
  ],
} as TopLevelSpec;

const view = new vega.View(vega.parse(compile(spec).spec), { renderer: 'none' });
writeFileSync('docs/books-16m.svg', await view.toSVG());
console.log('docs/books-16m.svg');
