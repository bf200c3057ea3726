/** Numbers are read from texts, and rounded to texts, as Python does. */
import { fail, lacks } from './limits.ts';
import { Float, numberOf, real, typeName, Undefined, unmarked, type Value, whole } from './values.ts';

/** It has one way to read a row of digits, however long. */
const DECIMAL = /^[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?$/i;

export function toWhole(value: Value, fallback: Value, base: Value): Value {
  if (value instanceof Undefined) return fail(`'${value.name}' is undefined`);
  const number = numberOf(value);
  if (number !== undefined) return Number.isFinite(number) ? whole(Math.trunc(number)) : fallback;
  if (typeof value !== 'string') return fallback;
  const digits = digitsOf(value);
  if (base !== 10) return lacks('the filter "int" with a base');
  if (/^[-+]?\d+$/.test(digits)) return whole(Number(digits));
  return DECIMAL.test(digits) ? whole(Math.trunc(Number(digits))) : fallback;
}

/** Gives what Python may read as a number; it reads digits of any script, of which those beyond ASCII are refused. */
function digitsOf(value: string): string {
  const digits = unmarked(value).trim();
  if (/(?!\d)\p{Nd}/u.test(digits)) lacks('a number in digits beyond ASCII');
  return digits.replace(/(?<=\d)_(?=\d)/g, '');
}

export function toFloat(value: Value, fallback: Value): Value {
  if (value instanceof Undefined) return fail(`'${value.name}' is undefined`);
  const number = numberOf(value);
  if (number !== undefined) return new Float(number);
  const digits = typeof value === 'string' ? digitsOf(value) : '';
  if (/^[-+]?(inf(inity)?|nan)$/i.test(digits)) real(Number.NaN);
  return DECIMAL.test(digits) ? real(Number(digits)) : fallback;
}

export function round(value: Value, places: number, method: string): Value {
  const number = numberOf(value);
  if (number === undefined) return fail(`round wants a number, not ${typeName(value)}`);
  if (Math.abs(places) > 15) lacks('the filter "round" with more than 15 places');
  const scale = 10 ** places;
  if (!['common', 'ceil', 'floor'].includes(method)) fail(`round does not know the method "${method}"`);
  if (method === 'ceil') return new Float((Math.ceil(number * scale) + 0) / scale);
  if (method === 'floor') return new Float((Math.floor(number * scale) + 0) / scale);
  if (!(value instanceof Float) && places >= 0) return number;
  if (places >= 0) return new Float(Math.sign(number) * Number(fixed(Math.abs(number), places)));
  const scaled = number * scale;
  const isBetween = Math.abs(scaled - Math.trunc(scaled)) === 0.5;
  const rounded = (isBetween ? 2 * Math.round(scaled / 2) : Math.round(scaled)) / scale;
  return value instanceof Float ? new Float(rounded) : whole(rounded);
}

/** Does what `toFixed` does, but takes of two that are equally near the even one, as Python has it. */
export function fixed(number: number, places: number): string {
  if (number >= 1e21) return BigInt(number) + (places > 0 ? `.${'0'.repeat(places)}` : '');
  return evenly(number.toFixed(places), number.toFixed(Math.min(100, places + MORE_PLACES)), places);
}

/** So many digits tell whether a number lies between two shorter ones. */
const MORE_PLACES = 30;

/** Takes the upper one of two equally near texts, or the lower one if that is even, by a longer text. */
function evenly(upper: string, exact: string, places: number): string {
  const length = exact.indexOf('.') + (places > 0 ? 1 + places : 0);
  const lower = exact.slice(0, length);
  const isBetween = /^\.?50*$/.test(exact.slice(length));
  return isBetween && /[02468]$/.test(lower) ? lower : upper;
}

/** Does what `toExponential` does, likewise. */
export function exponential(number: number, places: number): string {
  const [digits, exponent] = number.toExponential(places).split('e');
  const [exact, power] = number.toExponential(Math.min(100, places + MORE_PLACES)).split('e');
  return `${power === exponent ? evenly(digits, exact, places) : digits}e${exponent}`;
}
