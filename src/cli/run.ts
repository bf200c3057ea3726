/** `dualchunk run`: reads texts and a question, streams the answer. */
import { Command } from 'commander';
import { openModel } from '../index.ts';
import {
  addModelFlags,
  addSamplingFlags,
  addTextFlags,
  collect,
  loadOptionsOf,
  type ModelFlags,
  OPTIONAL_MODEL_ARGUMENT,
  type SamplingFlags,
  samplingOf,
  type TextFlags,
} from './options.ts';
import { checkPromptFits, makePrompt, readTexts } from './prompt.ts';
import { count, loadingBar, note, readingBar, size } from './terminal.ts';

interface RunFlags extends ModelFlags, TextFlags, SamplingFlags {
  prompt?: string;
  stop?: string[];
  raw?: boolean;
  json?: boolean;
}

export const runCommand = (): Command =>
  addSamplingFlags(addModelFlags(addTextFlags(new Command('run').addArgument(OPTIONAL_MODEL_ARGUMENT))))
    .description('Reads texts and a prompt, and streams the answer.')
    .option('-p, --prompt <text>', 'what to ask, or the text to continue')
    .option('--stop <text>', 'end the answer before this text; may be given several times', collect)
    .option('--raw', 'no chat template: continue the text as it stands')
    .option('--json', 'print one JSON object instead of the streamed text')
    .addHelpText(
      'after',
      `
Sizes may be written 16k (16,384). Text goes to stdout, all else to stderr.

Examples:
  $ dualchunk run model.gguf -p "Why is the sky blue?"
  $ dualchunk run model.gguf -f book.txt --take 12k -p "Who keeps a journal, and where does he travel?"
  $ dualchunk run model.gguf -f book.txt --take 12k -p "..." --method none     # the same without DCA
  $ cat notes.txt | dualchunk run ./Qwen3-0.6B -f - -p "Summarise this." --method dca:chunkllama:logn
  $ dualchunk run model.gguf -p "Once upon a time" --raw --temperature 0.8 --seed 7 --json`,
    )
    .action(run);

async function run(path: string, flags: RunFlags): Promise<void> {
  const file = await openModel(path);
  const text = await readTexts(flags, file.tokenizer);
  const prompt = makePrompt(file, text, flags.prompt, flags.raw ?? false);
  const context = flags.context ?? prompt.length + flags.maxTokens;
  checkPromptFits(prompt.length, context, flags.file !== undefined);
  const model = await file.load({ ...loadOptionsOf(flags, context), onProgress: loadingBar() });
  await file.close();

  const startedAt = performance.now();
  let readAt = startedAt;
  const reading = readingBar();
  const options = {
    ...samplingOf(flags),
    stop: flags.stop,
    onProgress(done: number, total: number) {
      reading(done, total);
      if (done === total) readAt = performance.now();
    },
  };
  let answer = '';
  let generatedTokens = 0;
  for await (const piece of model.generate(prompt, options)) {
    answer += piece.text;
    generatedTokens += piece.tokens.length;
    if (!flags.json) process.stdout.write(piece.text);
  }
  const prefillSeconds = (readAt - startedAt) / 1000;
  const decodeSeconds = (performance.now() - readAt) / 1000;
  const { backendName, method } = model;
  await model.dispose();

  const figures = {
    text: answer,
    promptTokens: prompt.length,
    generatedTokens,
    method: method.name,
    prefillTokensPerSecond: round(prompt.length / prefillSeconds),
    decodeTokensPerSecond: round(generatedTokens / decodeSeconds),
    peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
  };
  process.stdout.write(flags.json ? `${JSON.stringify(figures)}\n` : '\n');
  note(
    `${count(figures.promptTokens)} tokens read at ${figures.prefillTokensPerSecond} tokens/s, ` +
      `${count(generatedTokens)} generated at ${figures.decodeTokensPerSecond} tokens/s; ` +
      `method ${method.name}, ${backendName}, peak memory ${size(figures.peakMemoryBytes)}`,
  );
}

const round = (value: number) => (Number.isFinite(value) ? Math.round(value * 10) / 10 : 0);
