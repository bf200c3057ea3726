/**
 * A tokenizer turns text into token ids and back. It wraps `@huggingface/tokenizers`; ids are those of
 * `tokenizer.json`.
 */
import { Tokenizer as Library } from '@huggingface/tokenizers';
import { isOptions, shown, UnsupportedError } from '../errors.ts';
import {
  chatTemplateOf,
  checkJson,
  checkVariables,
  renderConversation,
  type TemplateVariables,
  type Turn,
} from './chatTemplate.ts';
import { type DecodeOptions, makeDecoder, type StreamDecoder } from './decoder.ts';
import { type EncodeOptions, makeEncoder, type Prefix } from './encoder.ts';
import { PUBLISHED_WORDS } from './ggufTokenizer.ts';
import { finderOf, holds, mapTexts } from './literal.ts';
import { END_TOKENS, namedToken, readTokenizerJson, type TokenizerJson } from './tokenizerJson.ts';

export type { DecodeOptions, EncodeOptions, Prefix, StreamDecoder };

/** A message is one turn of a conversation, as chat templates take it. */
export interface Message {
  role: 'system' | 'user' | 'assistant' | 'tool';
  /** Parts of a list are joined, with a line end between. */
  content: string | readonly { type: 'text'; text: string }[];
}

export interface TemplateOptions {
  /** Ends the prompt with the opening of an answer. Default true. */
  addGenerationPrompt?: boolean;
  /** The template has variables of its own, such as `{ enable_thinking: false }`, of what JSON can hold. */
  variables?: TemplateVariables;
}

export interface ChatOptions extends TemplateOptions {
  /** Reads special tokens such as `<|im_end|>` in messages and variables as such. Default false. */
  allowSpecial?: boolean;
}

export interface Tokenizer {
  /** It is one more than the highest id. A model may have more rows than that, as padding. */
  readonly vocabSize: number;
  readonly bosToken?: number;
  /** These ids end an answer, a turn or the text. */
  readonly eosTokens: ReadonlySet<number>;
  readonly chatTemplate?: string;
  /**
   * Gives the ids of a text. Characters for which there is no token, no bytes and no unknown token are left out, as in
   * transformers.
   *
   * @throws UnsupportedError when the text or an option is none, and when a regular expression of the file takes too
   *   long on the text.
   */
  encode(text: string, options?: EncodeOptions): number[];
  /** Gives the first ids of `encode(text)`, without tokenising more of a long text than they need. */
  encodePrefix(text: string, nTokens: number, options?: EncodeOptions): Prefix;
  /** Gives the text a form in which special tokens stay characters, for messages whose content is not to be trusted. */
  asLiteral(text: string): string;
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /** Gives the bytes that a token adds to a text; none where it is a control token, or added to the vocabulary otherwise. */
  bytesOf(id: number): Uint8Array;
  /** The pieces it gives join to exactly what `decode` gives. */
  streamDecoder(options?: DecodeOptions): StreamDecoder;
  /**
   * Gives the prompt as text. Encode it with `addSpecialTokens: false`: templates write BOS themselves. Messages may
   * pose as control tokens in it, other than with `encodeChat`.
   *
   * @throws UnsupportedError when the template refuses the messages, does not end, or uses what is not supported here.
   */
  applyChatTemplate(messages: readonly Message[], options?: TemplateOptions): string;
  /**
   * Gives the ids of a conversation, in which messages and variables are literal text.
   * @throws as `applyChatTemplate`.
   */
  encodeChat(messages: readonly Message[], options?: ChatOptions): number[];
}

/**
 * Makes a tokenizer of its two files.
 * @param origin Names the checkpoint in error messages.
 * @param nEmbeddings Ids from here on have no embedding, so no text becomes one of them. Default: all have one.
 * @throws FormatError or UnsupportedError when the files do not describe a BPE tokenizer.
 */
export function makeTokenizer(
  tokenizerJson: Record<string, unknown>,
  tokenizerConfig: Record<string, unknown>,
  origin: string,
  nEmbeddings?: number,
): Tokenizer {
  const json = readTokenizerJson(tokenizerJson, tokenizerConfig, origin, nEmbeddings);
  const decoder = makeDecoder(json, origin);
  const library = openLibrary(json, origin);
  const encoder = makeEncoder({ json, library, bytesOf: decoder.bytesOf, safeRegexes: PUBLISHED_WORDS, origin });
  const idOf = (token: string | undefined) => tokenId(json, token);
  const chatTemplate = chatTemplateOf(tokenizerConfig);
  const bosToken = idOf(namedToken(tokenizerConfig, 'bos_token'));

  const special = json.added_tokens.filter((token) => token.special).map(({ content }) => content.toLowerCase());
  const findSpecial = finderOf(special);
  const holdsSpecial = (name: string) => holds(name.toLowerCase(), findSpecial);
  function render(turns: readonly Turn[], { addGenerationPrompt = true, variables }: TemplateOptions): string {
    if (chatTemplate === undefined) {
      throw new UnsupportedError(`${origin}: the model has no chat template; give the prompt as text, not as messages`);
    }
    return renderConversation(chatTemplate, tokenizerConfig, turns, addGenerationPrompt, origin, variables);
  }

  const tokenizer: Tokenizer = {
    encode(text, options = {}) {
      checkText(text);
      checkFlags('encode', options, ['addSpecialTokens', 'allowSpecial']);
      return encoder.encode(text, options);
    },
    encodePrefix(text, nTokens, options = {}) {
      checkText(text);
      checkFlags('encodePrefix', options, ['addSpecialTokens', 'allowSpecial']);
      if (!(nTokens >= 0)) throw new UnsupportedError(`nTokens is ${shown(nTokens)}; wanted a number of at least 0`);
      return encoder.encodePrefix(text, nTokens, options);
    },
    asLiteral(text) {
      checkText(text);
      return encoder.asLiteral(text);
    },
    vocabSize: highestId(json) + 1,
    ...(bosToken !== undefined && { bosToken }),
    eosTokens: endTokens(json, tokenizerConfig),
    ...(chatTemplate !== undefined && { chatTemplate }),
    decode(ids, options = {}) {
      checkFlags('decode', options, ['skipSpecialTokens', 'midText']);
      if (typeof ids !== 'object' || ids === null || !(Symbol.iterator in ids)) {
        throw new UnsupportedError(`the ids are ${shown(ids)}; wanted a list of token ids`);
      }
      const stream = decoder.stream(options);
      return Array.from(ids, stream.push).join('') + stream.flush();
    },
    bytesOf: (id) => (decoder.isAdded(id) ? new Uint8Array() : decoder.bytesOf(id)),
    streamDecoder(options = {}) {
      checkFlags('streamDecoder', options, ['skipSpecialTokens', 'midText']);
      return decoder.stream(options);
    },
    applyChatTemplate(messages, options = {}) {
      checkTemplateOptions('applyChatTemplate', options, ['addGenerationPrompt', 'variables']);
      return render(turnsOf(messages), options);
    },
    encodeChat(messages, given = {}) {
      checkTemplateOptions('encodeChat', given, ['addGenerationPrompt', 'variables', 'allowSpecial']);
      const { allowSpecial = false, variables = {}, ...options } = given;
      checkVariables(variables);
      const read = <T>(value: T) => (allowSpecial ? value : mapTexts(value, encoder.asLiteral, holdsSpecial));
      // Some templates make a control token of a role.
      const turns = turnsOf(messages).map((turn) => ({ ...read(turn), role: turn.role }));
      const text = render(turns, { ...options, variables: read(variables) });
      if (text === '') {
        const why = 'the chat template makes nothing of the messages';
        throw new UnsupportedError(`${origin}: ${why}; give the prompt as text, or take another template`);
      }
      return encoder.encode(text, { addSpecialTokens: false });
    },
  };
  return tokenizer;
}

function checkText(text: unknown): void {
  if (typeof text !== 'string') throw new UnsupportedError(`the text is ${shown(text)}; wanted a string`);
}

/** Checks flags. @throws UnsupportedError for an option that there is not, or one that is neither true nor false. */
function checkFlags(call: string, options: unknown, known: readonly string[], advice = ''): void {
  if (!isOptions(options)) throw new UnsupportedError(`the options of ${call} are ${shown(options)}; wanted an object`);
  for (const [name, value] of Object.entries(options)) {
    if (!known.includes(name)) {
      throw new UnsupportedError(`${call} has no option ${shown(name)}; wanted ${known.join(', ')}${advice}`);
    }
    if (typeof value !== 'boolean' && value !== undefined) {
      throw new UnsupportedError(`${name} is ${shown(value)}; wanted true or false`);
    }
  }
}

/** Checks the options of calls to which a variable of the template may have strayed. */
function checkTemplateOptions(call: string, options: TemplateOptions, known: readonly string[]): void {
  const { variables, ...flags } = Object(options) as TemplateOptions;
  if (variables !== undefined && !isOptions(variables)) {
    throw new UnsupportedError(
      `variables is ${shown(variables)}; wanted an object, such as { enable_thinking: false }`,
    );
  }
  checkFlags(call, isOptions(options) ? flags : options, known, '; variables of a template go into variables');
}

const ROLES: readonly unknown[] = ['system', 'user', 'assistant', 'tool'] satisfies Message['role'][];

/** Checks a message. @throws UnsupportedError when it is none. */
function checkMessage(message: Message, at: number): void {
  const { role, content }: { role?: unknown; content?: unknown } = message ?? {};
  if (!ROLES.includes(role)) {
    throw new UnsupportedError(
      `messages[${at}].role is ${shown(role)}; wanted "system", "user", "assistant" or "tool"`,
    );
  }
  const parts: unknown[] = Array.isArray(content) ? content : [{ type: 'text', text: content }];
  for (const part of parts) {
    const { type, text }: { type?: unknown; text?: unknown } = Object(part);
    if (type === 'text' && typeof text === 'string') continue;
    throw new UnsupportedError(
      `messages[${at}].content is ${shown(content)}; wanted a text, or a list of { type: 'text', text } and nothing else`,
    );
  }
}

/** Makes messages whose content is one text. @throws UnsupportedError as `checkMessage`. */
function turnsOf(messages: readonly Message[]): Turn[] {
  const given: unknown = messages;
  if (!Array.isArray(given)) {
    throw new UnsupportedError(`the messages are ${shown(given)}; wanted a list of { role, content }`);
  }
  for (const [at, message] of messages.entries()) {
    checkMessage(message, at);
    checkJson(message, `messages[${at}]`);
  }
  return messages.map(({ content, ...rest }) => ({
    ...rest,
    content: typeof content === 'string' ? content : content.map(({ text }) => text).join('\n'),
  }));
}

function openLibrary(json: TokenizerJson, origin: string): Library {
  try {
    // What the library does with added tokens and around a text is done in `encoder.ts`, within bounds; and it would
    // walk through the vocabulary as a record, which takes seconds where that is large.
    const library = new Library(
      { ...json, model: { ...json.model, vocab: {} }, added_tokens: [], post_processor: null },
      {},
    );
    const { model, added_tokens } = json;
    if (library.model) {
      library.model.tokens_to_ids = new Map([
        ...model.vocab,
        ...added_tokens.map(({ content, id }) => [content, id] as const),
      ]);
      library.model.unk_token_id = model.vocab.get(String(model.unk_token));
    }
    return library;
  } catch (error) {
    throw new UnsupportedError(`${origin}: the tokenizer cannot be read: ${(error as Error).message}`);
  }
}

function tokenId({ model, added_tokens }: TokenizerJson, token: string | undefined): number | undefined {
  if (token === undefined) return undefined;
  const added = added_tokens.find(({ content }) => content === token)?.id;
  return added ?? model.vocab.get(token);
}

function highestId({ model, added_tokens }: TokenizerJson): number {
  let highest = -1;
  for (const id of model.vocab.values()) highest = Math.max(highest, id);
  for (const { id } of added_tokens) highest = Math.max(highest, id);
  return highest;
}

/**
 * Gives its `eos_token`, what `generation_config.json` adds as `eos_token_ids`, and the tokens that never mean else.
 */
function endTokens(json: TokenizerJson, config: Record<string, unknown>): ReadonlySet<number> {
  const eos = tokenId(json, namedToken(config, 'eos_token'));
  const given = [config.eos_token_ids].flat().filter((id) => typeof id === 'number');
  const wellKnown = json.added_tokens.filter(({ content }) => END_TOKENS.has(content)).map(({ id }) => id);
  return new Set([...(eos === undefined ? [] : [eos]), ...given, ...wellKnown]);
}
