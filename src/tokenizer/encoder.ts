/**
 * Text becomes token ids: added tokens are cut out first, and what lies between is normalised, cut into words and
 * merged by `@huggingface/tokenizers`. The idea here is the safe cut: every rule for words cuts between a letter and
 * a space, so where no token of the vocabulary holds the two either, both sides have the same ids apart as together.
 */
import type { Tokenizer as Library } from '@huggingface/tokenizers';
import { FormatError, UnsupportedError } from '../errors.ts';
import { bounded } from './bounded.ts';
import { finderOf, MARK, makeLiteral } from './literal.ts';
import { tokensBefore } from './postProcessor.ts';
import type { AddedToken, Component, TokenizerJson } from './tokenizerJson.ts';

export interface EncodeOptions {
  /**
   * Adds the tokens the model wants in front of a text, usually one BOS. Default true. What it wants behind one, such
   * as EOS, is never added: the text is to be continued.
   */
  addSpecialTokens?: boolean;
  /** Reads `<|im_end|>` and its like as those tokens, default true. With false they are only characters. */
  allowSpecial?: boolean;
}

export interface Prefix {
  ids: number[];
  /** The ids are those of the whole text. */
  complete: boolean;
}

export interface Encoder {
  encode(text: string, options?: EncodeOptions): number[];
  encodePrefix(text: string, nTokens: number, options?: EncodeOptions): Prefix;
  asLiteral(text: string): string;
}

/** A word starts there in SentencePiece text, which has `▁` for a space. */
const WORD_START = /(?<=\p{L})(?=▁)/u;
/** English prose has 4 to 5 characters a token. Where 6 are too few, the prefix is tried again at twice the length. */
const CHARACTERS_PER_TOKEN = 6;
/**
 * Where no cut is safe, as in a script without spaces, a cut changes tokens near it, and this many are not believed.
 */
const UNSETTLED_TOKENS = 256;

/** A text may take this time to encode: many times what a slow machine takes, but not for ever. */
const BASE_MILLISECONDS = 2000;
const MILLISECONDS_PER_CHARACTER = 0.02;

/**
 * All regular expressions have so many characters, several times the longest known, as nothing ends the compiling of
 * one.
 */
const MAX_REGEX_LENGTH = 8192;

/** A text that is made so many times as long, and this much longer, is an attack on the memory. */
const MAX_GROWTH = 32;
const FREE_GROWTH = 2 ** 16;

/** @internal The library's types do not compile in every consumer's project. */
export interface EncoderParts {
  json: TokenizerJson;
  library: Library;
  /** Gives the bytes of a token. */
  bytesOf: (id: number) => Uint8Array;
  /** These regular expressions are known to end soon on any text. */
  safeRegexes: ReadonlySet<string>;
  /** Messages name the checkpoint so. */
  origin: string;
}

/** @internal */
export function makeEncoder({ json, library, bytesOf, safeRegexes, origin }: EncoderParts): Encoder {
  const { model } = library;
  const regexes = [json.normalizer, json.pre_tokenizer].flatMap(regexesOf).filter((regex) => !safeRegexes.has(regex));
  const nRegexCharacters = regexes.join('').length;
  if (nRegexCharacters > MAX_REGEX_LENGTH) {
    throw new UnsupportedError(
      `${origin}: the regular expressions of tokenizer.json have ${nRegexCharacters} characters; wanted at most ${MAX_REGEX_LENGTH}`,
    );
  }
  const hasStrangeRegex = regexes.length > 0;
  const inTime = <T>(nCharacters: number, work: () => T): T => {
    try {
      if (!hasStrangeRegex) return work();
      const limit = BASE_MILLISECONDS + MILLISECONDS_PER_CHARACTER * nCharacters;
      return bounded(work, limit, `${origin}: a regular expression of tokenizer.json on ${nCharacters} characters`);
    } catch (error) {
      if (error instanceof FormatError || error instanceof UnsupportedError) throw error;
      const reason = (error as Error).message;
      throw new UnsupportedError(`${origin}: the tokenizer cannot read the text: ${reason}`, { cause: error });
    }
  };
  const normalize = makeNormalizer(library, origin);
  const cutWords = makePreTokenizer(library, origin);
  const added = json.added_tokens;
  /** Makes splitters for before the normaliser and behind it. */
  const splitters = (isEarly: (token: AddedToken) => boolean) => {
    const late = added.filter((token) => !isEarly(token));
    const nCharacters = late.reduce((sum, { content }) => sum + content.length, 0);
    const asNormalized = () => late.map((token) => ({ ...token, content: normalize(token.content) }));
    return { early: makeSplitter(added.filter(isEarly)), late: makeSplitter(inTime(nCharacters, asNormalized)) };
  };
  const plain = splitters((token) => !token.normalized);
  // Behind the normaliser nothing is marked, so no special token may be found there. Few files have one that would be.
  const isMarkLost = added.some((token) => token.special && token.normalized);
  const literal = isMarkLost ? splitters((token) => !token.normalized || token.special) : plain;
  const asLiteral = makeLiteral(added);
  const canCut = !joinsWords(json, bytesOf);
  const before = tokensBefore(json.post_processor, origin).map((token) => {
    const id = model?.tokens_to_ids.get(token);
    if (id !== undefined) return id;
    throw new FormatError(`${origin}: post_processor adds ${JSON.stringify(token)}, which is not in the vocabulary`);
  });

  function idOf(token: string): number[] {
    const id = model?.tokens_to_ids.get(token) ?? model?.unk_token_id;
    return id === undefined ? [] : [id];
  }

  function encodeWords(text: string, isFirst: boolean): number[] {
    if (text === '') return [];
    const words = cutWords(text, isFirst);
    const tokens = model?._call(canCut ? words.flatMap((word) => word.split(WORD_START)) : words);
    return tokens?.flatMap(idOf) ?? [];
  }

  function encode(text: string, { addSpecialTokens = true, allowSpecial = true }: EncodeOptions = {}): number[] {
    const given = allowSpecial ? text.toWellFormed() : asLiteral(text);
    const { early, late } = given.includes(MARK) ? literal : plain;
    const encodeRest = (rest: string, isStart: boolean) =>
      rest === ''
        ? []
        : late(normalize(rest.replaceAll(MARK, ''))).flatMap((part, i) =>
            typeof part === 'string' ? encodeWords(part, isStart && i === 0) : [part.id],
          );
    const ids = inTime(text.length, () =>
      early(given).flatMap((part, i) => (typeof part === 'string' ? encodeRest(part, i === 0) : [part.id])),
    );
    return addSpecialTokens ? [...before, ...ids] : ids;
  }

  function encodePrefix(text: string, nTokens: number, options: EncodeOptions = {}): Prefix {
    for (let nCharacters = nTokens * CHARACTERS_PER_TOKEN + 64; nCharacters < text.length; nCharacters *= 2) {
      const wordEnd = canCut ? lastWordEnd(text, nCharacters) : 0;
      const isSafe = wordEnd > nCharacters / 2;
      const ids = encode(text.slice(0, isSafe ? wordEnd : nCharacters), options);
      const nSettled = ids.length - (isSafe ? 0 : UNSETTLED_TOKENS);
      if (nSettled >= nTokens) return { ids: ids.slice(0, nTokens), complete: false };
    }
    const ids = encode(text, options);
    return { ids: ids.slice(0, nTokens), complete: ids.length <= nTokens };
  }

  return { encode, encodePrefix, asLiteral };
}

/** Gives the sources of all regular expressions in a part of the tokenizer. */
function regexesOf(part: Component | null): string[] {
  return Object.entries(part ?? {}).flatMap(([key, value]) => {
    if (key === 'Regex' && typeof value === 'string') return [value];
    return typeof value === 'object' && value !== null ? regexesOf(value as Component) : [];
  });
}

type Normalizer = NonNullable<Library['normalizer']>;
type PreTokenizer = NonNullable<Library['pre_tokenizer']>;

/** Gives the parts of a sequence, and of sequences in it. */
const normalizersOf = (part: Normalizer | null): Normalizer[] =>
  part && 'normalizers' in part ? (part.normalizers as Normalizer[]).flatMap(normalizersOf) : [part ?? []].flat();
const preTokenizersOf = (part: PreTokenizer | null): PreTokenizer[] =>
  part && 'tokenizers' in part ? (part.tokenizers as PreTokenizer[]).flatMap(preTokenizersOf) : [part ?? []].flat();

/** Checks how a text grew. @throws UnsupportedError when one of `before` characters has become far too long. */
function checkGrowth(what: string, before: number, after: number, origin: string): void {
  const limit = MAX_GROWTH * before + FREE_GROWTH;
  if (after <= limit) return;
  throw new UnsupportedError(`${origin}: the ${what} makes ${after} characters of ${before}; wanted at most ${limit}`);
}

/** Applies the parts of a normaliser one by one, so that a text that each of them doubles is noticed in time. */
function makeNormalizer({ normalizer }: Library, origin: string): (text: string) => string {
  const parts = normalizersOf(normalizer);
  return (text) =>
    parts.reduce((before, part) => {
      const after = part.normalize(before);
      checkGrowth('normalizer', text.length, after.length, origin);
      return after;
    }, text);
}

/** Cuts a text into words, with the same care. */
function makePreTokenizer({ pre_tokenizer }: Library, origin: string): (text: string, isFirst: boolean) => string[] {
  const parts = preTokenizersOf(pre_tokenizer);
  return (text, isFirst) =>
    parts.reduce(
      (before, part) => {
        const after: string[] = part.pre_tokenize(before, { section_index: isFirst ? 0 : 1 });
        const nCharacters = after.reduce((sum, word) => sum + word.length, 0);
        checkGrowth('pre_tokenizer', text.length, nCharacters, origin);
        return after;
      },
      [text],
    );
}

/** Cuts a text into the added tokens in it, longest first where two begin alike, and the strings between. */
function makeSplitter(tokens: readonly AddedToken[]): (text: string) => (string | AddedToken)[] {
  const byContent = new Map(tokens.map((token) => [token.content, token]));
  const find = finderOf(byContent.keys());
  return (text) => {
    const parts: (string | AddedToken)[] = [];
    let end = 0;
    for (let at = 0; at < text.length; at++) {
      const content = find(text, at).findLast((found) => text.charAt(at + found.length) !== MARK);
      if (content === undefined) continue;
      const token = byContent.get(content) as AddedToken;
      const before = text.slice(end, at);
      parts.push(token.lstrip ? before.trimEnd() : before, token);
      end = at + content.length;
      at = end - 1;
      while (token.rstrip && /\s/u.test(text.charAt(end))) end++;
    }
    return [...parts, text.slice(end)];
  };
}

/** Tells whether some token reaches over the space after a letter, so that words cannot be encoded one by one. */
function joinsWords({ model, added_tokens }: TokenizerJson, bytesOf: (id: number) => Uint8Array): boolean {
  const utf8 = new TextDecoder();
  // U+FFFD stands for bytes that may end a letter.
  const joins = (text: string) => /[\p{L}\ufffd] /u.test(text);
  return (
    added_tokens.some((token) => token.rstrip || joins(token.content)) ||
    Array.from(model.vocab).some(([token, id]) => /.[Ġ▁]/u.test(token) && joins(utf8.decode(bytesOf(id))))
  );
}

/** Finds the last place up to `limit` that has a letter before it and a space after it, or 0. */
function lastWordEnd(text: string, limit: number): number {
  let end = text.lastIndexOf(' ', limit);
  while (end > 0 && !/\p{L}/u.test(text.charAt(end - 1))) end = text.lastIndexOf(' ', end - 1);
  return Math.max(end, 0);
}
