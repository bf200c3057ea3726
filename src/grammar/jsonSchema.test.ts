import { describe, expect, it } from 'vitest';
import { seededRandom } from '../eval/random.ts';
import { Automaton, sequence } from './automaton.ts';
import { compileJsonSchema } from './jsonSchema.ts';
import { decimals } from './numbers.ts';
import { matching } from './pattern.ts';

const utf8 = new TextEncoder();
const accepts = (automaton: Automaton | undefined, text: string) => automaton?.accepts(utf8.encode(text)) ?? false;
/** Those of `texts` that fit a schema. */
const fitting = (schema: object, texts: readonly string[]) => {
  const automaton = compileJsonSchema(schema);
  return texts.filter((text) => accepts(automaton, text));
};

const NODE = {
  type: 'object',
  properties: { v: { type: 'integer' }, next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
  required: ['v', 'next'],
  additionalProperties: false,
};
const PAIR = { type: 'object', properties: { a: { type: 'integer' }, b: { type: 'string' } }, required: ['b'] };
const TAGGED = (k: string, more: object) => ({
  type: 'object',
  properties: { k: { const: k }, ...more },
  required: ['k'],
});

const CASES: [schema: object, fit: string[], unfit: string[]][] = [
  [
    { type: 'object' },
    ['{}', ' {}', '{"a":1}', '{"a": [1, {"b":"é\\n\\u0001"}], "c": null}', '{"a":1e5,"b":-0.5E-7}'],
    [
      '[]',
      '{"a":}',
      '{"a":1,}',
      '{,}',
      '{"a" :1}',
      '  {}',
      '{"a":01}',
      '{"a":"\\u0041"}',
      '{"a":"\n"}',
      '{} ',
      '{"a":1',
    ],
  ],
  [{ type: 'string' }, ['""', '"🦉"', '"\\"\\\\"'], ['"', "''", '"\\/"', '"\\x"', '"\\u00e9"']],
  [{ type: ['string', 'null'] }, ['"a"', 'null'], ['1', 'nul']],
  [{ minLength: 2, maxLength: 3, type: 'string' }, ['"ab"', '"é😀x"', '"\\n\\n"'], ['"a"', '"abcd"', '"\\n"']],
  [
    { enum: ['a', 'ab', 1, null, { x: [1, 2] }] },
    ['"a"', '"ab"', '1', 'null', '{"x":[1, 2]}'],
    ['"abc"', '2', '{"x":[1]}'],
  ],
  [{ enum: [1, 5, 9, 'x'], minimum: 4 }, ['5', '9', '"x"'], ['1']],
  [{ enum: ['a', 1, 2.5], type: 'integer' }, ['1'], ['"a"', '2.5']],
  [{ const: 'é"' }, ['"é\\""'], ['"é"']],
  [
    PAIR,
    ['{"b":"x"}', '{"a":1,"b":"x"}', '{"b":"x","c":1}', '{"b":"x","ab":1}', '{"b":"x","":1}', '{"b":"", "é": []}'],
    ['{"a":1}', '{"b":"x","a":1}', '{"a":"x","b":""}', '{}', '{"b":"","b":1}'],
  ],
  [{ ...PAIR, additionalProperties: false }, ['{"a":1,"b":""}'], ['{"b":"","c":1}']],
  [{ ...PAIR, additionalProperties: { type: 'null' } }, ['{"b":"","c":null}'], ['{"b":"","c":1}']],
  [{ required: ['z'], type: 'object' }, ['{"z":1}', '{"z":1,"y":2}'], ['{}', '{"y":1}']],
  [
    { properties: { a: false, 'é"': { type: 'null' } }, type: 'object' },
    ['{}', '{"é\\"":null}', '{"b":1}', '{"è":1}', '{"é":1}'],
    ['{"a":1}', '{"é\\"":1}'],
  ],
  [
    {
      type: 'array',
      prefixItems: [{ type: 'integer' }, { type: 'string' }],
      items: { type: 'null' },
      minItems: 1,
      maxItems: 4,
    },
    ['[1]', '[1,"a"]', '[1,"a",null]', '[1, "a", null, null]'],
    ['[]', '["a"]', '[1,null]', '[1,"a",null,null,null]'],
  ],
  [{ type: 'array', prefixItems: [{}, {}], items: false }, ['[]', '[1]', '[1,2]'], ['[1,2,3]']],
  [{ type: 'array', items: { type: 'integer' }, minItems: 2, maxItems: 1e9 }, ['[1,2]', '[1,2,3]'], ['[1]']],
  [{ type: 'array', maxItems: 0 }, ['[]'], ['[1]']],
  [
    { $ref: '#/$defs/node', $defs: { node: NODE } },
    ['{"v":1,"next":null}', '{"v":1,"next":{"v":2,"next":null}}'],
    ['{"v":1}', '{"v":1,"next":{}}'],
  ],
  [
    { allOf: [{ ...PAIR, required: ['a'] }, { properties: { a: { minimum: 3 }, c: { type: 'null' } } }] },
    ['{"a":3}', '{"a":5,"b":"","c":null}'],
    ['{"a":2}', '{}', '{"a":3,"c":1}'],
  ],
  [
    { allOf: [{ multipleOf: 4 }, { multipleOf: 6 }], type: 'integer', maximum: 40, minimum: 1 },
    ['12', '24', '36'],
    ['4', '6', '8', '0', '48'],
  ],
  [
    { type: 'object', properties: { x: { type: 'null' } }, anyOf: [{ required: ['x'] }, { required: ['y'] }] },
    ['{"x":null}', '{"y":1}'],
    ['{}', '{"x":1}'],
  ],
  [{ oneOf: [{ type: 'string' }, { type: 'integer' }] }, ['"a"', '1'], ['1.5', 'null']],
  [
    {
      oneOf: [
        { type: 'integer', maximum: 3 },
        { type: 'integer', minimum: 4 },
      ],
    },
    ['3', '4', '-1'],
    ['"3"'],
  ],
  [
    { oneOf: [TAGGED('a', { x: { type: 'null' } }), TAGGED('b', {})] },
    ['{"k":"a","x":null}', '{"k":"b","x":1}'],
    ['{"k":"c"}', '{"k":"a","x":1}'],
  ],
  [
    { format: 'date', type: 'string' },
    ['"2024-02-29"', '"2023-12-31"', '"2000-02-29"'],
    ['"2023-02-29"', '"1900-02-29"', '"2023-13-01"'],
  ],
  [
    { format: 'date-time', type: 'string' },
    ['"2024-02-29T12:00:00Z"', '"1999-01-01T00:00:00.5+01:30"'],
    ['"2024-02-29"'],
  ],
  [{ format: 'uuid', type: 'string' }, ['"123e4567-e89b-12d3-a456-426614174000"'], ['"123e4567"']],
  [{ format: 'ipv4', type: 'string' }, ['"127.0.0.255"'], ['"127.0.0.256"', '"01.0.0.0"']],
  [{ format: 'phone', type: 'string' }, ['"anything"'], ['1']],
  [{ title: 'T', 'x-order': 1, description: 'd', default: 1, type: 'null', uniqueItems: false }, ['null'], ['1']],
];

it.each(CASES)('%j', (schema, fit, unfit) => {
  expect(fitting(schema, [...fit, ...unfit])).toEqual(fit);
});

const LONG = { type: 'object', properties: Object.fromEntries(Array.from({ length: 501 }, (_, n) => [`p${n}`, true])) };
let deep: object = {};
for (let n = 0; n < 200; n++) deep = { type: 'array', items: deep };
const doubled = Object.fromEntries(
  Array.from({ length: 60 }, (_, n) => [
    `d${n}`,
    { allOf: [`#/$defs/d${n + 1}`, `#/$defs/d${n + 1}`].map(($ref) => ({ $ref })) },
  ]),
);

it.each<[schema: object, message: RegExp]>([
  [{ type: 'object', patternProperties: {} }, /\/patternProperties: patternProperties cannot be enforced/],
  [{ properties: { a: { items: { not: {} } } } }, /\/properties\/a\/items\/not: not cannot be enforced/],
  [{ anyOf: [{}, { if: {} }] }, /\/anyOf\/1\/if: if cannot/],
  [{ type: 'array', uniqueItems: true }, /\/uniqueItems/],
  [{ minimun: 3 }, /\/minimun/],
  [{ type: 'text' }, /\/type: type is "text"; wanted null, boolean/],
  [{ minItems: -1 }, /\/minItems: .*-1; wanted a whole number/],
  [{ properties: [] }, /\/properties: properties is a list; wanted an object of schemas/],
  [{ properties: { a: 3 } }, /\/properties\/a: this is 3; wanted a schema/],
  [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, /\/oneOf: a value may fit both oneOf 0 and 1/],
  [{ oneOf: [{ required: ['a'] }, { required: ['b'] }] }, /\/oneOf/],
  [{ $ref: 'https://example.com/s' }, /\$ref is "https:.*wanted a place in the same schema/],
  [{ $ref: '#/$defs/none' }, /\$ref is "#\/\$defs\/none", where nothing is/],
  [{ $ref: '#' }, /no value fits/],
  [{ type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] }, /no value fits/],
  [{ type: 'integer', minimum: 3, maximum: 2 }, /no value fits/],
  [{ type: 'string', pattern: '(?=a)b' }, /\/pattern: pattern "\(\?=a\)b": \(\?=…\)/],
  [{ type: 'string', pattern: 'a\\b' }, /\\b is not supported/],
  [{ type: 'string', pattern: '(a)\\1' }, /\\1 is not supported/],
  [{ type: 'string', pattern: '(' }, /pattern "\(": /],
  [{ type: 'string', pattern: 'a(^b)' }, /\^ stands in its middle/],
  [{ type: 'string', pattern: 'a', maxLength: 3 }, /pattern and minLength or maxLength cannot be enforced together/],
  [{ type: 'number', multipleOf: 0.1 }, /\/multipleOf: multipleOf is 0.1; wanted a whole number/],
  [{ type: 'number', minimum: 1e-9 }, /minimum 1e-9 of a number cannot be enforced/],
  [{ enum: ['\ud800'] }, /half a surrogate pair/],
  [{ const: { a: 1 }, required: ['a'] }, /beside other keywords/],
  [LONG, /properties has 501 names; wanted at most 500/],
  [deep, /more than 128 deep/],
  [{ $ref: '#/$defs/d0', $defs: { ...doubled, d60: {} } }, /more than 20000 schemas|deep/],
  [{ default: 'a'.repeat(2e5) }, /200014 characters; wanted at most 200000/],
  [{ const: JSON.parse('['.repeat(600) + ']'.repeat(600)) }, /nested more than 500 deep/],
  [
    { anyOf: Array.from({ length: 60 }, (_, n) => ({ type: 'integer', multipleOf: n + 1 })) },
    /the schema is too large/,
  ],
])('refuses %j', (schema, message) => {
  expect(() => compileJsonSchema(schema)).toThrow(message);
  expect(() => compileJsonSchema(schema)).toThrow(expect.objectContaining({ name: 'UnsupportedError' }));
});

it('refuses a schema that goes in a circle, and an ambiguous pattern once there are too many ways', () => {
  const circle: Record<string, unknown> = {};
  circle.items = circle;
  expect(() => compileJsonSchema(circle)).toThrow(/cannot be written as JSON/);
  const automaton = compileJsonSchema({ type: 'string', pattern: '^(a|aa|aaa){0,100000}(a|b){0,100000}$' });
  expect(() => accepts(automaton, `"${'a'.repeat(3000)}"`)).toThrow(/more than 1024 ways/);
});

describe('numbers', () => {
  const random = seededRandom('numbers');
  it('of a range are just those, digit by digit', () => {
    for (let n = 0; n < 150; n++) {
      const [a, b] = [random.integer(-1200, 1200), random.integer(-1200, 1200)];
      const [minimum, maximum, multipleOf] = [Math.min(a, b), Math.max(a, b), random.pick([1, 1, 2, 3, 7, 10, 60])];
      const all = Array.from({ length: 2601 }, (_, at) => at - 1300);
      const fit = all.filter((value) => value >= minimum && value <= maximum && value % multipleOf === 0);
      if (fit.length > 0)
        expect(fitting({ type: 'integer', minimum, maximum, multipleOf }, all.map(String)).map(Number)).toEqual(fit);
    }
  });

  it('with decimals are in their range as JavaScript reads them', () => {
    for (let n = 0; n < 200; n++) {
      const bound = () => random.integer(-3000, 3000) / random.pick([1, 10, 100, 1000]);
      const [a, b] = [bound(), bound()];
      const [low, high] = [Math.min(a, b), Math.max(a, b)];
      const [noLow, noHigh] = [random.uniform() < 0.5, random.uniform() < 0.5];
      if (low === high) continue;
      const automaton = Automaton.of(
        decimals({ value: low, isExclusive: noLow }, { value: high, isExclusive: noHigh }),
      );
      const near = (value: number) => [-0.001, -0.000001, 0, 0.000001, 0.001].map((by) => (value + by).toFixed(6));
      const texts = [
        ...near(low),
        ...near(high),
        ...Array.from({ length: 20 }, () => bound().toFixed(random.integer(0, 6))),
      ];
      for (const text of new Set(texts.flatMap((one) => [one, one.replace(/\.?0+$/, '')]))) {
        if (!/^-?(0|[1-9]\d*)(\.\d+)?$/.test(text) || /^-0(\.0*)?$/.test(text)) continue;
        const value = Number(text);
        const fits = (noLow ? value > low : value >= low) && (noHigh ? value < high : value <= high);
        expect([text, low, high, noLow, noHigh, accepts(automaton, text)]).toEqual([
          text,
          low,
          high,
          noLow,
          noHigh,
          fits,
        ]);
      }
    }
  });
});

describe('patterns', () => {
  const PATTERNS = [
    '^(a|b)*c{2,3}$',
    'b',
    '^a',
    'c$',
    '^a|b$',
    '(?:ab)+',
    '^(a*)*$',
    '^(a?b?){2,3}$',
    '^[^ab]*$',
    'a.c',
    '[b-]',
  ];
  const MORE = [
    '^\\w+\\s\\S$',
    '\\x61\\u{62}',
    '^(?<n>a)(b)?$',
    '^a{2}$',
    '^a{2,}?$',
    '^()$',
    '[\\s\\S]b',
    '^\\u00e9|"\\\\$',
    '^(?:(a)|(?:b(?:c)))$',
  ];
  const random = seededRandom('patterns');
  const texts = Array.from({ length: 1500 }, () =>
    Array.from({ length: random.integer(0, 6) }, () => random.pick([...'aaabbbccc- 1\n"\\é🦉\u2028'])).join(''),
  );
  it.each([...PATTERNS, ...MORE])('%s matches what RegExp matches', (pattern) => {
    const refuse = (what: string): never => {
      throw new Error(what);
    };
    const automaton = Automaton.of(sequence(matching(pattern, refuse)));
    const regex = new RegExp(pattern, 'u');
    const found = texts.filter((text) => accepts(automaton, JSON.stringify(text).slice(1, -1)));
    expect(found).toEqual(texts.filter((text) => regex.test(text)));
  });
});
