/** Operators and slices work as Python has them. */
import { percentFormat } from './format.ts';
import { fail, lacks, type Meter } from './limits.ts';
import {
  contains,
  equals,
  Float,
  isListOrTuple,
  isTrue,
  lengthOf,
  numberOf,
  order,
  real,
  repeated,
  Tuple,
  typeName,
  Undefined,
  type Value,
  whole,
  wholeOf,
} from './values.ts';

export function pick<T>(items: readonly T[], from: number | undefined, to: number | undefined, step: number): T[] {
  if (step === 1) return Array.from(items).slice(from, to);
  const n = items.length;
  const clamp = (at: number, low: number, high: number) => Math.min(high, Math.max(low, at < 0 ? at + n : at));
  const start = from === undefined ? (step > 0 ? 0 : n - 1) : step > 0 ? clamp(from, 0, n) : clamp(from, -1, n - 1);
  const end = to === undefined ? (step > 0 ? n : -1) : step > 0 ? clamp(to, 0, n) : clamp(to, -1, n - 1);
  const picked: T[] = [];
  for (let at = start; step > 0 ? at < end : at > end; at += step) picked.push(items[at]);
  return picked;
}

export function unary(operator: string, value: Value): Value {
  if (operator === 'not') return !isTrue(value);
  const number = numberOf(value);
  if (value instanceof Undefined) return fail(`'${value.name}' is undefined`);
  if (number === undefined) return fail(`${operator} wants a number, not ${typeName(value)}`);
  const result = operator === '-' ? -number : number;
  return value instanceof Float ? new Float(result) : whole(result);
}

export function compared(operator: string, a: Value, b: Value, meter: Meter): boolean {
  if (operator === '==') return equals(a, b, meter);
  if (operator === '!=') return !equals(a, b, meter);
  if (operator === 'in') return contains(b, a, meter);
  if (operator === 'not in') return !contains(b, a, meter);
  for (const side of [a, b]) if (side instanceof Undefined) fail(`'${side.name}' is undefined`);
  const difference = order(a, b, meter);
  if (operator === '<') return difference < 0;
  if (operator === '<=') return difference <= 0;
  return operator === '>' ? difference > 0 : difference >= 0;
}

export function binary(operator: string, a: Value, b: Value, meter: Meter): Value {
  if (operator === '%' && typeof a === 'string') return percentFormat(a, b, meter);
  for (const side of [a, b]) if (side instanceof Undefined) fail(`'${side.name}' is undefined`);
  if (operator === '+' && typeof a === 'string' && typeof b === 'string') {
    meter.count(a.length + b.length);
    return a + b;
  }
  if (operator === '+' && isListOrTuple(a) && isListOrTuple(b) && typeName(a) === typeName(b)) {
    meter.count(a.length + b.length);
    return (a instanceof Tuple ? Tuple.from<Value>(a) : a).concat(b);
  }
  if (operator === '*') {
    const [many, times] = typeof a === 'number' || typeof a === 'boolean' ? [b, a] : [a, b];
    if (typeof many === 'string') return repeated(many, wholeOf(times, 'the count of a text'), meter);
    if (isListOrTuple(many)) {
      const count = Math.max(0, wholeOf(times, 'the count of a list'));
      meter.count(lengthOf(many, meter) * count);
      const copies = many instanceof Tuple ? new Tuple() : [];
      for (let i = 0; many.length > 0 && i < count; i++) for (const item of many) copies.push(item);
      return copies;
    }
  }
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x === undefined || y === undefined) {
    return fail(`the operator ${operator} does not go with ${typeName(a)} and ${typeName(b)}`);
  }
  const isFloat = a instanceof Float || b instanceof Float || operator === '/' || (operator === '**' && y < 0);
  if (y === 0 && ['/', '//', '%'].includes(operator)) return fail('division by zero');
  const result = calculated(operator, x, y);
  return isFloat ? real(result) : whole(result);
}

/** Gives the rest, which has the sign of `y`. */
function modulo(x: number, y: number): number {
  const rest = x % y;
  if (rest === 0) return y < 0 ? -0 : 0;
  return rest < 0 === y < 0 ? rest : rest + y;
}

/** Python and JavaScript round others differently. */
function power(x: number, y: number): number {
  if (y === 0.5 && x >= 0) return Math.sqrt(x);
  if (y === -1) return 1 / x;
  const result = y === 2 ? x * x : x ** y;
  return y === 2 || Number.isInteger(result) ? result : lacks('a power that is no whole number');
}

function calculated(operator: string, x: number, y: number): number {
  switch (operator) {
    case '+':
      return x + y;
    case '-':
      return x - y;
    case '*':
      return x * y;
    case '/':
      return x / y;
    case '//':
      return Math.round((x - modulo(x, y)) / y) || 0 * (x / y);
    case '%':
      return modulo(x, y);
    default:
      return power(x, y);
  }
}
