/** Texts of random tokens that a grammar allows: each parses and fits its schema, as Ajv sees it. */
import { existsSync, readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../eval/random.ts';
import { openModel } from '../node.ts';
import { makeTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import { compileJsonSchema } from './jsonSchema.ts';
import { makeConstraint, TokenGrammar } from './mask.ts';
import { makeVocabulary } from './vocabulary.ts';

const SCHEMAS: object[] = [
  { type: 'object' },
  { type: ['number', 'boolean', 'null'] },
  { type: 'integer', minimum: -70, maximum: 12345, multipleOf: 5 },
  { type: 'number', exclusiveMinimum: -1.25, maximum: 3.5 },
  { type: 'string', minLength: 3, maxLength: 9 },
  { type: 'string', pattern: '^([A-Z][a-z]+|"\\\\)( \\d{1,3})?$' },
  { type: 'string', pattern: 'a.[^b]' },
  { enum: ['one', 'one more', '“é🦉”', 17, -2.5, null, [1, { a: 'b' }], { k: [] }] },
  { type: 'array', items: { type: 'integer' }, minItems: 2, maxItems: 5 },
  {
    type: 'array',
    prefixItems: [{ type: 'string' }, { enum: [1, 2] }],
    items: { type: 'boolean' },
    minItems: 1,
    maxItems: 4,
  },
  {
    type: 'object',
    properties: {
      name: { type: 'string', maxLength: 12 },
      age: { type: 'integer', minimum: 0, maximum: 130 },
      mood: { enum: ['good', 'bad'] },
    },
    required: ['name', 'mood'],
    additionalProperties: false,
  },
  {
    type: 'object',
    properties: { a: { type: 'null' }, ab: { type: 'boolean' }, 'é"': { type: 'null' } },
    required: ['z'],
    additionalProperties: { type: 'integer' },
  },
  {
    $ref: '#/$defs/tree',
    $defs: {
      tree: {
        type: 'object',
        properties: { v: { enum: [0, 1] }, kids: { type: 'array', items: { $ref: '#/$defs/tree' }, maxItems: 2 } },
        required: ['v', 'kids'],
        additionalProperties: false,
      },
    },
  },
  {
    oneOf: [
      {
        type: 'object',
        properties: { kind: { const: 'dot' }, at: { type: 'integer' } },
        required: ['kind', 'at'],
        additionalProperties: false,
      },
      { type: 'object', properties: { kind: { const: 'line' } }, required: ['kind', 'to'] },
      { type: 'string', enum: ['none'] },
    ],
  },
  {
    allOf: [
      { type: 'object', properties: { a: { type: 'number' } } },
      { properties: { a: { minimum: 0, maximum: 1 } }, required: ['a'], additionalProperties: false },
    ],
  },
];

const zeros = (logits: Float32Array) => {
  const ids: number[] = [];
  for (let id = 0; id < logits.length; id++) if (logits[id] === 0) ids.push(id);
  return ids;
};

const golden = (family: string): Tokenizer => {
  const path = new URL(`../../test/golden/tokenizers/${family}.json`, import.meta.url);
  const { tokenizerJson, tokenizerConfig } = JSON.parse(readFileSync(path, 'utf8'));
  return makeTokenizer(tokenizerJson, tokenizerConfig, family);
};
const tokenizers: [name: string, Tokenizer][] = ['smollm', 'spm'].map((family) => [family, golden(family)]);
const SMOLLM2 = 'models/SmolLM2-135M-Instruct.Q4_1.gguf';
for (const path of ['books-16m/books-16m.Q8_0.gguf', ...(existsSync(SMOLLM2) ? [SMOLLM2] : [])]) {
  const file = await openModel(path);
  tokenizers.push([path, file.tokenizer]);
  await file.close();
}

describe.each(tokenizers)('tokens of %s', { timeout: 60_000 }, (name, tokenizer) => {
  const { vocabSize, bytesOf, eosTokens } = tokenizer;
  const vocabulary = makeVocabulary(vocabSize, bytesOf);
  const closing = [...Array(vocabSize).keys()].filter((id) =>
    bytesOf(id).some((byte) => [0x22, 0x5d, 0x7d].includes(byte)),
  );
  const random = seededRandom(name);
  const nTexts = vocabSize > 10_000 ? 20 : 100;

  /** Random tokens up to an end, undefined where that is too far. Tokens that close something come often. */
  function walk(grammar: TokenGrammar): string | undefined {
    const constraint = makeConstraint(grammar, bytesOf, eosTokens);
    const logits = new Float32Array(vocabSize + 3);
    const ids: number[] = [];
    while (!constraint.isComplete) {
      if (ids.length > 120) return undefined;
      logits.fill(0);
      constraint.mask(logits);
      const closes = closing.filter((id) => logits[id] === 0);
      const fits = closes.length > 0 && random.uniform() < 0.4 ? closes : zeros(logits);
      const id = random.pick(fits);
      if (eosTokens.has(id)) break;
      ids.push(id);
      constraint.accept(id);
    }
    return tokenizer.decode(ids, { midText: true });
  }

  it.each(SCHEMAS)('make JSON that fits %j', (schema) => {
    const grammar = new TokenGrammar(compileJsonSchema(schema), vocabulary);
    const validate = new Ajv2020({ allowUnionTypes: true, strict: false }).compile(schema);
    const texts = Array.from({ length: nTexts }, () => walk(grammar)).filter((text) => text !== undefined);
    expect(texts.length).toBeGreaterThan(nTexts / 4);
    expect(texts.filter((text) => !validate(JSON.parse(text)))).toEqual([]);
  });

  it('are masked as they fit one by one, however the mask was found', () => {
    const grammar = new TokenGrammar(
      compileJsonSchema({ type: 'object', properties: { a: { type: 'string', maxLength: 7 } } }),
      vocabulary,
    );
    for (const text of ['', '{', '{"', '{"a":"', '{"a":"bcdef', '{"b":"', '{"b":"\\', '{"a":"é', '{"b":[1']) {
      const state = grammar.step(grammar.start, new TextEncoder().encode(text));
      const mask = state && grammar.maskOf(state);
      const fits = (id: number) => bytesOf(id).length > 0 && state && grammar.step(state, bytesOf(id)) !== null;
      const ids = [...Array(vocabSize).keys()];
      expect(ids.filter((id) => mask && (mask[id >> 5] >> (id & 31)) & 1)).toEqual(ids.filter(fits));
    }
  });

  it.each([
    { anyOf: [{ type: 'string', maxLength: 2 }, { enum: ['the other', 'there'] }] },
    { type: 'string', pattern: '^.{1,2}(he|ing)+$' },
    {
      anyOf: [
        { type: 'string', pattern: '^[a-f]+$' },
        { type: 'string', maxLength: 3 },
      ],
    },
  ])('are masked so where a short text is one way of several: %j', (schema) => {
    const grammar = new TokenGrammar(compileJsonSchema(schema), vocabulary);
    for (const text of ['"', '"t', '"th']) {
      const state = grammar.step(grammar.start, new TextEncoder().encode(text));
      const mask = state && grammar.maskOf(state);
      const fits = (id: number) => bytesOf(id).length > 0 && state && grammar.step(state, bytesOf(id)) !== null;
      const ids = [...Array(vocabSize).keys()];
      expect(ids.filter((id) => mask && (mask[id >> 5] >> (id & 31)) & 1)).toEqual(ids.filter(fits));
    }
  });

  it('never are control tokens, and ends come where the value may end', () => {
    const constraint = makeConstraint(
      new TokenGrammar(compileJsonSchema({ type: 'integer' }), vocabulary),
      bytesOf,
      eosTokens,
    );
    const allowed = () => {
      const logits = new Float32Array(vocabSize);
      constraint.mask(logits);
      return zeros(logits);
    };
    expect(allowed().filter((id) => eosTokens.has(id) || bytesOf(id).length === 0)).toEqual([]);
    const seven = [...Array(vocabSize).keys()].find(
      (id) => tokenizer.decode([id], { midText: true }) === '7',
    ) as number;
    constraint.accept(seven);
    expect(constraint.isComplete).toBe(false);
    expect(allowed().filter((id) => bytesOf(id).length === 0)).toEqual([...eosTokens].sort((a, b) => a - b));
  });
});

it('a vocabulary that lacks what a schema wants is told so', () => {
  const vocabulary = makeVocabulary(3, (id) => Uint8Array.of(0x61 + id));
  const grammar = new TokenGrammar(compileJsonSchema({ type: 'null' }), vocabulary);
  expect(() => makeConstraint(grammar, () => new Uint8Array(), new Set()).mask(new Float32Array(3))).toThrow(
    /no token of the vocabulary/,
  );
});

it('states and masks are forgotten in time, and found again', () => {
  const vocabulary = makeVocabulary(128, (id) => Uint8Array.of(id));
  const grammar = new TokenGrammar(compileJsonSchema({ type: 'string', maxLength: 100_000 }), vocabulary);
  const first = makeConstraint(grammar, (id) => Uint8Array.of(id), new Set());
  first.accept(0x22);
  for (let n = 0; n < 30_000; n++) first.accept(0x61);
  const second = makeConstraint(grammar, (id) => Uint8Array.of(id), new Set());
  for (const text of [first, second])
    for (const byte of text === first ? [0x22] : [0x22, 0x61, 0x22]) text.accept(byte);
  expect([first.isComplete, second.isComplete]).toEqual([true, true]);
});
