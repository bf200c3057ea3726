/** `dualchunk run` reads texts and a question, and streams the answer. */
import { Command } from 'commander';
import { DEFAULT_MAX_TOKENS, FormatError, openModel, type Piece } from '../node.ts';
import {
  addModelFlags,
  addSamplingFlags,
  addTemplateFlags,
  addTextFlags,
  collectStop,
  loadOptionsOf,
  type ModelFlags,
  OPTIONAL_MODEL_ARGUMENT,
  type SamplingFlags,
  samplingOf,
  type TextFlags,
} from './options.ts';
import { checkLength, checkPromptFits, makePrompt, type PromptFlags, readText, readTexts } from './prompt.ts';
import { type SessionFlags, sessionOption, settledBySession } from './read.ts';
import { count, loadingBar, note, readingBar, size, visible, writeAnswer } from './terminal.ts';

interface RunFlags extends ModelFlags, TextFlags, SamplingFlags, PromptFlags, SessionFlags {
  stop?: string[];
  json?: boolean;
  jsonSchema?: string;
}

const command = () => addTextFlags(new Command('run').addArgument(OPTIONAL_MODEL_ARGUMENT));

export const runCommand = (): Command =>
  addSamplingFlags(addModelFlags(addTemplateFlags(command())))
    .description('Reads texts and a prompt, and streams the answer.')
    .option('-p, --prompt <text>', 'what to ask, or the text to continue')
    .addOption(sessionOption())
    .option(
      '--stop <text>',
      'end the answer before this text, \\n is a line break; may be given several times',
      collectStop,
    )
    .option(
      '--json-schema <schema>',
      'the answer is JSON that fits this JSON Schema: a file, or JSON that begins with {',
    )
    .option('--raw', 'no chat template: continue the text as it stands')
    .option('--json', 'print one JSON object instead of the streamed text')
    .addHelpText(
      'after',
      `
Sizes may be written 16k (16,384). Text goes to stdout, all else to stderr. Text piped in is read too, behind the files.

Examples:
  $ dualchunk run model.gguf -p "Why is the sky blue?"
  $ dualchunk run model.gguf -f book.txt --take 12k -p "Who keeps a journal, and where does he travel?"
  $ dualchunk run model.gguf -f book.txt --take 12k -p "..." --method none     # the same without DCA
  $ dualchunk run model.gguf --session book.kv -p "Who is Lucy?"     # a text that was read before
  $ dualchunk run model.gguf -f <(pdftotext paper.pdf -) -p "What was measured?"
  $ dualchunk run ./Qwen3-0.6B -p "Count to ten." --template-var enable_thinking=false --stop "\\n"
  $ cat notes.txt | dualchunk run ./Qwen3-0.6B -p "Summarise this." --method dca:chunkllama:logn
  $ dualchunk run model.gguf -p "Name three rivers." --json-schema '{"type":"array","items":{"type":"string"},"maxItems":3}'
  $ dualchunk run model.gguf -p "Once upon a time" --raw --temperature 0.8 --seed 7 --json`,
    )
    .action(run);

async function run(path: string, typed: RunFlags): Promise<void> {
  const { flags, text: textOfSession, bring } = await settledBySession(typed);
  const jsonSchema = flags.jsonSchema === undefined ? undefined : await readSchema(flags.jsonSchema);
  const file = await openModel(path);
  const text = textOfSession?.() ?? (await readTexts(flags, file.tokenizer, { question: flags.prompt ?? '' }));
  checkLength(text, file, flags);
  const { ids, messages } = makePrompt(file, text, flags);
  const context = flags.context ?? ids.length + (flags.maxTokens ?? DEFAULT_MAX_TOKENS);
  const frameTokens = () =>
    makePrompt(file, '', { ...flags, prompt: flags.prompt?.trim() ? flags.prompt : '?' }).ids.length;
  checkPromptFits(ids.length, context, frameTokens);
  const model = await file.load({ ...loadOptionsOf(flags, context), onProgress: loadingBar() });
  await file.close();
  await bring(model);

  const startedAt = performance.now();
  let readAt = startedAt;
  let readTokens = 0;
  const reading = readingBar();
  const options = {
    ...samplingOf(flags),
    ...(flags.stop && { stop: flags.stop }),
    ...(jsonSchema && { jsonSchema }),
    ...(messages && { templateVariables: flags.templateVar }),
    onProgress(done: number, total: number) {
      reading(done, total);
      if (done < total) return;
      readAt = performance.now();
      readTokens = total;
    },
  };
  let answer = '';
  let generatedTokens = 0;
  let ended: Pick<Piece, 'finishReason' | 'seed'> = {};
  try {
    for await (const { text, tokens, finishReason, seed } of model.generate(messages ?? ids, options)) {
      answer += text;
      generatedTokens += tokens.length;
      if (!flags.json) writeAnswer(text);
      ended = { finishReason, seed };
    }
  } catch (error) {
    if (answer !== '' && !flags.json) process.stdout.write('\n');
    throw error;
  }
  const prefillSeconds = (readAt - startedAt) / 1000;
  const decodeSeconds = (performance.now() - readAt) / 1000;
  const { backendName, method } = model;
  const sampling = { ...model.sampling, ...samplingOf(flags), ...(ended.seed !== undefined && { seed: ended.seed }) };
  await model.dispose();

  // The first token comes with the reading of the prompt.
  const decodeTokensPerSecond = generatedTokens > 1 ? round((generatedTokens - 1) / decodeSeconds) : undefined;
  const figures = {
    text: answer,
    promptTokens: ids.length,
    generatedTokens,
    finishReason: ended.finishReason,
    method: method.name,
    ...sampling,
    prefillTokensPerSecond: round(readTokens / prefillSeconds),
    decodeTokensPerSecond,
    peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
  };
  process.stdout.write(flags.json ? `${visible(JSON.stringify(figures))}\n` : '\n');
  note(
    `${count(readTokens)} tokens read at ${figures.prefillTokensPerSecond} tokens/s, ${count(generatedTokens)} generated` +
      `${decodeTokensPerSecond === undefined ? '' : ` at ${decodeTokensPerSecond} tokens/s`}` +
      `${ended.finishReason === 'length' ? ' (cut: -n gives more)' : ''}; ` +
      `method ${method.name}, ${samplingInWords(sampling)}${backendName}, peak memory ${size(figures.peakMemoryBytes)}`,
  );
}

/** Reads a JSON Schema that was typed, or that is in a file. */
async function readSchema(given: string): Promise<object> {
  const isTyped = given.trimStart().startsWith('{');
  const name = isTyped ? '--json-schema' : given;
  const text = isTyped ? given : await readText(given);
  let schema: unknown;
  try {
    schema = JSON.parse(text);
  } catch (error) {
    throw new FormatError(`${name}: no JSON: ${(error as Error).message}`);
  }
  if (typeof schema === 'object' && schema !== null && !Array.isArray(schema)) return schema;
  throw new FormatError(`${name}: wanted a JSON Schema, such as {"type":"object"}`);
}

/** Says what it takes to get the same text again; nothing where every token was the likeliest. */
function samplingInWords({ temperature = 0, topK, topP, minP, repetitionPenalty, seed }: SamplingFlags): string {
  if (temperature === 0) return '';
  const said = Object.entries({ temperature, 'top-k': topK, 'top-p': topP, 'min-p': minP, seed });
  if (repetitionPenalty !== 1) said.push(['repetition-penalty', repetitionPenalty]);
  return said.flatMap(([name, value]) => (value === undefined ? [] : `${name} ${value}, `)).join('');
}

const round = (value: number) => (Number.isFinite(value) ? Math.round(value * 10) / 10 : 0);
