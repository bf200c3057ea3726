/**
 * In `dualchunk demo` a model trained on 1,024 tokens reads a book many times as long, with and without Dual Chunk
 * Attention. Five pass keys are hidden in the book; the same reading gives the perplexity and the place to ask for
 * them.
 */
import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import { BUNDLED_BOOK, BUNDLED_MODEL } from '../bundled.ts';
import { type LoadOptions, loadModel, type Model, type Tokenizer, trainedWindow, UnsupportedError } from '../node.ts';
import { backendOption, parseSize, threadsOption, wholeFrom } from './options.ts';
import { count, readingBar } from './terminal.ts';

interface DemoFlags {
  context: number;
  quick?: boolean;
  seed: number;
  threads?: number;
  backend?: LoadOptions['backend'];
  json?: boolean;
}

/** The holders of the keys have names that the book does not know. */
const HOLDERS = ['Alice', 'Daniel', 'Florence', 'Harold', 'Martha'];
const METHODS = ['none', 'dca'] as const;
const QUICK_CONTEXT = 4096;
/** A question and its answer take fewer tokens. */
const QUESTION_ROOM = 40;
const ANSWER_TOKENS = 8;

/**
 * DCA must find all keys but one, and leave the perplexity of the last stretch within this factor of the first.
 */
const MOST_KEYS_MISSED = 1;
const LARGEST_GROWTH = 1.25;

export const demoCommand = (): Command =>
  new Command('demo')
    .description('Shows the bundled model reading far past its window, with and without DCA.')
    .option('-c, --context <tokens>', 'how far to read', parseSize, 16384)
    .option('--quick', `read ${QUICK_CONTEXT} tokens only`)
    .option('--seed <n>', 'other keys for another number', wholeFrom(0, 2 ** 32 - 1), 1)
    .addOption(threadsOption())
    .addOption(backendOption())
    .option('--json', 'print one JSON object instead of the table')
    .addHelpText(
      'after',
      `
Examples:
  $ dualchunk demo
  $ dualchunk demo --quick
  $ dualchunk demo --context 32k --json`,
    )
    .action(demo);

interface PassKey {
  holder: string;
  /** The key has five digits. */
  key: string;
  /** This share of the text stands before it. */
  depth: number;
}

/** One method made this of the text. */
interface Reading {
  method: string;
  /** Nats of every token but the first. */
  losses: number[];
  /** This was answered for each key. */
  answers: string[];
  seconds: number;
}

async function demo({ context: asked, quick, seed, json, ...speed }: DemoFlags): Promise<void> {
  const context = quick ? QUICK_CONTEXT : asked;
  const book = await readFile(BUNDLED_BOOK, 'utf8');
  const keys = makeKeys(seed);
  const readings: Reading[] = [];
  let window = 0;
  for (const method of METHODS) {
    const model = await loadModel(BUNDLED_MODEL, { context, method, ...speed });
    window = trainedWindow(model.config);
    const ids = hideKeys(model.tokenizer, book, keys, context - QUESTION_ROOM, 2 * window);
    const title = method === 'none' ? 'plain RoPE' : 'with DCA  ';
    readings.push(await read(model, ids, keys, title));
    await model.dispose();
  }
  const [plain, dca] = readings;
  const stretches = stretchesOf(window, context).map(([from, to]) => ({
    from,
    to,
    plain: perplexity(plain.losses, from, to),
    dca: perplexity(dca.losses, from, to),
  }));
  const passKeys = keys.map((key, i) => ({ ...key, plain: plain.answers[i], dca: dca.answers[i] }));
  const found = (method: 'plain' | 'dca') => passKeys.filter((one) => one[method] === one.key).length;
  const growth = (stretches.at(-1)?.dca ?? Number.NaN) / stretches[0].dca;
  const ok = found('dca') >= keys.length - MOST_KEYS_MISSED && growth < LARGEST_GROWTH;

  if (json) {
    const seconds = { plain: plain.seconds, dca: dca.seconds };
    const facts = {
      model: 'books-16m',
      trainedWindow: window,
      context,
      method: dca.method,
      stretches,
      passKeys,
      seconds,
      ok,
    };
    process.stdout.write(`${JSON.stringify(facts)}\n`);
  } else {
    const shown = (answer: string, key: string) => `${answer === key ? '✓' : '✗'} ${answer}`;
    const rows = [
      ['perplexity (less is better)', 'plain RoPE', 'with DCA'],
      ...stretches.map(({ from, to, plain, dca }) => [
        `  tokens ${count(from)} to ${count(to)}${to <= window ? ', inside the window' : ''}`,
        plain.toFixed(1),
        dca.toFixed(1),
      ]),
      ['pass keys hidden in the text', `${found('plain')} of ${keys.length}`, `${found('dca')} of ${keys.length}`],
      ...passKeys.map(({ holder, key, depth, plain, dca }) => [
        `  ${holder}'s, ${key}, ${Math.round(100 * depth)}% in`,
        shown(plain, key),
        shown(dca, key),
      ]),
    ];
    const width = Math.max(...rows.map(([label]) => label.length));
    const table = rows.map(([label, a, b]) => `${label.padEnd(width)}   ${a.padEnd(12)}  ${b}`.trimEnd());
    process.stdout.write(
      `books-16m, 15.7 million parameters, trained on ${count(window)} tokens, reads ${count(context)} tokens of Dracula ` +
        `(${dca.method}):\n\n${table.join('\n')}\n\n` +
        `${ok ? 'Without DCA the text falls apart beyond the window; with it the model reads on.' : 'DCA did not do its job here.'} ` +
        `${plain.seconds} and ${dca.seconds} s.\n\n` +
        'Your own model (GGUF file or Hugging Face folder) and text:\n' +
        '  npx dualchunk run model.gguf -f book.txt -p "Who keeps a journal in this text?"\n',
    );
  }
  if (!ok) process.exitCode = 1;
}

/** Makes the same keys for the same seed. */
function makeKeys(seed: number): PassKey[] {
  let state = seed;
  return HOLDERS.map((holder, i) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0; // this is the generator of Numerical Recipes
    return { holder, key: String(10000 + ((state >>> 8) % 90000)), depth: (i + 0.5) / HOLDERS.length };
  });
}

/**
 * Gives token ids of a head line and of the book with the keys in it, `length` in all, in the form the model was
 * trained on.
 */
function hideKeys(tokenizer: Tokenizer, book: string, keys: PassKey[], length: number, least: number): number[] {
  if (length < least)
    throw new UnsupportedError(
      `a context of ${length + QUESTION_ROOM} tokens shows nothing; wanted at least ${least + QUESTION_ROOM}`,
    );
  const plainIds = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  const begin = tokenizer.encode('There are pass keys hidden in the text below. Find them and remember them.\n\n');
  const needles = keys.map(({ holder, key }) =>
    plainIds(`\n\nThe pass key of ${holder} is ${key}. Remember it. ${key} is the pass key of ${holder}.\n\n`),
  );
  const room = length - begin.length - needles.reduce((sum, needle) => sum + needle.length, 0);
  const { ids } = tokenizer.encodePrefix(book, room, { addSpecialTokens: false });
  if (ids.length < room) {
    throw new UnsupportedError(
      `the bundled book has ${count(ids.length)} tokens; a context of ${count(length)} needs ${count(room)}`,
    );
  }
  const cuts = [0, ...keys.map(({ depth }) => Math.round(depth * room)), room];
  return [...begin, ...cuts.slice(1).flatMap((cut, i) => [...ids.slice(cuts[i], cut), ...(needles[i] ?? [])])];
}

/** Scores the text, then asks for each key behind it; the text is read once. */
async function read(model: Model, ids: number[], keys: PassKey[], title: string): Promise<Reading> {
  const startedAt = performance.now();
  const losses: number[] = [];
  for await (const block of model.score(ids, { onProgress: readingBar(title) })) losses.push(...block);
  const answers: string[] = [];
  for (const { holder } of keys) {
    const question = `\n\nWhat is the pass key of ${holder}? The pass key of ${holder} is`;
    const prompt = [...ids, ...model.tokenizer.encode(question, { addSpecialTokens: false })];
    let answer = '';
    for await (const { text } of model.generate(prompt, { maxTokens: ANSWER_TOKENS, temperature: 0 })) answer += text;
    answers.push(/^ (\d{5})(?!\d)/.exec(answer)?.[1] ?? answer.trim().split('\n')[0].slice(0, 12));
  }
  const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
  return { method: model.method.name, losses, answers, seconds };
}

/** Gives the window, then stretches that double: 0 to c, c to 2c, 2c to 4c, … */
function stretchesOf(window: number, context: number): [number, number][] {
  const ends = [window];
  while (2 * ends[ends.length - 1] < context) ends.push(2 * ends[ends.length - 1]);
  return [...ends, context].filter((end, i, all) => end !== all[i - 1]).map((end, i, all) => [all[i - 1] ?? 0, end]);
}

/** The perplexity of tokens `from..to`, where loss `i` is that of token `i + 1`. */
function perplexity(losses: number[], from: number, to: number): number {
  const part = losses.slice(Math.max(0, from - 1), to - 1);
  return Math.exp(part.reduce((a, b) => a + b, 0) / part.length);
}
