/**
 * A Hugging Face `tokenizer.json` is checked, and rewritten where `@huggingface/tokenizers` 0.2 reads a setting
 * differently from the Rust `tokenizers` that every model was trained with.
 */
import { FormatError, isRecord, UnsupportedError } from '../errors.ts';

export interface AddedToken {
  id: number;
  content: string;
  /** Control tokens are left out of decoded text, and kept out of text that is not to be trusted. */
  special: boolean;
  /** It is looked for in normalised text, not in the text as given. */
  normalized: boolean;
  /** It swallows the white space on that side. */
  lstrip: boolean;
  rstrip: boolean;
}

export type Component = { type: string; [setting: string]: unknown };

export interface TokenizerJson {
  normalizer: Component | null;
  pre_tokenizer: Component | null;
  model: { vocab: ReadonlyMap<string, number>; merges: [string, string][]; [setting: string]: unknown };
  /** It is as in the file; `postProcessor.ts` reads it. */
  post_processor: unknown;
  decoder: Component | null;
  added_tokens: AddedToken[];
}

/**
 * These tokens end a turn or a text whatever a file says of them; a published model may name only one as its EOS. The
 * names are those that llama.cpp knows, and Command R's.
 */
export const END_TOKENS: ReadonlySet<string> = new Set([
  ...['<|im_end|>', '<|eot_id|>', '<|eom_id|>', '<|end_of_text|>', '<|endoftext|>', '</s>', '<|end|>', '<|return|>'],
  ...['<|call|>', '<|calls|>', '<|flush|>', '<end_of_turn>', '<end_of_utterance>', '<EOT>', '_<EOT>', '[EOT]', '[EOS]'],
  ...['<|END_OF_TURN_TOKEN|>', '<｜end▁of▁sentence｜>'],
]);

/** `ByteLevel` applies GPT-2's pre-tokenizer when `use_regex` is set. */
export const GPT2_WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/** `Metaspace`, which writes `▁` for a space, has these words. */
export const WORDS_OF_METASPACE = '▁[^▁]*';

/** Gemma's words go up to a space and with it; its normaliser leaves none. */
export const WORDS_BEFORE_SPACES = '[^ ]+ ?| ';

/** No published vocabulary comes near it; a larger id is an attack or an accident. */
const MAX_ID = 2 ** 22;

/** Reads a named token of `tokenizer_config.json`, which is a string or the record of an added token. */
export function namedToken(config: Record<string, unknown>, name: string): string | undefined {
  const value = config[name];
  const content = isRecord(value) ? value.content : value;
  return typeof content === 'string' ? content : undefined;
}

/**
 * Reads and checks the file.
 * @param nEmbeddings Tokens with an id from here on are left out: the model could not read them.
 * @throws FormatError when a part is missing or malformed.
 * @throws UnsupportedError when the model is not a BPE this library reads exactly.
 */
export function readTokenizerJson(
  json: Record<string, unknown>,
  config: Record<string, unknown>,
  origin: string,
  nEmbeddings = MAX_ID,
): TokenizerJson {
  const named = ['bos_token', 'eos_token'].flatMap((name) => namedToken(config, name) ?? []);
  const alwaysSpecial = new Set([...END_TOKENS, ...named]);
  const listed = readAddedTokens(json.added_tokens ?? [], alwaysSpecial, origin);
  const added = listed.filter(({ id }) => id < nEmbeddings);
  const special = new Set(added.filter((token) => token.special).map((token) => token.content));
  return {
    normalizer: readComponent(json, 'normalizer', origin),
    pre_tokenizer: exactPreTokenizer(readComponent(json, 'pre_tokenizer', origin), origin),
    model: readModel(json.model, special, nEmbeddings, origin),
    post_processor: json.post_processor,
    decoder: readComponent(json, 'decoder', origin),
    added_tokens: added,
  };
}

function readAddedTokens(value: unknown, alwaysSpecial: ReadonlySet<string>, origin: string): AddedToken[] {
  if (!Array.isArray(value)) throw new FormatError(`${origin}: added_tokens is not a list`);
  return value.map((token: unknown, i) => {
    if (!isRecord(token) || typeof token.content !== 'string' || token.content === '' || !isId(token.id)) {
      throw new FormatError(`${origin}: added_tokens[${i}] has no usable content and id`);
    }
    const special = token.special === true || alwaysSpecial.has(token.content);
    return {
      id: token.id,
      content: token.content,
      special,
      normalized: token.normalized === undefined ? !special : token.normalized === true,
      lstrip: token.lstrip === true,
      rstrip: token.rstrip === true,
    };
  });
}

function readModel(
  model: unknown,
  special: ReadonlySet<string>,
  nEmbeddings: number,
  origin: string,
): TokenizerJson['model'] {
  if (!isRecord(model)) throw new FormatError(`${origin}: the tokenizer has no model`);
  if ((model.type ?? 'BPE') !== 'BPE') {
    throw new UnsupportedError(`${origin}: the tokenizer's model is ${quoted(model.type)}; supported: BPE`);
  }
  for (const affix of ['continuing_subword_prefix', 'end_of_word_suffix']) {
    if (model[affix]) throw new UnsupportedError(`${origin}: the tokenizer uses ${affix}, which is not supported`);
  }
  const vocab = readVocab(model.vocab, nEmbeddings, origin);
  return { ...model, type: 'BPE', vocab, merges: readMerges(model.merges, vocab, special, origin) };
}

/** Reads a record as in the file, or the map that `ggufTokenizer` makes. */
function readVocab(vocab: unknown, nEmbeddings: number, origin: string): ReadonlyMap<string, number> {
  if (!(vocab instanceof Map) && !isRecord(vocab)) {
    throw new FormatError(`${origin}: the tokenizer's vocab is not a record of token to id`);
  }
  const ids = new Map<string, unknown>(vocab instanceof Map ? vocab : Object.entries(vocab));
  for (const [token, id] of ids) {
    if (!isId(id)) {
      throw new FormatError(`${origin}: token ${quoted(token)} has id ${quoted(id)}; wanted 0 to ${MAX_ID - 1}`);
    }
    if (id >= nEmbeddings) ids.delete(token);
  }
  return ids as ReadonlyMap<string, number>;
}

/** Shows a value in a message, however long it is; one of a file may be a record that is no text. */
const quoted = (value: unknown): string => String(JSON.stringify(value)).slice(0, 100);

/** Merges that would spell out a special token are dropped: only an added token may produce one. */
function readMerges(
  merges: unknown,
  vocab: ReadonlyMap<string, number>,
  special: ReadonlySet<string>,
  origin: string,
): [string, string][] {
  if (!Array.isArray(merges)) throw new FormatError(`${origin}: the tokenizer's merges are not a list`);
  const pairs = merges.map((merge: unknown, i): [string, string] => {
    const pair: unknown[] = typeof merge === 'string' ? merge.split(' ') : Array.isArray(merge) ? merge : [];
    const [left, right] = pair;
    if (pair.length !== 2 || typeof left !== 'string' || typeof right !== 'string') {
      throw new FormatError(`${origin}: merge ${i} is ${quoted(merge)}; wanted two tokens`);
    }
    const unknown = [left, right, left + right].find((token) => !vocab.has(token));
    if (unknown !== undefined) {
      throw new FormatError(`${origin}: merge ${i} uses ${quoted(unknown)}, which is not in the vocabulary`);
    }
    return [left, right];
  });
  return pairs.filter(([left, right]) => !special.has(left + right));
}

function readComponent(json: Record<string, unknown>, name: string, origin: string): Component | null {
  const value = json[name] ?? null;
  if (value !== null) checkComponent(value, name, origin);
  return value as Component | null;
}

/** Some settings hold further components, and some are text. */
const PARTS = ['normalizers', 'pretokenizers', 'decoders'];
const TEXTS = ['content', 'prepend', 'replacement', 'str_rep'];

/** Checks the types of what the library reads without looking. @throws FormatError */
function checkComponent(value: unknown, name: string, origin: string): void {
  if (!isRecord(value) || typeof value.type !== 'string') throw new FormatError(`${origin}: ${name} has no type`);
  const { type, pattern, length } = value;
  const fault = (setting: string, wanted: string) =>
    new FormatError(`${origin}: ${setting} of ${name} ${type} is ${quoted(value[setting])}; wanted ${wanted}`);
  for (const setting of PARTS) {
    const parts = value[setting] ?? [];
    if (!Array.isArray(parts)) throw fault(setting, 'a list');
    for (const part of parts) checkComponent(part, name, origin);
  }
  for (const setting of TEXTS) {
    if (typeof (value[setting] ?? '') !== 'string') throw fault(setting, 'a text');
  }
  if (type === 'Split' || type === 'Replace') {
    const source = isRecord(pattern) ? (pattern.Regex ?? pattern.String) : undefined;
    if (typeof source !== 'string') throw fault('pattern', 'a Regex or a String');
  }
  if (type === 'FixedLength' && !(Number.isInteger(length) && Number(length) > 0))
    throw fault('length', 'a whole number');
}

/**
 * Takes Unicode's digits and white space, as Rust does; the library's own `Digits` and `ByteLevel` take JavaScript's.
 */
function exactPreTokenizer(config: Component | null, origin: string): Component | null {
  switch (config?.type) {
    case 'Sequence': {
      const parts = Array.isArray(config.pretokenizers) ? (config.pretokenizers as Component[]) : [];
      return sequence(...parts.flatMap((part) => exactPreTokenizer(part, origin) ?? []));
    }
    case 'Digits':
      return isolate(config.individual_digits ? String.raw`\p{N}` : String.raw`\p{N}+`);
    case 'ByteLevel':
      if (config.add_prefix_space || config.use_regex === false) return config;
      return sequence(isolate(GPT2_WORDS), { ...config, use_regex: false });
    case 'Metaspace':
      return config.split === false ? config : sequence(config, isolate(WORDS_OF_METASPACE));
    case 'Split':
      return exactSplit(config, origin);
    default:
      return config;
  }
}

function exactSplit(config: Component, origin: string): Component {
  const behavior = typeof config.behavior === 'string' ? config.behavior.toLowerCase() : undefined;
  const atSpace = isRecord(config.pattern) && config.pattern.String === ' ' && config.invert !== true;
  if (behavior === 'mergedwithprevious' && atSpace) return isolate(WORDS_BEFORE_SPACES);
  if (behavior !== 'isolated' && behavior !== 'removed') {
    throw new UnsupportedError(`${origin}: Split behaviour ${quoted(config.behavior)}; supported: Isolated, Removed`);
  }
  return behavior === 'isolated' ? { ...config, invert: false } : config;
}

/** Cuts before and after each match, and keeps all of the text. */
export function isolate(regex: string): Component {
  return { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false };
}

export function sequence(...pretokenizers: Component[]): Component {
  return { type: 'Sequence', pretokenizers };
}

function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < MAX_ID;
}
