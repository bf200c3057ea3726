/** Templates of chat models may use these filters of Jinja; those that write HTML are not among them. */
import { json, percentFormat } from './format.ts';
import { fail, lacks } from './limits.ts';
import { capitalized, center, join, lines, replace, strip } from './methods.ts';
import { round, toFloat, toWhole } from './numbers.ts';
import { binary } from './operators.ts';
import { applyTest } from './tests.ts';
import {
  type Arguments,
  bind,
  type Context,
  equals,
  Float,
  Generator,
  Group,
  isTrue,
  itemsOf,
  keyOf,
  lengthOf,
  Markup,
  numberOf,
  order,
  present,
  repeated,
  Tuple,
  text,
  typeName,
  Undefined,
  type Value,
  wholeOf,
} from './values.ts';

type Given = (Value | undefined)[];
type Filter = [names: string, apply: (value: Value, given: Given, context: Context) => Value];

export function applyFilter(name: string, value: Value, given: Arguments, context: Context): Value {
  context.meter.step();
  if (typeof value === 'string') context.meter.count(value.length);
  if (Object.hasOwn(OF_LISTS, name)) return OF_LISTS[name](value, given, context);
  if (!Object.hasOwn(FILTERS, name)) lacks(`the filter "${name}"`);
  const [names, apply] = FILTERS[name];
  return apply(value, bind(given, names, `the filter "${name}"`), context);
}

function listOf(value: Value, { meter }: Context): Value[] {
  const items = itemsOf(value, meter);
  meter.count(items.length);
  return [...items];
}

/** What is nothing to Python need be no list for `map` and its like. */
const someOf = (value: Value, context: Context): Value[] => (isTrue(value) ? listOf(value, context) : []);

const generated = (items: readonly Value[]): Generator => Generator.from<Value>(items) as Generator;
const str = (value: Value | undefined, { meter }: Context): string => (value === undefined ? '' : text(value, meter));

/** Finds a value by a path of attributes such as `function.name`. @param fallback Stands for each that is undefined. */
function reach(value: Value, path: Value, context: Context, fallback: Value = null): Value {
  const steps = typeof path === 'number' ? [path] : str(path, context).split('.');
  return steps.reduce<Value>((at, step) => {
    const isIndex = typeof step === 'number' || /^\d+$/.test(step);
    const item = context.item(at, isIndex ? Number(step) : step);
    return item instanceof Undefined && fallback !== null ? fallback : item;
  }, value);
}

function folded(value: Value, isCaseSensitive: Value | undefined): Value {
  return typeof value === 'string' && isCaseSensitive !== true ? value.toLowerCase() : value;
}

function sorted(
  items: Value[],
  key: (item: Value) => Value,
  isReverse: Value | undefined,
  { meter }: Context,
): Value[] {
  const sign = isReverse !== undefined && isTrue(isReverse) ? -1 : 1;
  const keyed = items.map((item) => [key(item), item] as const);
  return keyed.sort(([a], [b]) => sign * order(a, b, meter)).map(([, item]) => item);
}

const keyBy = (attribute: Value | undefined, isCaseSensitive: Value | undefined, context: Context) => (item: Value) =>
  folded(attribute === undefined || attribute === null ? item : reach(item, attribute, context), isCaseSensitive);

function extreme(sign: number): Filter {
  return [
    'case_sensitive attribute',
    (value, [isCaseSensitive, attribute], context) => {
      const items = sorted(listOf(value, context), keyBy(attribute, isCaseSensitive, context), sign < 0, context);
      return present(items[0], () => new Undefined('the least of nothing'));
    },
  ];
}

/** `select`, `reject` and their like go by a test of each item, or of an attribute of it. */
function selecting(wanted: boolean, byAttribute: boolean) {
  return (value: Value, given: Arguments, context: Context): Value => {
    const [path, ...rest] = byAttribute ? given.positional : [null, ...given.positional];
    if (path === undefined) return fail('the filter wants the name of an attribute');
    const [test, ...positional] = rest;
    const holds = (item: Value) => {
      context.meter.step();
      const tested = byAttribute ? reach(item, path, context) : item;
      if (test === undefined) return isTrue(tested);
      return applyTest(str(test, context), tested, { positional, named: given.named }, context);
    };
    return generated(someOf(value, context).filter((item) => holds(item) === wanted));
  };
}

/** These filters take the arguments of another filter or test. */
const OF_LISTS: Record<string, (value: Value, given: Arguments, context: Context) => Value> = {
  select: selecting(true, false),
  reject: selecting(false, false),
  selectattr: selecting(true, true),
  rejectattr: selecting(false, true),
  map(value, { positional, named }, context) {
    const items = someOf(value, context);
    const path = named.get('attribute');
    if (path !== undefined) {
      const fallback = named.get('default');
      return generated(items.map((item) => reach(item, path, context, fallback)));
    }
    const [filter, ...rest] = positional;
    if (typeof filter !== 'string') return fail('map wants the name of a filter or an attribute');
    return generated(items.map((item) => applyFilter(filter, item, { positional: rest, named }, context)));
  },
  format(value, { positional, named }, context) {
    const values = named.size > 0 ? new Map<Value, Value>(named) : (Tuple.from<Value>(positional) as Tuple);
    return percentFormat(str(value, context), values, context.meter);
  },
};

function indent(value: string, [width, first, blank]: Given, context: Context): string {
  const margin = typeof width === 'string' ? width : repeated(' ', wholeOf(width ?? 4, 'width'), context.meter);
  const all = lines(`${value}\n`);
  context.meter.count(value.length + all.length * margin.length);
  const isBlank = blank !== undefined && isTrue(blank);
  const rest = all.map((line, i) => (i > 0 && (isBlank || line !== '') ? margin + line : line)).join('\n');
  return first !== undefined && isTrue(first) ? margin + rest : rest;
}

function batched(items: Value[], size: number, fill: Value | undefined, { meter }: Context): Value[] {
  if (size < 1) fail('batch wants a length above 0');
  const groups: Value[] = [];
  for (let at = 0; at < items.length; at += size) groups.push(items.slice(at, at + size));
  const last = groups.at(-1) as Value[] | undefined;
  if (!last || fill === undefined || fill === null) return groups;
  meter.count(size);
  while (last.length < size) last.push(fill);
  return groups;
}

function sliced(items: Value[], count: number, fill: Value | undefined, { meter }: Context): Value[] {
  if (count < 1) fail('slice wants a number above 0');
  meter.count(count);
  const size = Math.floor(items.length / count);
  const longer = items.length % count;
  let at = 0;
  return Array.from({ length: count }, (_, i) => {
    const part = items.slice(at, at + size + Number(i < longer));
    at += size + Number(i < longer);
    if (fill !== undefined && fill !== null && i >= longer) part.push(fill);
    return part;
  });
}

const HTML: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&#34;', "'": '&#39;' };
const escapeHtml: Filter = [
  '',
  (value, _, context) => new Markup(str(value, context).replace(/[&<>"']/g, (c) => HTML[c])),
];
const size: Filter = ['', (value, _, { meter }) => lengthOf(value, meter)];
const orDefault: Filter = [
  'default_value boolean',
  (value, [fallback = '', boolean], _context) =>
    value instanceof Undefined || (boolean !== undefined && isTrue(boolean) && !isTrue(value)) ? fallback : value,
];

const FILTERS: Record<string, Filter> = {
  abs: [
    '',
    (value) => {
      const number = numberOf(value) ?? fail(`abs wants a number, not ${typeName(value)}`);
      return value instanceof Float ? new Float(Math.abs(number)) : Math.abs(number);
    },
  ],
  attr: [
    'name!',
    (value, [name], context) => {
      // The keys of a dictionary are no attributes of it.
      const owner = value instanceof Map ? new Map() : value;
      return context.attribute(owner, str(name, context));
    },
  ],
  batch: [
    'linecount! fill_with',
    (value, [n, fill], context) => generated(batched(listOf(value, context), wholeOf(n!, 'linecount'), fill, context)),
  ],
  capitalize: ['', (value, _, context) => capitalized(str(value, context))],
  center: [
    'width',
    (value, [width], context) => center(str(value, context), wholeOf(width ?? 80, 'width'), ' ', context.meter),
  ],
  count: size,
  length: size,
  d: orDefault,
  default: orDefault,
  dictsort: [
    'case_sensitive by reverse',
    (value, [isCaseSensitive, by, reverse], context) => {
      if (!(value instanceof Map)) return fail(`dictsort wants a dict, not ${typeName(value)}`);
      const pairs = Array.from(value, ([key, item]) => Tuple.of<Value>(key, item) as Tuple);
      const place = by === undefined || by === 'key' ? 0 : 1;
      return sorted(pairs, (pair) => folded((pair as Tuple)[place], isCaseSensitive), reverse, context);
    },
  ],
  e: escapeHtml,
  escape: escapeHtml,
  first: [
    '',
    (value, _, context) => present(itemsOf(value, context.meter)[0], () => new Undefined('the first of nothing')),
  ],
  float: ['default', (value, [fallback = new Float(0)]) => toFloat(value, fallback)],
  groupby: [
    'attribute! default case_sensitive',
    (value, [attribute, fallback, isCaseSensitive], context) => {
      const keyOfItem = (item: Value) => reach(item, attribute!, context, fallback);
      const groups: Group[] = [];
      for (const item of sorted(
        listOf(value, context),
        (one) => folded(keyOfItem(one), isCaseSensitive),
        false,
        context,
      )) {
        const last = groups.at(-1);
        const same =
          last && equals(folded(last[0], isCaseSensitive), folded(keyOfItem(item), isCaseSensitive), context.meter);
        if (same) (last[1] as Value[]).push(item);
        else groups.push(Group.of<Value>(keyOfItem(item), [item]) as Group);
      }
      return groups;
    },
  ],
  indent: [
    'width first blank',
    (value, given, context) =>
      typeof value === 'string' ? indent(value, given, context) : fail(`indent wants a str, not ${typeName(value)}`),
  ],
  int: ['default base', (value, [fallback = 0, base = 10]) => toWhole(value, fallback, base)],
  items: [
    '',
    (value) => {
      if (value instanceof Undefined) return generated([]);
      if (!(value instanceof Map)) return fail(`items wants a dict, not ${typeName(value)}`);
      return generated(Array.from(value, ([key, item]) => Tuple.of<Value>(key, item) as Tuple));
    },
  ],
  join: [
    'd attribute',
    (value, [separator, attribute], context) => {
      const items = listOf(value, context).map((item) =>
        attribute === undefined || attribute === null ? item : reach(item, attribute, context),
      );
      return join(
        items.map((item) => str(item, context)),
        str(separator, context),
        context.meter,
      );
    },
  ],
  last: [
    '',
    (value, _, context) => {
      if (value instanceof Generator) return fail('a generator has no last item');
      return present(listOf(value, context).at(-1), () => new Undefined('the last of nothing'));
    },
  ],
  list: ['', (value, _, context) => listOf(value, context)],
  lower: ['', (value, _, context) => str(value, context).toLowerCase()],
  max: extreme(-1),
  min: extreme(1),
  replace: [
    'old! new! count',
    (value, [old, by, count], context) =>
      replace(str(value, context), str(old, context), str(by, context), wholeOf(count ?? -1, 'count'), context.meter),
  ],
  reverse: [
    '',
    (value, _, context) => {
      const items = listOf(value, context).reverse();
      return typeof value === 'string' ? items.join('') : generated(items);
    },
  ],
  round: [
    'precision method',
    (value, [precision, method]) => round(value, wholeOf(precision ?? 0, 'precision'), String(method ?? 'common')),
  ],
  safe: ['', (value, _, context) => new Markup(str(value, context))],
  slice: [
    'slices! fill_with',
    (value, [n, fill], context) => generated(sliced(listOf(value, context), wholeOf(n!, 'slices'), fill, context)),
  ],
  sort: [
    'reverse case_sensitive attribute',
    (value, [reverse, isCaseSensitive, attribute], context) => {
      const paths = typeof attribute === 'string' ? attribute.split(',') : [attribute];
      const keys = (item: Value) => paths.map((path) => keyBy(path, isCaseSensitive, context)(item));
      return sorted(listOf(value, context), keys, reverse, context);
    },
  ],
  string: ['', (value, _, context) => str(value, context)],
  sum: [
    'attribute start',
    (value, [attribute, start], context) => {
      const numbers: Value[] = [
        start === undefined ? 0 : start,
        ...listOf(value, context).map((item) =>
          attribute === undefined || attribute === null ? item : reach(item, attribute, context),
        ),
      ];
      if (typeof start === 'string') fail('sum wants a start that is no str');
      return numbers.reduce((sum, item) => binary('+', sum, item, context.meter));
    },
  ],
  title: ['', (value, _, context) => str(value, context).replace(/[^-\s({[<\ufdd0][^-\s({[<]*/gu, capitalized)],
  tojson: [
    'ensure_ascii indent separators sort_keys',
    (value, [ascii, width, separators, sortKeys], { meter }) => {
      const indent = typeof width === 'string' ? width : (numberOf(width ?? null) ?? undefined);
      const pair = Array.isArray(separators) ? (separators as [string, string]) : undefined;
      const escapesAll = ascii !== undefined && isTrue(ascii);
      const isSorted = sortKeys !== undefined && isTrue(sortKeys);
      return json(
        value,
        { ...(indent !== undefined && { indent }), ...(pair && { separators: pair }), sortKeys: isSorted, escapesAll },
        meter,
      );
    },
  ],
  trim: ['chars', (value, [cut], context) => strip(str(value, context), cut, 'both', context.meter)],
  truncate: [
    'length killwords end leeway',
    (value, [length, kill, end, leeway], context) => {
      const [all, max, tail] = [
        Array.from(str(value, context)),
        wholeOf(length ?? 255, 'length'),
        str(end ?? '...', context),
      ];
      if (max < tail.length) return fail(`truncate wants a length of at least ${tail.length}`);
      const slack = wholeOf(leeway ?? 5, 'leeway');
      if (slack < 0) return fail('truncate wants a leeway of at least 0');
      if (all.length <= max + slack) return all.join('');
      const kept = all.slice(0, max - tail.length).join('');
      return (kill !== undefined && isTrue(kill) ? kept : kept.replace(/ [^ ]*$/, '')) + tail;
    },
  ],
  unique: [
    'case_sensitive attribute',
    (value, [isCaseSensitive, attribute], context) => {
      const seen = new Set<Value>();
      const key = keyBy(attribute, isCaseSensitive, context);
      const isNew = (item: Value) => {
        const before = seen.size;
        return seen.add(keyOf(numberOf(key(item)) ?? key(item))).size > before;
      };
      return generated(listOf(value, context).filter(isNew));
    },
  ],
  upper: ['', (value, _, context) => str(value, context).toUpperCase()],
  wordcount: ['', (value, _, context) => str(value, context).match(/[\p{L}\p{N}_]+/gu)?.length ?? 0],
};
