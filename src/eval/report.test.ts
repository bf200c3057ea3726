import { createHash } from 'node:crypto';
import { createContext, runInContext } from 'node:vm';
import type * as Vega from 'vega';
import type * as VegaLite from 'vega-lite';
import type { TopLevelSpec } from 'vega-lite';
import { describe, expect, it, vi } from 'vitest';
import { CHART_LIBRARY } from './chartLibrary.ts';
import type { Result, RunFacts, SampleRecord } from './records.ts';
import { SCRIPT } from './report/page.ts';
import { formatLength, formatPerplexity } from './report/tables.ts';
import { reportHtml } from './report.ts';
import { csvOf } from './results.ts';

const FACTS: RunFacts = {
  ...{ dualchunk: '0.1.0', date: '2026-11-24', hardware: 'two cores', runtime: 'Node 20', seed: 7 },
  models: { small: { format: 'GGUF', 'trained window': 1024 } },
  methods: { none: 'plain RoPE', 'dca:paper:none': 'chunks of 768' },
  tasks: { passkey: { depths: 2 } },
};
const METHODS = ['dca:paper:none', 'none'];
const LENGTHS = [1024, 2048];

const sample = (task: string, method: string, length: number, more: Partial<SampleRecord>): SampleRecord => ({
  ...{ task, model: 'small', method, length, sample: '0', seed: 7, setup: 'x', scores: { accuracy: 1 }, seconds: 1 },
  ...more,
});
/** Every kind of task, two methods, two lengths. */
const readings = (task: string) =>
  METHODS.flatMap((method) =>
    LENGTHS.map((length) => {
      const nats = method === 'none' && length > 1024 ? 4 : 2;
      const buckets: SampleRecord['buckets'] = [0, 512].map((from) => [from, nats * 2, nats ** 2 * 2, 2]);
      return sample(task, method, length, { scores: { nll: nats * 4, tokens: 4 }, buckets });
    }),
  );
const answers = (task: string, more: Partial<SampleRecord> = {}) =>
  METHODS.flatMap((method) => LENGTHS.map((length) => sample(task, method, length, more)));
const sweep = (task: string, scores: Record<string, number>) =>
  ['dca:512/640:logn', 'dca:640/768:logn'].map((method) => sample(task, method, 2048, { scores }));
const ALL = [
  ...readings('perplexity'),
  ...[0.25, 0.75].flatMap((depth) => answers('passkey', { depth })),
  ...answers('kv'),
  ...[...answers('vt'), ...answers('cwe')],
  ...[...sweep('sweep perplexity', { nll: 8, tokens: 4 }), ...sweep('sweep passkey', { accuracy: 1 })],
  ...[...readings('limit perplexity'), ...answers('limit passkey', { depth: 0.5 })],
];

/** What the page's script reads. */
const embedded = (page: string, id: string) =>
  JSON.parse(new RegExp(`<script type="application/json" id="${id}">(.*)</script>`).exec(page)![1]);
const sectionsOf = (page: string) => [...page.matchAll(/<section id="([^"]+)">/g)].map(([, id]) => id);
/** The page without Vega, in which any text may occur. */
const written = (page: string) => page.replace(CHART_LIBRARY, '');

describe('the page', () => {
  it('embeds what it shows, once', async () => {
    const data = embedded(
      await reportHtml([...readings('perplexity').slice(0, 1), ...answers('vt').slice(0, 1)], FACTS),
      'data',
    );
    const of = { model: 'small', method: 'dca:paper:none', length: 1024 };
    const rest = { standardError: 0, samples: 1, seconds: 1 };
    expect(data).toEqual({
      results: [{ task: 'perplexity', ...of, perplexity: 7.38906, ...rest }],
      depths: [],
      positions: [
        { task: 'perplexity', ...of, from: 0, to: 512, nll: 2, standardError: 0, tokens: 2 },
        { task: 'perplexity', ...of, from: 512, to: 514, nll: 2, standardError: 0, tokens: 2 },
      ],
      ruler: [{ task: 'vt', ...of, accuracy: 1, ...rest }],
      rulerMeans: [{ task: 'ruler mean', ...of, accuracy: 1, ...rest }],
      limit: [],
      sweep: [],
    });
  });

  it('has the sections for which there are data, and no others', async () => {
    const all = ['summary', 'perplexity', 'positions', 'passkey', 'kv', 'ruler', 'sweep', 'limit'];
    expect(sectionsOf(await reportHtml(ALL, FACTS))).toEqual(all);
    expect(sectionsOf(await reportHtml(answers('passkey'), FACTS))).toEqual(['summary', 'passkey']);
    expect(sectionsOf(await reportHtml(readings('limit perplexity'), FACTS))).toEqual(['limit']);
    expect(sectionsOf(await reportHtml([], FACTS))).toEqual([]);
  });

  it('shows the loss by position at the longest length of each model', async () => {
    const short = readings('perplexity').filter(({ length }) => length === 1024);
    const records = [...readings('perplexity'), ...short.map((record) => ({ ...record, model: 'other' }))];
    const positions: { model: string; length: number }[] = embedded(await reportHtml(records, FACTS), 'data').positions;
    const lengths = new Set(positions.map(({ model, length }) => `${model} ${length}`));
    expect([...lengths]).toEqual(['small 2048', 'other 1024']);
  });

  it('tells how far methods hold', async () => {
    const page = await reportHtml(readings('limit perplexity'), FACTS);
    const [plain, dca] = ['none', 'dca:paper:none'].map((method) => page.indexOf(`</svg>${method}</span>`));
    expect(page.slice(plain, dca)).toContain('<td>1k</td>');
    expect(page.slice(dca)).toContain('<td>≥ 2k</td>');
  });

  it('lets no name become markup', async () => {
    const [model, method, task] = ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "<b onclick='x'>"];
    const records = ALL.map((record) => ({ ...record, model, ...(record.task === 'kv' ? { task } : {}) }));
    const named = records.map((record) => (record.method === 'none' ? { ...record, method } : record));
    const hostile = { '</table><script>': '<i>' };
    const facts = {
      ...FACTS,
      hardware: model,
      models: { [model]: hostile },
      methods: hostile,
      tasks: { [task]: hostile },
    };
    const page = written(await reportHtml(named, facts));
    for (const text of ['<script>alert', '<img', '<b ', '</table><script>', '<i>']) expect(page).not.toContain(text);
    expect(embedded(page, 'data').results[0].model).toBe(model);
  });

  it.each<[unknown]>([
    [{ html: '<script>alert(1)</script>' }],
    [['<script>alert(1)</script>']],
    [{ toString: 1, '#text': '<script>alert(1)</script>' }],
    [null],
  ])('shows facts of a type they should not have, %j, as text', async (value) => {
    const forged = value as string;
    const facts = { ...FACTS, date: forged, models: { small: { format: forged } }, methods: { x: forged } };
    expect(written(await reportHtml(ALL, facts))).not.toContain('<script>alert');
  });

  it.each(['<!-- <script>', '</script><script>alert(1)', '</title><h1>', 'javascript:alert(1)'])(
    'keeps its scripts and links where a name is %s',
    async (name) => {
      const named = async (names: string) => {
        const records = ALL.map((record) => ({ ...record, model: names, task: `${record.task} ${names}` }));
        const page = await reportHtml(records, { ...FACTS, hardware: names, models: { [names]: { format: names } } });
        return { ids: ['data', 'figures'].map((id) => embedded(page, id)), tags: written(page).match(/<[a-z!/]+/gi) };
      };
      const { ids, tags } = await named(name);
      expect(ids[0].results[0].model).toBe(name);
      expect(tags).toEqual((await named('plain')).tags);
      expect(written(await reportHtml(ALL, { ...FACTS, methods: { [name]: name } }))).not.toMatch(/href="(?!#)/);
    },
  );

  it.each([
    ['\u001b[2J', '\\u001b[2J'],
    ['a\u202eb', 'a\\u202eb'],
    ['a\u2066b', 'a\\u2066b'],
    ['a\0b', 'a\\u0000b'],
    ['a\ud800b', 'a\\ud800b'],
    ['Grüße 👍', 'Grüße 👍'],
  ])('shows unseen characters as escapes: %j', async (model, shown) => {
    const page = written(
      await reportHtml(
        ALL.map((record) => ({ ...record, model })),
        FACTS,
      ),
    );
    expect(page).toContain(`<title>${shown}: `);
    expect(page).not.toMatch(/[^\P{Cc}\n]|\p{Bidi_Control}|\p{Cs}/u);
    expect(embedded(page, 'data').results[0].model).toBe(model);
  });

  it('takes names that every object has for names', async () => {
    const records = answers('constructor').map((record) => ({ ...record, model: 'toString' }));
    const page = await reportHtml(records, FACTS);
    expect(page).toContain('<h2>constructor</h2>');
  });

  it('lets only its own two scripts run', async () => {
    const page = await reportHtml(ALL, FACTS);
    const policy = /<meta http-equiv="Content-Security-Policy" content="([^"]*)">/.exec(page)?.[1];
    const scripts = [...page.matchAll(/<script(?: type="module")?>(.*?)<\/script>/gs)].map(
      ([, text]) => `&#39;sha256-${createHash('sha256').update(text).digest('base64')}&#39;`,
    );
    expect(scripts).toHaveLength(2);
    expect(policy).toContain(`default-src &#39;none&#39;; script-src ${scripts.join(' ')};`);
    expect(policy).not.toMatch(/unsafe-eval|script-src[^;]*unsafe-inline/);
  });

  it('loads nothing', async () => {
    const page = await reportHtml(ALL, FACTS);
    expect(written(page)).not.toMatch(/https?:|<link|@import|\bsrc=|url\(/);
    expect(CHART_LIBRARY).not.toMatch(/<\/script|<!--|sourceMappingURL/i);
  });
});

interface Chart {
  table: string;
  where: object;
  spec: TopLevelSpec;
  panels: object[];
}

/** As in the page: its own library, in a world where no text becomes code. */
const world = createContext(
  { console, setTimeout, setInterval, clearInterval, structuredClone },
  { codeGeneration: { strings: false, wasm: false } },
);
runInContext(CHART_LIBRARY, world);
const { vega, vegaLite } = world as unknown as {
  vega: typeof Vega & { expressionInterpreter: object };
  vegaLite: typeof VegaLite;
};

describe('the charts', async () => {
  const page = await reportHtml(ALL, FACTS);
  const data = embedded(page, 'data');
  const charts: Chart[] = embedded(page, 'figures').filter(({ spec }: Partial<Chart>) => spec);

  it('are seven: two of losses, three of answers, two of sweeps', async () => {
    expect(charts).toHaveLength(7);
  });

  it.each(charts.map((chart) => [chart.table, JSON.stringify(chart.where), chart] as const))(
    'of %s, %s, draw without a warning',
    async (_table, _where, { table, spec, panels }) => {
      const warn = vi.spyOn(console, 'warn');
      const runtime = vega.parse(vegaLite.compile(spec).spec, undefined, { ast: true });
      const view = new vega.View(runtime, { expr: vega.expressionInterpreter, renderer: 'none' });
      view.data('rows', structuredClone(data[table]));
      expect(await view.toSVG()).toMatch(/aria-roledescription="(line mark|rect)/);
      expect(warn).not.toHaveBeenCalled();
      expect(panels.length).toBeGreaterThan(0);
    },
  );
});

it.each([
  [1024, '1k'],
  [16384, '16k'],
  [1000, '1,000'],
])('length %i is %s', (length, text) => {
  expect(formatLength(length)).toBe(text);
});

it.each([
  [7.38906, '7.39'],
  [36.04, '36.0'],
  [999.7, '1,000'],
  [12345, '12,300'],
])('perplexity %f is %s', (value, text) => {
  expect(formatPerplexity(value)).toBe(text);
});

it('hands out the CSV that the table beside it has, with no formula in it either', async () => {
  const [part] = /^const quote = .*?^}$/ms.exec(`${SCRIPT}`) ?? [];
  const csvOfPage = runInContext(`${part}; csvOf`, createContext({}));
  const row: Result = {
    ...{ task: '=1+1', model: '@x, "y"', method: '-m', length: -1, depth: 0.5, perplexity: 2, accuracy: 0.5 },
    ...{ standardError: 0, samples: 1, seconds: 1 },
  };
  expect(csvOfPage([row])).toBe(csvOf([row]));
});
