/**
 * A GGUF's embedded vocabulary becomes the `tokenizer.json` it was converted from, so that one code path tokenises.
 * Keys, defaults and pre-tokenizer names are llama.cpp's (`src/llama-vocab.cpp`); the rules are those of the
 * families' own tokenizer.json.
 */
import { FormatError, shown, UnsupportedError } from '../errors.ts';
import { mergesByScore } from './mergesByScore.ts';
import {
  type Component,
  END_TOKENS,
  GPT2_WORDS,
  isolate,
  sequence,
  WORDS_BEFORE_SPACES,
  WORDS_OF_METASPACE,
} from './tokenizerJson.ts';

type JsonRecord = Record<string, unknown>;

interface Entry {
  id: number;
  token: string;
  type: number;
}

/** These are numbers of `llama_token_type`. Unused tokens are padding, and are left out. */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;
const BYTE = 6;

/**
 * A token has so many characters at most. The longest in use are runs of some 100 spaces; merges are sought at every
 * place in a token.
 */
const MAX_TOKEN_LENGTH = 1024;

/** The largest vocabulary has 262 thousand tokens and somewhat more merges; millions take half a minute to open. */
const MAX_ENTRIES: Readonly<Record<string, number>> = { tokens: 600_000, merges: 1_000_000 };

/** A family of byte-level vocabularies cuts text into words: each rule cuts what the one before has left. */
interface Family {
  words: readonly string[];
  nfc?: true;
  /** A word that is in the vocabulary is one token, whether or not merges lead to it. */
  ignoreMerges?: true;
  addBos?: true;
}

const CONTRACTIONS = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`;
const AFTER_NUMBERS = String.raw` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const LLAMA3_WORDS = String.raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|${AFTER_NUMBERS}`;
const QWEN2_WORDS = String.raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|${AFTER_NUMBERS}`;
const UPPER = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
const LOWER = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;
const TEKKEN_WORDS =
  String.raw`[^\r\n\p{L}\p{N}]?${UPPER}*${LOWER}+|[^\r\n\p{L}\p{N}]?${UPPER}+${LOWER}*|\p{N}` +
  String.raw`| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`;

const PLAIN: Family = { words: [GPT2_WORDS] };
const SINGLE_DIGITS: Family = { words: [String.raw`\p{N}`, GPT2_WORDS] };
const LLAMA3: Family = { words: [LLAMA3_WORDS], ignoreMerges: true, addBos: true };
const QWEN2: Family = { words: [QWEN2_WORDS], nfc: true };

/** Families are found by `tokenizer.ggml.pre`. */
const FAMILIES: ReadonlyMap<string, Family> = new Map([
  ['default', { words: [String.raw`[\p{P}\$\+<=>\^~\|]+`, GPT2_WORDS, String.raw`\p{N}+`, '[0-9][0-9][0-9]'] }],
  ...['gpt-2', 'phi-2', 'mpt', 'olmo', 'jais', 'mellum', 'trillion'].map((pre) => [pre, PLAIN] as const),
  ...['smollm', 'starcoder', 'refact', 'codeshell', 'exaone', 'minerva-7b'].map((pre) => [pre, SINGLE_DIGITS] as const),
  ['command-r', { ...SINGLE_DIGITS, nfc: true }],
  ...['llama-bpe', 'llama3', 'llama-v3', 'falcon3', 'pixtral', 'midm-2.0'].map((pre) => [pre, LLAMA3] as const),
  ...['dbrx', 'smaug-bpe'].map((pre) => [pre, { words: [LLAMA3_WORDS] }] as const),
  ...['qwen2', 'deepseek-r1-qwen'].map((pre) => [pre, QWEN2] as const),
  ['tekken', { words: [TEKKEN_WORDS], ignoreMerges: true, addBos: true }],
]);

/** The families' regular expressions end soon on any text. */
export const PUBLISHED_WORDS: ReadonlySet<string> = new Set([
  ...[...FAMILIES.values()].flatMap(({ words }) => words),
  WORDS_OF_METASPACE,
  WORDS_BEFORE_SPACES,
]);

/**
 * Makes the two files of the tokenizer from a GGUF's metadata.
 * @throws FormatError when the vocabulary is missing or malformed.
 * @throws UnsupportedError when it is of a kind, or has a pre-tokenizer, that is not known here.
 */
export function ggufTokenizer(metadata: JsonRecord): { tokenizerJson: JsonRecord; tokenizerConfig: JsonRecord } {
  const model = metadata['tokenizer.ggml.model'];
  if (model !== 'gpt2' && model !== 'llama') {
    throw new UnsupportedError(`GGUF: tokenizer.ggml.model is ${quoted(model)}; supported: gpt2, llama`);
  }
  const nTokens = list(metadata, 'tokens').length;
  const ids = namedIds(metadata, nTokens, model === 'llama' ? { bos: 1, eos: 2, unknown: 0 } : {});
  const entries = readEntries(metadata, new Set(Object.values(ids)));
  const tokens = new Map(entries.map(({ id, token }) => [id, token]));
  const kind = model === 'gpt2' ? byteLevel(metadata) : sentencePiece(metadata, entries, tokens.get(ids.unknown ?? -1));
  const { parts, addBos } = kind;
  return {
    tokenizerJson: {
      ...parts,
      model: { ...parts.model, vocab: new Map(entries.map(({ id, token }) => [token, id])) },
      // `add_eos_token` is for training: behind a text that is to be continued, EOS would end it.
      post_processor: template(flag(metadata, 'add_bos_token', addBos) ? tokens.get(ids.bos ?? -1) : undefined),
      added_tokens: entries.filter(isAdded).map(addedToken),
    },
    tokenizerConfig: {
      bos_token: tokens.get(ids.bos ?? -1),
      eos_token: tokens.get(ids.eos ?? -1),
      unk_token: tokens.get(ids.unknown ?? -1),
      eos_token_ids: [ids.eot, ids.eom].filter((id) => id !== undefined),
      chat_template: withoutMark(metadata['tokenizer.chat_template']),
    },
  };
}

/** A byte-level and a SentencePiece vocabulary differ in these parts. */
interface Kind {
  parts: { normalizer: Component | null; pre_tokenizer: Component | null; decoder: Component; model: JsonRecord };
  addBos: boolean;
}

function byteLevel(metadata: JsonRecord): Kind {
  const pre = metadata['tokenizer.ggml.pre'] ?? 'default';
  const family = typeof pre === 'string' ? FAMILIES.get(pre) : undefined;
  if (!family) {
    const supported = [...FAMILIES.keys()].join(', ');
    throw new UnsupportedError(`GGUF: tokenizer.ggml.pre is ${quoted(pre)}; supported: ${supported}`);
  }
  const bytes = { type: 'ByteLevel', add_prefix_space: false, use_regex: false };
  const merges = strings(metadata, 'merges').map((merge, i) => {
    const pair = merge.split(' ');
    if (pair.length === 2 && pair.every((token) => token !== '')) return merge;
    throw new FormatError(`GGUF: tokenizer.ggml.merges[${i}] is ${JSON.stringify(merge)}; wanted two tokens`);
  });
  return {
    parts: {
      normalizer: family.nfc ? { type: 'NFC' } : null,
      pre_tokenizer: sequence(...family.words.map(isolate), bytes),
      decoder: { type: 'ByteLevel' },
      // The first of equal merges counts.
      model: { type: 'BPE', ignore_merges: family.ignoreMerges === true, merges: [...new Set(merges)] },
    },
    addBos: family.addBos === true,
  };
}

function sentencePiece(metadata: JsonRecord, entries: readonly Entry[], unknown: string | undefined): Kind {
  const addsSpace = flag(metadata, 'add_space_prefix', true);
  const prepend = { type: 'Prepend', prepend: '▁' };
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  return {
    parts: {
      normalizer: { type: 'Sequence', normalizers: [...(addsSpace ? [prepend] : []), spaces] },
      pre_tokenizer: null,
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          ...(addsSpace ? [strip] : []),
        ],
      },
      model: {
        type: 'BPE',
        unk_token: unknown,
        fuse_unk: true,
        byte_fallback: entries.some(({ type }) => type === BYTE),
        merges: mergesByScore(scoresOfPieces(entries, metadata)).map(({ left, right }) => [left, right]),
      },
    },
    addBos: true,
  };
}

function scoresOfPieces(entries: readonly Entry[], metadata: JsonRecord): ReadonlyMap<string, number> {
  const scores = numbers(metadata, 'scores');
  const normal = entries.filter(({ type }) => type === NORMAL);
  return new Map(normal.map(({ token, id }) => [token, scores[id]]));
}

function readEntries(metadata: JsonRecord, named: ReadonlySet<number>): Entry[] {
  const tokens = strings(metadata, 'tokens');
  const types = metadata['tokenizer.ggml.token_type'] === undefined ? [] : numbers(metadata, 'token_type');
  const idOf = new Map<string, number>();
  return tokens.flatMap((token, id) => {
    const type = types[id] ?? NORMAL;
    if (token === '' || type === UNUSED) return [];
    const before = idOf.get(token);
    if (before !== undefined) {
      throw new FormatError(`GGUF: token ${JSON.stringify(token)} is in the vocabulary twice, as ${before} and ${id}`);
    }
    if (token.length > MAX_TOKEN_LENGTH) {
      throw new FormatError(`GGUF: token ${id} has ${token.length} characters; wanted at most ${MAX_TOKEN_LENGTH}`);
    }
    idOf.set(token, id);
    return { id, token, type: type === NORMAL && (named.has(id) || END_TOKENS.has(token)) ? CONTROL : type };
  });
}

function isAdded({ type }: Entry): boolean {
  return type === UNKNOWN || type === CONTROL || type === USER_DEFINED;
}

function addedToken({ id, token, type }: Entry) {
  return { id, content: token, special: type !== USER_DEFINED, normalized: false };
}

function template(bos: string | undefined): Component {
  const first = bos === undefined ? [] : [{ SpecialToken: { id: bos, type_id: 0 } }];
  const single = [...first, { Sequence: { id: 'A', type_id: 0 } }];
  return { type: 'TemplateProcessing', single, pair: single };
}

type Role = 'bos' | 'eos' | 'eot' | 'eom' | 'unknown';

function namedIds(metadata: JsonRecord, nTokens: number, defaults: Partial<Record<Role, number>>) {
  const ids: Partial<Record<Role, number>> = {};
  for (const role of ['bos', 'eos', 'eot', 'eom', 'unknown'] as const) {
    const given = metadata[`tokenizer.ggml.${role}_token_id`];
    const value = given ?? defaults[role];
    const id = typeof value === 'bigint' ? Number(value) : value;
    const inRange = typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < nTokens;
    if (given !== undefined && !inRange) {
      throw new FormatError(`GGUF: tokenizer.ggml.${role}_token_id is ${quoted(given)}; wanted an id below ${nTokens}`);
    }
    if (inRange) ids[role] = id;
  }
  return ids;
}

/** Some editors put a byte order mark in front of a template; it is no part of a prompt. */
function withoutMark(template: unknown): unknown {
  return typeof template === 'string' ? template.replace(/^\ufeff/, '') : template;
}

/** Numbers are in a typed array where they come from a file. */
function list(metadata: JsonRecord, name: string): unknown[] {
  const value = metadata[`tokenizer.ggml.${name}`];
  if (Array.isArray(value)) return value;
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number>);
  throw new FormatError(`GGUF: tokenizer.ggml.${name} is ${typeof value}; wanted a list`);
}

function strings(metadata: JsonRecord, name: string): string[] {
  const values = list(metadata, name);
  if (values.length > MAX_ENTRIES[name]) {
    throw new FormatError(
      `GGUF: tokenizer.ggml.${name} has ${values.length} entries; wanted at most ${MAX_ENTRIES[name]}`,
    );
  }
  return values.map((value, i) => {
    if (typeof value === 'string') return value;
    throw new FormatError(`GGUF: tokenizer.ggml.${name}[${i}] is ${String(value)}; wanted a string`);
  });
}

/** Reads one number for each token. */
function numbers(metadata: JsonRecord, name: string): number[] {
  const values = list(metadata, name);
  const nTokens = list(metadata, 'tokens').length;
  if (values.length !== nTokens) {
    throw new FormatError(
      `GGUF: tokenizer.ggml.${name} has ${values.length} entries; wanted ${nTokens}, as there are tokens`,
    );
  }
  return values.map((value, i) => {
    if (typeof value === 'bigint' || (typeof value === 'number' && !Number.isNaN(value))) return Number(value);
    throw new FormatError(`GGUF: tokenizer.ggml.${name}[${i}] is ${String(value)}; wanted a number`);
  });
}

/** Shows a value in a message: a list may have millions of numbers, and one number may be a bigint. */
const quoted = (value: unknown): string => (ArrayBuffer.isView(value) ? 'a list' : shown(value));

function flag(metadata: JsonRecord, name: string, missing: boolean): boolean {
  const value = metadata[`tokenizer.ggml.${name}`] ?? missing;
  if (typeof value === 'boolean') return value;
  throw new FormatError(`GGUF: tokenizer.ggml.${name} is ${quoted(value)}; wanted true or false`);
}
