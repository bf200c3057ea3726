/** Results are drawn as plain text, with tasks and methods down, lengths across, and of depths the mean. */
import type { Result } from './records.ts';
import { lengthsOf } from './results.ts';

/** Draws a table that ends with a line end. */
export function tableOf(results: readonly Result[]): string {
  const lengths = lengthsOf(results);
  const tasks = [...new Set(results.map(({ task }) => task))];
  const rows = tasks.flatMap((task) => {
    const ofTask = results.filter((result) => result.task === task);
    const methods = [...new Set(ofTask.map(({ method }) => method))];
    return methods.map((method, at) => [
      at === 0 ? task : '',
      method,
      ...lengths.map((length) => cell(ofTask.filter((one) => one.method === method && one.length === length))),
    ]);
  });
  const all = [['', '', ...lengths.map((length) => length.toLocaleString('en'))], ...rows];
  const widths = all[0].map((_, column) => Math.max(...all.map((row) => row[column].length)));
  const line = (row: string[]) =>
    row.map((text, column) => (column < 2 ? text.padEnd(widths[column]) : text.padStart(widths[column]))).join('  ');
  return `${all.map((row) => line(row).trimEnd()).join('\n')}\n`;
}

// --- internal ---

function cell(found: readonly Result[]): string {
  if (found.length === 0) return '';
  const mean = (of: 'perplexity' | 'accuracy') => found.reduce((sum, row) => sum + (row[of] ?? 0), 0) / found.length;
  return found[0].perplexity === undefined
    ? `${Math.round(100 * mean('accuracy'))}%`
    : mean('perplexity').toPrecision(4);
}
