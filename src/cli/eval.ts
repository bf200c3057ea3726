/**
 * `dualchunk eval`: how far a model really reads, method by method. A command is a list of jobs, all put to the same methods;
 * they share flags, a folder of finished samples, and the report.
 */
import { createHash } from 'node:crypto';
import { cpus, totalmem } from 'node:os';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { BUNDLED_BOOK, BUNDLED_MODEL, PACKAGE } from '../bundled.ts';
import { perplexityTask } from '../eval/perplexity.ts';
import { METRICS, type Metric, questionsTask, readQuestions } from '../eval/questions.ts';
import { modelReader, serverReader } from '../eval/readers.ts';
import type { Result, RunFacts } from '../eval/records.ts';
import { resultsOf } from '../eval/results.ts';
import { type EvalRun, type Job, keyOf, type MethodRun, runEvaluation } from '../eval/run.ts';
import type { Frame, Making, NamedText } from '../eval/task.ts';
import { RULER, TASKS, taskNamed } from '../eval/tasks.ts';
import {
  backendName,
  FormatError,
  type ModelFile,
  openModel,
  resolveMethod,
  trainedWindow,
  UnsupportedError,
} from '../node.ts';
import { openServer } from './endpoint.ts';
import { type EvalFolder, fileNameOf, openFolder } from './evalFolder.ts';
import { addSpeedFlags, collect, parseNumber, parseSize, type SpeedFlags } from './options.ts';
import { readText } from './prompt.ts';
import { count, evaluatingBar, note, size, visible } from './terminal.ts';

interface EvalFlags extends SpeedFlags {
  model: string;
  methods: string[];
  lengths?: number[];
  samples?: number;
  depths?: number;
  seed: number;
  text?: string[];
  filler: Making['filler'];
  form?: 'raw' | 'chat';
  out?: string;
  json?: boolean;
  endpoint?: string;
  endpointModel?: string;
  stride?: number;
  tasks?: string[];
  shots: number;
  metric: Metric;
  chunks?: number[];
  locals?: number[];
  upTo?: number;
}

/** What a command puts to a model whose trained window is `window` tokens. */
interface Plan {
  jobs: Job[];
  methods?: string[];
  samples: number;
  depths: number;
}

const list = (text: string) => {
  const items = text.split(',').map((item) => item.trim());
  if (items.includes('')) throw new InvalidArgumentError('Wanted names separated by commas.');
  return items;
};
const sizes = (text: string) => [...new Set(list(text).map(parseSize))].sort((a, b) => a - b);

const DEFAULT_METHODS = ['none', 'ntk', 'dca'];
/** Lengths by default, in trained windows. */
const DEFAULT_WINDOWS = [1, 2, 4, 8];

const shared = (name: string): Command =>
  addSpeedFlags(new Command(name))
    .option('--model <path>', 'a .gguf file or a Hugging Face folder', BUNDLED_MODEL)
    .option('--methods <list>', 'ways to read, as --method of dualchunk run names them', list, DEFAULT_METHODS)
    .option('--lengths <list>', 'tokens, such as 4k,8k,16k (default: 1, 2, 4 and 8 trained windows)', sizes)
    .option('--samples <n>', 'samples at each length and depth', parseSize)
    .option('--seed <n>', 'same seed, same samples', parseNumber, 0)
    .option('--text <path>', 'a book to read or to hide things in; may be given several times', collect)
    .option('--out <folder>', 'where samples, tables and report go (default: a folder in dualchunk-eval)')
    .option('--json', 'print one JSON object as the last line');

/** Of tasks that want an answer. */
const answering = (name: string): Command =>
  shared(name)
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
        .action((flags: EvalFlags) => evaluate('perplexity', flags, perplexityPlan)),
    )
    .addCommand(
      answering('passkey')
        .description('A number hidden in a text, by length and depth.')
        .option('--depths <n>', 'depths, the middles of so many equal parts', parseSize)
        .action((flags: EvalFlags) => evaluate('passkey', flags, planOf(['passkey'], 1, 10))),
    )
    .addCommand(
      answering('needle')
        .description('A sentence hidden in a book, by length and depth.')
        .option('--depths <n>', 'depths, the middles of so many equal parts', parseSize)
        .action((flags: EvalFlags) => evaluate('needle', flags, planOf(['needle'], 1, 10))),
    )
    .addCommand(
      answering('ruler')
        .description("RULER's tasks that need no download.")
        .option('--tasks <list>', RULER.map((task) => task.name).join(', '), list)
        .action((flags: EvalFlags) =>
          evaluate('ruler', flags, planOf(flags.tasks ?? RULER.map((task) => task.name), 5, 1)),
        ),
    )
    .addCommand(
      answering('kv')
        .description('A value looked up in a long JSON object.')
        .option('--depths <n>', 'depths, the middles of so many equal parts', parseSize)
        .action((flags: EvalFlags) => evaluate('kv', flags, planOf(['kv'], 1, 5))),
    )
    .addCommand(
      answering('questions')
        .argument('<file>', 'JSONL, a line each: {"context" or "file", "question", "answers": [...]}')
        .description('Your own questions about your own texts.')
        .option('--shots <n>', 'questions shown with their answers before each other', parseNumber, 0)
        .addOption(new Option('--metric <metric>', 'what counts').choices([...METRICS]).default('f1'))
        .action(async (file: string, flags: EvalFlags) => {
          const questions = await readQuestions(file, readText, (path) => besides(file, path));
          const task = questionsTask(questions, flags.shots, flags.metric);
          const setup = `${basename(file)} (${hash(JSON.stringify(questions))}), ${flags.shots} shown, ${flags.metric}`;
          await evaluate('questions', flags, (window) => ({
            ...{ jobs: [jobOf(task, flags, [window], setup)], samples: 1, depths: 1 },
          }));
        }),
    )
    .addCommand(
      shared('sweep')
        .description('Perplexity over chunk lengths and local windows of DCA.')
        .option('--chunks <list>', 'chunk lengths, tokens (default: eighths of the trained window)', sizes)
        .option('--locals <list>', 'local windows, tokens (default: 1/16 to 3/8 of the trained window)', sizes)
        .option('--tasks <list>', 'perplexity, passkey', list, ['perplexity'])
        .action((flags: EvalFlags) => evaluate('sweep', { ...flags, filler: 'book' }, sweepPlan)),
    )
    .addCommand(
      shared('limit')
        .description(
          'Doubles the length until perplexity is 1.5 times that in the window, or half the keys are missed.',
        )
        .option('--up-to <tokens>', 'no further than this', parseSize)
        .option('--tasks <list>', 'perplexity, passkey', list, ['perplexity', 'passkey'])
        .action((flags: EvalFlags) => limit({ ...flags, filler: 'sentences' })),
    )
    .addCommand(
      answering('all')
        .description('All of perplexity, passkey, needle, ruler and kv, a few samples each.')
        .option('--depths <n>', 'depths of passkey, needle and kv', parseSize)
        .action((flags: EvalFlags) => evaluate('all', flags, allPlan)),
    );

// --- what each command asks ---

type Planner = (window: number, flags: EvalFlags) => Plan;

const lengthsOf = ({ lengths }: EvalFlags, usual: readonly number[]) => lengths ?? [...usual];
const windows = (window: number) => DEFAULT_WINDOWS.map((n) => n * window);

/** @param setup What samples of the task are made of besides texts, in words. */
function jobOf(task: AnyTask, flags: EvalFlags, usual: number[], setup?: string): Job {
  const { name, makeSamples, score } = task;
  const made = setup ?? `filler ${flags.filler}, prompts ${formOf(flags)}`;
  return { task: name, makeSamples, score, setup: made, lengths: lengthsOf(flags, usual) };
}
type AnyTask = Pick<Job, 'makeSamples' | 'score'> & { name: string };

/** A text to continue suits a model here; servers are for chat. */
const formOf = ({ form, endpoint }: EvalFlags) => form ?? (endpoint ? 'chat' : 'raw');

const perplexityJob = (flags: EvalFlags, usual: number[]): Job => {
  const longest = Math.max(...lengthsOf(flags, usual));
  const windows = flags.stride === undefined ? 'windows side by side' : `stride ${flags.stride}`;
  return jobOf(perplexityTask({ stride: flags.stride, longest }), flags, usual, windows);
};

const perplexityPlan: Planner = (window, flags) => ({
  ...{ jobs: [perplexityJob(flags, windows(window))], samples: 1, depths: 1 },
});

const planOf =
  (tasks: readonly string[], samples: number, depths: number): Planner =>
  (window, flags) => ({ jobs: tasks.map((name) => jobOf(taskNamed(name), flags, windows(window))), samples, depths });

const allPlan: Planner = (window, flags) => {
  const jobs = Object.values(TASKS).map((task) => jobOf(task, flags, windows(window)));
  if (flags.endpoint === undefined) jobs.unshift(perplexityJob(flags, windows(window)));
  else note('perplexity is left out: a server gives answers, not losses');
  return { jobs, samples: 1, depths: 5 };
};

/** Either of the two tasks that a sweep or a limit is measured by, under a name of its own. */
function measuredBy(prefix: string, flags: EvalFlags, usual: number[]): Job[] {
  return (flags.tasks ?? []).map((name) => {
    if (name !== 'perplexity' && name !== 'passkey') {
      throw new UnsupportedError(`unknown task "${name}" for ${prefix}; wanted perplexity, passkey`);
    }
    const job = name === 'perplexity' ? perplexityJob(flags, usual) : jobOf(taskNamed(name), flags, usual);
    return { ...job, task: `${prefix} ${name}` };
  });
}

/** Eighths of the window, also such as put distances beyond what was trained: the risk is to be seen. */
const sweepPlan: Planner = (window, flags) => {
  const share = (parts: number[], of: number) => parts.map((part) => Math.floor((part * window) / of));
  const { chunks = share([2, 3, 4, 5, 6, 7, 8], 8), locals = share([1, 2, 4, 6], 16) } = flags;
  const methods = chunks.flatMap((chunkLen) =>
    locals.filter((local) => local <= chunkLen).map((local) => `dca:${chunkLen}/${chunkLen + local}`),
  );
  return { jobs: measuredBy('sweep', flags, [8 * window]), methods, samples: 1, depths: 5 };
};

// --- running ---

interface Opened {
  file: ModelFile;
  modelName: string;
  window: number;
  making: Omit<Making, 'length' | 'samples' | 'depths'>;
  folder: EvalFolder;
  setup: string;
  /** How to read by the methods named, at these lengths. */
  methodsFor(specs: readonly string[], lengths: readonly number[]): MethodRun[];
  facts: Pick<RunFacts, 'models' | 'methods'>;
}

async function evaluate(command: string, flags: EvalFlags, planner: Planner): Promise<void> {
  const opened = await openAll(flags);
  const plan = planner(opened.window, flags);
  const specs = plan.methods ?? flags.methods;
  // of several tasks those that can be made are worth having
  const results = await put(opened, flags, plan, specs, plan.jobs.length > 1 ? leaveOut : undefined);
  await finish(command, opened, flags, plan.jobs, results);
}

const leaveOut: EvalRun['onLeftOut'] = (task, length, { message }) => {
  note(`${task} at ${count(length)} tokens is left out: ${message}`);
  process.exitCode = 1;
};

/**
 * Puts jobs to methods, and returns what came of them, with what was finished before.
 * @throws UnsupportedError when nothing can be asked, or what cannot may not be left out.
 */
async function put(
  opened: Opened,
  flags: EvalFlags,
  plan: Plan,
  specs: readonly string[],
  onLeftOut?: EvalRun['onLeftOut'],
): Promise<Result[]> {
  const { making, folder, modelName: model } = opened;
  const jobs = plan.jobs.map((job) => ({ ...job, setup: `${opened.setup}; ${job.setup}` }));
  for (const { task, setup } of jobs) {
    const other = folder.records.find(
      (record) => record.model === model && record.task === task && record.setup !== setup,
    );
    if (other) {
      throw new UnsupportedError(
        `${folder.path} holds samples of ${task} made otherwise (${other.setup}; now ${setup}); give another --out`,
      );
    }
  }
  const lengths = [...new Set(jobs.flatMap((job) => job.lengths))];
  const bar = evaluatingBar();
  const asked = await runEvaluation({
    ...{ model, jobs, methods: opened.methodsFor(specs, lengths) },
    making: { ...making, samples: flags.samples ?? plan.samples, depths: flags.depths ?? plan.depths },
    finished: new Set(folder.records.map(keyOf)),
    onRecord: folder.append,
    ...{ onProgress: bar, onLeftOut },
  });
  if (asked.size === 0) throw new UnsupportedError('no task can be made; give other --lengths or a longer --text');
  return resultsOf(folder.records.filter((record) => asked.has(keyOf(record))));
}

/** What half of retrieval or 1.5 times the perplexity means for a method at a length, or undefined while it holds. */
function brokenBy(results: readonly Result[], base: readonly Result[]): string | undefined {
  const find = (list: readonly Result[], task: string) => list.filter((result) => result.task === task);
  const [now] = find(results, 'limit perplexity');
  const [first] = find(base, 'limit perplexity');
  if (now?.perplexity !== undefined && first?.perplexity !== undefined && now.perplexity > 1.5 * first.perplexity) {
    return `perplexity ${now.perplexity.toFixed(1)}, in the window ${first.perplexity.toFixed(1)}`;
  }
  const keys = find(results, 'limit passkey');
  const accuracy = keys.reduce((sum, key) => sum + (key.accuracy ?? 0) / keys.length, 0);
  return keys.length > 0 && accuracy < 0.5 ? `${Math.round(100 * accuracy)}% of keys found` : undefined;
}

async function limit(flags: EvalFlags): Promise<void> {
  const opened = await openAll(flags);
  const { window } = opened;
  const { upTo = 64 * window } = flags;
  const results: Result[] = [];
  const jobs: Job[] = [];
  for (const spec of flags.methods) {
    let base: Result[] | undefined;
    for (let length = window; ; length *= 2) {
      if (length > upTo) {
        note(`${spec}: holds at ${count(length / 2)} tokens, the furthest asked`);
        break;
      }
      const plan: Plan = { jobs: measuredBy('limit', flags, [length]), samples: 1, depths: 5 };
      jobs.push(...plan.jobs);
      let found: Result[];
      try {
        found = await put(opened, { ...flags, lengths: [length] }, plan, [spec]);
      } catch (error) {
        // a text or a memory that ends is an end of the search, and no fault of the method
        if (!(error instanceof UnsupportedError) || base === undefined) throw error;
        note(`${spec}: holds at ${count(length / 2)} tokens; further was not possible: ${error.message}`);
        break;
      }
      results.push(...found);
      base ??= found;
      const broken = brokenBy(found, base);
      if (broken !== undefined) {
        note(`${spec}: breaks at ${count(length)} tokens (${broken})`);
        break;
      }
    }
  }
  await finish('limit', opened, flags, jobs, results);
}

async function finish(
  command: string,
  opened: Opened,
  flags: EvalFlags,
  jobs: readonly Job[],
  results: Result[],
): Promise<void> {
  const { file, folder, modelName: model, making, setup, facts } = opened;
  await file.close();
  const tasks = Object.fromEntries(
    jobs.flatMap(({ task, ...job }) => {
      const measured = results.find((one) => one.task === task);
      return measured ? [[task, { setup: `${setup}; ${job.setup}`, samples: measured.samples }]] : [];
    }),
  );
  const { models, methods } = facts;
  folder.finish({ ...machine(), models, methods, tasks, seed: making.seed });
  if (flags.json) process.stdout.write(`${visible(JSON.stringify({ task: command, model, results }))}\n`);
  else process.stdout.write(table(results));
}

async function openAll(flags: EvalFlags): Promise<Opened> {
  const file = await openModel(flags.model);
  const { config, tokenizer } = file;
  const window = trainedWindow(config);
  const texts = await readBooks(flags.text ?? [BUNDLED_BOOK]);
  const form = formOf(flags);
  const server = flags.endpoint === undefined ? undefined : await openServer(flags.endpoint, flags.endpointModel);
  const modelName = server?.model ?? basename(flags.model);
  const { threads, backend, precision, kvType } = flags;
  const setup = [
    texts.map(({ name, text }) => `${name} (${hash(text)})`).join(', '),
    server ? `lengths by the tokenizer of ${basename(flags.model)}` : await computing(flags),
  ].join('; ');
  const folder = openFolder(flags.out ?? join('dualchunk-eval', `${fileNameOf(modelName)}-${hash(setup)}`));
  const facts: Opened['facts'] = {
    models: {
      [modelName]: server
        ? { server: flags.endpoint as string }
        : {
            format: file.format,
            'trained window': window,
            layers: config.numHiddenLayers,
            'hidden size': config.hiddenSize,
          },
    },
    methods: {},
  };
  return {
    ...{ file, modelName, window, folder, setup, facts },
    making: {
      tokenizer,
      frame: server ? { before: [], after: [] } : frameOf(file, form),
      form,
      ...{ seed: flags.seed, texts, filler: flags.filler ?? 'book' },
    },
    methodsFor(specs, lengths) {
      if (server) {
        const open = async () => serverReader(server.client, server.model, tokenizer, form);
        facts.methods.server = `whatever ${flags.endpoint} does`;
        return [{ method: 'server', lengths, open }];
      }
      const longest = Math.max(...lengths);
      return specs.flatMap((spec) => {
        // dynamic NTK follows each length; other methods are settled for the longest
        const groups = spec === 'dynamic' ? lengths.map((length) => [length]) : [lengths];
        return groups.map((group): MethodRun => {
          const method = resolveMethod(spec, undefined, config, spec === 'dynamic' ? group[0] : longest);
          facts.methods[method.name] = method.description;
          const open = async (context: number) =>
            modelReader(await file.load({ context, method: method.name, threads, backend, precision, kvType }));
          return { method: method.name, lengths: group, open };
        });
      });
    },
  };
}

/** The path of a text that a file of questions names. @throws FormatError where it lies elsewhere. */
function besides(questions: string, path: string): string {
  const folder = resolve(dirname(questions));
  const target = resolve(folder, path);
  if (!target.startsWith(join(folder, sep))) {
    throw new FormatError(`${questions}: file ${path} lies outside of its folder; put the text beside the questions`);
  }
  return target;
}

/** Ids around a prompt: BOS if the model wants it, or what its chat template writes around a user's message. */
function frameOf({ tokenizer, name }: ModelFile, form: 'raw' | 'chat'): Frame {
  if (form === 'raw') return { before: tokenizer.encode(''), after: [] };
  if (tokenizer.chatTemplate === undefined) {
    throw new UnsupportedError(`${name}: no chat template, so no --form chat; use --form raw`);
  }
  const mark = 'the message of 9427 words';
  const [before, after, ...more] = tokenizer.applyChatTemplate([{ role: 'user', content: mark }]).split(mark);
  if (after === undefined || more.length > 0) {
    throw new UnsupportedError(`${name}: the chat template changes or repeats what the user says; use --form raw`);
  }
  const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  return { before: encode(before), after: encode(after) };
}

async function readBooks(paths: readonly string[]): Promise<NamedText[]> {
  const books: NamedText[] = [];
  for (const path of paths) books.push({ name: basename(path), text: await readText(path) });
  return books;
}

/** What rounds a model's figures. */
const computing = async ({ backend = 'wasm', precision = 'int8', kvType = 'bf16' }: SpeedFlags): Promise<string> =>
  backend === 'wasm' ? `wasm, ${precision}, ${kvType} cache` : backendName(backend);

const hash = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 8);

function machine(): Pick<RunFacts, 'dualchunk' | 'date' | 'hardware' | 'runtime'> {
  const [{ model }, ...others] = cpus();
  return {
    dualchunk: PACKAGE.version,
    date: new Date().toISOString().slice(0, 10),
    hardware: `${1 + others.length} x ${model.trim()}, ${size(totalmem())}`,
    runtime: `Node ${process.versions.node}`,
  };
}

/** Tasks and methods down, lengths across; of depths the mean. */
function table(results: readonly Result[]): string {
  const lengths = [...new Set(results.map(({ length }) => length))].sort((a, b) => a - b);
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
  const all = [['', '', ...lengths.map(count)], ...rows];
  const widths = all[0].map((_, column) => Math.max(...all.map((row) => row[column].length)));
  const line = (row: string[]) =>
    row.map((text, column) => (column < 2 ? text.padEnd(widths[column]) : text.padStart(widths[column]))).join('  ');
  return `${all.map((row) => line(row).trimEnd()).join('\n')}\n`;
}

function cell(found: readonly Result[]): string {
  if (found.length === 0) return '';
  const mean = (of: 'perplexity' | 'accuracy') => found.reduce((sum, row) => sum + (row[of] ?? 0), 0) / found.length;
  return found[0].perplexity === undefined
    ? `${Math.round(100 * mean('accuracy'))}%`
    : mean('perplexity').toPrecision(4);
}
