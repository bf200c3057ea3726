/**
 * `dualchunk read` reads texts once and writes down what the model remembers of them; `run` and `chat` answer from it with
 * `--session`, today or tomorrow.
 */
import { stat } from 'node:fs/promises';
import { Command, Option } from 'commander';
import { QUESTIONS, sharedTokens } from '../conversation.ts';
import { FormatError, type Model, openModel, openSession, UnsupportedError } from '../node.ts';
import {
  addModelFlags,
  addTemplateFlags,
  addTextFlags,
  loadOptionsOf,
  type ModelFlags,
  OPTIONAL_MODEL_ARGUMENT,
  type TemplateFlags,
  type TextFlags,
} from './options.ts';
import { checkLength, checkPromptFits, makePrompt, ROOM_TO_TALK, readTexts } from './prompt.ts';
import { count, loadingBar, note, progressBar, readingBar, size } from './terminal.ts';

/** A session of `read` says so of how its prompt was made. */
interface ReadText {
  readonly text: string;
  readonly system?: string;
  readonly templateVar?: Record<string, unknown>;
  readonly raw?: boolean;
}

export interface SessionFlags {
  session?: string;
}

export const sessionOption = (): Option =>
  new Option('--session <file>', 'a text that dualchunk read has written down, in place of -f and --system');

interface ReadFlags extends ModelFlags, TextFlags, TemplateFlags {
  output: string;
  raw?: boolean;
  json?: boolean;
}

const command = () => addTextFlags(new Command('read').addArgument(OPTIONAL_MODEL_ARGUMENT));

export const readCommand = (): Command =>
  addModelFlags(addTemplateFlags(command()))
    .description('Reads texts once, and writes down what the model remembers of them.')
    .requiredOption('-o, --output <file>', 'where to write the session')
    .option('--raw', 'no chat template: questions continue the text as it stands')
    .option('--json', 'print one JSON object when done')
    .addHelpText(
      'after',
      `
Ask it with  dualchunk run model.gguf --session book.kv -p "Who keeps a journal?"  or with chat, today and tomorrow. The file holds
the text and the model's keys and values; its size is that of the cache, and --kv-type q8_0 makes it about half as large. It is for
this very model, method and type of cache: run, chat and serve take the last two from it.

Examples:
  $ dualchunk read model.gguf -f book.txt -o book.kv
  $ dualchunk read model.gguf -f book.txt --take 48k --kv-type q8_0 --context 64k -o book.kv`,
    )
    .action(read);

async function read(path: string, flags: ReadFlags): Promise<void> {
  const file = await openModel(path);
  const text = await readTexts(flags, file.tokenizer, { question: '' });
  checkLength(text, file, flags);
  const tokens = shared((prompt) => makePrompt(file, text, { ...flags, prompt }).ids);
  const context = flags.context ?? tokens.length + ROOM_TO_TALK;
  checkPromptFits(tokens.length, context, () => shared((prompt) => makePrompt(file, '', { prompt }).ids).length);
  const model = await file.load({ ...loadOptionsOf(flags, context), onProgress: loadingBar() });
  await file.close();
  const startedAt = performance.now();
  const { system, templateVar, raw, output } = flags;
  const about: ReadText = { text, system, templateVar, raw };
  const session = await model.read(tokens, { about, onProgress: readingBar() });
  const seconds = (performance.now() - startedAt) / 1000;
  await session.save(output, { onProgress: progressBar('writing', (done, total) => `${done} of ${total} pages`) });
  const { backendName, method } = model;
  await model.dispose();
  const { size: bytes } = await stat(output);
  const figures = {
    session: output,
    tokens: tokens.length,
    bytes,
    seconds: Number(seconds.toFixed(2)),
    method: method.name,
  };
  if (flags.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
  note(
    `${count(tokens.length)} tokens read at ${count(tokens.length / seconds)} tokens/s and written to ${output}, ` +
      `${size(bytes)}; method ${method.name}, ${backendName}`,
  );
}

/** Prompts begin with these tokens whatever the question is. */
const shared = (encode: (question: string) => number[]) => sharedTokens(encode(QUESTIONS[0]), encode(QUESTIONS[1]));

/** A command's flags are settled by its session, where one is given. */
export interface Settled<Flags> {
  readonly flags: Flags;
  /** Gives the text that was read; absent without a session. @throws FormatError where the session is none of `read`. */
  readonly text?: () => string;
  /** Puts the session, if there is one, into the model's cache, and closes it. */
  bring(model: Model, signal?: AbortSignal): Promise<void>;
}

/**
 * Fills in what a session says where flags are silent.
 * @throws UnsupportedError where flags say something else than the session; FormatError where it is none, or damaged.
 */
export async function settledBySession<
  Flags extends ModelFlags & TextFlags & TemplateFlags & SessionFlags & { raw?: boolean },
>(flags: Flags): Promise<Settled<Flags>> {
  const { session, system, templateVar, raw } = flags;
  if (session === undefined) return { flags, bring: async () => {} };
  const others = {
    '-f': flags.file,
    '--take': flags.take,
    '--system': system,
    '--template-var': templateVar,
    '--raw': raw,
  };
  const doubled = Object.entries(others).find(([, value]) => value !== undefined)?.[0];
  if (doubled) {
    throw new UnsupportedError(`${doubled} was settled when ${session} was read; leave it out, or read the text again`);
  }
  const file = await openSession(session);
  const { about, context, method, cache } = file.head;
  const { text, ...said } = (about ?? {}) as Partial<ReadText>;
  const [backend, kvType] = cache.split(' ') as [ModelFlags['backend'], ModelFlags['kvType']];
  const settled = { context, method: method.split(' ')[0], backend, ...(backend === 'wasm' && { kvType }) };
  const given = Object.fromEntries(Object.entries({ ...flags, ...said }).filter(([, value]) => value !== undefined));
  return {
    flags: { ...settled, ...given } as Flags,
    text() {
      if (typeof text === 'string') return text;
      throw new FormatError(`${session}: a session of another program, without its text; wanted one of dualchunk read`);
    },
    async bring(model, signal) {
      const onProgress = progressBar('opening', (done, total) => `${count(done)} of ${count(total)} tokens`);
      try {
        await model.loadSession(file, { signal, onProgress });
      } finally {
        await file.close();
      }
    },
  };
}
