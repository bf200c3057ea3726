/** Ids against Python's `tokenizers`; the fixtures and the script that made them are in `test/golden/tokenizers`. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FormatError, UnsupportedError } from '../errors.ts';
import { ggufTokenizer } from './ggufTokenizer.ts';
import { makeTokenizer, type Tokenizer } from './tokenizer.ts';

interface Fixture {
  tokenizerJson: Record<string, unknown>;
  tokenizerConfig: Record<string, unknown>;
  gguf?: Record<string, unknown>;
  /** `decoded` is absent where it is the text, `literal` (ids with special tokens as characters) where it is `ids`. */
  cases: { text: string; ids: number[]; decoded?: string; literal?: number[] }[];
}

const BYTE_LEVEL = ['default', 'gpt-2', 'llama-bpe', 'qwen2', 'smollm', 'tekken'];
const SENTENCE_PIECE = ['spm', 'spm-no-prefix', 'spm-metaspace'];
const FAMILIES = [...BYTE_LEVEL, ...SENTENCE_PIECE];

function fixture(family: string): Fixture {
  return JSON.parse(readFileSync(new URL(`../../test/golden/tokenizers/${family}.json`, import.meta.url), 'utf8'));
}

function open(family: string): Tokenizer {
  const { tokenizerJson, tokenizerConfig } = fixture(family);
  return makeTokenizer(tokenizerJson, tokenizerConfig, family);
}

/** Both ways to the same tokenizer. llama.cpp has no equal of Metaspace's `first`. */
const paths = FAMILIES.flatMap((family) => {
  const { gguf, cases } = fixture(family);
  const rebuilt = gguf && ggufTokenizer(gguf);
  const fromGguf = rebuilt && makeTokenizer(rebuilt.tokenizerJson, rebuilt.tokenizerConfig, family);
  return [
    { path: `${family}, tokenizer.json`, tokenizer: open(family), cases },
    ...(fromGguf ? [{ path: `${family}, GGUF`, tokenizer: fromGguf, cases }] : []),
  ];
});

describe.each(paths)('$path', ({ tokenizer, cases }) => {
  it('encodes as Python does', () => {
    expect(cases.map(({ text }) => tokenizer.encode(text))).toEqual(cases.map(({ ids }) => ids));
  });

  it('decodes as Python does', () => {
    const expected = cases.map(({ text, decoded }) => decoded ?? text);
    expect(cases.map(({ ids }) => tokenizer.decode(ids))).toEqual(expected);
  });

  it('keeps special tokens in untrusted text as characters, as Python does', () => {
    const expected = cases.map(({ ids, literal }) => literal ?? ids);
    expect(cases.map(({ text }) => tokenizer.encode(text, { allowSpecial: false }))).toEqual(expected);
    expect(cases.map(({ text }) => tokenizer.encode(tokenizer.asLiteral(text)))).toEqual(expected);
  });
});

describe.each(FAMILIES)('%s', (family) => {
  const tokenizer = open(family);
  const texts = fixture(family).cases.map(({ text }) => text);

  it('gives the same first ids for a prefix as for the whole text', () => {
    const random = seeded(1);
    for (let round = 0; round < 40; round++) {
      const parts = Array.from({ length: 1 + random(40) }, () => texts[random(texts.length)]);
      const text = parts.join(random(2) ? ' and ' : '');
      const options = { addSpecialTokens: random(2) === 1, allowSpecial: random(2) === 1 };
      const ids = tokenizer.encode(text, options);
      const nTokens = random(ids.length + 10);
      const prefix = tokenizer.encodePrefix(text, nTokens, options);
      expect(prefix.ids).toEqual(ids.slice(0, nTokens));
      expect(prefix.complete).toBe(ids.length <= nTokens);
    }
  });

  it('streams pieces that join to the decoded whole, whatever the ids', () => {
    const random = seeded(2);
    for (let round = 0; round < 40; round++) {
      // Past the end of the vocabulary as well: models have padding rows there.
      const ids = Array.from({ length: random(60) }, () => random(tokenizer.vocabSize + 5));
      for (const options of [{}, { skipSpecialTokens: false }, { midText: true }]) {
        const stream = tokenizer.streamDecoder(options);
        const pieces = ids.map(stream.push);
        expect(pieces.join('') + stream.flush()).toBe(tokenizer.decode(ids, options));
      }
    }
  });

  it('never streams half a character', () => {
    const stream = tokenizer.streamDecoder();
    const pieces = tokenizer.encode('👩‍👩‍👧‍👦 𝔘𠮷 日本語').map(stream.push);
    expect(pieces.every((piece) => piece.isWellFormed() && !piece.includes('\ufffd'))).toBe(true);
    expect(stream.flush()).toBe('');
  });

  it('reads a lone surrogate as the replacement character', () => {
    expect(tokenizer.encode('a\ud83d b\udc4d')).toEqual(tokenizer.encode('a\ufffd b\ufffd'));
  });

  it('leaves out special tokens only when asked', () => {
    const special = fixture(family).tokenizerConfig.eos_token;
    const ids = tokenizer.encode(`one${special}`, { addSpecialTokens: false });
    expect(tokenizer.decode(ids)).toBe('one');
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(`one${special}`);
  });
});

describe('SentencePiece text', () => {
  const tokenizer = open('spm');
  const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });

  it('drops the space that encoding put in front, once', () => {
    expect(tokenizer.decode(encode('a b'))).toBe('a b');
    expect(tokenizer.decode(encode(' a b'))).toBe(' a b');
  });

  it('keeps the first space of ids that go on from other text', () => {
    expect(tokenizer.decode(encode('Paris'), { midText: true })).toBe(' Paris');
  });

  it('shows an unfinished character as U+FFFD at the end', () => {
    const stream = tokenizer.streamDecoder();
    // U+20000 is not in the vocabulary, so it is four byte tokens.
    const [first = -1] = encode('\u{20000}').slice(-4);
    expect(stream.push(first)).toBe('');
    expect(stream.flush()).toBe('\ufffd');
  });
});

describe('what is no text, no ids and no option', () => {
  const tokenizer = open('qwen2');
  const { encode, encodePrefix, decode, encodeChat } = tokenizer;
  type Call = (...given: unknown[]) => unknown;
  const messages = [{ role: 'user', content: 'Hi' }];

  it.each<[Call, unknown[], string]>([
    [encode as Call, [undefined], 'the text is undefined; wanted a string'],
    [encode as Call, [Buffer.from('Hi')], 'the text is an object (Buffer); wanted a string'],
    [encode as Call, ['Hi', { add_special_tokens: false }], 'encode has no option "add_special_tokens"; wanted addS'],
    [encode as Call, ['Hi', { addSpecialTokens: 'no' }], 'addSpecialTokens is "no"; wanted true or false'],
    [encode as Call, ['Hi', null], 'the options of encode are null; wanted an object'],
    [encodePrefix as Call, ['Hi', Number.NaN], 'nTokens is NaN; wanted a number of at least 0'],
    [decode as Call, [undefined], 'the ids are undefined; wanted a list of token ids'],
    [decode as Call, [5], 'the ids are 5; wanted a list'],
    [decode as Call, [['5']], '"5" is no token id'],
    [decode as Call, [[5n]], '5n is no token id'],
    [decode as Call, [[5], { skip_special_tokens: false }], 'decode has no option "skip_special_tokens"; wanted skipS'],
    [tokenizer.streamDecoder as Call, [{ midtext: true }], 'streamDecoder has no option "midtext"; wanted skipS'],
    [encodeChat as Call, ['Hi'], 'the messages are "Hi"; wanted a list of { role, content }'],
    [encodeChat as Call, [messages, { variables: 5 }], 'variables is 5; wanted an object'],
    [encodeChat as Call, [messages, { variables: null }], 'variables is null; wanted an object'],
    [encodeChat as Call, [messages, null], 'the options of encodeChat are null; wanted an object'],
  ])('is refused (%#)', (call, given, message) => {
    expect(() => call(...given)).toThrow(message);
    expect(() => call(...given)).toThrow(UnsupportedError);
  });

  it('does not hide ids that only pad the vocabulary', () => expect(decode([10 ** 6])).toBe(''));
});

describe('special tokens', () => {
  it('ends on the EOS of every source', () => {
    const { tokenizerJson, tokenizerConfig } = fixture('qwen2');
    const tokenizer = makeTokenizer(tokenizerJson, { ...tokenizerConfig, eos_token_ids: [7, 8] }, 'qwen2');
    const idOf = (token: string) => tokenizer.encode(token)[0];
    expect(tokenizer.eosTokens).toEqual(new Set([idOf('<|endoftext|>'), 7, 8, idOf('<|im_end|>')]));
    expect(tokenizer.bosToken).toBe(idOf('<|endoftext|>'));
  });

  it('takes names given as records, and lacks what is null', () => {
    const { tokenizerJson } = fixture('llama-bpe');
    const tokenizer = makeTokenizer(tokenizerJson, { bos_token: null, eos_token: { content: '<|eot_id|>' } }, 'llama');
    expect(tokenizer.bosToken).toBeUndefined();
    expect(tokenizer.eosTokens.size).toBe(2);
  });

  it('does not let merges spell a special token', () => {
    const { tokenizerJson, tokenizerConfig } = fixture('spm');
    const model = tokenizerJson.model as { vocab: Record<string, number>; merges: [string, string][] };
    model.vocab['</'] = 700;
    model.vocab['s>'] = 701;
    model.merges.unshift(['<', '/'], ['s', '>'], ['</', 's>']);
    const tokenizer = makeTokenizer(tokenizerJson, tokenizerConfig, 'spm');
    expect(tokenizer.encode('</s>', { allowSpecial: false }).slice(-2)).toEqual([700, 701]);
  });

  it('swallows white space beside an added token that strips', () => {
    const { tokenizerJson, tokenizerConfig } = fixture('gpt-2');
    const added = { id: 950, content: '<mask>', special: true, lstrip: true, rstrip: true };
    const stripping = { ...tokenizerJson, added_tokens: [added] };
    const tokenizer = makeTokenizer(stripping, tokenizerConfig, 'gpt-2');
    expect(tokenizer.encode('a  <mask> \n b')).toEqual([...tokenizer.encode('a'), 950, ...tokenizer.encode('b')]);
  });
});

describe('a tokenizer.json that cannot be read', () => {
  const { tokenizerJson, tokenizerConfig } = fixture('gpt-2');
  const model = tokenizerJson.model as object;
  const opening = (change: object) => () => makeTokenizer({ ...tokenizerJson, ...change }, tokenizerConfig, 'x.json');

  it.each([
    ['no model', { model: undefined }, 'x.json: the tokenizer has no model'],
    [
      'a vocabulary that is a list',
      { model: { ...model, vocab: [] } },
      "x.json: the tokenizer's vocab is not a record",
    ],
    ['an id below 0', { model: { ...model, vocab: { a: -1 } } }, 'x.json: token "a" has id -1; wanted 0 to 4194303'],
    ['half a merge', { model: { ...model, merges: ['ab'] } }, 'x.json: merge 0 is "ab"; wanted two tokens'],
    [
      'a merge of strangers',
      { model: { ...model, merges: ['a ÿÿ'] } },
      'merge 0 uses "ÿÿ", which is not in the vocabulary',
    ],
    [
      'an id that is no number',
      { model: { ...model, vocab: { a: { toString: 1 } } } },
      'has id {"toString":1}; wanted 0',
    ],
    ['a nameless added token', { added_tokens: [{ id: 1 }] }, 'x.json: added_tokens[0] has no usable content and id'],
    ['a part without a type', { normalizer: {} }, 'x.json: normalizer has no type'],
    ['a part that is a number', { decoder: { type: 'Sequence', decoders: [5] } }, 'x.json: decoder has no type'],
    [
      'parts that are no list',
      { normalizer: { type: 'Sequence', normalizers: 5 } },
      'normalizers of normalizer Sequence',
    ],
    [
      'no pattern',
      { normalizer: { type: 'Replace', content: '' } },
      'pattern of normalizer Replace is undefined; wanted',
    ],
    ['a number for a text', { normalizer: { type: 'Prepend', prepend: 5 } }, 'prepend of normalizer Prepend is 5'],
    [
      'pieces without length',
      { pre_tokenizer: { type: 'FixedLength', length: 0 } },
      'length of pre_tokenizer FixedLength',
    ],
    ['a number for a template', { post_processor: { type: 'TemplateProcessing', single: [5] } }, 'malformed'],
    ['a template without the text', { post_processor: { type: 'TemplateProcessing', single: [] } }, 'malformed'],
    ['a post-processor without its token', { post_processor: { type: 'BertProcessing' } }, 'malformed'],
    [
      'a post-processor with a stranger',
      { post_processor: { type: 'BertProcessing', cls: ['<?>', 1] } },
      'post_processor adds "<?>", which is not in the vocabulary',
    ],
  ])('%s', (_name, change, message) => {
    expect(opening(change)).toThrow(FormatError);
    expect(opening(change)).toThrow(message);
  });

  it.each([
    ['another model', { model: { type: 'Unigram' } }, `x.json: the tokenizer's model is "Unigram"; supported: BPE`],
    ['word suffixes', { model: { ...model, end_of_word_suffix: '</w>' } }, 'uses end_of_word_suffix'],
    ['another decoder', { decoder: { type: 'WordPiece' } }, 'x.json: decoder WordPiece; supported: ByteLevel, '],
    [
      'an unknown part',
      { pre_tokenizer: { type: 'Magic' } },
      'x.json: the tokenizer cannot be read: Unknown PreTokenizer',
    ],
    [
      'another way to split',
      { pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithNext' } },
      'Split behaviour "MergedWithNext"',
    ],
    ['a model that is no text', { model: { type: { toString: 1 } } }, `the tokenizer's model is {"toString":1}`],
    [
      'a way to split that is no text',
      { pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: { toString: 1 } } },
      'Split behaviour {"toString":1}',
    ],
    ['a post-processor that is no text', { post_processor: { type: { toString: 1 } } }, 'post_processor an object'],
    [
      'a regular expression that is too long to compile',
      { pre_tokenizer: { type: 'Split', pattern: { Regex: 'a|'.repeat(5000) }, behavior: 'Isolated' } },
      'x.json: the regular expressions of tokenizer.json have 10000 characters; wanted at most 8192',
    ],
  ])('%s', (_name, change, message) => {
    expect(opening(change)).toThrow(UnsupportedError);
    expect(opening(change)).toThrow(message);
  });
});

describe('what stands in front of a text', () => {
  const { tokenizerJson, tokenizerConfig } = fixture('llama-bpe');
  const piece = (kind: string, id: string) => ({ [kind]: { id, type_id: 0 } });
  const bos = piece('SpecialToken', '<|begin_of_text|>');
  const end = piece('SpecialToken', '<|eot_id|>');
  const text = piece('Sequence', 'A');
  const inFront = (post_processor: object) => {
    const tokenizer = makeTokenizer({ ...tokenizerJson, post_processor }, tokenizerConfig, 'x');
    const ids = tokenizer.encode('a');
    return tokenizer.decode(ids.slice(0, ids.length - 1), { skipSpecialTokens: false });
  };

  it('is what a template has there, without what it has behind', () => {
    expect(inFront({ type: 'TemplateProcessing', single: [bos, text, end] })).toBe('<|begin_of_text|>');
    expect(inFront({ type: 'RobertaProcessing', cls: ['<|eot_id|>', 1], sep: ['<|eot_id|>', 1] })).toBe('<|eot_id|>');
    expect(inFront({ type: 'ByteLevel' })).toBe('');
  });

  it('grows outwards in a sequence', () => {
    const processors = [bos, end].map((token) => ({ type: 'TemplateProcessing', single: [token, text] }));
    expect(inFront({ type: 'Sequence', processors })).toBe('<|eot_id|><|begin_of_text|>');
  });
});

describe('tokens without an embedding', () => {
  const { tokenizerJson, tokenizerConfig } = fixture('gpt-2');
  const { vocab, merges } = tokenizerJson.model as { vocab: Record<string, number>; merges: string[] };
  const pad = { id: 5000, content: '<pad>', special: true };

  it('are never made of text', () => {
    const json = { ...tokenizerJson, added_tokens: [pad], model: { vocab: { ...vocab, '<pad>': 5000 }, merges } };
    const tokenizer = makeTokenizer(json, tokenizerConfig, 'x', 5000);
    expect(tokenizer.encode('a<pad>b').every((id) => id < 5000)).toBe(true);
    expect(tokenizer.decode(tokenizer.encode('a<pad>b'))).toBe('a<pad>b');
    expect(tokenizer.vocabSize).toBeLessThanOrEqual(5000);
    expect(makeTokenizer(json, tokenizerConfig, 'x', 5001).encode('<pad>')).toEqual([5000]);
  });
});

describe('a hostile regular expression', () => {
  const { tokenizerJson, tokenizerConfig } = fixture('gpt-2');
  const endless = { type: 'Replace', pattern: { Regex: '(a+)+$' }, content: '' };
  const text = `${'a'.repeat(60)}!`;

  it('is interrupted when the model is opened', { timeout: 10_000 }, () => {
    const added = { id: 950, content: text, special: false, normalized: true };
    const json = { ...tokenizerJson, normalizer: endless, added_tokens: [added] };
    const open = () => makeTokenizer(json, tokenizerConfig, 'x');
    expect(open).toThrow(UnsupportedError);
    expect(open).toThrow('x: a regular expression of tokenizer.json on 61 characters took more than 2.0 seconds');
  });

  it.each([
    ['normalizer', endless],
    ['pre_tokenizer', { type: 'Split', pattern: endless.pattern, behavior: 'Isolated' }],
    ['pre_tokenizer', { type: 'Sequence', pretokenizers: [{ ...endless }] }],
  ])('is interrupted in a %s when a text is encoded', { timeout: 10_000 }, (part, setting) => {
    const tokenizer = makeTokenizer({ ...tokenizerJson, [part]: setting }, tokenizerConfig, 'x');
    expect(() => tokenizer.encode(text)).toThrow('took more than 2.0 seconds');
    expect(tokenizer.encode('b')).toHaveLength(1);
  });

  it('finds no memory to fill', () => {
    const doubling = { type: 'Replace', pattern: { String: 'a' }, content: 'aa' };
    const normalizer = { type: 'Sequence', normalizers: Array(60).fill(doubling) };
    const tokenizer = makeTokenizer({ ...tokenizerJson, normalizer }, tokenizerConfig, 'x');
    expect(() => tokenizer.encode('a')).toThrow('x: the normalizer makes 131072 characters of 1; wanted at most 65568');
    const nested = { ...tokenizerJson, normalizer: { type: 'Sequence', normalizers: [normalizer] } };
    expect(() => makeTokenizer(nested, tokenizerConfig, 'x').encode('a')).toThrow('makes 131072 characters of 1');
  });

  it.each([
    ['bytes of bytes', { type: 'ByteLevel', add_prefix_space: false, use_regex: false }],
    ['a part that doubles', { type: 'Replace', pattern: { String: 'é' }, content: 'éé' }],
  ])('finds no memory to fill with %s of a pre_tokenizer', (_name, part) => {
    const pre_tokenizer = {
      type: 'Sequence',
      pretokenizers: [{ type: 'Sequence', pretokenizers: Array(60).fill(part) }],
    };
    const tokenizer = makeTokenizer({ ...tokenizerJson, pre_tokenizer }, tokenizerConfig, 'x');
    expect(() => tokenizer.encode('é')).toThrow(
      'x: the pre_tokenizer makes 131072 characters of 1; wanted at most 65568',
    );
  });
});

it('reads and finds a hundred thousand added tokens in little time', { timeout: 8000 }, () => {
  const { tokenizerJson, tokenizerConfig } = fixture('gpt-2');
  const content = (i: number) => `<tok${i}${'_'.repeat(100)}>`;
  const added_tokens = Array.from({ length: 100_000 }, (_, i) => ({
    id: 2000 + i,
    content: content(i),
    special: i % 2 === 0,
  }));
  const chat_template = '{% for m in messages %}{{ m.content }}{% endfor %}';
  const config = { ...tokenizerConfig, chat_template };
  const tokenizer = makeTokenizer({ ...tokenizerJson, added_tokens }, config, 'x');
  expect(tokenizer.encode(content(7) + content(99_998))).toEqual([2007, 101_998]);
  const ids = tokenizer.encodeChat([{ role: 'user', content: content(7) + content(99_998) }]);
  expect([ids[0], ids.includes(101_998)]).toEqual([2007, false]);
});

/** Whole numbers below `limit`; Park and Miller's generator. */
function seeded(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state * 48271) % 2147483647;
    return state % limit;
  };
}

it('cuts behind spaces, as Gemma does where a normaliser leaves some', () => {
  const vocab = { a: 0, b: 1, ' ': 2, 'a ': 3, ' b': 4, '  ': 5 };
  const model = { type: 'BPE', vocab, merges: ['  ', ' b', 'a '].map((pair) => [...pair]) };
  const behind = { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithPrevious', invert: false };
  const idsOf = (pre_tokenizer: unknown, text: string) =>
    makeTokenizer({ model, pre_tokenizer, added_tokens: [] }, {}, 'x.json').encode(text);
  expect(idsOf(behind, 'a b  b')).toEqual([3, 1, 2, 2, 1]); // 'a ', 'b ', ' ', 'b'
  expect(idsOf(null, 'a b  b')).toEqual([0, 4, 5, 1]);
});
