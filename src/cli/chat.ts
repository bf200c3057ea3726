/** `dualchunk chat`: a conversation that keeps its cache, so that every turn reads only what is new. */
import { createInterface } from 'node:readline/promises';
import { Command } from 'commander';
import { type Message, openModel, trainedWindow, UnsupportedError } from '../index.ts';
import {
  addModelFlags,
  addSamplingFlags,
  addTextFlags,
  loadOptionsOf,
  MODEL_ARGUMENT,
  type ModelFlags,
  type SamplingFlags,
  samplingOf,
  type TextFlags,
} from './options.ts';
import { checkPromptFits, encodeChat, readTexts } from './prompt.ts';
import { loadingBar, note, readingBar } from './terminal.ts';

interface ChatFlags extends ModelFlags, TextFlags, SamplingFlags {
  system?: string;
}

/** Tokens kept free for the conversation about a document. */
const ROOM_TO_TALK = 4096;

export const chatCommand = (): Command =>
  addSamplingFlags(addModelFlags(addTextFlags(new Command('chat').addArgument(MODEL_ARGUMENT))))
    .description('Talks with an instruct model. /clear forgets the conversation, /exit or end of input leaves.')
    .option('--system <text>', 'system message')
    .addHelpText(
      'after',
      `
Ctrl-C stops an answer; at the prompt it leaves.

Examples:
  $ dualchunk chat model.gguf
  $ dualchunk chat model.gguf -f book.txt --take 16k --context 24k
  $ dualchunk chat ./Qwen3-0.6B --system "Answer in one sentence." --temperature 0.7 --top-p 0.9`,
    )
    .action(chat);

async function chat(path: string, flags: ChatFlags): Promise<void> {
  const file = await openModel(path);
  const { tokenizer } = file;
  if (tokenizer.chatTemplate === undefined) {
    throw new UnsupportedError(`${path}: no chat template, so not an instruct model; use dualchunk run`);
  }
  const text = await readTexts(flags, tokenizer);
  const opening: Message[] = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  const textTokens = tokenizer.encode(text, { addSpecialTokens: false, allowSpecial: false }).length;
  const context = flags.context ?? (text ? textTokens + ROOM_TO_TALK : Math.min(trainedWindow(file.config), 8192));
  checkPromptFits(textTokens, context, flags.file !== undefined);
  const model = await file.load({ ...loadOptionsOf(flags, context), onProgress: loadingBar() });
  await file.close();
  note(`${model.backendName}, method ${model.method.name}, context ${context}; /clear, /exit`);

  const terminal = createInterface({ input: process.stdin, output: process.stderr, prompt: '> ' });
  let answering: AbortController | undefined;
  const interrupt = () => (answering ? answering.abort() : process.exit(130));
  terminal.on('SIGINT', interrupt);
  process.removeAllListeners('SIGINT').on('SIGINT', interrupt);

  let messages = [...opening];
  terminal.prompt();
  for await (const line of terminal) {
    if (line === '/exit') break;
    if (line === '/clear') messages = [...opening];
    else if (line.trim() !== '') {
      const isFirst = !messages.some(({ role }) => role === 'user');
      const question: Message = { role: 'user', content: isFirst && text ? `${text}\n\n${line}` : line };
      const prompt = encodeChat(tokenizer, [...messages, question]);
      answering = new AbortController();
      try {
        checkPromptFits(prompt.length, context, false);
        let answer = '';
        const options = { ...samplingOf(flags), signal: answering.signal, onProgress: readingBar() };
        for await (const piece of model.generate(prompt, options)) {
          answer += piece.text;
          process.stdout.write(piece.text);
        }
        messages.push(question, { role: 'assistant', content: answer });
      } catch (error) {
        if (answering.signal.aborted) note('\n(stopped; this turn is forgotten)');
        else if (error instanceof UnsupportedError) note(`${error.message}; or /clear the conversation`);
        else throw error;
      }
      answering = undefined;
      process.stdout.write('\n');
    }
    terminal.prompt();
  }
  terminal.close();
  await model.dispose();
}
