/**
 * A person sees notes and progress bars on stderr while work goes on, numbers in readable form, and a terminal left
 * whole.
 */
import { writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import cliProgress from 'cli-progress';
import { escapeOf } from '../errors.ts';

export const count = (n: number): string => Math.round(n).toLocaleString('en-US');

export function size(bytes: number): string {
  if (bytes < 2 ** 20) return `${(bytes / 2 ** 10).toFixed(1)} KiB`;
  return bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}

/** A terminal obeys C0 but for tab and line feed, DEL, C1, and what turns the direction of writing. */
const CONTROLS = /(?![\t\n])[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

/** Shows the control characters in the text of a file or a model, such as `\u001b`, so that they are not obeyed. */
export const visible = (text: string): string => text.replace(CONTROLS, escapeOf);

/** A bar is on the terminal until something is said, since one whose work was given up would be drawn for ever. */
let drawnBar: cliProgress.SingleBar | undefined;

function endBar(): void {
  drawnBar?.stop();
  drawnBar = undefined;
}

export const note = (line: string): void => {
  endBar();
  process.stderr.write(`${visible(line)}\n`);
};

/** Writes a model's own words: as they are into a file or a pipe, with control characters shown on a terminal. */
export const writeAnswer = (text: string): void => {
  endBar();
  process.stdout.write(process.stdout.isTTY ? visible(text) : text);
};

/** Tells whether a cursor can be moved there. It cannot in an editor's shell, which would show the movements. */
const isTerminal = () => process.stderr.isTTY && process.env.TERM !== 'dumb';

const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGQUIT: 131, SIGTERM: 143 } as const;
const WRAP_AND_CURSOR = '\u001b[?7h\u001b[?25h';
let isGuarded = false;

function restoreTerminal(): void {
  try {
    if (isTerminal()) writeSync(process.stderr.fd, WRAP_AND_CURSOR);
  } catch {} // the terminal itself is gone
}

/**
 * From the first call on, the terminal gets its line wrap and its cursor back whatever ends or stops the process.
 * Before it, and so while a file is opened, signals end the process at once, as no handler has to wait for the work at
 * hand.
 */
export function guardTerminal(): void {
  if (isGuarded) return;
  isGuarded = true;
  process.on('exit', restoreTerminal);
  // Ctrl-Z hands the terminal to the shell; with a listener the process has to be stopped by itself.
  process.on('SIGTSTP', () => {
    restoreTerminal();
    process.kill(process.pid, 'SIGSTOP');
  });
  for (const [signal, code] of Object.entries(SIGNALS)) {
    process.on(signal, () => {
      if (signal === 'SIGINT') note('\ninterrupted');
      process.exit(code);
    });
  }
}

/**
 * Draws a bar from `done = 0` to `done = total`, which then goes. Without a terminal it prints a line every five
 * seconds.
 * @param describe Says what is done of a total.
 */
export function progressBar(title: string, describe: (done: number, total: number, seconds: number) => string) {
  // The bar takes this for no terminal. It passes on at once, so that notes come behind the bar; stderr tells what goes wrong.
  const lines = new Writable({
    write(text, _encoding, done) {
      process.stderr.write(text);
      done();
    },
  });
  const bar = new cliProgress.SingleBar({
    format: `${visible(title)} {bar} {percentage}%  {detail}  {left}`,
    barsize: 24,
    hideCursor: true,
    clearOnComplete: true,
    linewrap: false,
    stream: isTerminal() ? process.stderr : lines,
    noTTYOutput: true,
    notTTYSchedule: 5000,
    // A terminal's bar is redrawn when work arrives, which here can take seconds.
    fps: 4,
  });
  let startedAt: number | undefined;
  return (done: number, total: number): void => {
    if (startedAt === undefined) {
      startedAt = performance.now();
      guardTerminal();
      endBar();
      drawnBar = bar;
      bar.start(total, 0, { detail: '', left: '' });
    }
    const seconds = (performance.now() - startedAt) / 1000;
    const left = done > 0 && done < total ? `${count((seconds / done) * (total - done))} s left` : '';
    bar.update(done, { detail: visible(describe(done, total, seconds)), left });
    if (done >= total && drawnBar === bar) endBar();
  };
}

/** Draws a bar of the tokens in all samples of an evaluation, and says what is being read. */
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
