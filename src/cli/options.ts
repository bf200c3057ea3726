/** The commands share the flags that load a model and choose tokens, and how sizes are read. */
import { Argument, type Command, InvalidArgumentError, Option } from 'commander';
import { BUNDLED_MODEL } from '../bundled.ts';
import {
  DEFAULT_MAX_TOKENS,
  type LoadOptions,
  MAX_THREADS,
  METHOD_HELP,
  SAMPLING_RANGES,
  type SamplingOptions,
  type Scale,
} from '../node.ts';

/** Parses a whole number of tokens; `16k` is 16,384. */
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

/** Parses a number of a range, both ends within it. */
const numberFrom =
  ([min, max]: readonly [min: number, max: number]) =>
  (text: string) => {
    const value = parseNumber(text);
    if (value < min || value > max) throw new InvalidArgumentError(`Wanted a number from ${min} to ${max}.`);
    return value;
  };

/** Parses a whole number of a range, both ends within it. */
export const wholeFrom = (min: number, max: number) => (text: string) => {
  const value = /^[+-]?\d+$/.test(text.trim()) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) {
    throw new InvalidArgumentError(`Wanted a whole number from ${min} to ${max}.`);
  }
  return value;
};

/** Reads text as it is typed in a shell: `\n`, `\t` and `\\` stand for a line break, a tab and a backslash. */
function parseEscapes(text: string): string {
  const meant: Record<string, string> = { n: '\n', t: '\t', '\\': '\\' };
  return text.replace(/\\([nt\\])/g, (_, letter: string) => meant[letter]);
}

export const collectStop = (text: string, previous?: string[]): string[] => {
  if (text === '') throw new InvalidArgumentError('Wanted a text of at least one character.');
  return collect(parseEscapes(text), previous);
};

/** Gathers `NAME=VALUE`: a value that is JSON is that, as `false` or `3`; any other is text. */
export function collectVariable(text: string, previous: Record<string, unknown> = {}): Record<string, unknown> {
  const [, name, value] = /^([A-Za-z_]\w*)=(.*)$/s.exec(text) ?? [];
  if (name === undefined) throw new InvalidArgumentError('Wanted NAME=VALUE, such as enable_thinking=false.');
  try {
    return { ...previous, [name]: JSON.parse(value) };
  } catch {
    return { ...previous, [name]: value };
  }
}

/** Gathers an option that may be given several times. */
export const collect = (value: string, previous: string[] = []): string[] => [...previous, value];

export const MODEL_ARGUMENT = new Argument('<model>', 'a .gguf file or a Hugging Face folder');

/** A command takes this argument where a model without a chat template will do. */
export const OPTIONAL_MODEL_ARGUMENT = new Argument('[model]', 'a .gguf file or a Hugging Face folder').default(
  BUNDLED_MODEL,
  'the bundled books-16m',
);

/** These flags say how fast and how exactly a model computes. */
export interface SpeedFlags {
  threads?: number;
  backend?: LoadOptions['backend'];
  precision?: LoadOptions['precision'];
  kvType?: LoadOptions['kvType'];
}

export interface ModelFlags extends SpeedFlags {
  cacheDir?: string;
  context?: number;
  method?: string;
  scale?: Scale;
}

export const backendOption = (): Option =>
  new Option('--backend <backend>', 'where to compute (default: auto, a GPU where there is one)').choices([
    'auto',
    'wasm',
    'webgpu',
    'reference',
  ]);

export const threadsOption = (): Option =>
  new Option('-t, --threads <n>', 'threads of wasm (default: one for each core)').argParser(wholeFrom(1, MAX_THREADS));

/** Adds the flags that say how a model is loaded. */
export const addModelFlags = (command: Command): Command =>
  addSpeedFlags(command)
    .option(
      '--cache-dir <folder>',
      'keep what was read there; texts that begin alike are read on from it, also tomorrow',
    )
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
    .addOption(threadsOption())
    .addOption(backendOption())
    .addOption(
      new Option(
        '--precision <precision>',
        'of wasm: attention in integers of 8 or 16 bits and matrices in 16, or all in float32 (default: int8)',
      ).choices(['int8', 'int16', 'f32']),
    )
    .addOption(
      new Option('--kv-type <type>', 'how wasm stores keys and values (default: bf16)').choices([
        'f32',
        'bf16',
        'q8_0',
      ]),
    );

/** Adds the flags that say what text to read. */
export const addTextFlags = (command: Command): Command =>
  command
    .option('-f, --file <path>', 'text to read before the prompt; may be given several times, - is stdin', collect)
    .option('--take <tokens>', 'read only the first so many tokens of the texts', parseSize);

export interface TextFlags {
  file?: string[];
  take?: number;
}

/** Adds the flags that say what a chat template makes of a conversation. */
export const addTemplateFlags = (command: Command): Command =>
  command
    .option('--system <text>', 'system message')
    .option(
      '--template-var <name=value>',
      'a variable of the chat template, such as enable_thinking=false; may be given several times',
      collectVariable,
    );

export interface TemplateFlags {
  system?: string;
  templateVar?: Record<string, unknown>;
}

const UNSET = "default: what the model's files say, else";

/** Adds the flags that say how tokens are chosen. None has a default here: what is not given is the model's to say. */
export const addSamplingFlags = (command: Command): Command =>
  command
    .option('-n, --max-tokens <n>', `most tokens to generate (default: ${DEFAULT_MAX_TOKENS})`, parseSize)
    .option(
      '--temperature <t>',
      `0 always takes the likeliest token (${UNSET} 0.8)`,
      numberFrom(SAMPLING_RANGES.temperature),
    )
    .option('--top-k <k>', `keep the k likeliest tokens; 0 keeps all (${UNSET} 40)`, wholeFrom(0, 2 ** 31))
    .option(
      '--top-p <p>',
      `keep the likeliest tokens that together reach p (${UNSET} 0.95)`,
      numberFrom(SAMPLING_RANGES.topP),
    )
    .option(
      '--min-p <p>',
      `drop tokens less likely than this share of the likeliest (${UNSET} 0.05)`,
      numberFrom(SAMPLING_RANGES.minP),
    )
    .option(
      '--repetition-penalty <r>',
      `above 1 avoids repeats (${UNSET} 1)`,
      numberFrom(SAMPLING_RANGES.repetitionPenalty),
    )
    .option('--seed <n>', 'same seed, same text (default: drawn, and told)', wholeFrom(-MAX_SEED, MAX_SEED));

const MAX_SEED = Number.MAX_SAFE_INTEGER;

export interface SamplingFlags extends SamplingOptions {
  maxTokens?: number;
}

/** Keeps only what was given. */
export function samplingOf(flags: SamplingFlags): SamplingFlags {
  const { maxTokens, temperature, topK, topP, minP, repetitionPenalty, seed } = flags;
  return given({ maxTokens, temperature, topK, topP, minP, repetitionPenalty, seed });
}

/** Keeps only what was given, as the library refuses what a backend does not know. */
export function loadOptionsOf(flags: ModelFlags, context: number): LoadOptions {
  const { method, scale, threads, backend, precision, kvType, cacheDir } = flags;
  return { context, ...given({ method, scale, threads, backend, precision, kvType, cacheDir }) };
}

const given = <T extends object>(options: T): T =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
