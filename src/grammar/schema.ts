/** JSON Schemas before they are grammars: their keywords are checked, references followed, and several that hold at once merged. */
import { isRecord, shown, UnsupportedError } from '../errors.ts';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };
/** What stands where a schema is wanted. */
export type Schema = unknown;

export const TYPES = ['null', 'boolean', 'integer', 'number', 'string', 'array', 'object'] as const;
export type Type = (typeof TYPES)[number];

/** Keywords that hold at once, and are enforced. */
export interface Keywords {
  type?: readonly Type[];
  enum?: readonly Json[];
  anyOf?: readonly Schema[];
  oneOf?: readonly Schema[];
  properties?: Readonly<Record<string, Schema>>;
  required?: readonly string[];
  additionalProperties?: Schema;
  prefixItems?: readonly Schema[];
  items?: Schema;
  minItems?: number;
  maxItems?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  format?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  multipleOf?: number;
}

/** These say nothing of what is valid. */
const ANNOTATIONS = new Set(
  '$schema $comment $defs definitions title description default examples deprecated readOnly writeOnly contentEncoding contentMediaType contentSchema'.split(
    ' ',
  ),
);
/** These say nothing with such a value. */
const WITHOUT_EFFECT: Record<string, unknown> = { uniqueItems: false, minProperties: 0, minContains: 1 };
/** Schemas within schemas, and references followed. */
const MAX_DEPTH = 64;
/** Schemas that are read, each as often as it is referred to from within `allOf` and its like. */
const MAX_READS = 20_000;

export const refusal = (path: string, what: string): UnsupportedError =>
  new UnsupportedError(`jsonSchema ${path === '' ? '#' : path}: ${what}`);

const isCount = (value: unknown) => Number.isInteger(value) && (value as number) >= 0;
const isNumber = (value: unknown) => typeof value === 'number' && Number.isFinite(value);
const isTexts = (value: unknown) => Array.isArray(value) && value.every((one) => typeof one === 'string');
const isType = (value: unknown) => TYPES.includes(value as Type);

type Check = readonly [fits: (value: unknown) => boolean, wanted: string];
const COUNT: Check = [isCount, 'a whole number of at least 0'];
const NUMBER: Check = [isNumber, 'a number'];
const LIST: Check = [(value) => Array.isArray(value) && value.length > 0, 'a list with something in it'];
const TEXT: Check = [(value) => typeof value === 'string', 'a text'];
const SCHEMA: Check = [
  (value) => typeof value === 'boolean' || isRecord(value),
  'a schema, which is an object, true or false',
];

const CHECKS: Record<string, Check> = {
  type: [
    (value) => isType(value) || (Array.isArray(value) && value.length > 0 && value.every(isType)),
    `${TYPES.join(', ')}, or a list of these`,
  ],
  enum: LIST,
  const: [(value) => value !== undefined, 'a value'],
  anyOf: LIST,
  oneOf: LIST,
  allOf: LIST,
  properties: [isRecord, 'an object of schemas'],
  required: [isTexts, 'a list of names'],
  additionalProperties: SCHEMA,
  prefixItems: LIST,
  items: SCHEMA,
  minItems: COUNT,
  maxItems: COUNT,
  minLength: COUNT,
  maxLength: COUNT,
  pattern: TEXT,
  format: TEXT,
  minimum: NUMBER,
  maximum: NUMBER,
  exclusiveMinimum: NUMBER,
  exclusiveMaximum: NUMBER,
  multipleOf: [(value) => isNumber(value) && (value as number) > 0, 'a number above 0'],
  $ref: TEXT,
};

/** Reads the schemas of one document, to whose parts `$ref` may refer. */
export class SchemaReader {
  readonly #root: Schema;
  #nReads = 0;

  constructor(root: Schema) {
    this.#root = root;
  }

  /** The schema that `schema` stands for, where it says nothing else than a reference. */
  resolve(schema: Schema, path: string): Schema {
    const seen = new Set<Schema>();
    for (let at = schema; ; ) {
      if (!isRecord(at) || typeof at.$ref !== 'string') return at;
      const { $ref, ...beside } = at;
      if (Object.keys(beside).some((name) => !isIdle(name, beside))) return at;
      if (seen.has(at)) return false; // a circle of references: no value can be told to fit
      seen.add(at);
      at = this.#target($ref as string, path);
    }
  }

  /** All keywords that hold for a value of `schema`, references and `allOf` included; false where no value fits. */
  keywords(schema: Schema, path: string, depth = 0): Keywords | false {
    if (depth > MAX_DEPTH) throw refusal(path, `schemas refer to each other more than ${MAX_DEPTH} deep`);
    if (++this.#nReads > MAX_READS)
      throw refusal(path, `more than ${MAX_READS} schemas would be read; use fewer allOf`);
    const resolved = this.resolve(schema, path);
    if (typeof resolved === 'boolean') return resolved && {};
    if (!isRecord(resolved)) throw refusal(path, `this is ${shown(resolved)}; wanted ${SCHEMA[1]}`);
    checkKeywords(resolved, path, resolved === this.#root);
    const { $ref, allOf = [], const: only, type, ...rest } = resolved as Record<string, unknown> & { allOf?: Schema[] };
    const own: Keywords = Object.fromEntries(Object.entries(rest).filter(([name]) => !isIdle(name, rest)));
    if (type !== undefined) own.type = [type].flat() as Type[];
    const all: (Keywords | false)[] = [own];
    if ('const' in resolved) all.push({ enum: [only as Json] });
    if ($ref !== undefined) all.push(this.keywords({ $ref }, path, depth + 1));
    all.push(...allOf.map((one, nth) => this.keywords(one, `${path}/allOf/${nth}`, depth + 1)));
    return all.reduce((a, b) => this.merged(a, b, path));
  }

  /** Both at once. @throws UnsupportedError where that cannot be said in one schema. */
  merged(a: Keywords | false, b: Keywords | false, path: string): Keywords | false {
    if (a === false || b === false) return false;
    const both: Keywords = { ...a, ...b };
    for (const name of Object.keys(b) as (keyof Keywords)[]) {
      if (a[name] === undefined || name in MERGED_BELOW) continue;
      if (name in PICKS) Object.assign(both, { [name]: PICKS[name]?.(a[name] as number, b[name] as number) });
      else if (JSON.stringify(a[name]) !== JSON.stringify(b[name]))
        throw refusal(path, `${name} is there twice; wanted one`);
    }
    if (a.type && b.type) both.type = commonTypes(a.type, b.type);
    if (a.enum && b.enum) {
      const texts = new Set(b.enum.map(canonical));
      both.enum = a.enum.filter((value) => texts.has(canonical(value)));
    }
    if (a.required || b.required) both.required = [...new Set([...(a.required ?? []), ...(b.required ?? [])])];
    mergeProperties(both, a, b);
    mergeItems(both, a, b);
    return both;
  }

  #target(reference: string, path: string): Schema {
    if (!/^#(\/|$)/.test(reference)) {
      throw refusal(path, `$ref is ${shown(reference)}; wanted a place in the same schema, such as "#/$defs/name"`);
    }
    let at: unknown = this.#root;
    for (const part of decodeURIComponent(reference).split('/').slice(1)) {
      const name = part.replaceAll('~1', '/').replaceAll('~0', '~');
      const isThere = (isRecord(at) || Array.isArray(at)) && Object.hasOwn(at, name);
      if (!isThere) throw refusal(path, `$ref is ${shown(reference)}, where nothing is`);
      at = (at as Record<string, unknown>)[name];
    }
    return at;
  }
}

/** The same text for the same value of JSON, whatever the order of its names. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (!isRecord(value)) return JSON.stringify(value === 0 ? 0 : value);
  return `{${Object.keys(value)
    .sort()
    .map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`)
    .join()}}`;
}

/** Both schemas at once, as one. */
export const allOf = (a: Schema, b: Schema): Schema => (a === true ? b : b === true || a === b ? a : { allOf: [a, b] });

/** What an item at a place must be. */
export const itemAt = ({ prefixItems, items = true }: Keywords, nth: number): Schema => prefixItems?.[nth] ?? items;

// --- internal ---

const isIdle = (name: string, schema: Record<string, unknown>) =>
  ANNOTATIONS.has(name) || name.startsWith('x-') || name === '$id' || WITHOUT_EFFECT[name] === schema[name];

function checkKeywords(schema: Record<string, unknown>, path: string, isRoot: boolean): void {
  for (const [name, value] of Object.entries(schema)) {
    const check = Object.hasOwn(CHECKS, name) ? CHECKS[name] : undefined;
    if (check && !check[0](value)) throw refusal(`${path}/${name}`, `${name} is ${shown(value)}; wanted ${check[1]}`);
    if (check || (isIdle(name, schema) && (name !== '$id' || isRoot))) continue;
    throw refusal(`${path}/${name}`, `${name} cannot be enforced here; supported: ${Object.keys(CHECKS).join(', ')}`);
  }
}

const MERGED_BELOW: Partial<Record<keyof Keywords, true>> = {
  type: true,
  enum: true,
  required: true,
  properties: true,
  additionalProperties: true,
  items: true,
  prefixItems: true,
};

function lcm(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a / x) * b;
}

/** Of two bounds the one that holds for both. */
const PICKS: Partial<Record<keyof Keywords, (a: number, b: number) => number>> = {
  minItems: Math.max,
  maxItems: Math.min,
  minLength: Math.max,
  maxLength: Math.min,
  minimum: Math.max,
  maximum: Math.min,
  exclusiveMinimum: Math.max,
  exclusiveMaximum: Math.min,
  multipleOf: (a, b) => (a === b ? a : Number.isInteger(a) && Number.isInteger(b) ? lcm(a, b) : Number.NaN),
};

export function commonTypes(some: readonly Type[], others: readonly Type[]): Type[] {
  const has = (types: readonly Type[], type: Type) =>
    types.includes(type) || (type === 'integer' && types.includes('number'));
  return TYPES.filter((type) => has(some, type) && has(others, type));
}

function mergeProperties(both: Keywords, a: Keywords, b: Keywords): void {
  const of = ({ properties = {}, additionalProperties = true }: Keywords, name: string) =>
    Object.hasOwn(properties, name) ? properties[name] : additionalProperties;
  if (a.additionalProperties !== undefined && b.additionalProperties !== undefined) {
    both.additionalProperties = allOf(a.additionalProperties, b.additionalProperties);
  }
  const names = new Set([...Object.keys(a.properties ?? {}), ...Object.keys(b.properties ?? {})]);
  if (names.size === 0) return;
  both.properties = Object.fromEntries(Array.from(names, (name) => [name, allOf(of(a, name), of(b, name))]));
}

function mergeItems(both: Keywords, a: Keywords, b: Keywords): void {
  if (a.items !== undefined && b.items !== undefined) both.items = allOf(a.items, b.items);
  const length = Math.max(a.prefixItems?.length ?? 0, b.prefixItems?.length ?? 0);
  if (length === 0) return;
  both.prefixItems = Array.from({ length }, (_, nth) => allOf(itemAt(a, nth), itemAt(b, nth)));
}
