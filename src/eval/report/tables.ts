/**
 * The report's tables are drawn here, with numbers as people read them: perplexity with three digits, shares in
 * percent, `16k`.
 */
import type { Result } from '../records.ts';
import { lengthsOf } from '../results.ts';
import type { Look, Looks } from './charts.ts';
import { type Html, html } from './page.ts';

/** Writes `16k` for 16,384, and what is no multiple of 1,024 as it is. */
export const formatLength = (length: number): string =>
  length % 1024 === 0 ? `${length / 1024}k` : length.toLocaleString('en');

/** Writes three significant digits. */
export const formatPerplexity = (perplexity: number): string =>
  perplexity < 999.5 ? perplexity.toPrecision(3) : Number(perplexity.toPrecision(3)).toLocaleString('en');

const formatAccuracy = (accuracy: number) => `${Number((accuracy * 100).toFixed(1))}%`;

export interface Cell {
  text: string;
  /** This shades the cell, from 0 to 1. */
  share?: number;
  /** This is shown on hover. */
  title?: string;
}

/** Shows a result's figure, and on hover its error and number of samples. */
export function figureCell(result: Result | undefined): Cell {
  if (!result) return { text: '–' };
  const { perplexity, accuracy = 0, standardError, samples } = result;
  const counted = `${samples} ${samples === 1 ? 'sample' : 'samples'}`;
  if (perplexity === undefined) {
    return { text: formatAccuracy(accuracy), share: accuracy, title: `± ${formatAccuracy(standardError)}, ${counted}` };
  }
  return { text: formatPerplexity(perplexity), title: `± ${Number(standardError.toPrecision(2))}, ${counted}` };
}

interface Row {
  head: Html | string;
  cells: readonly Cell[];
  isMean?: boolean;
}

/** @param heads Head the column of names, and each column of cells. */
export function drawTable(heads: readonly string[], rows: readonly Row[]): Html {
  const drawCell = ({ text, share, title }: Cell) => {
    const shade = share === undefined ? undefined : html` style="--share: ${share.toFixed(3)}"`;
    return html`<td${shade}${title && html` title="${title}"`}>${text}</td>`;
  };
  const drawRow = ({ head, cells, isMean }: Row) =>
    html`<tr${isMean ? html` class="mean"` : ''}><th scope="row">${head}</th>${cells.map(drawCell)}</tr>\n`;
  return html`<div class="scroll"><table>
<thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead>
<tbody>
${rows.map(drawRow)}</tbody></table></div>`;
}

/** Draws names and texts, without heads. */
export const drawFacts = (rows: readonly (readonly [name: string, text: Html | string])[]): Html =>
  html`<div class="scroll"><table class="facts">
${rows.map(([name, text]) => html`<tr><th scope="row">${name}</th><td>${text}</td></tr>\n`)}</table></div>`;

/** A group is the results of one row. */
interface Group {
  head: Html | string;
  results: readonly Result[];
  /** These cells stand behind the lengths. */
  more?: readonly Cell[];
  isMean?: boolean;
}

/** Draws lengths across, and a row for each group. */
export function drawByLength(corner: string, groups: readonly Group[], more: readonly string[] = []): Html {
  const lengths = lengthsOf(groups.flatMap(({ results }) => results));
  const rows = groups.map(({ results, ...group }) => {
    const cells = lengths.map((length) => figureCell(results.find((result) => result.length === length)));
    return { ...group, cells: [...cells, ...(group.more ?? [])] };
  });
  return drawTable([corner, ...lengths.map(formatLength), ...more], rows);
}

/** Writes a method's name behind the line it is drawn with. */
export function nameOf(method: string, looks: Looks): Html {
  const { color, width, dash } = looks.get(method) as Look;
  const stroke = html`stroke="${color}" stroke-width="${width}" stroke-dasharray="${dash.join(' ')}"`;
  const line = html`<svg width="26" height="10" aria-hidden="true"><line x2="26" y1="5" y2="5" ${stroke}/></svg>`;
  return html`<span class="method">${line}${method}</span>`;
}
