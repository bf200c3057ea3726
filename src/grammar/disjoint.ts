/** Whether no value can fit two schemas: what `oneOf` needs, as a grammar reads one branch or another and cannot count them. */
import {
  canonical,
  commonTypes,
  type Json,
  type Keywords,
  type Schema,
  type SchemaReader,
  TYPES,
  type Type,
} from './schema.ts';

/** True where it is sure; `reader` reads what is within. */
export function areDisjoint(a: Keywords | false, b: Keywords | false, reader: SchemaReader, depth = 0): boolean {
  if (a === false || b === false) return true;
  const types = commonTypes(typesOf(a), typesOf(b));
  if (types.length === 0) return true;
  if (a.enum && b.enum) {
    const texts = new Set(a.enum.map(canonical));
    return !b.enum.some((value) => texts.has(canonical(value)));
  }
  if (depth > 8) return false;
  if (types.every((type) => type === 'integer' || type === 'number')) return areApart(a, b) || areApart(b, a);
  if (types.length > 1 || types[0] !== 'object') return false;
  return haveApartProperty(a, b, reader, depth) || needsForbidden(a, b) || needsForbidden(b, a);
}

/** The types that a value may have. */
export const typesOf = ({ type = TYPES, enum: values }: Keywords): readonly Type[] =>
  values ? commonTypes(type, values.map(typeOf)) : type;

export function typeOf(value: Json): Type {
  if (value === null) return 'null';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  if (typeof value === 'object') return Array.isArray(value) ? 'array' : 'object';
  return typeof value as 'boolean' | 'string';
}

// --- internal ---

/** All of `a` lies below all of `b`. */
function areApart(a: Keywords, b: Keywords): boolean {
  const high = Math.min(a.maximum ?? Infinity, a.exclusiveMaximum ?? Infinity);
  const low = Math.max(b.minimum ?? -Infinity, b.exclusiveMinimum ?? -Infinity);
  return high < low || (high === low && (a.exclusiveMaximum === high || b.exclusiveMinimum === low));
}

const propertyOf = ({ properties = {}, additionalProperties = true }: Keywords, name: string): Schema =>
  Object.hasOwn(properties, name) ? properties[name] : additionalProperties;

/** Both must have a property that cannot be the same. */
function haveApartProperty(a: Keywords, b: Keywords, reader: SchemaReader, depth: number): boolean {
  const names = (a.required ?? []).filter((name) => b.required?.includes(name));
  const read = (of: Keywords, name: string) => reader.keywords(propertyOf(of, name), `/properties/${name}`);
  return names.some((name) => areDisjoint(read(a, name), read(b, name), reader, depth + 1));
}

/** `a` must have a property that `b` must not. */
const needsForbidden = (a: Keywords, b: Keywords) => (a.required ?? []).some((name) => propertyOf(b, name) === false);
