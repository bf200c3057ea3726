/**
 * A report's page brings along, besides its data, HTML that escapes what is put into it, the style sheet, and the
 * script that draws the charts, highlights a method and hands out the data.
 */

import { escapeOf } from '../../errors.ts';

/** This is text that is HTML already. It is a class, as no data read from a file can be an instance of one. */
export class Html {
  readonly #text: string;

  /** @param text Goes into the page as it is. */
  constructor(text: string) {
    this.#text = text;
  }

  toString(): string {
    return this.#text;
  }
}
type Piece = Html | string | number | undefined | readonly Piece[];

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/**
 * Unseen are control characters but tabs and line ends, marks that turn the direction of writing, and halves of pairs.
 */
const UNSEEN = String.raw`[^\P{Cc}\t\n\r]|[\p{Bidi_Control}\u2028\u2029]|\p{Cs}`;
const unseen = new RegExp(UNSEEN, 'gu');

function textOf(piece: Piece): string {
  if (piece instanceof Html) return `${piece}`;
  if (Array.isArray(piece)) return piece.map(textOf).join('');
  // Facts of a file may be of other types than they should be.
  const text = typeof piece === 'object' ? JSON.stringify(piece) : `${piece ?? ''}`;
  return text.replace(/[&<>"']/g, (sign) => ENTITIES[sign]).replace(unseen, escapeOf);
}

/** Fills a template of HTML; everything put in is escaped unless it is `Html` itself. */
export const html = (parts: TemplateStringsArray, ...pieces: Piece[]): Html =>
  new Html(String.raw({ raw: parts }, ...pieces.map(textOf)));

/**
 * Writes JSON that a script element can hold: nothing in it is unseen or looks like a tag. A figure is good for six
 * digits.
 */
export function jsonOf(value: unknown): Html {
  const round = (_: string, field: unknown) =>
    typeof field === 'number' && !Number.isInteger(field) ? Number(field.toPrecision(6)) : field;
  return new Html(JSON.stringify(value, round).replaceAll('<', '\\u003c').replace(unseen, escapeOf));
}

export const STYLE = new Html(`
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1d1d1b; --muted: #66665f; --rule: #dcdcd6; --heat: #0b5cad; --plain: #85857f;
  --dca-0: #0b5cad; --dca-1: #00876c; --dca-2: #6d3fb8; --dca-3: #b0187a;
  --other-0: #c08000; --other-1: #a9623f; --other-2: #6e8a2f; --other-3: #a06a9a; --other-4: #4f8196;
  --other-5: #b5566f;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #161618; --ink: #e8e8e3; --muted: #a0a09a; --rule: #3a3a3e; --heat: #5aa9f5; --plain: #96968f;
    --dca-0: #5aa9f5; --dca-1: #35c9a6; --dca-2: #b392f5; --dca-3: #f06cb8;
    --other-0: #d9a53a; --other-1: #cf8f6c; --other-2: #a3bf66; --other-3: #c79ac1; --other-4: #86b3c6;
    --other-5: #e08ba0;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 56rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', sans-serif; overflow-wrap: break-word;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 3rem 0 .3rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .3rem; }
h4 { font-size: .85rem; font-weight: normal; margin: 0 0 .2rem; }
p { margin: .3rem 0 .8rem; max-width: 42rem; }
.quiet, figcaption, nav, summary { color: var(--muted); font-size: .875rem; }
nav a { margin-right: 1rem; white-space: nowrap; }
a { color: inherit; text-decoration-color: var(--rule); text-underline-offset: .2em; }
a:hover { text-decoration-color: currentColor; }
figure { margin: 1rem 0 2rem; }
figcaption { margin-bottom: .4rem; }
.data { color: var(--muted); font-size: .8rem; margin: .4rem 0 0; }
.chart { width: 100%; min-height: 3rem; }
.chart svg { display: block; max-width: 100%; height: auto; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); gap: 1.2rem 1.5rem; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .4rem; margin-bottom: .6rem; }
.legend button { all: unset; cursor: pointer; font-size: .85rem; padding: .1rem .5rem .1rem .2rem; }
.legend button { border-radius: .3rem; }
.legend button:focus-visible { outline: 2px solid var(--heat); }
.legend button[aria-pressed=true] { background: var(--rule); }
.method { white-space: nowrap; }
.method svg { vertical-align: middle; margin-right: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; vertical-align: baseline; border-bottom: 1px solid var(--rule); }
th { font-weight: normal; color: var(--muted); }
th:first-child, .facts td { text-align: left; padding-left: 0; }
tbody th { color: var(--ink); white-space: nowrap; }
thead th { vertical-align: bottom; }
figure .scroll { margin-top: .8rem; }
td[style] { background: color-mix(in srgb, var(--heat) calc(var(--share) * 55%), transparent); }
td[style] { border-left: 1px solid var(--paper); }
.scroll th:first-child { position: sticky; left: 0; background: var(--paper); }
.mean > * { border-top: 2px solid var(--rule); font-weight: 600; }
details { margin: .6rem 0; }
summary { cursor: pointer; }
@media screen and (max-width: 34rem) {
  table { font-size: .8rem; }
  th, td { padding: .25rem .45rem; }
  thead th:not(:first-child) { min-width: 4.5rem; }
  .panels:has(> :nth-child(3)) { grid-template-columns: 1fr 1fr; gap: 1rem .5rem; }
}
#tip {
  position: fixed; z-index: 1; pointer-events: none; padding: .35rem .6rem; border-radius: .3rem; font-size: .8rem;
  background: var(--ink); color: var(--paper); font-variant-numeric: tabular-nums;
}
@page { size: A4; margin: 14mm; }
@media print {
  body { padding: 0; max-width: none; font-size: 10.5pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  nav, .data, #tip { display: none; }
  .scroll { overflow: visible; }
  .scroll th:first-child { position: static; }
  .role-mark.mark-text text { opacity: 1; }
  table { font-size: 8.5pt; }
  th, td { padding: .15rem .4rem; }
  h2, h3, h4, section > p, summary, figcaption { break-after: avoid; }
  .drawing, .panels > *, table, p { break-inside: avoid; }
  .panels { grid-template-columns: 1fr 1fr 1fr; gap: .8rem 1rem; }
}
`);

export const SCRIPT = new Html(String.raw`
// Sections have ids from names of tasks, which may be any.
const read = (id) => JSON.parse(document.querySelector('script#' + id).textContent);
const data = read('data');
const figures = read('figures');

const rowsOf = ({ table, where }) =>
  data[table].filter((row) => Object.entries(where).every(([field, wanted]) => [wanted].flat().includes(row[field])));

const tip = document.querySelector('div#tip');
const unseen = new RegExp(${JSON.stringify(UNSEEN)}, 'gu');
const escapeOf = (sign) => '\\u' + sign.charCodeAt(0).toString(16).padStart(4, '0');
addEventListener('scroll', () => (tip.hidden = true), { passive: true });
function showTip(_handler, event, _item, value) {
  tip.hidden = !value;
  if (!value) return;
  const lines = Object.entries(value).map(([name, text]) => {
    const line = document.createElement('div');
    line.textContent = name + ': ' + String(text).replace(unseen, escapeOf);
    return line;
  });
  tip.replaceChildren(...lines);
  const { width, height } = tip.getBoundingClientRect();
  const { clientX, clientY } = event;
  tip.style.left = Math.max(4, Math.min(clientX + 14, innerWidth - width - 8)) + 'px';
  tip.style.top = (clientY + 18 + height < innerHeight ? clientY + 18 : clientY - height - 10) + 'px';
}

const viewsOf = new Map();
figures.forEach((figure, index) => {
  if (!figure.spec) return;
  const compiled = vega.parse(vegaLite.compile(figure.spec).spec, undefined, { ast: true });
  const boxes = document.querySelectorAll('figure#figure-' + index + ' .chart');
  const views = figure.panels.map((panel, at) => {
    const view = new vega.View(compiled, {
      // Expressions are walked, not compiled: the page's policy lets no text become code.
      expr: vega.expressionInterpreter,
      ...{ container: boxes[at], renderer: 'svg', hover: false, tooltip: showTip },
    });
    const rows = rowsOf({ table: figure.table, where: { ...figure.where, ...panel.where } });
    // A finger's tap moves no pointer.
    view.addEventListener('click', (event, item) => showTip(view, event, item, item?.tooltip));
    view.data('rows', structuredClone(rows)).runAsync();
    return view;
  });
  viewsOf.set(String(index), views);
});

for (const button of document.querySelectorAll('.legend button')) {
  button.addEventListener('click', () => {
    const isPicked = button.getAttribute('aria-pressed') === 'true';
    for (const other of button.parentElement.children) other.setAttribute('aria-pressed', 'false');
    button.setAttribute('aria-pressed', String(!isPicked));
    const picked = isPicked ? null : button.dataset.method;
    for (const view of viewsOf.get(button.closest('figure').id.slice(7))) view.signal('picked', picked).runAsync();
  });
}

const quote = (cell) => {
  // A spreadsheet would run such a name as a formula.
  const text = typeof cell === 'string' && /^[=+\-@\t\r\n]/.test(cell) ? "'" + cell : String(cell);
  return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
};
function csvOf(rows) {
  const columns = [...new Set(rows.flatMap(Object.keys))];
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column] ?? ''))];
  return lines.map((cells) => cells.map(quote).join(',') + '\r\n').join('');
}
for (const link of document.querySelectorAll('.data a')) {
  const rows = rowsOf(figures[link.closest('figure').id.slice(7)]);
  const isCsv = link.download.endsWith('.csv');
  const [text, type] = isCsv ? [csvOf(rows), 'text/csv'] : [JSON.stringify(rows, null, 1), 'application/json'];
  link.href = URL.createObjectURL(new Blob([text], { type }));
}

let closed = [];
addEventListener('beforeprint', () => {
  closed = [...document.querySelectorAll('details:not([open])')];
  for (const details of closed) details.open = true;
});
addEventListener('afterprint', () => {
  for (const details of closed) details.open = false;
});
`);
