/** The report shows each model section by section, from whatever was measured. */
import { findsKeys, LEAST_FOUND, MOST_PERPLEXITY, readsOn } from '../limit.ts';
import type { Result } from '../records.ts';
import {
  effectiveLength,
  lengthsOf,
  longestHeld,
  type Position,
  RULER_MEAN,
  RULER_THRESHOLD,
  type SweepCell,
} from '../results.ts';
import {
  accuracyChart,
  depthMap,
  type Looks,
  perplexityChart,
  perplexityCut,
  positionChart,
  type Spec,
  sweepMap,
} from './charts.ts';
import { type Html, html } from './page.ts';
import { type Cell, drawByLength, drawTable, figureCell, formatLength, formatPerplexity, nameOf } from './tables.ts';

/** The tables have everything the page shows; no row is in two. */
export interface Tables {
  /** These are of perplexity and of tasks that score answers, all depths together. */
  results: readonly Result[];
  /** These are by depth, of tasks that have depths. */
  depths: readonly Result[];
  positions: readonly Position[];
  ruler: readonly Result[];
  rulerMeans: readonly Result[];
  limit: readonly Result[];
  sweep: readonly SweepCell[];
}

/** Fields of a row must be these. */
type Where = Record<string, string | number>;

export interface Figure {
  caption: string;
  /** The figure shows and gives away rows of this table. */
  table: keyof Tables;
  where: Where;
  chart?: {
    spec: Spec;
    /** Each panel is a drawing of fewer rows. */
    panels: readonly { title?: string; where: Where }[];
    /** The legend names these methods. */
    legend?: readonly string[];
  };
  below?: Html;
}

/** A model has this share of what was measured. */
export interface Measured {
  model: string;
  trainedWindow?: number;
  tables: Tables;
  /** All methods of the page have looks, in order. */
  looks: Looks;
}

export interface Section {
  id: string;
  title: string;
  intro: string;
  /** Gives no figures where nothing was measured. */
  figures(measured: Measured): readonly Figure[];
}

/** Gives sections in the page's order; tasks that score answers and that nobody here knows come behind those known. */
export function sectionsFor({ results }: Tables): Section[] {
  const tasks = results.filter(({ accuracy }) => accuracy !== undefined).map(({ task }) => task);
  const known = Object.keys(ANSWERS).filter((task) => tasks.includes(task));
  const answers = [...new Set([...known, ...tasks])].map(answersTo);
  return [SUMMARY, PERPLEXITY, POSITIONS, ...answers, RULER, SWEEP, LIMIT];
}

const ofTask = (results: readonly Result[], task: string) => results.filter((result) => result.task === task);

interface MethodGroup {
  method: string;
  head: Html;
  results: Result[];
}

/** Groups results by method, in the page's order, without methods that have none. */
const byMethod = (results: readonly Result[], looks: Looks): MethodGroup[] =>
  [...looks.keys()]
    .map((method) => ({
      ...{ method, head: nameOf(method, looks) },
      results: results.filter((result) => result.method === method),
    }))
    .filter((group) => group.results.length > 0);

const methodsOf = (groups: readonly MethodGroup[]) => groups.map(({ method }) => method);

/** Charts against length want at least two. */
const hasLengths = (results: readonly Result[]) => lengthsOf(results).length > 1;

const SUMMARY: Section = {
  id: 'summary',
  title: 'Summary',
  intro: `Within its trained window a model reads well, whatever the method. What counts is what is left of that far
beyond: perplexity (lower is better) should stay what it was at the window, and hidden keys should still be found.`,
  figures({ model, trainedWindow = 0, tables, looks }) {
    const means = tables.rulerMeans;
    const [perplexities, keys] = ['perplexity', 'passkey'].map((task) => ofTask(tables.results, task));
    const columnOf = (head: string, results: readonly Result[], length: number | undefined) => ({
      head: `${head} at ${formatLength(length ?? 0)}`,
      cellOf: ({ method }: MethodGroup) =>
        figureCell(results.find((result) => result.method === method && result.length === length)),
      isMeasured: length !== undefined,
    });
    const effective = {
      head: 'RULER effective length',
      cellOf: ({ results }: MethodGroup) => effectiveCell(ofTask(results, RULER_MEAN)),
      isMeasured: means.length > 0,
    };
    const inWindow = lengthsOf(perplexities).findLast((length) => length <= trainedWindow);
    const farthest = lengthsOf(perplexities).findLast((length) => length !== inWindow);
    const columns = [
      columnOf('perplexity', perplexities, inWindow),
      columnOf('perplexity', perplexities, farthest),
      columnOf('pass keys found', keys, lengthsOf(keys).at(-1)),
      effective,
    ].filter(({ isMeasured }) => isMeasured);
    if (columns.length === 0) return [];
    const rows = byMethod([...perplexities, ...keys, ...means], looks).map((group) => ({
      head: group.head,
      cells: columns.map(({ cellOf }) => cellOf(group)),
    }));
    const window = trainedWindow > 0 ? `Trained window: ${formatLength(trainedWindow)} tokens.` : '';
    const below = drawTable(['method', ...columns.map(({ head }) => head)], rows);
    return [{ caption: window, table: 'results', where: { model }, below }];
  },
};

const PERPLEXITY: Section = {
  id: 'perplexity',
  title: 'Perplexity by length',
  intro: `How many words, in effect, the model hesitates between at each token of a text it has not seen: lower is
better. Longer texts tell more, so a method that works falls slowly or stays level beyond the window.`,
  figures({ model, trainedWindow, tables, looks }) {
    const results = ofTask(tables.results, 'perplexity');
    if (results.length === 0) return [];
    const groups = byMethod(results, looks);
    const cut = perplexityCut(results);
    const isCut = results.some(({ perplexity = 0 }) => perplexity > cut);
    const beyond = isCut ? ` Triangles at the top: more than ${formatPerplexity(cut)}.` : '';
    const numbers = drawByLength('method', groups);
    const below = html`<details><summary>Numbers</summary>${numbers}</details>`;
    const figure = { table: 'results', where: { task: 'perplexity', model } } as const;
    if (!hasLengths(results)) return [{ ...figure, caption: 'Perplexity.', below: numbers }];
    const chart = {
      spec: perplexityChart(results, looks, trainedWindow),
      panels: [{ where: {} }],
      legend: methodsOf(groups),
    };
    return [{ ...figure, caption: `Perplexity, log scale, with standard errors.${beyond}`, chart, below }];
  },
};

const POSITIONS: Section = {
  id: 'positions',
  title: 'Loss by position',
  intro: `The same loss, in nats a token, at each place of the longest texts. It falls while the text gathers; where a
method breaks, it leaps up and stays.`,
  figures({ model, trainedWindow, tables, looks }) {
    const length = Math.max(...tables.positions.map((position) => position.length));
    const rows = tables.positions.filter((position) => position.length === length);
    const legend = [...looks.keys()].filter((name) => rows.some(({ method }) => method === name));
    if (rows.length === 0) return [];
    const chart = { spec: positionChart(rows, looks, trainedWindow), panels: [{ where: {} }], legend };
    const caption = `Nats a token, texts of ${formatLength(length)} tokens. Lines that leave at the top stay above.`;
    return [{ caption, table: 'positions', where: { model, length }, chart }];
  },
};

/** Tasks that score answers have these titles and words. */
const ANSWERS: Record<string, { title: string; intro: string }> = {
  passkey: {
    title: 'Pass keys',
    intro: 'A number is hidden in a long text and asked for at its end: the share of numbers said rightly.',
  },
  needle: {
    title: 'Needle in a haystack',
    intro: 'A sentence is hidden in a long text and asked about at its end: the share of right answers.',
  },
  kv: {
    title: 'Key-value retrieval',
    intro: 'A long list of random keys and values, one of which is asked for: hard, as all entries look alike.',
  },
  questions: { title: 'Questions', intro: 'Questions about a long text: the share of right answers.' },
};

const answersTo = (task: string): Section => ({
  id: task.replace(/\W+/g, '-'),
  ...(Object.hasOwn(ANSWERS, task) ? ANSWERS[task] : { title: task, intro: 'The share of right answers.' }),
  figures({ model, trainedWindow, tables, looks }) {
    const results = ofTask(tables.results, task);
    if (results.length === 0) return [];
    const groups = byMethod(results, looks);
    const figure = { table: 'results', where: { task, model }, below: drawByLength('method', groups) } as const;
    const chart = {
      spec: accuracyChart(results, looks, trainedWindow),
      panels: [{ where: {} }],
      legend: methodsOf(groups),
    };
    const byLength = hasLengths(results)
      ? { ...figure, caption: 'Right answers by length, with standard errors; all depths together.', chart }
      : { ...figure, caption: 'Right answers.' };
    return [byLength, ...depthFigures(task, model, tables, groups)];
  },
});

/** Draws a panel for each method; none for a task without depths. */
function depthFigures(task: string, model: string, { depths }: Tables, groups: readonly MethodGroup[]): Figure[] {
  const rows = depths.filter((row) => row.task === task);
  const methods = methodsOf(groups).filter((name) => rows.some((row) => row.method === name));
  if (methods.length === 0) return [];
  const panels = methods.map((method) => ({ title: method, where: { method } }));
  const caption = 'Percent right by length and by depth, the share of the text before what is hidden.';
  return [{ caption, table: 'depths', where: { task, model }, chart: { spec: depthMap(rows), panels } }];
}

/** Says how far results held, `< 1k` where not even the shortest did, `≥ 32k` where the longest tried did. */
function heldCell(results: readonly Result[], held: number | undefined): Cell {
  if (results.length === 0) return { text: '–' };
  const [shortest, longest] = [lengthsOf(results)[0], lengthsOf(results).at(-1)];
  if (held === undefined) return { text: `< ${formatLength(shortest)}` };
  return { text: `${held === longest ? '≥ ' : ''}${formatLength(held)}` };
}

const effectiveCell = (means: readonly Result[]): Cell => heldCell(means, effectiveLength(means));

const RULER: Section = {
  id: 'ruler',
  title: 'RULER',
  intro: `Tasks of retrieval, tracing and counting (arXiv 2404.06654). The effective length is the longest up to which
the mean stays at ${RULER_THRESHOLD * 100}% or above, what Llama2-7B reaches at 4k; "<" where not even the shortest
tried did, "≥" where the longest tried did.`,
  figures({ model, tables, looks }) {
    const means = byMethod(tables.rulerMeans, looks);
    if (means.length === 0) return [];
    const summary = means.map(({ head, results }) => ({ head, results, more: [effectiveCell(results)] }));
    const where = { model };
    const ofMethod = ({ method, head, results: mean }: MethodGroup) => {
      const results = tables.ruler.filter((result) => result.method === method);
      const tasks = [...new Set(results.map(({ task }) => task))];
      const rows = tasks.map((task) => ({ head: task, results: ofTask(results, task) }));
      const table = drawByLength('task', [...rows, { head: 'mean', results: mean, isMean: true }]);
      return html`<details><summary>${head}</summary>${table}</details>\n`;
    };
    return [
      {
        caption: 'Mean of all tasks by length, and the effective length.',
        table: 'rulerMeans',
        where,
        below: drawByLength('method', summary, ['effective length']),
      },
      {
        caption: 'Each task, by method.',
        table: 'ruler',
        where,
        below: html`${means.map(ofMethod)}`,
      },
    ];
  },
};

const SWEEP: Section = {
  id: 'sweep',
  title: 'Sweep of chunk lengths',
  intro: `DCA's two lengths against each other. The local window is how far distances stay exact over a chunk border;
the fuller the colour, the better.`,
  figures({ model, tables }) {
    const isSame = (a: SweepCell, b: SweepCell) => a.task === b.task && a.length === b.length;
    const firsts = tables.sweep.filter((cell, at) => tables.sweep.findIndex((other) => isSame(cell, other)) === at);
    return firsts.map(({ task, length, perplexity }) => {
      const cells = tables.sweep.filter((cell) => cell.task === task && cell.length === length);
      const settings = [...new Set(cells.map((cell) => cell.settings))];
      const panels = settings.map((setting) => ({ title: setting, where: { settings: setting } }));
      const what =
        perplexity === undefined ? 'Percent of right answers' : 'Perplexity; faint is twice the best or more';
      const caption = `${what}, at ${formatLength(length)} tokens.`;
      return { caption, table: 'sweep', where: { task, model, length }, chart: { spec: sweepMap(cells), panels } };
    });
  },
};

const LIMIT: Section = {
  id: 'limit',
  title: 'How far it holds',
  intro: `The longest length that held, as all shorter ones did: perplexity at most ${MOST_PERPLEXITY} times that of the
shortest text; at least ${LEAST_FOUND * 100}% of the pass keys found. "<" where not even the shortest tried held, "≥"
where the longest tried did.`,
  figures({ model, tables, looks }) {
    const [perplexities, keys] = ['limit perplexity', 'limit passkey'].map((task) => ofTask(tables.limit, task));
    const groups = byMethod([...perplexities, ...keys], looks);
    if (groups.length === 0) return [];
    const rows = groups.map(({ method, head }) => {
      const [losses, found] = [perplexities, keys].map((all) => all.filter((result) => result.method === method));
      const shortest = losses.find(({ length }) => length === lengthsOf(losses)[0]);
      const reads = longestHeld(losses, (result) => readsOn(result, shortest ?? result));
      return { head, cells: [heldCell(losses, reads), heldCell(found, longestHeld(found, findsKeys))] };
    });
    const below = drawTable(['method', 'perplexity holds to', 'pass keys found to'], rows);
    return [{ caption: 'Tokens.', table: 'limit', where: { model }, below }];
  },
};
