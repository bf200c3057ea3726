/** `dualchunk chat` holds a conversation that keeps its cache, so that every turn reads only what is new. */
import { openSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { Readable } from 'node:stream';
import { ReadStream } from 'node:tty';
import { Command } from 'commander';
import {
  Conversation,
  DEFAULT_MAX_TOKENS,
  FormatError,
  type Model,
  messagesOf,
  openModel,
  type Session,
  trainedWindow,
  UnsupportedError,
} from '../node.ts';
import {
  addModelFlags,
  addSamplingFlags,
  addTemplateFlags,
  addTextFlags,
  loadOptionsOf,
  MODEL_ARGUMENT,
  type ModelFlags,
  type SamplingFlags,
  samplingOf,
  type TemplateFlags,
  type TextFlags,
} from './options.ts';
import { checkLength, checkPromptFits, isStdin, ROOM_TO_TALK, readTexts } from './prompt.ts';
import { type SessionFlags, sessionOption, settledBySession } from './read.ts';
import { guardTerminal, loadingBar, note, readingBar, writeAnswer } from './terminal.ts';
import { utf16Of } from './text.ts';

interface ChatFlags extends ModelFlags, TextFlags, SamplingFlags, TemplateFlags, SessionFlags {}

const HELP = `/clear forgets the conversation, /exit, /quit or end of input leaves, /help says this.
Ctrl-C stops an answer; at the prompt, or a second time, it leaves.`;

const command = () => addTextFlags(new Command('chat').addArgument(MODEL_ARGUMENT));

export const chatCommand = (): Command =>
  addSamplingFlags(addModelFlags(addTemplateFlags(command())))
    .description('Talks with an instruct model.')
    .addOption(sessionOption())
    .addHelpText(
      'after',
      `
${HELP}
Beyond the context the oldest turns are left out; the system message and the texts of -f stay.

Examples:
  $ dualchunk chat model.gguf
  $ dualchunk chat model.gguf -f book.txt --take 16k --context 24k
  $ dualchunk chat model.gguf --session book.kv     # a text that was read before
  $ dualchunk chat ./Qwen3-0.6B --system "Answer in one sentence." --template-var enable_thinking=false`,
    )
    .action(chat);

async function chat(path: string, typed: ChatFlags): Promise<void> {
  const { flags, text: textOfSession, bring } = await settledBySession(typed);
  const questions = flags.file?.some(isStdin) ? openTerminal() : process.stdin;
  const file = await openModel(path);
  const { tokenizer } = file;
  if (tokenizer.chatTemplate === undefined) {
    throw new UnsupportedError(`${path}: no chat template, so not an instruct model; use dualchunk run`);
  }
  const text = textOfSession?.() ?? (await readTexts(flags, tokenizer));
  checkLength(text, file, flags);
  const { system, templateVar: templateVariables } = flags;
  const frameTokens = (before: string) =>
    tokenizer.encodeChat(messagesOf({ system, text: before }, [], '?'), { variables: templateVariables }).length;
  const context =
    flags.context ?? (text ? frameTokens(text) + ROOM_TO_TALK : Math.min(trainedWindow(file.config), 8192));
  checkPromptFits(frameTokens(text), context, () => frameTokens(''));
  const model = await file.load({ ...loadOptionsOf(flags, context), onProgress: loadingBar() });
  await file.close();
  await bring(model);
  note(`${model.backendName}, method ${model.method.name}, context ${context}; /help, /exit`);
  const conversation = new Conversation(model, { system, text, templateVariables });
  await talk(model, conversation, questions, flags);
  await model.dispose();
}

/** Questions are typed where standard input is the text. @throws UnsupportedError where nobody can type. */
function openTerminal(): Readable {
  try {
    return new ReadStream(openSync('/dev/tty', 'r'));
  } catch {
    throw new UnsupportedError(
      'standard input is the text, and there is no terminal to ask questions from; ' +
        'give the text as a file, chat -f FILE, or ask one question with dualchunk run -f - -p QUESTION',
    );
  }
}

/** Reads questions that come from a file or another program, in UTF-16 too, and without a byte order mark. */
async function* piped(questions: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let decoder: TextDecoder | undefined;
  for await (const bytes of questions) {
    decoder ??= new TextDecoder(utf16Of(bytes) ?? 'utf-8');
    yield decoder.decode(bytes, { stream: true });
  }
}

async function talk(
  model: Model,
  conversation: Conversation<Session>,
  questions: Readable,
  flags: ChatFlags,
): Promise<void> {
  const input = questions instanceof ReadStream ? questions : Readable.from(piped(questions));
  const terminal = createInterface({ input, output: process.stderr, prompt: '> ' });
  let answering: AbortController | undefined;
  const interrupt = () => {
    if (answering === undefined || answering.signal.aborted) process.exit(130);
    answering.abort();
  };
  guardTerminal();
  terminal.on('SIGINT', interrupt);
  process.removeAllListeners('SIGINT').on('SIGINT', interrupt);

  let isLeft = false;
  terminal.prompt();
  for await (const line of terminal) {
    const name = /^\s*(\/\w*)\s*$/.exec(line)?.[1];
    isLeft = name === '/exit' || name === '/quit';
    if (isLeft) break;
    if (name === '/clear') conversation.clear();
    else if (name === '/help') note(HELP);
    else if (name !== undefined) note(`unknown command ${name}; /help says which there are`);
    else if (line.trim() !== '') {
      answering = new AbortController();
      await answer(model, conversation, line, flags, answering.signal);
      answering = undefined;
      process.stdout.write('\n');
    }
    terminal.prompt();
  }
  terminal.close();
  if (!isLeft && process.stderr.isTTY) note(''); // the prompt stands there still
}

/** Answers a question. One that is refused, stopped or fails is a note, and leaves the conversation as it was. */
async function answer(
  model: Model,
  conversation: Conversation<Session>,
  question: string,
  flags: ChatFlags,
  signal: AbortSignal,
): Promise<void> {
  const { context } = model;
  const { maxTokens = DEFAULT_MAX_TOKENS } = flags;
  try {
    const { prompt, nDropped } = await conversation.prompt(question, maxTokens);
    if (nDropped > 0) {
      const turns =
        nDropped === 1 ? 'the oldest turn no longer fits and is' : `${nDropped} old turns no longer fit and are`;
      note(`(${turns} left out; a larger --context keeps more)`);
    }
    const options = { ...samplingOf(flags), templateVariables: flags.templateVar, signal, onProgress: readingBar() };
    let text = '';
    let nTokens = 0;
    for await (const piece of model.generate(prompt, options)) {
      text += piece.text;
      nTokens += piece.tokens.length;
      writeAnswer(piece.text);
      if (piece.finishReason !== 'length') continue;
      const why =
        nTokens < maxTokens ? `the context of ${context} tokens is full` : `${maxTokens} tokens, -n gives more`;
      note(`\n[cut: ${why}]`);
    }
    conversation.add(question, text);
  } catch (error) {
    if (signal.aborted) note('\n(stopped; this turn is forgotten)');
    else if (error instanceof UnsupportedError || error instanceof FormatError) note(`\n${error.message}`);
    else throw error;
  }
}
