/** Defaults and malformed files; that ids are right is in `tokenizer.test.ts`. */
import { describe, expect, it } from 'vitest';
import { FormatError, UnsupportedError } from '../errors.ts';
import { ggufTokenizer } from './ggufTokenizer.ts';
import { makeTokenizer } from './tokenizer.ts';

const [NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED] = [1, 2, 3, 4, 5];

/** Ids: a 0, b 1, ab 2, <s> 3, </s> 4, <note> 5. */
const byteLevel = {
  'tokenizer.ggml.model': 'gpt2',
  'tokenizer.ggml.pre': 'gpt-2',
  'tokenizer.ggml.tokens': ['a', 'b', 'ab', '<s>', '</s>', '<note>'],
  'tokenizer.ggml.token_type': [NORMAL, NORMAL, NORMAL, CONTROL, CONTROL, USER_DEFINED],
  'tokenizer.ggml.merges': ['a b'],
  'tokenizer.ggml.bos_token_id': 3,
  'tokenizer.ggml.eos_token_id': 4,
};

/** Ids: <unk> 0, <s> 1, </s> 2, ▁ 3, a 4, b 5, ▁a 6, ab 7. `ab` scores better than `▁a`. */
const sentencePiece = {
  'tokenizer.ggml.model': 'llama',
  'tokenizer.ggml.tokens': ['<unk>', '<s>', '</s>', '▁', 'a', 'b', '▁a', 'ab'],
  'tokenizer.ggml.scores': [0, 0, 0, -10, -11, -12, -2, -1],
  'tokenizer.ggml.token_type': [UNKNOWN, CONTROL, CONTROL, NORMAL, NORMAL, NORMAL, NORMAL, NORMAL],
};

function open(metadata: Record<string, unknown>) {
  const { tokenizerJson, tokenizerConfig } = ggufTokenizer(metadata);
  return makeTokenizer(tokenizerJson, tokenizerConfig, 'test');
}

const changed = (base: object, change: Record<string, unknown>) => ({
  ...base,
  ...Object.fromEntries(Object.entries(change).map(([key, value]) => [`tokenizer.ggml.${key}`, value])),
});

describe('what is added to a text', () => {
  it.each([
    ['nothing, for a byte-level vocabulary', byteLevel, [2]],
    ['BOS, for that of Llama 3', changed(byteLevel, { pre: 'llama-bpe' }), [3, 2]],
    ['BOS, for that of Mistral Nemo', changed(byteLevel, { pre: 'tekken' }), [3, 2]],
    ['no BOS that is not named', changed(byteLevel, { pre: 'tekken', bos_token_id: undefined }), [2]],
    ['BOS where the file asks for it', changed(byteLevel, { add_bos_token: true }), [3, 2]],
    ['no EOS behind a text to be continued', changed(byteLevel, { add_bos_token: true, add_eos_token: true }), [3, 2]],
    ['BOS and a space, for SentencePiece', sentencePiece, [1, 3, 7]],
    ['no space when the file says so', changed(sentencePiece, { add_space_prefix: false }), [1, 7]],
  ])('%s', (_name, metadata, ids) => {
    expect(open(metadata).encode('ab')).toEqual(ids);
  });
});

describe('the vocabulary', () => {
  it('takes 64-bit integers, which the reader gives as bigint', () => {
    const types = byteLevel['tokenizer.ggml.token_type'].map(BigInt);
    expect(open(changed(byteLevel, { token_type: types, bos_token_id: 3n })).bosToken).toBe(3);
  });

  it('needs no types: what the file names is a control token', () => {
    const tokenizer = open(changed(byteLevel, { token_type: undefined }));
    expect(tokenizer.encode('a</s>b<note>').slice(0, 3)).toEqual([0, 4, 1]);
    expect(tokenizer.decode([0, 4, 1])).toBe('ab');
  });

  it('matches user-defined tokens in any text, and shows them', () => {
    const tokenizer = open(byteLevel);
    expect(tokenizer.encode('a<note>b', { allowSpecial: false })).toEqual([0, 5, 1]);
    expect(tokenizer.decode([0, 5, 1])).toBe('a<note>b');
  });

  it('leaves out padding', () => {
    const tokens = [...byteLevel['tokenizer.ggml.tokens'], '[PAD6]', ''];
    const types = [...byteLevel['tokenizer.ggml.token_type'], UNUSED, NORMAL];
    const tokenizer = open(changed(byteLevel, { tokens, token_type: types }));
    expect(tokenizer.decode([0, 6, 7])).toBe('a');
  });

  it('survives a token named as a property that every object has', () => {
    const tokens = ['a', 'b', 'ab', '<s>', '__proto__', 'constructor'];
    const tokenizer = open(changed(byteLevel, { tokens, token_type: undefined, eos_token_id: undefined }));
    expect(tokenizer.decode([4, 5])).toBe('__proto__constructor');
  });

  it('ends on the turn tokens it names', () => {
    expect(open(changed(byteLevel, { eot_token_id: 5 })).eosTokens).toEqual(new Set([4, 5]));
  });

  it('ends on well-known names, whatever type the file gives them', () => {
    const tokens = ['a', 'b', 'ab', '<|end|>', '</s>', '<end_of_turn>'];
    const tokenizer = open(changed(byteLevel, { tokens, token_type: Array(6).fill(NORMAL), eos_token_id: undefined }));
    expect(tokenizer.eosTokens).toEqual(new Set([3, 4, 5]));
  });

  it('leaves out a byte order mark in front of the chat template', () => {
    expect(open({ ...byteLevel, 'tokenizer.chat_template': '\ufeffhi' }).chatTemplate).toBe('hi');
  });

  it('takes numbers from typed arrays, as the reader gives them', () => {
    const types = Int32Array.from(byteLevel['tokenizer.ggml.token_type']);
    expect(open(changed(byteLevel, { token_type: types })).encode('ab</s>')).toEqual([2, 4]);
  });

  it('carries the chat template', () => {
    const tokenizer = open({ ...byteLevel, 'tokenizer.chat_template': '{{ bos_token }}{{ messages[0].content }}' });
    expect(tokenizer.applyChatTemplate([{ role: 'user', content: 'hi' }])).toBe('<s>hi');
  });

  it('says when there is no chat template', () => {
    expect(() => open(byteLevel).applyChatTemplate([])).toThrow(
      'test: the model has no chat template; give the prompt as text',
    );
  });
});

describe('a vocabulary that cannot be read', () => {
  it.each([
    ['no tokens', changed(byteLevel, { tokens: undefined }), 'tokenizer.ggml.tokens is undefined; wanted a list'],
    [
      'a number among the tokens',
      changed(byteLevel, { tokens: ['a', 3, 'c', 'd', 'e'] }),
      'tokenizer.ggml.tokens[1] is 3; wanted a string',
    ],
    [
      'too few types',
      changed(byteLevel, { token_type: [1] }),
      'token_type has 1 entries; wanted 6, as there are tokens',
    ],
    [
      'a type that is text',
      changed(byteLevel, { token_type: 'abcdef'.split('') }),
      'token_type[0] is a; wanted a number',
    ],
    [
      'a token twice',
      changed(byteLevel, { tokens: ['a', 'b', 'a', 'c', 'd', 'e'] }),
      '"a" is in the vocabulary twice, as 0 and 2',
    ],
    [
      'an endless token',
      changed(byteLevel, { tokens: ['a', 'b', 'c'.repeat(2000), 'd', 'e', 'f'] }),
      'token 2 has 2000 characters',
    ],
    ['no merges', changed(byteLevel, { merges: undefined }), 'tokenizer.ggml.merges is undefined; wanted a list'],
    ['a merge of three', changed(byteLevel, { merges: ['a b c'] }), 'merges[0] is "a b c"; wanted two tokens'],
    ['a merge of one', changed(byteLevel, { merges: [' a'] }), 'merges[0] is " a"; wanted two tokens'],
    ['no scores', changed(sentencePiece, { scores: undefined }), 'tokenizer.ggml.scores is undefined; wanted a list'],
    [
      'a score that is not a number',
      changed(sentencePiece, {
        scores: Float32Array.from(sentencePiece['tokenizer.ggml.tokens'] as string[], () => NaN),
      }),
      'tokenizer.ggml.scores[0] is NaN; wanted a number',
    ],
    [
      'millions of tokens',
      changed(byteLevel, { tokens: Array(600_001).fill('a') }),
      'tokenizer.ggml.tokens has 600001 entries; wanted at most 600000',
    ],
    [
      'millions of merges',
      changed(byteLevel, { merges: Array(1_000_001).fill('a b') }),
      'tokenizer.ggml.merges has 1000001 entries; wanted at most 1000000',
    ],
    ['BOS beyond the vocabulary', changed(byteLevel, { bos_token_id: 6 }), 'bos_token_id is 6; wanted an id below 6'],
    ['half an id', changed(byteLevel, { eos_token_id: 0.5 }), 'eos_token_id is 0.5; wanted an id below 6'],
    [
      'an id that is a list',
      changed(byteLevel, { bos_token_id: Uint8Array.of(1) }),
      'bos_token_id is a list; wanted an id',
    ],
    ['an id that is a text', changed(byteLevel, { bos_token_id: '1' }), 'bos_token_id is "1"; wanted an id below 6'],
    [
      'a flag that is a list',
      changed(byteLevel, { add_bos_token: new Uint8Array(9) }),
      'add_bos_token is a list; wanted',
    ],
    ['a flag that is a number', changed(byteLevel, { add_bos_token: 1 }), 'add_bos_token is 1; wanted true or false'],
  ])('%s', (_name, metadata, message) => {
    expect(() => ggufTokenizer(metadata)).toThrow(FormatError);
    expect(() => ggufTokenizer(metadata)).toThrow(message);
  });

  it.each([
    ['another kind', changed(byteLevel, { model: 'bert' }), 'tokenizer.ggml.model is "bert"; supported: gpt2, llama'],
    [
      'a kind that is a large number',
      changed(byteLevel, { model: 2n ** 63n }),
      'model is 9223372036854775808n; supported',
    ],
    [
      'a family that is a list',
      changed(byteLevel, { pre: new Uint8Array(9) }),
      'tokenizer.ggml.pre is a list; supported',
    ],
    [
      'an unknown family',
      changed(byteLevel, { pre: 'viking' }),
      'tokenizer.ggml.pre is "viking"; supported: default, gpt-2',
    ],
  ])('%s', (_name, metadata, message) => {
    expect(() => ggufTokenizer(metadata)).toThrow(UnsupportedError);
    expect(() => ggufTokenizer(metadata)).toThrow(message);
  });
});
