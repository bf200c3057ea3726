/** JSON Schemas that are changed at random, and random texts of what is left of them, which Ajv must find right. */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import type { Random } from '../../src/eval/random.ts';
import type { Automaton, State } from '../../src/grammar/automaton.ts';
import { compileJsonSchema } from '../../src/grammar/jsonSchema.ts';
import { mutateJson } from './mutate.ts';

const NODE = { type: 'object', properties: { a: { $ref: '#/$defs/node' }, v: { type: 'integer' } }, required: ['v'] };
const SCHEMAS: readonly object[] = [
  {
    type: 'object',
    properties: {
      name: { type: 'string', minLength: 1, maxLength: 5 },
      age: { type: ['integer', 'null'], minimum: -3, exclusiveMaximum: 130, multipleOf: 7 },
      share: { type: 'number', exclusiveMinimum: 0.25, maximum: 10.5 },
      tags: { type: 'array', items: { enum: ['a', 'ab', 3, null, [1], { k: '“' }] }, minItems: 1, maxItems: 3 },
    },
    required: ['name', 'tags'],
    additionalProperties: { type: 'boolean' },
  },
  { $ref: '#/$defs/node', $defs: { node: NODE } },
  { anyOf: [{ type: 'string', pattern: '^(a|[b-d]{2,3})+\\d?$' }, { const: 'x' }, { pattern: 'é.', type: 'string' }] },
  {
    allOf: [
      { type: 'object', properties: { a: { type: 'number' } }, required: ['a'] },
      {
        properties: { a: { minimum: 2, maximum: 9 }, b: { type: 'string', maxLength: 2 } },
        additionalProperties: false,
      },
    ],
  },
  {
    oneOf: [
      { type: 'object', properties: { k: { const: 'a' }, x: { type: 'null' } }, required: ['k'] },
      { type: 'object', properties: { k: { enum: ['b', 'c'] } }, required: ['k', 'y'] },
      { type: 'array', prefixItems: [{ type: 'null' }, { type: 'boolean' }], items: false },
      { type: 'integer', maximum: 5 },
    ],
  },
];

/** Random bytes that fit, ends and closing brackets often; undefined where the text gets too long. */
function randomText(automaton: Automaton, random: Random): string | undefined {
  const bytes: number[] = [];
  let state: State = automaton.start;
  while (!state.canEnd || (state.stacks.length > 0 && random.uniform() < 0.7)) {
    if (bytes.length > 400) return undefined;
    const fits = (byte: number) => automaton.step(state, byte) !== null;
    const closing = [0x22, 0x5d, 0x7d, 0x2c, 0x3a].filter(fits);
    const all = Array.from({ length: 256 }, (_, byte) => byte).filter(fits);
    if (all.length === 0) throw new Error(`a text that cannot be finished: ${Buffer.from(bytes)}`);
    bytes.push(random.pick(closing.length > 0 && random.uniform() < 0.5 ? closing : all));
    state = automaton.step(state, bytes[bytes.length - 1]) as State;
  }
  return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
}

export async function trySchema(random: Random): Promise<string> {
  const schema = mutateJson(random.pick(SCHEMAS), random) as object;
  const automaton = compileJsonSchema(schema);
  if (JSON.stringify(schema).includes('__proto__')) return 'compiles'; // Ajv leaves that name out
  let validate: ValidateFunction;
  try {
    validate = new Ajv2020({
      strict: false,
      validateFormats: false,
      ownProperties: true,
      validateSchema: false,
      logger: false,
    }).compile(schema);
  } catch {
    return 'compiles here alone';
  }
  for (let n = 0; n < 10; n++) {
    const written = randomText(automaton, random);
    if (written === undefined || validate(JSON.parse(written))) continue;
    throw new Error(`${written} does not fit ${JSON.stringify(schema)}`);
  }
  return 'fits';
}
