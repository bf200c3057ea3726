/** Grammars against Ajv on random values: what fits a schema is read, and what does not is not. */
import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, it } from 'vitest';
import { seededRandom } from '../eval/random.ts';
import { compileJsonSchema } from './jsonSchema.ts';
import type { Json } from './schema.ts';

const TEXT = { type: 'string' };
const COUNT = { type: 'integer', minimum: 0 };
const SCHEMAS: object[] = [
  { type: ['integer', 'string', 'array'], minimum: 2, maxLength: 2, minItems: 1 },
  { minimum: 1.5, exclusiveMaximum: 30, required: ['a'], items: { type: ['integer', 'null'] } },
  { enum: [0, 3, 'a', 'ab', null, true, []] },
  { anyOf: [{ type: 'integer', multipleOf: 3 }, { type: 'string', pattern: '^b*$' }, { const: [] }] },
  { type: 'object', properties: { a: COUNT, b: TEXT }, required: ['a'] },
  { type: 'object', properties: { a: COUNT, b: TEXT }, additionalProperties: { type: ['boolean', 'null'] } },
  { type: 'object', properties: { a: true, b: false }, additionalProperties: false },
  { type: 'object', properties: { a: { type: 'object', properties: { a: COUNT } } }, required: ['a', 'b'] },
  { properties: { a: { anyOf: [{ $ref: '#' }, COUNT] }, b: { $ref: '#/properties/a' } }, required: ['a'] },
  {
    type: 'array',
    items: { $ref: '#/$defs/x' },
    maxItems: 2,
    $defs: { x: { type: ['string', 'array'], minItems: 1 } },
  },
  { prefixItems: [COUNT, TEXT], items: { type: 'null' } },
  { prefixItems: [COUNT, TEXT], items: false, minItems: 2 },
  {
    allOf: [{ properties: { a: COUNT } }, { properties: { a: { maximum: 12 }, b: TEXT }, required: ['b'] }],
    type: 'object',
  },
  { allOf: [{ properties: { a: true }, additionalProperties: TEXT }, { properties: { b: { maxLength: 1 } } }] },
  {
    allOf: [{ items: { type: ['integer', 'string'] } }, { prefixItems: [{ type: ['string', 'null'] }] }],
    type: 'array',
  },
  { $ref: '#/$defs/x', maximum: 9, $defs: { x: { type: ['number', 'null'], minimum: -2 } } },
  {
    anyOf: [{ required: ['a'] }, { required: ['b'], properties: { b: TEXT } }],
    type: 'object',
    additionalProperties: COUNT,
  },
  {
    oneOf: [
      { type: 'object', properties: { a: { const: 0 } }, required: ['a'] },
      { type: 'object', properties: { a: { enum: ['a', 3] } }, required: ['a'] },
      { type: 'null' },
    ],
  },
  {
    oneOf: [
      { type: 'object', required: ['a'] },
      { type: 'object', properties: { b: COUNT }, additionalProperties: false },
    ],
  },
  { type: 'string', enum: ['a', 'ab', 'abc', 3], minLength: 2 },
];

const random = seededRandom('values');
const LEAVES: Json[] = [
  null,
  true,
  false,
  0,
  1,
  2,
  3,
  9,
  12,
  30,
  -1,
  -2,
  -3,
  1.5,
  29.5,
  '',
  'a',
  'ab',
  'abc',
  'b',
  'bb',
  'é🦉',
  '"\n',
];

function value(depth: number): Json {
  const kind = depth === 0 ? 0 : random.uniform();
  if (kind < 0.3) return random.pick(LEAVES);
  if (kind < 0.6) return Array.from({ length: random.integer(0, 3) }, () => value(depth - 1));
  // Names in this order: the schemas' own, then others.
  const names = ['a', 'b', 'c', 'ab', ''].filter(() => random.uniform() < 0.4);
  return Object.fromEntries(names.map((name) => [name, value(depth - 1)]));
}
const values = [...LEAVES, ...Array.from({ length: 3000 }, () => value(3))];

it.each(SCHEMAS)('%j', (schema) => {
  const validate = new Ajv2020({ strict: false }).compile(schema);
  const automaton = compileJsonSchema(schema);
  const read = (text: string) => automaton.accepts(new TextEncoder().encode(text));
  const fit = values.filter((one) => validate(one));
  expect(fit.length).toBeGreaterThan(2);
  expect(values.filter((one) => read(JSON.stringify(one)))).toEqual(fit);
  // The one other spelling has a blank behind each comma and colon.
  const spaced = (one: Json) =>
    JSON.stringify(one, null, 1)
      .replace(/\n */g, ' ')
      .replace(/([[{]) | ([\]}])/g, '$1$2');
  const simple = values.filter((one) => !/\\|"[^"]*[[\]{},:]/.test(JSON.stringify(one)));
  expect(simple.filter((one) => read(spaced(one)))).toEqual(simple.filter((one) => validate(one)));
});
