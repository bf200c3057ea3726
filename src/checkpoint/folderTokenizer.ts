/** The description of a Hugging Face folder's tokenizer is spread over five files, and put together here. */
import { isRecord } from '../errors.ts';
import type { JsonRecord } from './record.ts';

/** A file is empty or absent where the folder lacks it. */
interface TokenizerFiles {
  tokenizerJson: JsonRecord;
  tokenizerConfig: JsonRecord;
  /** Older folders name their special tokens in `special_tokens_map.json` only. */
  specialTokensMap: JsonRecord;
  /** `added_tokens.json` has an id for each content. */
  addedTokens: JsonRecord;
  /** Newer folders keep the template in `chat_template.jinja`. */
  template?: string;
  /** `eos_token_id` of `generation_config.json` or `config.json` is an id or a list of them. */
  eosTokenId: unknown;
}

/** Completes `tokenizer.json` and `tokenizer_config.json` from the other files where they say nothing themselves. */
export function folderTokenizer(files: TokenizerFiles) {
  const { tokenizerJson, specialTokensMap, template, eosTokenId } = files;
  const given = Object.entries(files.tokenizerConfig).filter(([, value]) => value !== null);
  const ids = [eosTokenId].flat().filter((id) => Number.isSafeInteger(id));
  const tokenizerConfig: JsonRecord = {
    ...specialTokensMap,
    ...Object.fromEntries(given),
    ...(template !== undefined && { chat_template: template }),
    ...(ids.length > 0 && { eos_token_ids: ids }),
  };
  return { tokenizerJson: { ...tokenizerJson, ...withAddedTokens(files) }, tokenizerConfig };
}

/**
 * Adds tokens that `tokenizer.json` lacks, from `added_tokens_decoder` in `tokenizer_config.json` and from
 * `added_tokens.json`, whose control tokens `special_tokens_map.json` names.
 */
function withAddedTokens(files: TokenizerFiles): JsonRecord {
  const { tokenizerJson, tokenizerConfig, specialTokensMap, addedTokens } = files;
  const listed: unknown = tokenizerJson.added_tokens ?? [];
  const vocab = isRecord(tokenizerJson.model) && isRecord(tokenizerJson.model.vocab) ? tokenizerJson.model.vocab : {};
  if (!Array.isArray(listed)) return {};
  const known = new Set(listed.map((token: unknown) => (isRecord(token) ? token.content : undefined)));
  const special = new Set(
    Object.values(specialTokensMap)
      .flat()
      .map((token: unknown) => (isRecord(token) ? token.content : token)),
  );
  const decoder = isRecord(tokenizerConfig.added_tokens_decoder) ? tokenizerConfig.added_tokens_decoder : {};
  const others: JsonRecord[] = [
    ...Object.entries(decoder).flatMap(([id, token]) => (isRecord(token) ? [{ ...token, id: Number(id) }] : [])),
    ...Object.entries(addedTokens).map(([content, id]) => ({
      id,
      content,
      special: special.has(content),
      normalized: false,
    })),
  ];
  const missing = others.filter(({ content, id }) => {
    const isOtherToken = typeof content === 'string' && Object.hasOwn(vocab, content) && vocab[content] !== id;
    const isKnown = known.has(content) || isOtherToken;
    known.add(content);
    return !isKnown;
  });
  return missing.length === 0 ? {} : { added_tokens: [...listed, ...missing] };
}
