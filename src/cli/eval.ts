/**
 * `dualchunk eval` measures how far a model really reads, method by method. A command is a plan of tasks, all put to
 * the same methods; commands share flags, a folder of finished samples, and the report.
 */
import { basename, dirname, join, resolve, sep } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { BUNDLED_MODEL } from '../bundled.ts';
import { findLimit, type Limit, MOST_PERPLEXITY } from '../eval/limit.ts';
import {
  allPlan,
  MEASURES,
  measuredBy,
  type Plan,
  type PlanOptions,
  perplexityPlan,
  planOf,
  sweepMethods,
  usualLengths,
} from '../eval/plans.ts';
import { METRICS, type Metric, questionsTask, readQuestions } from '../eval/questions.ts';
import type { SampleRecord } from '../eval/records.ts';
import type { EvalRun } from '../eval/run.ts';
import type { Making } from '../eval/task.ts';
import { RULER, TASKS, taskNamed } from '../eval/tasks.ts';
import { FormatError } from '../node.ts';
import { hash, openSession, type SessionFlags } from './evalSession.ts';
import { addSpeedFlags, collect, parseNumber, parseSize } from './options.ts';
import { readText } from './prompt.ts';
import { count, note } from './terminal.ts';

interface EvalFlags extends SessionFlags {
  methods: string[];
  lengths?: number[];
  samples: number;
  depths?: number;
  filler?: Making['filler'];
  form?: Making['form'];
  stride?: number;
  tasks?: string[];
  shots: number;
  metric: Metric;
  chunks?: number[];
  locals?: number[];
  upTo?: number;
}

const list = (text: string) => {
  const items = text.split(',').map((item) => item.trim());
  if (items.includes('')) throw new InvalidArgumentError('Wanted names separated by commas.');
  return items;
};
const sizes = (text: string) => [...new Set(list(text).map(parseSize))].sort((a, b) => a - b);

const DEFAULT_METHODS = ['none', 'ntk', 'dca'];

const shared = (name: string, samples = 1): Command =>
  addSpeedFlags(new Command(name))
    .option('--model <path>', 'a .gguf file or a Hugging Face folder', BUNDLED_MODEL)
    .option('--methods <list>', 'ways to read, as --method of dualchunk run names them', list, DEFAULT_METHODS)
    .option('--lengths <list>', 'tokens, such as 4k,8k,16k (default: 1, 2, 4 and 8 trained windows)', sizes)
    .option('--samples <n>', 'samples at each length and depth', parseSize, samples)
    .option('--seed <n>', 'same seed, same samples', parseNumber, 0)
    .option('--text <path>', 'a book to read or to hide things in; may be given several times', collect)
    .option('--out <folder>', 'where samples, tables and report go (default: a folder in dualchunk-eval)')
    .option('--json', 'print one JSON object as the last line');

/** Makes a command of tasks that want an answer. */
const answering = (name: string, samples?: number): Command =>
  shared(name, samples)
    .addOption(
      new Option('--filler <filler>', 'what things are hidden in').choices(['sentences', 'book']).default('book'),
    )
    .addOption(
      new Option(
        '--form <form>',
        'a text to continue, or a message in a chat (default: raw; chat for a server)',
      ).choices(['raw', 'chat']),
    )
    .option(
      '--endpoint <url>',
      'ask an OpenAI-compatible server instead, such as http://127.0.0.1:8080/v1; its key is taken from DUALCHUNK_API_KEY',
    )
    .option('--endpoint-model <name>', "the server's model (default: the first it lists)");

const depthsOption = (depths: number): Option =>
  new Option('--depths <n>', 'depths, the middles of so many equal parts').argParser(parseSize).default(depths);

export const evalCommand = (): Command =>
  new Command('eval')
    .description('Measures how far a model reads, method by method, and draws a report.')
    .addHelpText(
      'after',
      `
Every finished sample is kept: the same command goes on where it was interrupted.

Examples:
  $ dualchunk eval perplexity --model model.gguf --text book.txt --lengths 1k,4k,16k --methods none,ntk,dca
  $ dualchunk eval passkey --model model.gguf --lengths 4k,8k,16k --depths 10 --samples 5 --methods none,dca
  $ dualchunk eval questions questions.jsonl --model model.gguf --shots 2 --lengths 16k
  $ dualchunk eval sweep --model model.gguf --lengths 16k
  $ dualchunk eval passkey --endpoint http://127.0.0.1:8080/v1 --lengths 4k,8k
  $ dualchunk eval all --model model.gguf --out report/`,
    )
    .addCommand(
      shared('perplexity')
        .description('How well a text is foreseen, by length and by position.')
        .option(
          '--stride <tokens>',
          "windows begin so far apart, the paper's 256 (default: they tile the text)",
          parseSize,
        )
        .action((flags: EvalFlags) =>
          evaluate('perplexity', flags, (window) => perplexityPlan(optionsOf(flags, usualLengths(window)))),
        ),
    )
    .addCommand(
      answering('passkey')
        .description('A number hidden in a text, by length and depth.')
        .addOption(depthsOption(10))
        .action((flags: EvalFlags) => evaluate('passkey', flags, tasksPlan(['passkey']))),
    )
    .addCommand(
      answering('needle')
        .description('A sentence hidden in a book, by length and depth.')
        .addOption(depthsOption(10))
        .action((flags: EvalFlags) => evaluate('needle', flags, tasksPlan(['needle']))),
    )
    .addCommand(
      answering('ruler', 5)
        .description("RULER's tasks that need no download.")
        .option('--tasks <list>', RULER_NAMES.join(', '), list)
        .action((flags: EvalFlags) => evaluate('ruler', flags, tasksPlan(flags.tasks ?? RULER_NAMES))),
    )
    .addCommand(
      answering('kv')
        .description('A value looked up in a long JSON object.')
        .addOption(depthsOption(5))
        .action((flags: EvalFlags) => evaluate('kv', flags, tasksPlan(['kv']))),
    )
    .addCommand(
      answering('questions')
        .argument('<file>', 'JSONL, a line each: {"context" or "file", "question", "answers": [...]}')
        .description('Your own questions about your own texts.')
        .option('--shots <n>', 'questions shown with their answers before each other', parseNumber, 0)
        .addOption(new Option('--metric <metric>', 'what counts').choices([...METRICS]).default('f1'))
        .action(async (file: string, flags: EvalFlags) => {
          const questions = await readQuestions(file, readText, (path) => besides(file, path));
          const setup = `${basename(file)} (${hash(JSON.stringify(questions))}), ${flags.shots} shown, ${flags.metric}`;
          const task = { ...questionsTask(questions, flags.shots, flags.metric), setup };
          await evaluate('questions', flags, (window) => planOf([task], optionsOf(flags, [window])));
        }),
    )
    .addCommand(
      shared('sweep')
        .description('Perplexity over chunk lengths and local windows of DCA.')
        .option('--chunks <list>', 'chunk lengths, tokens (default: eighths of the trained window)', sizes)
        .option('--locals <list>', 'local windows, tokens (default: 1/16 to 3/8 of the trained window)', sizes)
        .option('--tasks <list>', MEASURES.join(', '), list, ['perplexity'])
        .action((flags: EvalFlags) =>
          evaluate('sweep', flags, sweepPlan, (window) => sweepMethods(window, flags.chunks, flags.locals)),
        ),
    )
    .addCommand(
      shared('limit')
        .description(
          `Doubles the length until perplexity is ${MOST_PERPLEXITY} times that in the window, or half the keys are missed.`,
        )
        .option('--up-to <tokens>', 'no further than this', parseSize)
        .option('--tasks <list>', MEASURES.join(', '), list, [...MEASURES])
        .action(limit),
    )
    .addCommand(
      answering('all')
        .description('All of perplexity, passkey, needle, ruler and kv, a few samples each.')
        .addOption(depthsOption(5))
        .action((flags: EvalFlags) => evaluate('all', flags, everything)),
    );

const RULER_NAMES = RULER.map((task) => task.name);

// --- what each command asks ---

/** A text to continue suits a model here; servers are for chat. */
const formOf = ({ form, endpoint }: EvalFlags) => form ?? (endpoint ? 'chat' : 'raw');

const optionsOf = (flags: EvalFlags, lengths: readonly number[]): PlanOptions => {
  const { samples, depths, filler, stride } = flags;
  return { lengths: flags.lengths ?? lengths, samples, depths, filler, form: formOf(flags), stride };
};

type Planner = (window: number, flags: EvalFlags) => Plan;

const tasksPlan =
  (names: readonly string[]): Planner =>
  (window, flags) =>
    planOf(names.map(taskNamed), optionsOf(flags, usualLengths(window)));

const sweepPlan: Planner = (window, flags) =>
  measuredBy('sweep', flags.tasks ?? [], { ...optionsOf(flags, [8 * window]), depths: 5 });

const everything: Planner = (window, flags) => {
  const options = optionsOf(flags, usualLengths(window));
  if (flags.endpoint === undefined) return allPlan(options);
  note('perplexity is left out: a server gives answers, not losses');
  return planOf(Object.values(TASKS), options);
};

// --- running ---

async function evaluate(
  command: string,
  flags: EvalFlags,
  planner: Planner,
  methodsOf: (window: number) => string[] = () => flags.methods,
): Promise<void> {
  const session = await openSession(flags);
  const plan = planner(session.window, flags);
  // Of several tasks those that can be made are worth having.
  const records = await session.put(plan, methodsOf(session.window), plan.jobs.length > 1 ? leaveOut : undefined);
  await session.finish(command, records);
}

const leaveOut: EvalRun['onLeftOut'] = (task, length, { message }) => {
  note(`${task} at ${count(length)} tokens is left out: ${message}`);
  process.exitCode = 1;
};

async function limit(flags: EvalFlags): Promise<void> {
  const { window, put, finish } = await openSession(flags);
  const records: SampleRecord[] = [];
  for (const method of flags.methods) {
    const planAt = (length: number) => {
      const options = { ...optionsOf(flags, []), lengths: [length], depths: 5, filler: 'sentences' as const };
      return measuredBy('limit', flags.tasks ?? [], options);
    };
    const found = await findLimit((length) => put(planAt(length), [method]), window, flags.upTo);
    note(`${method}: ${inWords(found)}`);
    records.push(...found.records);
  }
  await finish('limit', records);
}

function inWords({ held, broken, impossible }: Limit): string {
  if (broken) return `breaks at ${count(broken.length)} tokens (${broken.why})`;
  const holds = `holds at ${count(held ?? 0)} tokens`;
  return impossible ? `${holds}; further was not possible: ${impossible.message}` : `${holds}, the furthest asked`;
}

/** Gives the path of a text that a file of questions names. @throws FormatError where it lies elsewhere. */
function besides(questions: string, path: string): string {
  const folder = resolve(dirname(questions));
  const target = resolve(folder, path);
  if (!target.startsWith(join(folder, sep))) {
    throw new FormatError(`${questions}: file ${path} lies outside of its folder; put the text beside the questions`);
  }
  return target;
}
