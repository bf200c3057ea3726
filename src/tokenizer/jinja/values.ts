/** Values of a chat template are those of Python, as far as templates can tell. */
import { MARK } from '../literal.ts';
import { fail, lacks, type Meter } from './limits.ts';

/** Whole numbers are numbers, lists are arrays, dictionaries are maps, None is null. */
export type Value =
  | string
  | number
  | boolean
  | null
  | Float
  | Undefined
  | Markup
  | Value[]
  | Dict
  | Namespace
  | Callable;
export type Dict = Map<Value, Value>;

export class Float {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}
export class Undefined {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}
/**
 * `safe` or `escape` made this text: what is put to it is escaped, which is lacking here, so it can only be written.
 */
export class Markup {
  readonly value: string;
  constructor(value: string) {
    this.value = value;
  }
}
export class Tuple extends Array<Value> {}
/** `groupby` gives a tuple whose items have names. */
export class Group extends Tuple {}
/** `map`, `select` and their like give this: it is read once, has no length and counts as true. */
export class Generator extends Array<Value> {}
/** `items()`, `keys()` and `values()` give this, which is no list, so it has no item with a number. */
export class View extends Array<Value> {
  kind = '';
}
export class Range extends Array<Value> {
  bounds: number[] = [];
}
/** Tells whether it is a list, tuple or range, whose items have numbers. */
export const isIndexed = (value: Value): value is Value[] =>
  Array.isArray(value) && !(value instanceof Generator) && !(value instanceof View);
/** `namespace()` and `loop` are such. */
export class Namespace {
  readonly entries = new Map<string, Value>();
  constructor(entries: Iterable<readonly [string, Value]> = []) {
    for (const [name, value] of entries) this.set(name, value);
  }

  set(name: string, value: Value): void {
    if (name.startsWith('_')) fail(`"${name}" begins with _, so it cannot be set`);
    this.entries.set(name, value);
  }
}
export interface Arguments {
  positional: Value[];
  named: Map<string, Value>;
}
export type Callable = (given: Arguments) => Value;

/** Filters and tests need this of the interpreter. */
export interface Context {
  meter: Meter;
  /** Gives an item, or attribute, of a value. */
  item(value: Value, name: string | number): Value;
  attribute(value: Value, name: string): Value;
}

/** Takes out the marks that keep messages from posing as control tokens. */
export const unmarked = (text: string): string => (text.includes(MARK) ? text.replaceAll(MARK, '') : text);

/** A regular expression may be made of so many characters. */
const MAX_SEARCHED = 10_000;
const PATTERN_CHARACTER = /[\\^$.*+?()[\]{}|]/g;

/** Makes something for `split` and its like that finds `text` in another one, also where that one has marks. */
export function finder(text: string, within: string): string | RegExp {
  if (!within.includes(MARK)) return unmarked(text);
  if (text.length > MAX_SEARCHED) lacks(`a search for ${text.length} characters in a text with control tokens`);
  const characters = Array.from(unmarked(text), (character) => character.replace(PATTERN_CHARACTER, '\\$&'));
  return new RegExp(characters.join(`${MARK}?`), 'gu');
}

/** Cuts a text into code points, each with the mark behind it. */
export function characters(text: string, meter: Meter): string[] {
  meter.count(4 * text.length);
  return text.match(/.\ufdd0?/gsu) ?? [];
}

const NEEDS_CHARACTERS = /[\ud800-\udfff\ufdd0]/;
export const isPlain = (text: string): boolean => !NEEDS_CHARACTERS.test(text);

export function typeName(value: Value): string {
  if (value === null) return 'NoneType';
  if (typeof value === 'string') return 'str';
  if (typeof value === 'number') return 'int';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'function') return 'function';
  if (value instanceof Float) return 'float';
  if (value instanceof Undefined) return 'Undefined';
  if (value instanceof Markup) return 'Markup';
  if (value instanceof Range) return 'range';
  if (value instanceof Tuple) return 'tuple';
  if (value instanceof Generator) return 'generator';
  if (value instanceof View) return value.kind;
  if (value instanceof Namespace) return 'Namespace';
  return Array.isArray(value) ? 'list' : 'dict';
}

export function isTrue(value: Value): boolean {
  if (value instanceof Undefined) return false;
  if (value instanceof Float) return value.value !== 0;
  if (Array.isArray(value)) return value.length > 0 || value instanceof Generator;
  if (value instanceof Map) return value.size > 0;
  return Boolean(value);
}

/** Gives the number that a value is to Python, in which True is 1. */
export function numberOf(value: Value): number | undefined {
  if (typeof value === 'number') return value;
  if (typeof value === 'boolean') return Number(value);
  return value instanceof Float ? value.value : undefined;
}

/** Gives a whole number that must be there. */
export function wholeOf(value: Value, what: string): number {
  if (typeof value === 'number' || typeof value === 'boolean') return Number(value);
  return fail(`${what} is of type ${typeName(value)}; wanted a whole number`);
}

/** Checks the result of a calculation with whole numbers, of which Python has longer ones. */
export function whole(value: number): number {
  if (!Number.isSafeInteger(value)) lacks('a whole number beyond 2^53');
  return value === 0 ? 0 : value;
}

/** Checks the result of a calculation with floats, of which Python has infinite ones and others that are no number. */
export function real(value: number): Float {
  if (!Number.isFinite(value)) lacks('a number that is not finite');
  return new Float(value);
}

/** Gives a value, which may be None, or what is there instead of none at all. */
export const present = (value: Value | undefined, otherwise: () => Value): Value =>
  value === undefined ? otherwise() : value;

/** Gives what a loop goes over. */
export function itemsOf(value: Value, meter: Meter): readonly Value[] {
  if (typeof value === 'string') return characters(value, meter);
  if (value instanceof Generator) return value.splice(0);
  if (Array.isArray(value)) return value;
  if (value instanceof Map) {
    meter.count(value.size);
    return [...value.keys()];
  }
  return value instanceof Undefined ? [] : fail(`${typeName(value)} is not iterable`);
}

export function lengthOf(value: Value, meter: Meter): number {
  if (typeof value === 'string') return isPlain(value) ? value.length : characters(value, meter).length;
  if (Array.isArray(value) && !(value instanceof Generator)) return value.length;
  if (value instanceof Map) return value.size;
  return value instanceof Undefined ? 0 : fail(`a value of type ${typeName(value)} has no length`);
}

export function equals(a: Value, b: Value, meter: Meter): boolean {
  meter.step();
  if (typeof a === 'string' && typeof b === 'string') {
    meter.count(Math.min(a.length, b.length));
    return a === b || unmarked(a) === unmarked(b);
  }
  const number = numberOf(a);
  if (number !== undefined) return number === numberOf(b);
  if (a instanceof Undefined) return b instanceof Undefined;
  if (Array.isArray(a) && Array.isArray(b) && typeName(a) === typeName(b) && !(a instanceof Generator)) {
    if (a instanceof View) lacks(`a comparison of ${a.kind}`);
    return a.length === b.length && a.every((item, i) => equals(item, b[i], meter));
  }
  if (a instanceof Map && b instanceof Map) {
    if (a.size !== b.size) return false;
    for (const [key, value] of a) if (!b.has(key) || !equals(value, b.get(key)!, meter)) return false;
    return true;
  }
  return a === b;
}

export const isListOrTuple = (value: Value): value is Value[] => isIndexed(value) && !(value instanceof Range);

/** Compares by code points, where JavaScript compares the units of UTF-16. */
function textOrder(a: string, b: string): number {
  const ofSurrogates = (unit: number) => (unit >= 0xe000 ? unit - 0x2000 : unit >= 0xd800 ? unit + 0x2000 : unit);
  if (a === b) return 0;
  if (isPlain(a) && isPlain(b)) return a < b ? -1 : 1;
  const length = Math.min(a.length, b.length);
  let at = 0;
  while (at < length && a[at] === b[at]) at++;
  if (at === length) return a.length - b.length;
  return ofSurrogates(a.charCodeAt(at)) - ofSurrogates(b.charCodeAt(at));
}

/** Gives a number below 0 where `a` comes first. @throws TemplateError where Python has no order for the two. */
export function order(a: Value, b: Value, meter: Meter): number {
  meter.step();
  if (typeof a === 'string' && typeof b === 'string') {
    meter.count(Math.min(a.length, b.length));
    return textOrder(unmarked(a), unmarked(b));
  }
  const [left, right] = [numberOf(a), numberOf(b)];
  if (left !== undefined && right !== undefined) return left < right ? -1 : Number(left > right);
  if (a instanceof View && b instanceof View) lacks(`a comparison of ${a.kind}`);
  if (isListOrTuple(a) && isListOrTuple(b) && typeName(a) === typeName(b)) {
    for (let i = 0; i < Math.min(a.length, b.length); i++) {
      if (!equals(a[i], b[i], meter)) return order(a[i], b[i], meter);
    }
    return a.length - b.length;
  }
  return fail(`there is no order between ${typeName(a)} and ${typeName(b)}`);
}

export function contains(container: Value, item: Value, meter: Meter): boolean {
  if (typeof container === 'string') {
    if (typeof item !== 'string') return fail(`'in <string>' wants a str on its left, not ${typeName(item)}`);
    meter.count(container.length);
    return unmarked(container).includes(unmarked(item));
  }
  if (container instanceof Map) return container.has(soughtKey(item));
  if (container instanceof View && container.kind === 'dict_keys') soughtKey(item); // it must be one that can be a key
  return itemsOf(container, meter).some((other) => equals(other, item, meter));
}

/** This is the key of no dictionary. */
const NO_KEY = new Undefined('a key');

export const isUnhashable = (value: Value): boolean =>
  ['list', 'dict', 'dict_keys', 'dict_items'].includes(typeName(value));

/** Gives the key that a dictionary would have a value under. */
export function soughtKey(value: Value): Value {
  if (typeof value === 'string') return unmarked(value);
  if (isUnhashable(value)) fail(`a ${typeName(value)} cannot be a key`);
  return value === null ? null : (numberOf(value) ?? NO_KEY);
}

/** Makes a value the key of a dictionary. */
export function keyOf(value: Value): Value {
  const key = soughtKey(value);
  if (key === NO_KEY || (key !== value && typeof value !== 'string')) lacks(`a key of type ${typeName(value)}`);
  return key;
}

/** Writes a value as `{{ … }}` does. */
export function text(value: Value, meter: Meter): string {
  if (typeof value === 'string') return value;
  if (value instanceof Undefined) return '';
  if (value instanceof Markup) return value.value;
  return represented(value, meter);
}

/** Writes a value as Python's `repr` does. */
export function represented(value: Value, meter: Meter): string {
  meter.step();
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number') return String(value);
  if (value instanceof Float) return floatText(value.value);
  if (typeof value === 'string') return quoted(value, meter);
  const list = (items: readonly Value[]) => {
    const joined = items.map((item) => represented(item, meter)).join(', ');
    meter.count(joined.length);
    return joined;
  };
  if (value instanceof Undefined) return 'Undefined';
  if (value instanceof Tuple) return value.length === 1 ? `(${list(value)},)` : `(${list([...value])})`;
  if (value instanceof Range) return `range(${value.bounds.join(', ')})`;
  if (value instanceof View) return `${value.kind}([${list([...value])}])`;
  if (value instanceof Map) {
    const entries = Array.from(value, ([key, item]) => `${represented(key, meter)}: ${represented(item, meter)}`);
    return `{${entries.join(', ')}}`;
  }
  if (Array.isArray(value) && !(value instanceof Generator)) return `[${list(value)}]`;
  return lacks(`the text of a ${typeName(value)}`);
}

export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  const [digits, exponent] = value.toExponential().split('e');
  const power = Number(exponent);
  if (value !== 0 && (power < -4 || power >= 16)) {
    return `${digits}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
  }
  const decimal = Object.is(value, -0) ? '-0' : String(value);
  return decimal.includes('.') ? decimal : `${decimal}.0`;
}

const ESCAPED = /[\\\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;
const NAMED: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\' };

function quoted(value: string, meter: Meter): string {
  meter.count(value.length);
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'";
  const escaped = value.replace(ESCAPED, (character) => {
    if (character === MARK) return character;
    const code = character.codePointAt(0)!;
    const hex = code.toString(16);
    if (NAMED[character]) return NAMED[character];
    if (code < 0x100) return `\\x${hex.padStart(2, '0')}`;
    return code < 0x10000 ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
  });
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote;
}

/**
 * Gives the arguments for the parameters named, in their order, undefined where one is not given.
 * @param signature Names have spaces between; a `!` follows those that must be given.
 */
export function bind(given: Arguments, signature: string, what: string): (Value | undefined)[] {
  const names = (signature.match(/\w+/g) ?? []) as string[];
  if (given.positional.length > names.length) {
    fail(`${what} takes at most ${names.length} arguments, not ${given.positional.length}`);
  }
  const bound: (Value | undefined)[] = names.map((_, i) => given.positional[i]);
  for (const [name, value] of given.named) {
    const i = names.indexOf(name);
    if (i < 0 || bound[i] !== undefined) fail(`${what} takes no argument "${name}"`);
    bound[i] = value;
  }
  const isMissing = (name: string, i: number) => name.endsWith('!') && bound[i] === undefined;
  const missing = signature.split(' ').find(isMissing);
  if (missing !== undefined) fail(`${what} wants "${missing.slice(0, -1)}"`);
  return bound;
}

/** Makes a text of `count` copies. */
export function repeated(piece: string, count: number, meter: Meter): string {
  const times = Math.max(0, count);
  meter.count(piece.length * times);
  return piece.repeat(times);
}

/** Makes JSON a value of a template. */
export function fromJson(json: unknown): Value {
  if (Array.isArray(json)) return json.map(fromJson);
  if (typeof json === 'number') return Number.isSafeInteger(json) ? json : new Float(json);
  if (typeof json === 'object' && json !== null) {
    const entries = Object.entries(json).filter(([, value]) => value !== undefined);
    return new Map<Value, Value>(entries.map(([key, value]) => [key, fromJson(value)]));
  }
  return json as Value;
}
