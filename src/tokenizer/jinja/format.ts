/** Python makes texts of values by patterns: `%`, `str.format`, JSON and dates. */
import { fail, lacks, type Meter } from './limits.ts';
import { exponential, fixed } from './numbers.ts';
import {
  type Arguments,
  characters,
  Float,
  floatText,
  keyOf,
  lengthOf,
  Namespace,
  numberOf,
  order,
  repeated,
  represented,
  Tuple,
  text,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

interface Spec {
  fill: string;
  align: string;
  sign: string;
  isAlternate: boolean;
  width: number;
  grouping: string;
  precision?: number;
  kind: string;
}

const PERCENT = /%(?:\((?<key>[^()]*)\))?(?<flags>[-+ 0#]*)(?<width>\*|\d*)(?:\.(?<precision>\*|\d*))?(?<kind>.)?/gs;

/** Computes `pattern % values`. */
export function percentFormat(pattern: string, values: Value, meter: Meter): string {
  const list = values instanceof Tuple ? values : [values];
  let used = 0;
  const next = () => (used < list.length ? list[used++] : fail('not enough values for the % pattern'));
  const result = pattern.replace(PERCENT, (...match) => {
    const { key, flags, width, precision, kind } = match.at(-1) as Record<string, string | undefined>;
    if (kind === '%') return match[0] === '%%' ? '%' : fail('a % pattern has a % between its signs');
    if (kind === '(') lacks('a parenthesis in a key of a % pattern');
    if (width === '*' || precision === '*') lacks('a width of "*" in a % pattern');
    const value = key === undefined ? next() : entryOf(values, key);
    const isCharacter = kind === 'c' && typeof value === 'string' && lengthOf(value, meter) === 1;
    const isText = isCharacter || 'sra'.includes(kind ?? 'x');
    if (!isText && numberOf(value) === undefined) fail(`%${kind} wants a number, not ${typeName(value)}`);
    const isZero = flags!.includes('0') && !flags!.includes('-') && !isText;
    const spec: Spec = {
      fill: isZero ? '0' : ' ',
      align: flags!.includes('-') ? '<' : isZero ? '=' : '>',
      sign: flags!.includes('+') ? '+' : flags!.includes(' ') ? ' ' : '',
      isAlternate: flags!.includes('#'),
      width: Number(width),
      grouping: '',
      ...(precision !== undefined && { precision: Number(precision) }),
      kind: kind === 'i' || kind === 'u' ? 'd' : (kind ?? ''),
    };
    if (kind === 'c' && !isCharacter && numberOf(value)! < 0) fail('a character has no number below 0');
    if (kind === 'r') return formatted(represented(value, meter), { ...spec, kind: 's' }, meter);
    if (kind === 's' || isCharacter) return formatted(text(value, meter), { ...spec, kind: 's' }, meter);
    if (spec.kind === 'd') return formatted(Math.trunc(numberOf(value)!), spec, meter);
    return 'eEfFgGxXoc'.includes(spec.kind || ' ') ? formatted(value, spec, meter) : lacks(`%${kind} in a pattern`);
  });
  const isContainer = values instanceof Map || (Array.isArray(values) && !(values instanceof Tuple));
  if (used < list.length && !isContainer) {
    fail('not all values are used by the % pattern');
  }
  return result;
}

function entryOf(values: Value, key: string): Value {
  if (values instanceof Map && values.has(key)) return values.get(key)!;
  return fail(`the % pattern wants an entry "${key}"`);
}

const FIELD = /\{\{|\}\}|\{(?<path>[^{}:!]*)(?:!(?<conversion>[rsa]))?(?::(?<spec>[^{}]*))?\}|[{}]/g;
const SPEC =
  /^(?:(?<fill>.)?(?<align>[<>=^]))?(?<sign>[-+ ])?(?<alternate>#)?(?<zero>0)?(?<width>\d*)(?<grouping>[,_])?(?:\.(?<precision>\d+))?(?<kind>[a-zA-Z%])?$/su;

/** Computes `pattern.format(…)`. */
export function braceFormat(pattern: string, given: Arguments, meter: Meter): string {
  let used = 0;
  return pattern.replace(FIELD, (...match) => {
    const [whole] = match as string[];
    if (whole === '{{' || whole === '}}') return whole[0];
    const { path, conversion, spec = '' } = match.at(-1) as Record<string, string | undefined>;
    if (path === undefined && /\{[^{}]*:[^{}]*\{/.test(pattern)) lacks('a pattern within a pattern of format');
    if (path === undefined) return fail(`a single ${whole} in a pattern of format`);
    const [first] = /^[^.[]*/.exec(path)!;
    if (first === '' ? used < 0 : used > 0 && /^\d+$/.test(first))
      fail('format counts its values, or the pattern does');
    if (/^\d+$/.test(first)) used = -1;
    const index = first === '' ? used++ : Number(first);
    let value = Number.isInteger(index) ? given.positional[index] : given.named.get(first);
    for (const [, name, item] of path.slice(first.length).matchAll(/\.([^.[]+)|\[([^\]]*)\]/g)) {
      if (value instanceof Map && item !== undefined) value = value.get(item);
      else if (Array.isArray(value) && item !== undefined) value = value[Number(item)];
      else if (value instanceof Namespace && name !== undefined) value = value.entries.get(name);
      else value = undefined;
      if (value === undefined) lacks(`{${path}} with that value in a pattern of format`);
    }
    if (value === undefined) return fail(`format has no value for {${path}}`);
    if (conversion === 'a') lacks('!a in a pattern of format');
    if (conversion === 'r') value = represented(value, meter);
    if (conversion === 's') value = text(value, meter);
    return spec === '' ? text(value, meter) : formatted(value, readSpec(spec, value), meter);
  });
}

function readSpec(spec: string, value: Value): Spec {
  const groups = SPEC.exec(spec)?.groups;
  if (!groups) return fail(`format does not know the pattern "${spec}"`);
  const { fill, align, sign = '', alternate, zero, width, grouping = '', precision, kind = '' } = groups;
  const isNumber = numberOf(value) !== undefined;
  if (isNumber ? kind === 's' : typeof value !== 'string' || sign || alternate || grouping || align === '=') {
    fail(`the pattern "${spec}" of format does not go with a ${typeName(value)}`);
  }
  return {
    fill: fill ?? (zero ? '0' : ' '),
    align: align ?? (zero && isNumber ? '=' : isNumber ? '>' : '<'),
    sign: sign === '-' ? '' : sign,
    isAlternate: alternate !== undefined,
    width: Number(width),
    grouping,
    ...(precision !== undefined && { precision: Number(precision) }),
    kind,
  };
}

function formatted(value: Value, spec: Spec, meter: Meter): string {
  const { fill, align, sign, width, precision, kind } = spec;
  const number = numberOf(value);
  let digits: string;
  let prefix = '';
  if (number === undefined || kind === 's') {
    if (kind !== '' && kind !== 's') fail(`the pattern "${kind}" wants a number, not ${typeName(value)}`);
    digits = text(value, meter);
    if (precision !== undefined) digits = characters(digits, meter).slice(0, precision).join('');
  } else {
    prefix = number < 0 || Object.is(number, -0) ? '-' : sign;
    digits = numeral(Math.abs(number), value instanceof Float, spec);
  }
  meter.count(digits.length + 16);
  const missing = width - lengthOf(digits, meter) - prefix.length;
  if (missing <= 0) return prefix + digits;
  const padding = repeated(fill, missing, meter);
  if (align === '<') return prefix + digits + padding;
  if (align === '=') return prefix + padding + digits;
  if (align !== '^') return padding + prefix + digits;
  const before = Math.floor(missing / 2);
  return padding.slice(0, before) + prefix + digits + padding.slice(before);
}

function numeral(number: number, isFloat: boolean, spec: Spec): string {
  const { kind, grouping, isAlternate, precision = 6 } = spec;
  if (precision > 100) lacks('a precision beyond 100');
  const group = (digits: string) =>
    grouping === '' ? digits : digits.replace(/\d(?=(?:\d{3})+(?!\d))(?<!\..*)/g, `$&${grouping}`);
  const lower = kind.toLowerCase();
  if (!Number.isFinite(number)) return floatText(number);
  if (isAlternate || (isFloat && 'dxXobc'.includes(kind || ' ')))
    return lacks(`the pattern "${kind}" with that number`);
  if (kind === '' && spec.precision !== undefined) lacks('a precision without a type');
  if (kind === '') return group(isFloat ? floatText(number) : String(number));
  if (kind === 'd') return group(String(number));
  if (lower === 'f') return group(fixed(number, precision));
  if (kind === '%') return `${fixed(number * 100, precision)}%`;
  if (lower === 'x') return kind === 'X' ? number.toString(16).toUpperCase() : number.toString(16);
  if (kind === 'o') return number.toString(8);
  if (kind === 'b') return number.toString(2);
  if (kind === 'c')
    return number <= 0x10ffff ? String.fromCodePoint(number) : fail('a character is one up to 0x10ffff');
  if (lower === 'e') {
    const text = exponential(number, precision).replace(/e([+-])(\d)$/, 'e$10$2');
    return kind === 'E' ? text.toUpperCase() : text;
  }
  return lacks(`the pattern "${kind}" of a number`);
}

export interface JsonOptions {
  indent?: number | string;
  separators?: [string, string];
  sortKeys: boolean;
  escapesAll: boolean;
}

/** Writes what `json.dumps` of Python writes. */
export function json(value: Value, options: JsonOptions, meter: Meter, depth = 0): string {
  meter.step();
  const { indent, escapesAll } = options;
  const [comma, colon] = options.separators ?? [indent === undefined ? ', ' : ',', ': '];
  const padding = (levels: number) => {
    if (indent === undefined) return '';
    return `\n${typeof indent === 'string' ? repeated(indent, levels, meter) : repeated(' ', indent * levels, meter)}`;
  };
  const inside = (open: string, parts: string[], close: string) => {
    if (parts.length === 0) return open + close;
    const joined = parts.map((part) => padding(depth + 1) + part).join(comma);
    meter.count(joined.length);
    return open + joined + padding(depth) + close;
  };
  const string = (raw: string) => {
    meter.count(raw.length);
    const quoted = JSON.stringify(raw);
    return escapesAll ? quoted.replace(/[\u0080-\ufdcf\ufdd1-\uffff]/g, unicodeEscape) : quoted;
  };
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string') return string(value);
  if (value instanceof Float) {
    if (Number.isFinite(value.value)) return floatText(value.value);
    return Number.isNaN(value.value) ? 'NaN' : value.value > 0 ? 'Infinity' : '-Infinity';
  }
  if (value instanceof Map) {
    const entries = [...value];
    if (options.sortKeys) entries.sort(([a], [b]) => order(a, b, meter));
    const key = (name: Value) => string(typeof name === 'string' ? name : json(name, options, meter));
    return inside(
      '{',
      entries.map(([name, item]) => key(keyOf(name)) + colon + json(item, options, meter, depth + 1)),
      '}',
    );
  }
  if (Array.isArray(value) && (value instanceof Tuple || value.constructor === Array)) {
    return inside(
      '[',
      Array.from(value, (item) => json(item, options, meter, depth + 1)),
      ']',
    );
  }
  const name = value instanceof Undefined ? `'${value.name}' is undefined and` : `a ${typeName(value)}`;
  return fail(`${name} cannot be written as JSON`);
}

const unicodeEscape = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const DAY = 86_400_000;

/** Writes what `strftime` of C writes in its own locale, in local time. */
export function dateText(pattern: string, now: Date): string {
  const [year, month, date, day] = [now.getFullYear(), now.getMonth(), now.getDate(), now.getDay()];
  const yearDay = Math.round((Date.UTC(year, month, date) - Date.UTC(year, 0, 1)) / DAY);
  const hour12 = now.getHours() % 12 || 12;
  // The Thursday of a week lies in the year that the week is counted to.
  const thursday = new Date(Date.UTC(year, month, date - ((day + 6) % 7) + 3));
  const isoWeek = Math.floor((thursday.getTime() - Date.UTC(thursday.getUTCFullYear(), 0, 1)) / DAY / 7) + 1;
  const two = (value: number) => String(value).padStart(2, '0');
  const again = (part: string) => dateText(part, now);
  const parts: Record<string, () => string> = {
    a: () => DAYS[day].slice(0, 3),
    A: () => DAYS[day],
    b: () => MONTHS[month].slice(0, 3),
    h: () => MONTHS[month].slice(0, 3),
    B: () => MONTHS[month],
    c: () => again('%a %b %e %H:%M:%S %Y'),
    C: () => two(Math.floor(year / 100)),
    d: () => two(date),
    D: () => again('%m/%d/%y'),
    e: () => String(date).padStart(2),
    f: () => String(now.getMilliseconds() * 1000).padStart(6, '0'),
    F: () => again('%Y-%m-%d'),
    g: () => two(thursday.getUTCFullYear() % 100),
    G: () => String(thursday.getUTCFullYear()),
    H: () => two(now.getHours()),
    I: () => two(hour12),
    j: () => String(yearDay + 1).padStart(3, '0'),
    k: () => String(now.getHours()).padStart(2),
    l: () => String(hour12).padStart(2),
    m: () => two(month + 1),
    M: () => two(now.getMinutes()),
    n: () => '\n',
    p: () => (now.getHours() < 12 ? 'AM' : 'PM'),
    P: () => (now.getHours() < 12 ? 'am' : 'pm'),
    r: () => again('%I:%M:%S %p'),
    R: () => again('%H:%M'),
    s: () => String(Math.floor(now.getTime() / 1000)),
    S: () => two(now.getSeconds()),
    t: () => '\t',
    T: () => again('%H:%M:%S'),
    u: () => String(day || 7),
    U: () => two(Math.floor((yearDay + 7 - day) / 7)),
    V: () => two(isoWeek),
    w: () => String(day),
    W: () => two(Math.floor((yearDay + 7 - ((day + 6) % 7)) / 7)),
    x: () => again('%m/%d/%y'),
    X: () => again('%H:%M:%S'),
    y: () => two(year % 100),
    Y: () => String(year),
    // No zone is given, as the time of transformers has none.
    z: () => '',
    Z: () => '',
    '%': () => '%',
  };
  return pattern.replace(/%([-_0^#]?)(.)/gs, (_whole, flag: string, letter: string) => {
    const part = Object.hasOwn(parts, letter) ? parts[letter]() : lacks(`%${letter} in a date`);
    if (flag === '-') return part.replace(/^[0 ]+(?=\d)/, '');
    if (flag === '_') return part.replace(/^0+(?=\d)/, (zeros) => ' '.repeat(zeros.length));
    if (flag === '0') return part.replace(/^ +(?=\d)/, (spaces) => '0'.repeat(spaces.length));
    return flag === '^' ? part.toUpperCase() : part;
  });
}
