/** What the commands share on their command line: the flags that load a model, and how sizes are read. */
import { Argument, type Command, InvalidArgumentError, Option } from 'commander';
import { BUNDLED_MODEL } from '../bundled.ts';
import { type LoadOptions, METHOD_HELP, type Scale } from '../index.ts';

/** Whole number of tokens; `16k` is 16,384. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(k|m)?$/i.exec(text.trim());
  const unit = { k: 1024, m: 1024 ** 2 }[match?.[2]?.toLowerCase() as 'k' | 'm'] ?? 1;
  const value = match ? Number(match[1]) * unit : Number.NaN;
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError('Wanted a whole number above 0, such as 4096 or 16k.');
  }
  return value;
}

export function parseNumber(text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (!Number.isFinite(value)) throw new InvalidArgumentError('Wanted a number.');
  return value;
}

/** Gathers an option that may be given several times. */
export const collect = (value: string, previous: string[] = []): string[] => [...previous, value];

export const MODEL_ARGUMENT = new Argument('<model>', 'a .gguf file or a Hugging Face folder');

/** Where a model without a chat template will do. */
export const OPTIONAL_MODEL_ARGUMENT = new Argument('[model]', 'a .gguf file or a Hugging Face folder').default(
  BUNDLED_MODEL,
  'the bundled books-16m',
);

/** Flags that say how fast and how exactly a model computes. */
export interface SpeedFlags {
  threads?: number;
  backend?: LoadOptions['backend'];
  precision?: LoadOptions['precision'];
  kvType?: LoadOptions['kvType'];
}

export interface ModelFlags extends SpeedFlags {
  context?: number;
  method?: string;
  scale?: Scale;
}

export const backendOption = (): Option =>
  new Option('--backend <backend>', 'where to compute').choices(['wasm', 'webgpu', 'reference']).default('wasm');

/** Flags that say how a model is loaded. */
export const addModelFlags = (command: Command): Command =>
  addSpeedFlags(command)
    .option('-c, --context <tokens>', 'tokens that prompt and answer may have together', parseSize)
    .option('-m, --method <method>', `${METHOD_HELP} (default: none within the trained window, dca beyond)`)
    .addOption(
      new Option('--scale <scale>', 'attention scale of dca (default: logn, or the one in the config)').choices([
        'none',
        'yarn',
        'logn',
      ]),
    );

export const addSpeedFlags = (command: Command): Command =>
  command
    .option('-t, --threads <n>', 'threads (default: one for each core)', parseSize)
    .addOption(backendOption())
    .addOption(
      new Option(
        '--precision <precision>',
        'attention in integers of 8 or 16 bits and matrices in 16, or all in float32',
      )
        .choices(['int8', 'int16', 'f32'])
        .default('int8'),
    )
    .addOption(
      new Option('--kv-type <type>', 'how keys and values are stored').choices(['f32', 'bf16', 'q8_0']).default('bf16'),
    );

/** Flags that say what text to read. */
export const addTextFlags = (command: Command): Command =>
  command
    .option('-f, --file <path>', 'text to read before the prompt; may be given several times, - is stdin', collect)
    .option('--take <tokens>', 'read only the first so many tokens of the files', parseSize);

export interface TextFlags {
  file?: string[];
  take?: number;
}

/** Flags that say how tokens are chosen. */
export const addSamplingFlags = (command: Command): Command =>
  command
    .option('-n, --max-tokens <n>', 'most tokens to generate', parseSize, 256)
    .option('--temperature <t>', '0 always takes the likeliest token', parseNumber, 0)
    .option('--top-k <k>', 'keep the k likeliest tokens; 0 keeps all', parseNumber, 0)
    .option('--top-p <p>', 'keep the likeliest tokens that together reach p', parseNumber, 1)
    .option('--min-p <p>', 'drop tokens less likely than this share of the likeliest', parseNumber, 0)
    .option('--repetition-penalty <r>', 'above 1 avoids repeats', parseNumber, 1)
    .option('--seed <n>', 'same seed, same text', parseNumber, 0);

export interface SamplingFlags {
  maxTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  seed: number;
}

export const samplingOf = (flags: SamplingFlags): SamplingFlags => {
  const { maxTokens, temperature, topK, topP, minP, repetitionPenalty, seed } = flags;
  return { maxTokens, temperature, topK, topP, minP, repetitionPenalty, seed };
};

export function loadOptionsOf(flags: ModelFlags, context: number): LoadOptions {
  const { method, scale, threads, backend, precision, kvType } = flags;
  return { context, method, scale, threads, backend, precision, kvType };
}
