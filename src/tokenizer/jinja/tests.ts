/** The tests of Jinja may follow `is`. */
import { fail, lacks } from './limits.ts';
import { isLower, isUpper } from './methods.ts';
import { compared } from './operators.ts';
import {
  type Arguments,
  bind,
  type Context,
  contains,
  Float,
  isIndexed,
  numberOf,
  text,
  typeName,
  Undefined,
  type Value,
  wholeOf,
} from './values.ts';

type Test = [names: string, holds: (value: Value, given: (Value | undefined)[], context: Context) => boolean];

export function applyTest(name: string, value: Value, given: Arguments, context: Context): boolean {
  context.meter.step();
  if (!Object.hasOwn(TESTS, name)) lacks(`the test "${name}"`);
  const [names, holds] = TESTS[name];
  return holds(value, bind(given, names, `the test "${name}"`), context);
}

const comparing = (operator: string): Test => ['b!', (a, [b], { meter }) => compared(operator, a, b!, meter)];
const equal = comparing('==');
const unequal = comparing('!=');
const less = comparing('<');
const greater = comparing('>');
const atMost = comparing('<=');
const atLeast = comparing('>=');
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
  divisibleby: ['num!', (value, [by]) => modulo(value, wholeOf(by!, 'num')) === 0],
  eq: equal,
  equalto: equal,
  even: ['', (value) => modulo(value, 2) === 0],
  false: ['', (value) => value === false],
  float: ['', (value) => value instanceof Float],
  ge: atLeast,
  greaterthan: greater,
  gt: greater,
  in: ['seq!', (value, [container], { meter }) => contains(container!, value, meter)],
  integer: ['', (value) => typeof value === 'number'],
  iterable: [
    '',
    (value) => typeof value === 'string' || Array.isArray(value) || value instanceof Map || value instanceof Undefined,
  ],
  le: atMost,
  lessthan: less,
  lower: ['', (value, _, context) => isLower(text(value, context.meter))],
  lt: less,
  mapping: ['', (value) => value instanceof Map],
  ne: unequal,
  none: ['', (value) => value === null],
  number: ['', (value) => numberOf(value) !== undefined],
  odd: ['', (value) => Math.abs(modulo(value, 2)) === 1],
  sameas: ['other!', (value, [other]) => value === other],
  sequence: [
    '',
    (value) => typeof value === 'string' || isIndexed(value) || value instanceof Map || value instanceof Undefined,
  ],
  string: ['', (value) => typeof value === 'string'],
  true: ['', (value) => value === true],
  undefined: ['', (value) => value instanceof Undefined],
  upper: ['', (value, _, context) => isUpper(text(value, context.meter))],
};
