/**
 * A JSON Schema as a grammar of the texts that fit it, written without line breaks and with at most one space behind `:` and `,`
 * and before the whole: a small model cannot lose itself in blanks. Properties come in the schema's order, others behind. What
 * cannot be enforced is refused by its name.
 */
import { isRecord, shown } from '../errors.ts';
import { Automaton, choice, EMPTY, NEVER, type Node, optional, repeat, sequence } from './automaton.ts';
import { anyText, characters, complement, groupedBy, literal, literals, type Ranges } from './characters.ts';
import { areDisjoint, typeOf } from './disjoint.ts';
import { FORMATS } from './formats.ts';
import {
  ANY_INTEGER,
  ANY_NUMBER,
  type Bound,
  decimals,
  integers,
  isDecimalBound,
  MAX_DECIMAL_BOUND,
  MAX_INTEGER,
  MAX_MULTIPLE,
} from './numbers.ts';
import { matching } from './pattern.ts';
import { itemAt, type Json, type Keywords, refusal, type Schema, SchemaReader, TYPES, type Type } from './schema.ts';

/** Characters of a schema, schemas within schemas, and schemas in all. */
const MAX_LENGTH = 200_000;
const MAX_DEPTH = 128;
const MAX_SCHEMAS = 10_000;
/** What a schema may cost: a few nodes for each character of a name, a value or a pattern, as often as it is read. */
const MAX_COST = 300_000;
const COST_OF_MULTIPLE = 200;
/** Brackets within brackets, in values of `enum` too. */
const MAX_NESTING = 500;
/** Properties of one object: any of them may be next where they are optional. */
const MAX_PROPERTIES = 500;
const MAX_NAME = 500;

/** A schema as text, by which equal ones are known. @throws UnsupportedError when it is none, or very long. */
export function schemaText(schema: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(schema);
  } catch (error) {
    throw refusal('', `it cannot be written as JSON: ${(error as Error).message}`);
  }
  if (!isRecord(schema) || text === undefined)
    throw refusal('', `it is ${shown(schema)}; wanted an object, a JSON Schema`);
  if (text.length > MAX_LENGTH) throw refusal('', `it has ${text.length} characters; wanted at most ${MAX_LENGTH}`);
  if (nesting(text) > MAX_NESTING) throw refusal('', `it is nested more than ${MAX_NESTING} deep`);
  return text;
}

/** @throws UnsupportedError when a keyword cannot be enforced, a limit is passed, or no value fits. */
export function compileJsonSchema(schema: unknown): Automaton {
  const root: unknown = JSON.parse(schemaText(schema)); // as it is now, whoever changes it later
  const grammar = new Compiler(root).valueOf(root, '', 0);
  return Automaton.of(sequence(optional(SPACE), grammar)) ?? fail(refusal('', 'no value fits it; loosen it'));
}

// --- internal ---

const SPACE = literal(' ');
const QUOTE = literal('"');
const COMMA = sequence(literal(','), optional(SPACE));
const COLON = sequence(literal(':'), optional(SPACE));
const ANY_STRING = sequence(QUOTE, anyText(), QUOTE);
const SIMPLE = { null: literal('null'), boolean: choice(literal('true'), literal('false')) };

/** Any value of JSON. */
const ANY: Node = (() => {
  const value: Node = { kind: 'reference' };
  const members = listOf(sequence(ANY_STRING, COLON, value), 0, Infinity);
  const list = sequence(literal('['), listOf(value, 0, Infinity), literal(']'));
  value.to = choice(
    ...[SIMPLE.null, SIMPLE.boolean, ANY_NUMBER, ANY_STRING, list],
    sequence(literal('{'), members, literal('}')),
  );
  return value;
})();

const fail = (error: Error): never => {
  throw error;
};

/** How deep the brackets of JSON are. */
function nesting(text: string): number {
  let [depth, most] = [0, 0];
  for (const [letter] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/g)) {
    if (letter === '[' || letter === '{') most = Math.max(most, ++depth);
    else if (letter === ']' || letter === '}') depth--;
  }
  return most;
}

class Compiler {
  readonly #reader: SchemaReader;
  readonly #nodes = new Map<Schema, Node>();
  #cost = 0;

  constructor(root: Schema) {
    this.#reader = new SchemaReader(root);
  }

  valueOf(schema: Schema, path: string, depth: number): Node {
    const resolved = this.#reader.resolve(schema, path);
    if (resolved === true) return ANY;
    const known = this.#nodes.get(resolved);
    if (known) return known;
    if (depth > MAX_DEPTH) throw refusal(path, `schemas are nested more than ${MAX_DEPTH} deep`);
    if (this.#nodes.size >= MAX_SCHEMAS) throw refusal(path, `there are more than ${MAX_SCHEMAS} schemas in it`);
    const node: Node = { kind: 'reference' };
    this.#nodes.set(resolved, node); // before it is known, for those within it that refer to it
    node.to = this.#all(this.#reader.keywords(resolved, path), path, depth + 1);
    return node;
  }

  #spend(cost: number, path: string): void {
    this.#cost += cost;
    if (this.#cost > MAX_COST) throw refusal(path, 'the schema is too large; wanted fewer names, values or patterns');
  }

  #all(keywords: Keywords | false, path: string, depth: number): Node {
    if (keywords === false) return NEVER;
    if (depth > MAX_DEPTH) throw refusal(path, `schemas are nested more than ${MAX_DEPTH} deep`);
    const { anyOf, oneOf, enum: values, ...rest } = keywords;
    if (anyOf) return this.#branches('anyOf', anyOf, { ...keywords, anyOf: undefined }, path, depth);
    if (oneOf) return this.#branches('oneOf', oneOf, { ...keywords, oneOf: undefined }, path, depth);
    if (values) return this.#values(values, rest, path, depth);
    if (Object.values(keywords).every((value) => value === undefined)) return ANY;
    const { type: types = TYPES } = keywords;
    const wanted = types.filter((type) => type !== 'integer' || !types.includes('number'));
    return choice(...wanted.map((type) => this.#ofType(type, keywords, path, depth)));
  }

  #branches(name: 'anyOf' | 'oneOf', branches: readonly Schema[], rest: Keywords, path: string, depth: number): Node {
    const reader = this.#reader;
    const beside = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined)) as Keywords;
    const isAlone = Object.keys(beside).length === 0;
    const pathOf = (nth: number) => `${path}/${name}/${nth}`;
    const merged = () =>
      branches.map((branch, nth) => reader.merged(beside, reader.keywords(branch, pathOf(nth)), pathOf(nth)));
    if (name === 'oneOf') {
      const all = merged();
      all.forEach((one, nth) => {
        const other = all.findIndex((that, at) => at > nth && !areDisjoint(one, that, reader));
        if (other < 0) return;
        const advice = 'tell them apart by a type, or by a required property with a const, or use anyOf';
        throw refusal(`${path}/oneOf`, `a value may fit both oneOf ${nth} and ${other}; ${advice}`);
      });
    }
    if (isAlone) return choice(...branches.map((branch, nth) => this.valueOf(branch, pathOf(nth), depth)));
    return choice(...merged().map((one, nth) => this.#all(one, pathOf(nth), depth + 1)));
  }

  /** Some values, those that also fit what stands beside them. */
  #values(values: readonly Json[], { type, ...rest }: Keywords, path: string, depth: number): Node {
    const isOfType = (value: Json) =>
      !type || type.includes(typeOf(value)) || (typeof value === 'number' && type.includes('number'));
    this.#spend(JSON.stringify(values).length, path);
    let fit = values.filter(isOfType);
    if (Object.values(rest).some((value) => value !== undefined)) {
      const nested = fit.find((value) => value !== null && typeof value === 'object');
      if (nested !== undefined)
        throw refusal(path, `enum has ${shown(nested)} beside other keywords; wanted one of both`);
      const beside = Automaton.of(this.#all(rest, path, depth + 1));
      fit = fit.filter((value) => beside?.accepts(new TextEncoder().encode(JSON.stringify(value))));
    }
    const isNested = (value: Json) => value !== null && typeof value === 'object';
    const single = fit.filter((value) => !isNested(value)).map((value) => jsonOf(value, path));
    return choice(literals(single), ...fit.filter(isNested).map((value) => fixed(value, path)));
  }

  #ofType(type: Type, keywords: Keywords, path: string, depth: number): Node {
    switch (type) {
      case 'string':
        this.#spend((keywords.pattern ?? keywords.format ?? '').length * 4, path);
        return stringOf(keywords, path);
      case 'integer':
      case 'number':
        this.#spend((keywords.multipleOf ?? 1) * COST_OF_MULTIPLE, path);
        return numberOf(keywords, type === 'integer', path);
      case 'array':
        return this.#array(keywords, path, depth);
      case 'object':
        return this.#object(keywords, path, depth);
      default:
        return SIMPLE[type];
    }
  }

  #array(keywords: Keywords, path: string, depth: number): Node {
    const { minItems = 0, maxItems = Infinity, prefixItems = [] } = keywords;
    if (minItems > maxItems) return NEVER;
    const nFirst = Math.min(prefixItems.length, maxItems);
    const item = this.valueOf(itemAt(keywords, prefixItems.length), `${path}/items`, depth);
    const restMin = Math.max(0, minItems - nFirst);
    const restMax = maxItems - nFirst;
    let rest = nFirst === 0 ? listOf(item, restMin, restMax) : restMax > 0 ? more(item, restMin, restMax) : EMPTY;
    for (let nth = nFirst - 1; nth >= 0; nth--) {
      const one = this.valueOf(prefixItems[nth], `${path}/prefixItems/${nth}`, depth);
      const some = nth === 0 ? sequence(one, rest) : sequence(COMMA, one, rest);
      rest = nth < minItems ? some : optional(some);
    }
    return sequence(literal('['), rest, literal(']'));
  }

  #object(keywords: Keywords, path: string, depth: number): Node {
    const { properties = {}, required = [], additionalProperties = true } = keywords;
    const others = required.filter((name) => !Object.hasOwn(properties, name));
    const names = [...Object.keys(properties), ...others];
    if (names.length > MAX_PROPERTIES) {
      throw refusal(`${path}/properties`, `properties has ${names.length} names; wanted at most ${MAX_PROPERTIES}`);
    }
    this.#spend(names.join().length + 1, path);
    const long = names.find((name) => name.length > MAX_NAME);
    if (long !== undefined) throw refusal(`${path}/properties`, `${shown(long)} has more than ${MAX_NAME} characters`);
    const other = this.valueOf(additionalProperties, `${path}/additionalProperties`, depth);
    const additional = sequence(otherName(names), COLON, other);
    let first = listOf(additional, 0, Infinity);
    let later = more(additional, 0, Infinity);
    for (const name of names.reverse()) {
      const isRequired = required.includes(name);
      const value = Object.hasOwn(properties, name)
        ? this.valueOf(properties[name], `${path}/properties/${name}`, depth)
        : other;
      const member = sequence(literal(jsonOf(name, path)), COLON, value);
      first = choice(sequence(member, later), ...(isRequired ? [] : [first]));
      later = choice(sequence(COMMA, member, later), ...(isRequired ? [] : [later]));
    }
    return sequence(literal('{'), first, literal('}'));
  }
}

/** Items with commas between. */
function listOf(item: Node, min: number, max: number): Node {
  if (max === 0) return EMPTY;
  const some = sequence(item, more(item, Math.max(0, min - 1), max - 1));
  return min === 0 ? optional(some) : some;
}

/** Items with a comma before each. */
function more(item: Node, min: number, max: number): Node {
  return max === 0 ? EMPTY : repeat(sequence(COMMA, item), min, max);
}

/** A name in quotes that is none of `names`. */
function otherName(names: readonly string[]): Node {
  const begun = new Map<string, Node>();
  /** A name goes on with a character that is none of `letters`, and then as it will. */
  const otherThan = (letters: readonly string[]): Node => {
    const key = letters.join('');
    const known = begun.get(key);
    if (known) return known;
    const used: Ranges = letters.map((letter) => [letter.codePointAt(0) as number, letter.codePointAt(0) as number]);
    const node = sequence(characters(complement(used)), anyText(), QUOTE);
    begun.set(key, node);
    return node;
  };
  /** What follows the first `at` characters, which are those of `some`. */
  const behind = (some: readonly string[][], at: number): Node => {
    const byNext = groupedBy(some, (name) => name[at] as string | undefined);
    const letters = [...byNext.keys()].filter((letter) => letter !== undefined);
    return choice(
      ...(byNext.has(undefined) ? [] : [QUOTE]),
      otherThan(letters),
      ...letters.map((letter) =>
        sequence(literal(JSON.stringify(letter).slice(1, -1)), behind(byNext.get(letter) ?? [], at + 1)),
      ),
    );
  };
  const spelled = names.map((name) => Array.from(name));
  return names.length === 0 ? ANY_STRING : sequence(QUOTE, behind(spelled, 0));
}

function jsonOf(value: Json, path: string): string {
  if (typeof value === 'string' && !value.isWellFormed()) {
    throw refusal(path, `${shown(value)} has half a surrogate pair, which UTF-8 cannot hold`);
  }
  return JSON.stringify(value);
}

/** The one value. */
function fixed(value: Json, path: string): Node {
  if (value === null || typeof value !== 'object') return literal(jsonOf(value, path));
  const separated = (items: Node[]) => items.flatMap((item, nth) => (nth === 0 ? [item] : [COMMA, item]));
  if (Array.isArray(value)) {
    return sequence(literal('['), ...separated(value.map((item: Json) => fixed(item, path))), literal(']'));
  }
  const members = Object.entries(value).map(([name, item]: [string, Json]) =>
    sequence(literal(jsonOf(name, path)), COLON, fixed(item, path)),
  );
  return sequence(literal('{'), ...separated(members), literal('}'));
}

function stringOf({ pattern, format, minLength, maxLength }: Keywords, path: string): Node {
  const enforced = format !== undefined && Object.hasOwn(FORMATS, format) ? FORMATS[format] : undefined;
  const lengths = minLength !== undefined || maxLength !== undefined;
  const given = Object.entries({ pattern, format: enforced, 'minLength or maxLength': lengths || undefined });
  const names = given.flatMap(([name, value]) => (value === undefined ? [] : [name]));
  if (names.length > 1) throw refusal(path, `${names.join(' and ')} cannot be enforced together; give one of them`);
  const regex = pattern ?? enforced;
  if (regex !== undefined) {
    const refuse = (what: string) => fail(refusal(`${path}/pattern`, `pattern ${shown(regex)}: ${what}`));
    return sequence(QUOTE, matching(regex, refuse), QUOTE);
  }
  const [min, max] = [minLength ?? 0, maxLength ?? Infinity];
  if (min > max) return NEVER;
  return sequence(QUOTE, max === 0 ? EMPTY : anyText(min, max), QUOTE);
}

function numberOf(keywords: Keywords, isInteger: boolean, path: string): Node {
  const {
    minimum = -Infinity,
    maximum = Infinity,
    exclusiveMinimum = -Infinity,
    exclusiveMaximum = Infinity,
  } = keywords;
  const { multipleOf } = keywords;
  const low: Bound = { value: Math.max(minimum, exclusiveMinimum), isExclusive: exclusiveMinimum >= minimum };
  const high: Bound = { value: Math.min(maximum, exclusiveMaximum), isExclusive: exclusiveMaximum <= maximum };
  const isFree = low.value === -Infinity && high.value === Infinity;
  if (multipleOf !== undefined && !(Number.isInteger(multipleOf) && multipleOf <= MAX_MULTIPLE)) {
    throw refusal(`${path}/multipleOf`, `multipleOf is ${multipleOf}; wanted a whole number up to ${MAX_MULTIPLE}`);
  }
  if (isInteger || multipleOf !== undefined) {
    if (isFree && (multipleOf ?? 1) === 1) return ANY_INTEGER;
    const min = low.isExclusive ? Math.floor(low.value) + 1 : Math.ceil(low.value);
    const max = high.isExclusive ? Math.ceil(high.value) - 1 : Math.floor(high.value);
    return integers(Math.max(min, -MAX_INTEGER), Math.min(max, MAX_INTEGER), multipleOf ?? 1);
  }
  if (isFree) return ANY_NUMBER;
  for (const [name, { value }] of Object.entries({ minimum: low, maximum: high })) {
    if (!Number.isFinite(value) || isDecimalBound(value)) continue;
    if (name === 'minimum' ? value < -MAX_DECIMAL_BOUND : value > MAX_DECIMAL_BOUND) continue;
    const wanted = `up to 6 digits behind the point and ${MAX_DECIMAL_BOUND} at most`;
    throw refusal(path, `${name} ${value} of a number cannot be enforced; wanted ${wanted}, or type integer`);
  }
  const least = { value: -MAX_DECIMAL_BOUND, isExclusive: false };
  const most = { value: MAX_DECIMAL_BOUND, isExclusive: false };
  return decimals(low.value < least.value ? least : low, high.value > most.value ? most : high);
}
