/**
 * These are methods of Python's strings, dictionaries and lists that change nothing; transformers' sandbox forbids
 * others.
 */
import { MARK } from '../literal.ts';
import { braceFormat } from './format.ts';
import { fail, lacks, type Meter } from './limits.ts';
import {
  type Arguments,
  bind,
  type Callable,
  characters,
  type Dict,
  equals,
  finder,
  isIndexed,
  isPlain,
  itemsOf,
  lengthOf,
  present,
  repeated,
  soughtKey,
  Tuple,
  typeName,
  Undefined,
  unmarked,
  type Value,
  View,
  wholeOf,
} from './values.ts';

/** Values are given for the parameters named, undefined where nothing is. */
type Bound = (Value | undefined)[];

const SPACES =
  '\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000';
const WORD = new RegExp(`[^${SPACES}]+`, 'gu');
const LINE_ENDS = '\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029';
const LINE_END = new RegExp(`\r\n|[${LINE_ENDS}]`, 'g');

/** These digits are no decimal ones, such as those in circles. */
const DIGITS =
  '\u00b2\u00b3\u00b9\u1369-\u1371\u19da\u2070\u2074-\u2079\u2080-\u2089\u2460-\u2468\u2474-\u247c\u2488-\u2490\u24ea\u24f5-\u24fd\u24ff\u2776-\u277e\u2780-\u2788\u278a-\u2792\u{10a40}-\u{10a43}\u{10e60}-\u{10e68}\u{11052}-\u{1105a}\u{1f100}-\u{1f10a}';

/** Finds the method of a value by its name, or undefined where Python has none. */
export function methodOf(value: Value, name: string, meter: Meter): Callable | undefined {
  if (typeof value === 'string') {
    if (name === 'format') return (given) => braceFormat(value, given, meter);
    return Object.hasOwn(STRING, name) ? bound(STRING[name], value, name, meter) : undefined;
  }
  if (value instanceof Map) return Object.hasOwn(DICT, name) ? bound(DICT[name], value, name, meter) : undefined;
  if (!isIndexed(value) || !Object.hasOwn(LIST, name)) return undefined;
  return name === 'copy' && typeName(value) !== 'list' ? undefined : bound(LIST[name], value, name, meter);
}

/** These methods take arguments by their names too. */
const TAKE_NAMES = ['split', 'rsplit', 'splitlines'];

interface Method<T> {
  names: string;
  call: (self: T, given: Bound, meter: Meter) => Value;
}

function bound<T extends Value>({ names, call }: Method<T>, self: T, name: string, meter: Meter): Callable {
  return (given: Arguments) => {
    if (typeof self === 'string') meter.count(self.length);
    if (given.named.size > 0 && !TAKE_NAMES.includes(name)) fail(`${name}() takes no arguments by name`);
    return call(self, bind(given, names, `${name}()`), meter);
  };
}

/** Finds where a text occurs in another one, from and to. Marks within do not hide it. */
function* places(value: string, wanted: string): Generator<[number, number]> {
  const found = finder(wanted, value);
  if (typeof found !== 'string') {
    for (const { 0: whole, index } of value.matchAll(found)) yield [index, index + whole.length];
    return;
  }
  for (let at = value.indexOf(found); at >= 0; at = value.indexOf(found, at + (found.length || 1))) {
    yield [at, at + found.length];
    if (at >= value.length) return;
  }
}

function splitAt(value: string, at: readonly [number, number][], meter: Meter): string[] {
  meter.count(at.length);
  const starts = [0, ...at.map(([, end]) => end)];
  return starts.map((start, i) => value.slice(start, at[i]?.[0]));
}

function split(value: string, separator: Value | undefined, limit: Value | undefined, meter: Meter): string[] {
  const max = limit === undefined ? -1 : wholeOf(limit, 'maxsplit');
  if (separator !== undefined && separator !== null) {
    const wanted = textOf(separator, 'split');
    if (wanted === '') fail('split wants a separator that is not empty');
    return splitAt(value, firstPlaces(value, wanted, max), meter);
  }
  const words: string[] = [];
  for (const { 0: word, index } of value.matchAll(WORD)) {
    if (words.length === max) return [...words, strip(value.slice(index), undefined, 'right', meter)];
    words.push(word);
  }
  return words;
}

function firstPlaces(value: string, wanted: string, max: number): [number, number][] {
  const found: [number, number][] = [];
  for (const place of places(value, wanted)) {
    if (found.length === max) break;
    found.push(place);
  }
  return found;
}

function rsplit(value: string, separator: Value | undefined, limit: Value | undefined, meter: Meter): string[] {
  const max = limit === undefined ? -1 : wholeOf(limit, 'maxsplit');
  if (separator === undefined || separator === null) {
    const words = [...value.matchAll(WORD)];
    if (max < 0 || words.length <= max) return words.map(([word]) => word);
    const kept = max === 0 ? [] : words.slice(-max);
    const before = words[words.length - max - 1];
    const head = value.slice(0, before.index + before[0].length);
    return [head, ...kept.map(([word]) => word)];
  }
  const found = firstPlaces(value, textOf(separator, 'rsplit'), -1);
  return splitAt(value, max < 0 ? found : max === 0 ? [] : found.slice(-max), meter);
}

export function strip(value: string, cut: Value | undefined, sides: 'left' | 'right' | 'both', meter: Meter): string {
  const set = cut === undefined || cut === null ? SPACES : unmarked(textOf(cut, 'strip'));
  meter.count(value.length);
  const whole = isPlain(set) ? value : characters(value, meter);
  const plain = new Set(Array.from(set));
  let [start, end] = [0, whole.length];
  if (sides !== 'right') while (start < end && plain.has(unmarked(whole[start]))) start++;
  if (sides !== 'left') while (end > start && plain.has(unmarked(whole[end - 1]))) end--;
  return typeof whole === 'string' ? whole.slice(start, end) : whole.slice(start, end).join('');
}

export function replace(value: string, old: string, by: string, count: number, meter: Meter): string {
  if (old === '') {
    const all = characters(value, meter);
    const n = count < 0 ? all.length + 1 : Math.min(count, all.length + 1);
    meter.count(value.length + n * by.length);
    return all.map((character, i) => (i < n ? by + character : character)).join('') + (n > all.length ? by : '');
  }
  const parts = splitAt(value, firstPlaces(value, old, count), meter);
  meter.count(value.length + parts.length * by.length);
  return parts.join(by);
}

export function capitalized(value: string): string {
  const [first = ''] = value;
  const upper = first.toUpperCase();
  if (Array.from(upper).length > 1 || /[\u01c4-\u01cc\u01f1-\u01f3\u10d0-\u10ff]/.test(first)) {
    lacks(`the title case of "${first}"`);
  }
  // A sigma at the end of a word is written as one, so all of it is made lower.
  return upper + value.toLowerCase().slice(first.toLowerCase().length);
}

export const isLower = (value: string): boolean =>
  /\p{Lowercase}/u.test(value) && !/[\p{Uppercase}\p{Lt}]/u.test(value);
export const isUpper = (value: string): boolean =>
  /\p{Uppercase}/u.test(value) && !/[\p{Lowercase}\p{Lt}]/u.test(value);

export function lines(value: string, keepsEnds = false): string[] {
  const parts: string[] = [];
  let start = 0;
  for (const { 0: end, index } of value.matchAll(LINE_END)) {
    parts.push(value.slice(start, keepsEnds ? index + end.length : index));
    start = index + end.length;
  }
  if (start < value.length) parts.push(value.slice(start));
  return parts;
}

export function join(items: readonly Value[], separator: string, meter: Meter): string {
  const parts = items.map((item) => textOf(item, 'join'));
  meter.count(parts.reduce((sum, part) => sum + part.length + separator.length, 0));
  return parts.join(separator);
}

export function center(value: string, width: number, fill: string, meter: Meter): string {
  const missing = Math.max(0, width - lengthOf(value, meter));
  const left = Math.floor(missing / 2) + (missing & width & 1);
  return repeated(fill, left, meter) + value + repeated(fill, missing - left, meter);
}

function textOf(value: Value | undefined, what: string): string {
  return typeof value === 'string' ? value : fail(`${what} wants a str, not ${typeName(value ?? null)}`);
}

/** Gives the index of the first or last occurrence in characters, as Python counts. */
function indexOf(self: string, [wanted, from, to]: Bound, isLast: boolean, meter: Meter): number {
  const { part, begin } = within(self, from, to, meter);
  const found = part === undefined ? undefined : firstPlaces(part, textOf(wanted, 'find'), isLast ? -1 : 1).at(-1);
  return found ? begin + characters(part!.slice(0, found[0]), meter).length : -1;
}

/**
 * Gives the part between two indexes, or none where it begins behind its end: there not even the empty text is found.
 */
function within(
  self: string,
  from: Value | undefined,
  to: Value | undefined,
  meter: Meter,
): { part?: string; begin: number } {
  if ((from ?? null) === null && (to ?? null) === null) return { part: self, begin: 0 };
  const all = characters(self, meter);
  const [begin, end] = [from ?? 0, to ?? all.length].map((bound) => {
    const at = wholeOf(bound, 'an index');
    return at < 0 ? Math.max(0, at + all.length) : at;
  });
  return { begin, ...(begin <= Math.min(end, all.length) && { part: all.slice(begin, end).join('') }) };
}

function edge(self: string, [wanted, from, to]: Bound, atEnd: boolean, meter: Meter): boolean {
  const { part } = within(self, from, to, meter);
  return startsOrEnds(part ?? '', wanted, atEnd) && part !== undefined;
}

function startsOrEnds(self: string, wanted: Value | undefined, atEnd: boolean): boolean {
  if (wanted instanceof Tuple) return wanted.some((one) => startsOrEnds(self, one, atEnd));
  const plain = unmarked(textOf(wanted, atEnd ? 'endswith' : 'startswith'));
  // One mark may follow each character.
  const edge = unmarked(atEnd ? self.slice(-2 * plain.length || self.length) : self.slice(0, 2 * plain.length));
  return atEnd ? edge.endsWith(plain) : edge.startsWith(plain);
}

const partition = (self: string, wanted: Value | undefined, isLast: boolean): Tuple => {
  const place = firstPlaces(self, textOf(wanted, 'partition'), isLast ? -1 : 1).at(-1);
  if (!place) return isLast ? Tuple.of<Value>('', '', self) : Tuple.of<Value>(self, '', '');
  return Tuple.of<Value>(self.slice(0, place[0]), self.slice(...place), self.slice(place[1]));
};

const plainMethod = (call: (self: string) => Value): Method<string> => ({ names: '', call });
const isAscii = (self: string): boolean => /^[^\u0080-\u{10ffff}]*$/u.test(unmarked(self));
const matches = (pattern: RegExp) => plainMethod((self) => pattern.test(unmarked(self)));
const withArguments = (names: string, call: Method<string>['call']): Method<string> => ({ names, call });
function fillOf(fill: Value | undefined, meter: Meter): string {
  const character = textOf(fill === undefined ? ' ' : fill, 'a filling');
  return lengthOf(character, meter) === 1 ? character : fail('a filling is one character');
}
const justify = (pad: (self: string, padding: string) => string) =>
  withArguments('width fillchar', (self, [width, fill], meter) => {
    const missing = wholeOf(width ?? null, 'width') - characters(self, meter).length;
    return pad(self, repeated(fillOf(fill, meter), missing, meter));
  });

const STRING: Record<string, Method<string>> = {
  upper: plainMethod((self) => self.toUpperCase()),
  lower: plainMethod((self) => self.toLowerCase()),
  casefold: plainMethod((self) => (isAscii(self) ? self.toLowerCase() : lacks('"casefold" of letters beyond ASCII'))),
  title: plainMethod((self) => self.replace(/(?:\p{Cased}\ufdd0?)+/gu, capitalized)),
  capitalize: plainMethod(capitalized),
  swapcase: plainMethod((self) =>
    self.replace(/\p{Cased}/gu, (c) => {
      if (c === 'Σ') lacks('"swapcase" of Σ');
      return isUpper(c) ? c.toLowerCase() : isLower(c) ? c.toUpperCase() : c;
    }),
  ),
  strip: withArguments('chars', (self, [cut], meter) => strip(self, cut, 'both', meter)),
  lstrip: withArguments('chars', (self, [cut], meter) => strip(self, cut, 'left', meter)),
  rstrip: withArguments('chars', (self, [cut], meter) => strip(self, cut, 'right', meter)),
  split: withArguments('sep maxsplit', (self, [separator, max], meter) => split(self, separator, max, meter)),
  rsplit: withArguments('sep maxsplit', (self, [separator, max], meter) => rsplit(self, separator, max, meter)),
  splitlines: withArguments('keepends', (self, [keeps]) => lines(self, keeps === true)),
  partition: withArguments('sep', (self, [wanted]) => partition(self, wanted, false)),
  rpartition: withArguments('sep', (self, [wanted]) => partition(self, wanted, true)),
  startswith: withArguments('prefix start end', (self, given, meter) => edge(self, given, false, meter)),
  endswith: withArguments('suffix start end', (self, given, meter) => edge(self, given, true, meter)),
  removeprefix: withArguments('prefix', (self, [wanted]) => {
    if (!startsOrEnds(self, wanted, false) || wanted === '') return self;
    return self.slice(firstPlaces(self, textOf(wanted, 'removeprefix'), 1)[0][1]);
  }),
  removesuffix: withArguments('suffix', (self, [wanted]) => {
    if (!startsOrEnds(self, wanted, true) || wanted === '') return self;
    let at = self.length;
    for (let n = unmarked(textOf(wanted, 'removesuffix')).length; n > 0; n--) at -= self[at - 1] === MARK ? 2 : 1;
    return self.slice(0, at);
  }),
  replace: withArguments('old new count', (self, [old, by, count], meter) =>
    replace(self, textOf(old, 'replace'), textOf(by, 'replace'), wholeOf(count ?? -1, 'count'), meter),
  ),
  find: withArguments('sub start end', (self, given, meter) => indexOf(self, given, false, meter)),
  rfind: withArguments('sub start end', (self, given, meter) => indexOf(self, given, true, meter)),
  index: withArguments('sub start end', (self, given, meter) => {
    const found = indexOf(self, given, false, meter);
    return found < 0 ? fail('index: substring not found') : found;
  }),
  rindex: withArguments('sub start end', (self, given, meter) => {
    const found = indexOf(self, given, true, meter);
    return found < 0 ? fail('rindex: substring not found') : found;
  }),
  count: withArguments('sub start end', (self, [wanted, from, to], meter) => {
    const { part } = within(self, from, to, meter);
    if (part === undefined) return 0;
    if (wanted === '') return characters(part, meter).length + 1;
    return firstPlaces(part, textOf(wanted, 'count'), -1).length;
  }),
  join: withArguments('iterable', (self, [items], meter) => join(itemsOf(items ?? null, meter), self, meter)),
  ljust: justify((self, padding) => self + padding),
  rjust: justify((self, padding) => padding + self),
  center: withArguments('width fillchar', (self, [width, fill], meter) =>
    center(self, wholeOf(width ?? null, 'width'), fillOf(fill, meter), meter),
  ),
  zfill: withArguments('width', (self, [width], meter) => {
    const [sign] = /^(?:[-+]\ufdd0?)?/.exec(self)!;
    const missing = wholeOf(width ?? null, 'width') - lengthOf(self, meter);
    return sign + repeated('0', missing, meter) + self.slice(sign.length);
  }),
  isdigit: matches(new RegExp(`^[\\p{Nd}${DIGITS}]+$`, 'u')),
  isdecimal: matches(/^\p{Nd}+$/u),
  isnumeric: plainMethod((self) =>
    /\p{Ideographic}/u.test(self) ? lacks('"isnumeric" of ideographs') : /^\p{N}+$/u.test(unmarked(self)),
  ),
  isalpha: matches(/^\p{L}+$/u),
  isalnum: matches(/^[\p{L}\p{N}]+$/u),
  isspace: matches(new RegExp(`^[${SPACES}]+$`, 'u')),
  isascii: plainMethod(isAscii),
  isupper: plainMethod(isUpper),
  islower: plainMethod(isLower),
};

function viewOf(kind: string, items: Value[], meter: Meter): View {
  meter.count(items.length);
  const view = View.from<Value>(items) as View;
  view.kind = kind;
  return view;
}

const pairs = (self: Dict): Value[] => Array.from(self, ([key, value]) => Tuple.of<Value>(key, value) as Tuple);

const DICT: Record<string, Method<Dict>> = {
  get: {
    names: 'key! default',
    call: (self, [key, fallback = null]) => present(self.get(soughtKey(key!)), () => fallback),
  },
  keys: { names: '', call: (self, _given, meter) => viewOf('dict_keys', [...self.keys()], meter) },
  values: { names: '', call: (self, _given, meter) => viewOf('dict_values', [...self.values()], meter) },
  items: { names: '', call: (self, _given, meter) => viewOf('dict_items', pairs(self), meter) },
  copy: { names: '', call: (self) => new Map(self) },
};

const LIST: Record<string, Method<Value[]>> = {
  count: {
    names: 'value!',
    call: (self, [value], meter) => self.filter((item) => equals(item, value!, meter)).length,
  },
  index: {
    names: 'value!',
    call: (self, [value], meter) => {
      const found = self.findIndex((item) => equals(item, value!, meter));
      return found < 0 ? fail('index: the value is not in the list') : found;
    },
  },
  copy: { names: '', call: (self) => [...self] },
};

const OF_NUMBERS =
  'as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag numerator real to_bytes';
/** Python's types have these methods, which are lacking here. */
const LACKING: Record<string, string[]> = {
  str: 'encode expandtabs format_map isidentifier isprintable istitle maketrans translate'.split(' '),
  dict: 'clear fromkeys pop popitem setdefault update'.split(' '),
  list: 'append clear extend insert pop remove reverse sort'.split(' '),
  range: ['start', 'stop', 'step'],
  int: OF_NUMBERS.split(' '),
  bool: OF_NUMBERS.split(' '),
  float: 'as_integer_ratio conjugate fromhex hex imag is_integer real'.split(' '),
  dict_keys: ['isdisjoint', 'mapping'],
  dict_values: ['mapping'],
  dict_items: ['isdisjoint', 'mapping'],
};

/** Gives undefined for an attribute that a value has not, and refuses one that it has in Python alone. */
export function unknownAttribute(value: Value, name: string): Undefined {
  const type = typeName(value);
  const isLacking = typeof value === 'function' || LACKING[type]?.includes(name);
  return isLacking ? lacks(`the attribute "${name}" of a ${type}`) : new Undefined(name);
}
