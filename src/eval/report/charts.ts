/**
 * The report's charts are Vega-Lite specifications over a table named `rows`, which the page fills. Colours are
 * variables of the page's style sheet, so that dark, light and paper need no second drawing.
 */
import type { Result } from '../records.ts';
import type { Position, SweepCell } from '../results.ts';

/** A specification is plain data, and JSON when it reaches the page. */
export type Spec = Record<string, unknown>;

/** A method looks like this wherever it is drawn. */
export interface Look {
  color: string;
  width: number;
  /** These are the lengths of dash and gap; a line without any is solid. */
  dash: readonly number[];
}
export type Looks = ReadonlyMap<string, Look>;

/** The style sheet has so many colours of each kind. */
const [DCA_COLORS, OTHER_COLORS] = [4, 6];
const DASHES = [
  [7, 3],
  [2, 2],
  [7, 3, 2, 3],
  [4, 4],
  [12, 3],
  [9, 3, 2, 3, 2, 3],
];

/** Draws DCA in strong solid lines, plain RoPE in grey, all others in thin dashed ones. */
export function looksOf(methods: readonly string[]): Looks {
  const [dca, others] = [true, false].map((isDca) => methods.filter((name) => name.startsWith('dca') === isDca));
  const rivals = others.filter((name) => name !== 'none');
  const look = (name: string): Look => {
    if (name === 'none') return { color: 'var(--plain)', width: 2.5, dash: [] };
    const [d, r] = [dca.indexOf(name), rivals.indexOf(name)];
    if (d >= 0) return { color: `var(--dca-${d % DCA_COLORS})`, width: 2.75, dash: d < DCA_COLORS ? [] : DASHES[0] };
    return { color: `var(--other-${r % OTHER_COLORS})`, width: 1.5, dash: DASHES[r % DASHES.length] };
  };
  return new Map(methods.map((name) => [name, look(name)]));
}

/** A label is `16k` for 16,384; zero and what is no multiple of 1,024 stand as they are. */
const LENGTH_LABEL = "datum.value === 0 || datum.value % 1024 ? format(datum.value, ',') : datum.value / 1024 + 'k'";
const lengthLabel = (field: string) => LENGTH_LABEL.replaceAll('datum.value', `datum.${field}`);

const INK = 'var(--ink)';
const CONFIG = {
  background: null,
  font: 'system-ui, sans-serif',
  view: { stroke: null },
  axis: {
    ...{ labelColor: 'var(--muted)', titleColor: 'var(--muted)', labelFontSize: 12, titleFontSize: 12 },
    ...{ gridColor: 'var(--rule)', domainColor: 'var(--rule)', tickColor: 'var(--rule)' },
    ...{ titleFontWeight: 'normal', titlePadding: 8, labelPadding: 5 },
  },
};

/** Gives a row fields beyond those it comes with, for tooltips and error bars. */
const derive = (fields: Record<string, string>) => Object.entries(fields).map(([as, calculate]) => ({ calculate, as }));

const tooltip = (fields: Record<string, string>) => Object.entries(fields).map(([title, field]) => ({ field, title }));

/** All lines against a number of tokens share this. Tooltips belong to the point nearest to the pointer. */
interface Lines {
  x: { field: string; title: string; domain: readonly [number, number]; ticks: readonly number[] };
  y: { field: string; scale: object; axis: object };
  /** Rows have fields `low` and `high` of an error bar. */
  hasErrors: boolean;
  /** These run before fields are derived. */
  transform?: readonly object[];
  derived: Record<string, string>;
  tooltip: Record<string, string>;
  looks: Looks;
  trainedWindow?: number;
  layers?: readonly object[];
}

function lines({ x, y, hasErrors, derived, looks, trainedWindow, ...more }: Lines): Spec {
  const { transform = [], layers = [] } = more;
  const styles = [...looks.values()];
  const byMethod = (range: readonly unknown[]) => ({
    field: 'method',
    type: 'ordinal',
    scale: { type: 'ordinal', domain: [...looks.keys()], range },
    legend: null,
  });
  const xChannel = {
    field: x.field,
    type: 'quantitative',
    title: x.title,
    scale: { type: 'log', base: 2, nice: false, domain: x.domain, padding: 12 },
    axis: { values: x.ticks, labelExpr: LENGTH_LABEL, labelOverlap: 'greedy', grid: false },
  };
  const encoding = {
    x: xChannel,
    color: byMethod(styles.map(({ color }) => color)),
    opacity: { condition: { test: 'picked === null || picked === datum.method', value: 1 }, value: 0.1 },
  };
  const yChannel = { field: y.field, type: 'quantitative', title: null, scale: y.scale, axis: y.axis };
  const bar = { y: { ...yChannel, field: 'low' }, y2: { field: 'high' } };
  const hover = { name: 'near', select: { type: 'point', on: 'pointerover', nearest: true, clear: 'pointerout' } };
  return {
    config: CONFIG,
    width: 'container',
    height: 300,
    autosize: { type: 'fit-x', contains: 'padding' },
    params: [{ name: 'picked', value: null }],
    data: { name: 'rows' },
    transform: [...transform, ...derive(derived)],
    layer: [
      ...(trainedWindow === undefined ? [] : windowRule(trainedWindow)),
      ...(hasErrors ? [{ mark: { type: 'rule', clip: true }, encoding: { ...encoding, ...bar } }] : []),
      {
        mark: { type: 'line', clip: true },
        encoding: {
          ...encoding,
          y: yChannel,
          strokeWidth: byMethod(styles.map(({ width }) => width)),
          strokeDash: byMethod(styles.map(({ dash }) => (dash.length > 0 ? dash : [1, 0]))),
        },
      },
      ...layers.map((layer) => ({ ...layer, encoding: { ...encoding, y: { ...yChannel, field: 'shown' } } })),
      {
        params: [hover],
        mark: { type: 'point', filled: true, size: 70 },
        encoding: {
          ...encoding,
          y: { ...yChannel, field: 'shown' },
          opacity: { condition: { param: 'near', empty: false, value: 1 }, value: 0 },
          tooltip: tooltip(more.tooltip),
        },
      },
    ],
  };
}

const windowRule = (trainedWindow: number) => [
  {
    data: { values: [{ window: trainedWindow }] },
    mark: { type: 'rule', strokeDash: [3, 3], stroke: 'var(--muted)' },
    encoding: { x: { field: 'window', type: 'quantitative' } },
  },
  {
    data: { values: [{ window: trainedWindow, label: 'trained window' }] },
    mark: { type: 'text', align: 'left', baseline: 'bottom', dx: -3, y: -4, fill: 'var(--muted)', fontSize: 12 },
    encoding: { x: { field: 'window', type: 'quantitative' }, text: { field: 'label' } },
  },
];

const LENGTHS = 'tokens read';

/** Sets a tick for every length there is. */
function lengthAxis(rows: readonly Result[], trainedWindow?: number): Lines['x'] {
  const lengths = rows.map(({ length }) => length);
  const shown = trainedWindow === undefined ? lengths : [...lengths, trainedWindow];
  return {
    field: 'length',
    title: LENGTHS,
    domain: [Math.min(...shown), Math.max(...shown)],
    ticks: [...new Set(shown)],
  };
}

/** Every figure with samples tells this beside itself. */
const SAMPLES = { samples: 'samples', 'seconds spent': 'rounded' };
const ROUNDED = "format(datum.seconds, ',.0f')";

/** Perplexity is cut off there: what is three times as bad as the best has lost the text, and how far is no matter. */
const WORST_SHOWN = 3;

/** Gives the largest perplexity that is drawn at its height. */
export const perplexityCut = (rows: readonly Result[]): number => {
  const values = rows.map(({ perplexity = Infinity }) => perplexity);
  return Math.min(Math.max(...values) * 1.05, Math.min(...values) * WORST_SHOWN);
};

export function perplexityChart(rows: readonly Result[], looks: Looks, trainedWindow?: number): Spec {
  const cut = perplexityCut(rows);
  const lowest = Math.min(...rows.map(({ perplexity = cut }) => perplexity));
  return lines({
    x: lengthAxis(rows, trainedWindow),
    y: {
      field: 'perplexity',
      scale: { type: 'log', nice: false, domain: [lowest / 1.05, cut] },
      axis: { values: roundBetween(lowest / 1.05, cut), format: ',.3~r' },
    },
    hasErrors: true,
    derived: {
      shown: `min(datum.perplexity, ${cut})`,
      // No perplexity is below 1, and a log scale needs it above 0.
      low: 'max(1, datum.perplexity - datum.standardError)',
      high: 'datum.perplexity + datum.standardError',
      at: lengthLabel('length'),
      figure: "format(datum.perplexity, ',.3r') + ' ± ' + format(datum.standardError, ',.2r')",
      rounded: ROUNDED,
    },
    tooltip: { method: 'method', tokens: 'at', perplexity: 'figure', windows: 'samples', 'seconds spent': 'rounded' },
    looks,
    trainedWindow,
    layers: [
      { transform: [{ filter: `datum.perplexity <= ${cut}` }], mark: { type: 'point', filled: true, size: 28 } },
      {
        transform: [{ filter: `datum.perplexity > ${cut}` }],
        mark: { type: 'point', shape: 'triangle-up', filled: true, size: 60, yOffset: 4 },
      },
    ],
  });
}

/** Gives up to nine round numbers; a log scale's own would be powers of ten, of which there is hardly one here. */
function roundBetween(low: number, high: number): number[] {
  const power = 10 ** Math.floor(Math.log10((high - low) / 8));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((one) => one >= (high - low) / 8) ?? power;
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, at) => (first + at) * step);
}

export function accuracyChart(rows: readonly Result[], looks: Looks, trainedWindow?: number): Spec {
  return lines({
    x: lengthAxis(rows, trainedWindow),
    y: { field: 'accuracy', scale: { domain: [0, 1] }, axis: { format: '.0%', tickCount: 5 } },
    hasErrors: true,
    derived: {
      shown: 'datum.accuracy',
      low: 'max(0, datum.accuracy - datum.standardError)',
      high: 'min(1, datum.accuracy + datum.standardError)',
      at: lengthLabel('length'),
      figure: "format(datum.accuracy, '.1~%') + ' ± ' + format(datum.standardError, '.1~%')",
      rounded: ROUNDED,
    },
    tooltip: { method: 'method', tokens: 'at', found: 'figure', ...SAMPLES },
    looks,
    trainedWindow,
    layers: [{ mark: { type: 'point', filled: true, size: 28 } }],
  });
}

/** The axis ends so many nats above the lowest loss, at six times its perplexity. */
const MOST_NATS = Math.log(6);

/** Stretches are drawn as one point, six to an octave, so that far ones do not crowd. */
const JOINED = [
  ...derive({
    octave: 'floor(6 * log((datum.from + datum.to) / 2) / LN2)',
    nats: 'datum.nll * datum.tokens',
    spread: 'pow(datum.standardError * datum.tokens, 2)',
  }),
  {
    aggregate: [
      ...['nats', 'tokens', 'spread'].map((field) => ({ op: 'sum', field, as: field })),
      { op: 'min', field: 'from', as: 'from' },
      { op: 'max', field: 'to', as: 'to' },
    ],
    groupby: ['method', 'octave'],
  },
  ...derive({ nll: 'datum.nats / datum.tokens', standardError: 'sqrt(datum.spread) / datum.tokens' }),
];

export function positionChart(rows: readonly Position[], looks: Looks, trainedWindow?: number): Spec {
  const losses = rows.map(({ nll }) => nll);
  const lowest = Math.min(...losses);
  const top = Math.min(lowest + MOST_NATS, Math.max(...losses));
  const [first, last] = [Math.min(...rows.map(middle)), Math.max(...rows.map(({ to }) => to))];
  const powers = Array.from({ length: 32 }, (_, exponent) => 2 ** exponent).filter((n) => n > first && n <= last);
  return lines({
    x: { field: 'middle', title: 'position in the text, tokens', domain: [first, last], ticks: powers },
    y: { field: 'nll', scale: { zero: false, nice: false, domain: [lowest, top] }, axis: { tickCount: 5 } },
    hasErrors: false,
    transform: JOINED,
    derived: {
      middle: '(datum.from + datum.to) / 2',
      shown: `min(datum.nll, ${top})`,
      figure: "format(datum.nll, '.3f') + ' ± ' + format(datum.standardError, '.2r')",
      at: "format(datum.from, ',') + ' to ' + format(datum.to - 1, ',')",
    },
    tooltip: { method: 'method', positions: 'at', 'nats a token': 'figure', tokens: 'tokens' },
    looks,
    trainedWindow,
  });
}

const middle = ({ from, to }: Position) => (from + to) / 2;

/**
 * A grid has cells that are the fuller in colour the better, each with its number. `quality` is an expression from 0 to
 * 1.
 */
interface Cells {
  x: { field: string; title: string };
  y: { field: string; title: string; label: string };
  quality: string;
  label: string;
  derived: Record<string, string>;
  tooltip: Record<string, string>;
  /** Pixels. */
  rowHeight: number;
}

/** @param rows The rows of all panels, as each has all rows and columns of the grid, even where it has no cell. */
function cells<T extends object>(
  rows: readonly T[],
  { x, y, quality, label, derived, rowHeight, ...more }: Cells,
): Spec {
  const domainOf = (field: string) =>
    [...new Set(rows.map((row) => row[field as keyof T] as number))].sort((a, b) => a - b);
  const axis = { grid: false, ticks: false, domain: false, labelAngle: 0, labelOverlap: 'parity' };
  const channel = ({ field, title }: { field: string; title: string }, labelExpr: string) => ({
    ...{ field, title, type: 'ordinal' },
    ...{ scale: { domain: domainOf(field) }, axis: { ...axis, labelExpr } },
  });
  const isDark = { test: 'datum.quality > 0.55', value: 'var(--paper)' };
  return {
    config: CONFIG,
    width: 'container',
    height: rowHeight * domainOf(y.field).length,
    autosize: { type: 'fit-x', contains: 'padding' },
    data: { name: 'rows' },
    transform: derive({ quality, label, ...derived }),
    encoding: { x: channel(x, LENGTH_LABEL), y: channel(y, y.label) },
    layer: [
      {
        mark: { type: 'rect', fill: 'var(--heat)', stroke: 'var(--paper)', strokeWidth: 2 },
        encoding: {
          fillOpacity: {
            field: 'quality',
            type: 'quantitative',
            scale: { domain: [0, 1], range: [0.06, 1], clamp: true },
            legend: null,
          },
          tooltip: tooltip(more.tooltip),
        },
      },
      {
        mark: { type: 'text', fontSize: 11, tooltip: null },
        encoding: {
          text: { field: 'label' },
          color: { condition: isDark, value: INK },
          // On paper they show all the same; elsewhere there is the tooltip.
          opacity: { condition: { test: "bandwidth('x') >= 24", value: 1 }, value: 0 },
        },
      },
    ],
  };
}

/** Maps what was found by depth and length, for one method. */
export const depthMap = (rows: readonly Result[]): Spec =>
  cells(rows, {
    x: { field: 'length', title: LENGTHS },
    y: { field: 'depth', title: 'depth, %', label: "format(datum.value * 100, '.0f')" },
    quality: 'datum.accuracy',
    label: "format(datum.accuracy * 100, '.0f')",
    derived: {
      at: lengthLabel('length'),
      figure: "format(datum.accuracy, '.1~%') + ' ± ' + format(datum.standardError, '.1~%')",
      place: "format(datum.depth, '.1~%')",
    },
    tooltip: { method: 'method', tokens: 'at', depth: 'place', found: 'figure', samples: 'samples' },
    rowHeight: 22,
  });

/**
 * Maps a sweep's figure by chunk length and local window; of perplexity, full colour is the best and faint twice as
 * bad.
 */
export function sweepMap(rows: readonly SweepCell[]): Spec {
  const isPerplexity = rows.some(({ perplexity }) => perplexity !== undefined);
  const best = Math.min(...rows.map(({ perplexity = Infinity }) => perplexity));
  const derived = { chunk: lengthLabel('chunkLen'), local: lengthLabel('localWindow'), at: lengthLabel('length') };
  const figure = isPerplexity
    ? "format(datum.perplexity, ',.3r') + ' ± ' + format(datum.standardError, ',.2r')"
    : "format(datum.accuracy, '.1~%') + ' ± ' + format(datum.standardError, '.1~%')";
  return cells(rows, {
    x: { field: 'localWindow', title: 'local window' },
    y: { field: 'chunkLen', title: 'chunk length', label: LENGTH_LABEL },
    quality: isPerplexity ? `max(0, 1 - log(datum.perplexity / ${best}) / log(2))` : 'datum.accuracy',
    label: isPerplexity ? "format(datum.perplexity, ',.3r')" : "format(datum.accuracy * 100, '.0f')",
    derived: { ...derived, figure },
    tooltip: {
      ...{ method: 'method', 'chunk length': 'chunk', 'local window': 'local', tokens: 'at' },
      ...{ [isPerplexity ? 'perplexity' : 'found']: 'figure', samples: 'samples' },
    },
    rowHeight: 30,
  });
}
