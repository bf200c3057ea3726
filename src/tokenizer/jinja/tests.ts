/** The tests of Jinja: what may follow `is`. */
import { fail, lacks } from './limits.ts';
import {
  type Arguments,
  bind,
  type Context,
  contains,
  equals,
  Float,
  Generator,
  numberOf,
  order,
  text,
  typeName,
  Undefined,
  type Value,
  View,
  wholeOf,
} from './values.ts';

type Test = [names: string, holds: (value: Value, given: (Value | undefined)[], context: Context) => boolean];

export function applyTest(name: string, value: Value, given: Arguments, context: Context): boolean {
  context.meter.step();
  if (!Object.hasOwn(TESTS, name)) lacks(`the test "${name}"`);
  const [names, holds] = TESTS[name];
  return holds(value, bind(given, names === '' ? [] : names.split(' '), `the test "${name}"`), context);
}

const comparing = (holds: (difference: number) => boolean): Test => [
  'b',
  (a, [b], { meter }) => holds(order(a, b ?? null, meter)),
];
const equal: Test = ['b', (a, [b], { meter }) => equals(a, b ?? null, meter)];
const unequal: Test = ['b', (a, [b], { meter }) => !equals(a, b ?? null, meter)];
const less = comparing((difference) => difference < 0);
const greater = comparing((difference) => difference > 0);
const atMost = comparing((difference) => difference <= 0);
const atLeast = comparing((difference) => difference >= 0);
const modulo = (value: Value, by: number): number => {
  const number = numberOf(value) ?? fail(`a test of divisibility wants a number, not ${typeName(value)}`);
  return by === 0 ? fail('division by zero') : number % by;
};

const TESTS: Record<string, Test> = {
  '==': equal,
  '!=': unequal,
  '<': less,
  '<=': atMost,
  '>': greater,
  '>=': atLeast,
  boolean: ['', (value) => typeof value === 'boolean'],
  callable: ['', (value) => typeof value === 'function' || value instanceof Undefined],
  defined: ['', (value) => !(value instanceof Undefined)],
  divisibleby: ['num', (value, [by]) => modulo(value, wholeOf(by ?? null, 'num')) === 0],
  eq: equal,
  equalto: equal,
  even: ['', (value) => modulo(value, 2) === 0],
  false: ['', (value) => value === false],
  float: ['', (value) => value instanceof Float],
  ge: atLeast,
  greaterthan: greater,
  gt: greater,
  in: ['seq', (value, [container], { meter }) => contains(container ?? null, value, meter)],
  integer: ['', (value) => typeof value === 'number'],
  iterable: [
    '',
    (value) => typeof value === 'string' || Array.isArray(value) || value instanceof Map || value instanceof Undefined,
  ],
  le: atMost,
  lessthan: less,
  lower: ['', (value, _, context) => isCase(text(value, context.meter), 'toLowerCase')],
  lt: less,
  mapping: ['', (value) => value instanceof Map],
  ne: unequal,
  none: ['', (value) => value === null],
  number: ['', (value) => numberOf(value) !== undefined],
  odd: ['', (value) => Math.abs(modulo(value, 2)) === 1],
  sameas: ['other', (value, [other]) => value === other],
  sequence: [
    '',
    (value) =>
      typeof value === 'string' ||
      (Array.isArray(value) && !(value instanceof Generator) && !(value instanceof View)) ||
      value instanceof Map ||
      value instanceof Undefined,
  ],
  string: ['', (value) => typeof value === 'string'],
  true: ['', (value) => value === true],
  undefined: ['', (value) => value instanceof Undefined],
  upper: ['', (value, _, context) => isCase(text(value, context.meter), 'toUpperCase')],
};

function isCase(value: string, change: 'toLowerCase' | 'toUpperCase'): boolean {
  return value === value[change]() && value.toLowerCase() !== value.toUpperCase();
}
