/** Methods of Python's strings, dictionaries and lists that change nothing: others the sandbox of transformers forbids. */
import { MARK } from '../literal.ts';
import { braceFormat } from './format.ts';
import { fail, type Meter } from './limits.ts';
import {
  type Arguments,
  bind,
  type Callable,
  characters,
  type Dict,
  equals,
  finder,
  isPlain,
  itemsOf,
  keyOf,
  lengthOf,
  present,
  repeated,
  Tuple,
  typeName,
  unmarked,
  type Value,
  View,
  wholeOf,
} from './values.ts';

/** What is given for the parameters named, undefined where nothing is. */
type Bound = (Value | undefined)[];

const SPACES =
  '\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000';
const WORD = new RegExp(`[^${SPACES}]+`, 'gu');
const LINE_ENDS = '\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029';
const LINE_END = new RegExp(`\r\n|[${LINE_ENDS}]`, 'g');

/** The method of a value by its name, or undefined where Python has none. */
export function methodOf(value: Value, name: string, meter: Meter): Callable | undefined {
  if (typeof value === 'string') {
    if (name === 'format') return (given) => braceFormat(value, given, meter);
    return Object.hasOwn(STRING, name) ? bound(STRING[name], value, name, meter) : undefined;
  }
  if (value instanceof Map) return Object.hasOwn(DICT, name) ? bound(DICT[name], value, name, meter) : undefined;
  if (!Array.isArray(value) || !Object.hasOwn(LIST, name)) return undefined;
  return bound(LIST[name], value, name, meter);
}

interface Method<T> {
  names: string[];
  call: (self: T, given: Bound, meter: Meter) => Value;
}

function bound<T extends Value>({ names, call }: Method<T>, self: T, name: string, meter: Meter): Callable {
  return (given: Arguments) => {
    if (typeof self === 'string') meter.count(self.length);
    return call(self, bind(given, names, `${name}()`), meter);
  };
}

/** Where a text occurs in another one: from, to. Marks within do not hide it. */
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
  return first.toUpperCase() + value.slice(first.length).toLowerCase();
}

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

/** Index of the first or last occurrence in characters, as Python counts. */
function indexOf(self: string, [wanted, from, to]: Bound, isLast: boolean, meter: Meter): number {
  const all = characters(self, meter);
  const [start, end] = [from ?? 0, to ?? all.length].map((at) => wholeOf(at ?? 0, 'an index'));
  const begin = start < 0 ? Math.max(0, start + all.length) : start;
  const window = all.slice(begin, end).join('');
  const found = firstPlaces(window, textOf(wanted, 'find'), isLast ? -1 : 1).at(-1);
  return found ? begin + characters(window.slice(0, found[0]), meter).length : -1;
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

const plainMethod = (call: (self: string) => Value): Method<string> => ({ names: [], call });
const matches = (pattern: RegExp) => plainMethod((self) => pattern.test(unmarked(self)));
const withArguments = (names: string, call: Method<string>['call']): Method<string> => ({
  names: names.split(' '),
  call,
});
const justify = (pad: (self: string, padding: string) => string) =>
  withArguments('width fillchar', (self, [width, fill], meter) => {
    const missing = wholeOf(width ?? null, 'width') - characters(self, meter).length;
    return pad(self, repeated(textOf(fill ?? ' ', 'a filling'), missing, meter));
  });

const STRING: Record<string, Method<string>> = {
  upper: plainMethod((self) => self.toUpperCase()),
  lower: plainMethod((self) => self.toLowerCase()),
  casefold: plainMethod((self) => self.toLowerCase()),
  title: plainMethod((self) => self.replace(/(?:\p{L}\ufdd0?)+/gu, capitalized)),
  capitalize: plainMethod(capitalized),
  swapcase: plainMethod((self) =>
    self.replace(/\p{L}/gu, (c) => (c === c.toUpperCase() ? c.toLowerCase() : c.toUpperCase())),
  ),
  strip: withArguments('chars', (self, [cut], meter) => strip(self, cut, 'both', meter)),
  lstrip: withArguments('chars', (self, [cut], meter) => strip(self, cut, 'left', meter)),
  rstrip: withArguments('chars', (self, [cut], meter) => strip(self, cut, 'right', meter)),
  split: withArguments('sep maxsplit', (self, [separator, max], meter) => split(self, separator, max, meter)),
  rsplit: withArguments('sep maxsplit', (self, [separator, max], meter) => rsplit(self, separator, max, meter)),
  splitlines: withArguments('keepends', (self, [keeps]) => lines(self, keeps === true)),
  partition: withArguments('sep', (self, [wanted]) => partition(self, wanted, false)),
  rpartition: withArguments('sep', (self, [wanted]) => partition(self, wanted, true)),
  startswith: withArguments('prefix', (self, [wanted]) => startsOrEnds(self, wanted, false)),
  endswith: withArguments('suffix', (self, [wanted]) => startsOrEnds(self, wanted, true)),
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
  count: withArguments('sub', (self, [wanted], meter) => {
    if (wanted === '') return characters(self, meter).length + 1;
    return firstPlaces(self, textOf(wanted, 'count'), -1).length;
  }),
  join: withArguments('iterable', (self, [items], meter) => join(itemsOf(items ?? null, meter), self, meter)),
  ljust: justify((self, padding) => self + padding),
  rjust: justify((self, padding) => padding + self),
  center: withArguments('width fillchar', (self, [width, fill], meter) =>
    center(self, wholeOf(width ?? null, 'width'), textOf(fill ?? ' ', 'center'), meter),
  ),
  zfill: withArguments('width', (self, [width], meter) => {
    const [sign] = /^(?:[-+]\ufdd0?)?/.exec(self)!;
    const missing = wholeOf(width ?? null, 'width') - lengthOf(self, meter);
    return sign + repeated('0', missing, meter) + self.slice(sign.length);
  }),
  isdigit: matches(/^[\p{Nd}\u00b2\u00b3\u00b9\u2070-\u2089]+$/u),
  isdecimal: matches(/^\p{Nd}+$/u),
  isnumeric: matches(/^\p{N}+$/u),
  isalpha: matches(/^\p{L}+$/u),
  isalnum: matches(/^[\p{L}\p{N}]+$/u),
  isspace: matches(new RegExp(`^[${SPACES}]+$`, 'u')),
  isascii: matches(/^[^\u0080-\u{10ffff}]*$/u),
  isupper: plainMethod((self) => self === self.toUpperCase() && self !== self.toLowerCase()),
  islower: plainMethod((self) => self === self.toLowerCase() && self !== self.toUpperCase()),
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
    names: ['key', 'default'],
    call: (self, [key, fallback = null]) => present(self.get(keyOf(key ?? null)), () => fallback),
  },
  keys: { names: [], call: (self, _given, meter) => viewOf('dict_keys', [...self.keys()], meter) },
  values: { names: [], call: (self, _given, meter) => viewOf('dict_values', [...self.values()], meter) },
  items: { names: [], call: (self, _given, meter) => viewOf('dict_items', pairs(self), meter) },
  copy: { names: [], call: (self) => new Map(self) },
};

const LIST: Record<string, Method<Value[]>> = {
  count: {
    names: ['value'],
    call: (self, [value], meter) => self.filter((item) => equals(item, value!, meter)).length,
  },
  index: {
    names: ['value'],
    call: (self, [value], meter) => {
      const found = self.findIndex((item) => equals(item, value!, meter));
      return found < 0 ? fail('index: the value is not in the list') : found;
    },
  },
  copy: { names: [], call: (self) => [...self] },
};
