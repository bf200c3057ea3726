/** Text to token ids and back. Wraps `@huggingface/tokenizers`; ids are those of the model's `tokenizer.json`. */
import { Tokenizer as Library } from '@huggingface/tokenizers';
import { UnsupportedError } from '../errors.ts';
import { chatTemplateOf, renderChat } from './chatTemplate.ts';
import { type DecodeOptions, makeDecoder, type StreamDecoder } from './decoder.ts';
import { type EncodeOptions, makeEncoder, type Prefix } from './encoder.ts';
import { PUBLISHED_WORDS } from './ggufTokenizer.ts';
import { END_TOKENS, namedToken, readTokenizerJson, type TokenizerJson } from './tokenizerJson.ts';

export type { DecodeOptions, EncodeOptions, Prefix, StreamDecoder };

/** One turn of a conversation, as chat templates take it. */
export interface Message {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

export interface Tokenizer {
  /** One more than the highest id. A model may have more rows than that, as padding. */
  readonly vocabSize: number;
  readonly bosToken?: number;
  /** Ids that end an answer: of a turn or of the text. */
  readonly eosTokens: ReadonlySet<number>;
  readonly chatTemplate?: string;
  encode(text: string, options?: EncodeOptions): number[];
  /** The first ids of `encode(text)`, without tokenising more of a long text than they need. */
  encodePrefix(text: string, nTokens: number, options?: EncodeOptions): Prefix;
  /** The text in a form in which special tokens stay characters: for messages whose content is not to be trusted. */
  asLiteral(text: string): string;
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /** The pieces it gives join to exactly what `decode` gives. */
  streamDecoder(options?: DecodeOptions): StreamDecoder;
  /** Encode its result with `addSpecialTokens: false`: templates write BOS themselves. */
  applyChatTemplate(messages: readonly Message[], options?: { addGenerationPrompt?: boolean }): string;
  /** Ids of a conversation. */
  encodeChat(messages: readonly Message[], options?: { variables?: Record<string, unknown> }): number[];
}

/**
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

  const tokenizer: Tokenizer = {
    ...encoder,
    vocabSize: highestId(json) + 1,
    ...(bosToken !== undefined && { bosToken }),
    eosTokens: endTokens(json, tokenizerConfig),
    ...(chatTemplate !== undefined && { chatTemplate }),
    decode(ids, options) {
      const stream = decoder.stream(options);
      return Array.from(ids, stream.push).join('') + stream.flush();
    },
    streamDecoder: decoder.stream,
    applyChatTemplate(messages, { addGenerationPrompt = true } = {}) {
      if (chatTemplate === undefined) throw new UnsupportedError(`${origin}: the model has no chat template`);
      return renderChat(chatTemplate, tokenizerConfig, messages, addGenerationPrompt, origin);
    },
    encodeChat(messages) {
      const literal = messages.map(({ role, content }) => ({ role, content: encoder.asLiteral(content) }));
      return encoder.encode(tokenizer.applyChatTemplate(literal), { addSpecialTokens: false });
    },
  };
  return tokenizer;
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

/** Its `eos_token`, what `generation_config.json` adds as `eos_token_ids`, and the tokens that never mean else. */
function endTokens(json: TokenizerJson, config: Record<string, unknown>): ReadonlySet<number> {
  const eos = tokenId(json, namedToken(config, 'eos_token'));
  const given = [config.eos_token_ids].flat().filter((id) => typeof id === 'number');
  const wellKnown = json.added_tokens.filter(({ content }) => END_TOKENS.has(content)).map(({ id }) => id);
  return new Set([...(eos === undefined ? [] : [eos]), ...given, ...wellKnown]);
}
