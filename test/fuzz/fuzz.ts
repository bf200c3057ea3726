/**
 * `npm run fuzz`: tries every target with inputs made from a seed, in a process of its own, so that a death or a hang is a
 * finding like any other. Any input is made again from its seed: `npm run fuzz -- --only gguf --seed gguf:17 --inputs 1`.
 */
import { fork } from 'node:child_process';
import { Command } from 'commander';
import { seededRandom } from '../../src/eval/random.ts';
import { isGoodAnswer, TARGETS } from './targets.ts';

export interface Finding {
  target: string;
  /** Makes the input again. */
  seed: string;
  what: string;
}
export interface Outcome {
  inputs: number;
  /** How many inputs ended in which way. */
  ends: Record<string, number>;
  findings: Finding[];
}

/** Milliseconds that an input may take; the limits inside are seconds. */
const LONGEST = 20_000;

/** Tries inputs of one target in this process until `isOver`. */
export async function fuzz(
  target: string,
  seedOf: (n: number) => string,
  isOver: (n: number) => boolean,
  onInput: (seed: string) => void = () => {},
): Promise<Outcome> {
  const outcome: Outcome = { inputs: 0, ends: {}, findings: [] };
  for (let n = 0; !isOver(n); n++) {
    const seed = seedOf(n);
    onInput(seed);
    const startedAt = performance.now();
    let end: string;
    try {
      end = await TARGETS[target](seededRandom(seed));
    } catch (error) {
      end = isGoodAnswer(error) ? 'refused' : 'finding';
      if (end === 'finding') outcome.findings.push({ target, seed, what: String((error as Error)?.stack ?? error) });
    }
    const milliseconds = performance.now() - startedAt;
    if (milliseconds > LONGEST) outcome.findings.push({ target, seed, what: `took ${Math.round(milliseconds)} ms` });
    outcome.inputs++;
    outcome.ends[end] = (outcome.ends[end] ?? 0) + 1;
  }
  return outcome;
}

interface Flags {
  seconds: number;
  seed: string;
  only?: string;
  inputs?: string;
  json?: boolean;
}

/** Runs a target in a child, which tells what it begins with; a child that dies or says nothing is a finding. */
function fuzzInChild(target: string, flags: Flags, seconds: number): Promise<Outcome> {
  return new Promise((resolve) => {
    let seed = flags.seed;
    let done: Outcome | undefined;
    let silence: NodeJS.Timeout | undefined;
    const args = ['--child', target, '--seed', flags.seed, '--seconds', `${seconds}`];
    const child = fork(import.meta.filename, [...args, ...(flags.inputs ? ['--inputs', flags.inputs] : [])]);
    const watch = () => {
      clearTimeout(silence);
      silence = setTimeout(() => child.kill('SIGKILL'), 2 * LONGEST);
    };
    watch();
    child.on('message', (message: string | Outcome) => {
      watch();
      if (typeof message === 'string') seed = message;
      else done = message;
    });
    child.on('exit', (code, signal) => {
      clearTimeout(silence);
      const what =
        signal === 'SIGKILL' ? `no answer in ${(2 * LONGEST) / 1000} s` : `the process ended (${code ?? signal})`;
      resolve(done ?? { inputs: 1, ends: { death: 1 }, findings: [{ target, seed, what }] });
    });
  });
}

async function main(): Promise<void> {
  const program = new Command('fuzz')
    .description('Tries damaged files, templates, samples, texts, options and requests.')
    .option('--seconds <n>', 'how long, all targets together', Number, 60)
    .option('--seed <text>', 'same seed, same inputs', '1')
    .option('--only <target>', Object.keys(TARGETS).join(', '))
    .option('--inputs <n>', 'no more than so many of each target')
    .option('--child <target>', 'used by the command itself')
    .option('--json', 'print one JSON object as the last line')
    .addHelpText(
      'after',
      '\nExamples:\n  $ npm run fuzz -- --seconds 600\n  $ npm run fuzz -- --only gguf --seed 1:17 --inputs 1',
    );
  const flags = program.parse().opts<Flags & { child?: string }>();
  if (flags.child !== undefined) {
    const endsAt = performance.now() + 1000 * flags.seconds;
    const most = Number(flags.inputs ?? Infinity);
    const seedOf = (n: number) => (most === 1 ? flags.seed : `${flags.seed}:${n}`);
    const isOver = (n: number) => n >= most || performance.now() >= endsAt;
    const outcome = await fuzz(flags.child, seedOf, isOver, (seed) => process.send?.(seed));
    process.send?.(outcome, () => process.exit(0));
    return;
  }
  const targets = flags.only === undefined ? Object.keys(TARGETS) : [flags.only];
  const outcomes: Record<string, Outcome> = {};
  for (const target of targets) {
    const outcome = await fuzzInChild(target, flags, flags.seconds / targets.length);
    outcomes[target] = outcome;
    const ends = Object.entries(outcome.ends).map(([end, times]) => `${end} ${times}`);
    process.stderr.write(
      `${target}: ${outcome.inputs} inputs (${ends.join(', ')}), ${outcome.findings.length} findings\n`,
    );
    for (const { seed, what } of outcome.findings.slice(0, 5))
      process.stderr.write(`  --only ${target} --seed ${seed} --inputs 1: ${what}\n`);
  }
  if (flags.json) process.stdout.write(`${JSON.stringify(outcomes)}\n`);
  process.exitCode = Object.values(outcomes).some(({ findings }) => findings.length > 0) ? 1 : 0;
}

if (process.argv[1] === import.meta.filename) await main();
