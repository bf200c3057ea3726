/**
 * The report of an evaluation is one HTML file that needs no network. Each figure says which rows it shows; the page
 * draws them, and hands them out, from the one copy it embeds.
 */
import { CHART_LIBRARY } from './chartLibrary.ts';
import type { Result, RunFacts, SampleRecord } from './records.ts';
import { type Looks, looksOf } from './report/charts.ts';
import { Html, html, jsonOf, SCRIPT, STYLE } from './report/page.ts';
import { type Figure, sectionsFor, type Tables } from './report/sections.ts';
import { drawFacts, nameOf } from './report/tables.ts';
import {
  isRuler,
  lossByPosition,
  type Position,
  resultsByLength,
  resultsOf,
  rulerMeans,
  sweepCells,
} from './results.ts';

/**
 * Makes the tables that the page embeds. Tasks named `limit …` and `sweep …`, and RULER's, stay apart from those of the
 * same kind.
 */
function tablesOf(records: readonly SampleRecord[]): Tables {
  const all = resultsByLength(records);
  const isLimit = ({ task }: Result) => task.startsWith('limit ');
  const isSweep = ({ task }: Result) => task.startsWith('sweep ');
  const ruler = all.filter(({ task }) => isRuler(task));
  const results = all.filter((result) => !ruler.includes(result) && !isLimit(result) && !isSweep(result));
  const isLongest = ({ model, length }: Position) =>
    !results.some((other) => other.perplexity !== undefined && other.model === model && other.length > length);
  const isOwn = ({ task }: SampleRecord) => results.some((result) => result.task === task);
  return {
    results,
    depths: resultsOf(records.filter((record) => record.depth !== undefined && isOwn(record))),
    positions: lossByPosition(records.filter(isOwn)).filter(isLongest),
    ruler,
    rulerMeans: rulerMeans(ruler),
    limit: all.filter(isLimit),
    sweep: sweepCells(all.filter(isSweep)),
  };
}

/** Keeps the rows of one model. */
const tablesOfModel = (tables: Tables, model: string) =>
  Object.fromEntries(
    Object.entries(tables).map(([name, rows]) => [name, rows.filter((row: { model: string }) => row.model === model)]),
  ) as unknown as Tables;

/**
 * Draws the report of finished samples.
 * @param facts `trained window` among a model's facts, a number of tokens, is drawn into charts; the others are listed.
 * @returns A whole document. Web Crypto must be there, which browsers give pages of https and localhost only.
 */
export async function reportHtml(records: readonly SampleRecord[], facts: RunFacts): Promise<string> {
  const tables = tablesOf(records);
  const measured = [...tables.results, ...tables.ruler, ...tables.limit].map(({ method }) => method);
  const looks = looksOf(unique([...Object.keys(facts.methods).filter((name) => measured.includes(name)), ...measured]));
  const models = unique(records.map(({ model }) => model)).map((model) => ({
    ...{ model, looks, tables: tablesOfModel(tables, model) },
    trainedWindow: Number(facts.models[model]?.['trained window']) || undefined,
  }));

  const figures: Figure[] = [];
  const sections = sectionsFor(tables).flatMap(({ id, title, intro, ...section }) => {
    const parts = models.flatMap((one) => {
      const own = section.figures(one);
      const first = figures.push(...own) - own.length;
      const drawn = own.map((figure, at) => drawFigure(figure, first + at, `${id}-${first + at}`, looks));
      return own.length === 0 ? [] : [html`${models.length > 1 ? html`<h3>${one.model}</h3>\n` : ''}${drawn}`];
    });
    const drawn = html`<section id="${id}">\n<h2>${title}</h2>\n<p>${intro}</p>\n${parts}</section>\n`;
    return parts.length === 0 ? [] : [{ id, title, drawn }];
  });
  const names = models.map(({ model }) => model).join(', ');
  const shown = figures.map(({ table, where, chart }) => ({ table, where, ...chart }));

  const library = new Html(CHART_LIBRARY);
  const policy = await policyOf([library, SCRIPT]);
  return `${html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${names}: reading past the trained window</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>Reading past the trained window</h1>
<p class="quiet">${names}. ${facts.date}, ${facts.hardware}, ${facts.runtime}, dualchunk ${facts.dualchunk}.</p>
${drawRun(facts)}
<nav>${sections.map(({ id, title }) => html`<a href="#${id}">${title}</a> `)}</nav>
</header>
<main>
<noscript><p>Charts and downloads need JavaScript; the tables do not.</p></noscript>
${sections.map(({ drawn }) => drawn)}</main>
<div id="tip" hidden></div>
<script type="application/json" id="data">${jsonOf(tables)}</script>
<script type="application/json" id="figures">${jsonOf(shown)}</script>
<script>${library}</script>
<script type="module">${SCRIPT}</script>
</body>
</html>
`}`;
}

/** Lets only these scripts run, and nothing be loaded or sent. Charts and shaded cells need styles of their own. */
async function policyOf(scripts: readonly Html[]): Promise<string> {
  const hashes = await Promise.all(
    scripts.map(async (script) => {
      const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(`${script}`));
      return `'sha256-${btoa(String.fromCharCode(...new Uint8Array(digest)))}'`;
    }),
  );
  return `default-src 'none'; script-src ${hashes.join(' ')}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'`;
}

const unique = <T>(values: readonly T[]): T[] => [...new Set(values)];

/** Lists how the figures came to be. */
function drawRun({ models, methods, tasks, seed }: RunFacts): Html {
  const inWords = (facts: Record<string, Record<string, string | number>>) =>
    Object.entries(facts).map(([name, settings]): [string, Html] => [
      name,
      html`${Object.entries(settings).map(([key, value], at) => {
        const shown = typeof value === 'number' ? value.toLocaleString('en') : value;
        return html`${at > 0 ? ' · ' : ''}${key}: ${shown}`;
      })}`,
    ]);
  return html`<details><summary>How this was measured</summary>
<h3>Models</h3>
${drawFacts(inWords(models))}
<h3>Methods</h3>
${drawFacts(Object.entries(methods))}
<h3>Tasks</h3>
${drawFacts([...inWords(tasks), ['all', `seed: ${seed}`]])}
<p class="quiet">Seconds are those spent on samples. What a sample shares with one before was not read again, and a window
of a longer one takes none, so they are no measure of speed.</p>
</details>`;
}

/** @param fileName Names the file of its data, when saved. */
function drawFigure({ caption, chart, below }: Figure, index: number, fileName: string, looks: Looks): Html {
  const { legend = [], panels = [] } = chart ?? {};
  const buttons = legend.map(
    (method) =>
      html`<button type="button" aria-pressed="false" data-method="${method}">${nameOf(method, looks)}</button>\n`,
  );
  const boxes = panels.map(({ title }) => {
    const box = html`<div class="chart" role="img" aria-label="${title ?? caption}"></div>`;
    return html`<div>${title && html`<h4>${title}</h4>`}${box}</div>\n`;
  });
  const link = (kind: string) => html`<a download="${fileName}.${kind}">${kind.toUpperCase()}</a>`;
  return html`<figure id="figure-${index}">
<div class="${panels.length > 1 ? '' : 'drawing'}">
<figcaption>${caption}</figcaption>
${legend.length > 0 ? html`<div class="legend">${buttons}</div>` : ''}
${panels.length > 1 ? html`<div class="panels">${boxes}</div>` : boxes}
</div>
${below}
<p class="data">data: ${link('json')}, ${link('csv')}</p>
</figure>
`;
}
