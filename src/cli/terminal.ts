/** What a person sees while work goes on: progress bars on stderr, and numbers in readable form. */
import cliProgress from 'cli-progress';

export const count = (n: number): string => Math.round(n).toLocaleString('en-US');

export function size(bytes: number): string {
  if (bytes < 2 ** 20) return `${(bytes / 2 ** 10).toFixed(1)} KiB`;
  return bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}

export const note = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

/**
 * A bar from `done = 0` to `done = total`, then gone. Without a terminal it prints a line every five seconds.
 * @param describe What to say of so many of a total.
 */
export function progressBar(title: string, describe: (done: number, total: number, seconds: number) => string) {
  const bar = new cliProgress.SingleBar({
    format: `${title} {bar} {percentage}%  {detail}  {left}`,
    barsize: 24,
    hideCursor: true,
    clearOnComplete: true,
    linewrap: false,
    stream: process.stderr,
    noTTYOutput: true,
    notTTYSchedule: 5000,
    // A terminal's bar is redrawn when work arrives, which here can take seconds.
    fps: 4,
  });
  let startedAt: number | undefined;
  return (done: number, total: number): void => {
    if (startedAt === undefined) {
      startedAt = performance.now();
      bar.start(total, 0, { detail: '', left: '' });
    }
    const seconds = (performance.now() - startedAt) / 1000;
    const left = done > 0 && done < total ? `${count((seconds / done) * (total - done))} s left` : '';
    bar.update(done, { detail: describe(done, total, seconds), left });
    if (done >= total) bar.stop();
  };
}

/** Of tokens in all samples of an evaluation. The third number says what is being read. */
export function evaluatingBar() {
  let now = '';
  const bar = progressBar('evaluating', () => now);
  return (done: number, total: number, what: string): void => {
    now = what;
    bar(done, total);
  };
}

export const loadingBar = () => progressBar('loading', (done, total) => `${size(done)} of ${size(total)}`);

export const readingBar = (title = 'reading') =>
  progressBar(title, (done, total, seconds) => {
    const rate = seconds > 0 && done > 0 ? `  ${count(done / seconds)} tokens/s` : '';
    return `${count(done)} of ${count(total)} tokens${rate}`;
  });
