/** Numbers of texts, and rounded ones. */
import { fail, lacks } from './limits.ts';
import { Float, numberOf, typeName, unmarked, type Value, whole } from './values.ts';

export function toWhole(value: Value, fallback: number, base: number): number {
  const number = numberOf(value);
  if (number !== undefined) return Number.isFinite(number) ? whole(Math.trunc(number)) : fallback;
  if (typeof value !== 'string') return fallback;
  const digits = unmarked(value).trim().replaceAll('_', '');
  if (base !== 10) return lacks('the filter "int" with a base');
  if (/^[-+]?\d+$/.test(digits)) return whole(Number(digits));
  return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(digits) ? whole(Math.trunc(Number(digits))) : fallback;
}

export function toFloat(value: Value, fallback: number): Float {
  const number = numberOf(value);
  if (number !== undefined) return new Float(number);
  const digits = typeof value === 'string' ? unmarked(value).trim() : '';
  return new Float(/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(digits) ? Number(digits) : fallback);
}

export function round(value: Value, places: number, method: string): Value {
  const number = numberOf(value);
  if (number === undefined) return fail(`round wants a number, not ${typeName(value)}`);
  if (Math.abs(places) > 15) lacks('the filter "round" with more than 15 places');
  const scale = 10 ** places;
  if (method === 'ceil') return new Float(Math.ceil(number * scale) / scale);
  if (method === 'floor') return new Float(Math.floor(number * scale) / scale);
  if (!(value instanceof Float) && places >= 0) return number;
  const scaled = number * scale;
  const nearest = Math.round(scaled);
  // Python takes the even one of two that are equally near.
  const even = Math.abs(scaled - Math.trunc(scaled)) === 0.5 ? 2 * Math.round(scaled / 2) : nearest;
  const rounded = places > 0 ? Number(number.toFixed(places)) : even / scale;
  return value instanceof Float ? new Float(rounded) : rounded;
}
