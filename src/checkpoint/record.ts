/** Records that come out of a file are parsed, but not to be trusted. Every complaint names file, key and value. */
import { FormatError, isRecord } from '../errors.ts';

export type JsonRecord = Record<string, unknown>;

/** A list of a GGUF file keeps numbers as a typed array. */
export const isList = (value: unknown): value is ArrayLike<unknown> =>
  Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));

/** A message quotes so many characters of a text. */
const MAX_QUOTED = 60;

/**
 * Reads the text of a file in UTF-8, or in UTF-16 with a byte order mark, as some editors write it.
 * @throws TypeError
 */
export function decodeFile(bytes: Uint8Array): string {
  const [first, second] = bytes;
  const encoding =
    first === 0xff && second === 0xfe ? 'utf-16le' : first === 0xfe && second === 0xff ? 'utf-16be' : 'utf-8';
  return new TextDecoder(encoding, { fatal: true }).decode(bytes);
}

/** Reads a file's bytes as a JSON object. @throws FormatError when they are not one, or would take far more memory. */
export function parseRecord(bytes: Uint8Array, origin: string): JsonRecord {
  let value: unknown;
  try {
    const text = decodeFile(bytes);
    refuseCostly(text, origin);
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof FormatError) throw error;
    const fault = error instanceof SyntaxError ? 'not valid JSON' : 'not valid UTF-8';
    throw new FormatError(`${origin}: ${fault} (${(error as Error).message}); download it again`, { cause: error });
  }
  if (!isRecord(value)) throw new FormatError(`${origin}: holds ${describe(value)}; wanted a JSON object`);
  return value;
}

/** The files of the largest vocabularies have some two million values, five deep. */
const MAX_VALUES = 3_000_000;
/** The largest vocabulary has 262 thousand tokens; keys take more time than other values. */
const MAX_KEYS = 600_000;
const MAX_DEPTH = 100;

const [QUOTE, COMMA, COLON, BACKSLASH] = [0x22, 0x2c, 0x3a, 0x5c];
const [OPEN_LIST, CLOSE_LIST, OPEN_RECORD, CLOSE_RECORD] = [0x5b, 0x5d, 0x7b, 0x7d];

/** A value takes up to sixty times its length in memory, so they are counted before they are parsed. */
function refuseCostly(text: string, origin: string): void {
  let [nValues, nKeys, depth] = [0, 0, 0];
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      for (at++; at < text.length && text.charCodeAt(at) !== QUOTE; at++) if (text.charCodeAt(at) === BACKSLASH) at++;
    } else if (code === OPEN_LIST || code === OPEN_RECORD) {
      nValues++;
      depth++;
      if (depth > MAX_DEPTH) throw new FormatError(`${origin}: has lists in lists, ${depth} deep; wanted ${MAX_DEPTH}`);
    } else if (code === CLOSE_LIST || code === CLOSE_RECORD) depth--;
    else if (code === COMMA) nValues++;
    else if (code === COLON) nKeys++;
  }
  if (nValues > MAX_VALUES || nKeys > MAX_KEYS) {
    const limits = `${MAX_VALUES} and ${MAX_KEYS}, more than any published file has`;
    throw new FormatError(`${origin}: has ${nValues} values and ${nKeys} keys; wanted at most ${limits}`);
  }
}

/** Reads a record's fields by their types; null counts as absent, as in Hugging Face configs. */
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
    /** Absent where the record has none; else as `positive`. */
    optional(key: string): number | undefined {
      return get(key) === undefined ? undefined : this.positive(key);
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

/** Shows a value in a message, short however large it is. */
export function describe(value: unknown): string {
  if (value === undefined) return 'missing';
  if (isList(value)) return `a list of ${value.length}`;
  if (isRecord(value)) return 'an object';
  if (typeof value !== 'string') return String(value);
  return value.length > MAX_QUOTED ? `${JSON.stringify(value.slice(0, MAX_QUOTED))}…` : JSON.stringify(value);
}
