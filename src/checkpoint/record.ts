/** Records that come out of a file: parsed, but not to be trusted. Every complaint names file, key and value. */
import { FormatError } from '../errors.ts';

export type JsonRecord = Record<string, unknown>;

export const isRecord = (value: unknown): value is JsonRecord =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A list of a GGUF file keeps numbers as a typed array. */
export const isList = (value: unknown): value is ArrayLike<unknown> =>
  Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));

/** Characters of a text in a message. */
const MAX_QUOTED = 60;

/** UTF-8 bytes to a JSON object. @throws FormatError when they are not one. */
export function parseRecord(bytes: Uint8Array, origin: string): JsonRecord {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    const fault = error instanceof SyntaxError ? 'not valid JSON' : 'not valid UTF-8';
    throw new FormatError(`${origin}: ${fault} (${(error as Error).message}); download it again`, { cause: error });
  }
  if (!isRecord(value)) throw new FormatError(`${origin}: holds ${describe(value)}; wanted a JSON object`);
  return value;
}

/** Typed reading of a record's fields; null counts as absent, as in Hugging Face configs. */
export function fieldsOf(record: JsonRecord, origin: string) {
  const get = (key: string): unknown => (Object.hasOwn(record, key) ? (record[key] ?? undefined) : undefined);
  const fault = (key: string, wanted: string) =>
    new FormatError(`${origin}: ${key} is ${describe(get(key))}; wanted ${wanted}`);
  return {
    fault,
    get,
    number(key: string, fallback?: number): number {
      const value = get(key) ?? fallback;
      if (typeof value !== 'number') throw fault(key, 'a number');
      return value;
    },
    positive(key: string, fallback?: number): number {
      const value = get(key) ?? fallback;
      if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) throw fault(key, 'a number above 0');
      return value;
    },
    string(key: string, fallback?: string): string {
      const value = get(key) ?? fallback;
      if (typeof value !== 'string') throw fault(key, 'a text');
      return value;
    },
    boolean(key: string, fallback: boolean): boolean {
      const value = get(key) ?? fallback;
      if (typeof value !== 'boolean') throw fault(key, 'true or false');
      return value;
    },
  };
}

export type Fields = ReturnType<typeof fieldsOf>;

/** A value in a message: short, however large it is. */
export function describe(value: unknown): string {
  if (value === undefined) return 'missing';
  if (isList(value)) return `a list of ${value.length}`;
  if (isRecord(value)) return 'an object';
  if (typeof value !== 'string') return String(value);
  return value.length > MAX_QUOTED ? `${JSON.stringify(value.slice(0, MAX_QUOTED))}…` : JSON.stringify(value);
}
