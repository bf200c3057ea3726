/** A message has so many characters at most; what a file puts into one may be endless. */
const MAX_LENGTH = 2000;
/** So many of them are kept of its end, where the advice is. */
const END_LENGTH = 400;

/** An error whose text may quote a file: it is one line of bounded length, and no terminal obeys what stands in it. */
class SafeError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(shortened(escaped(shortened(message))), options); // an escape is longer than what it stands for
  }
}

const shortened = (text: string): string =>
  text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH - END_LENGTH)}…${text.slice(-END_LENGTH)}` : text;

/** Writes a character below U+10000 as JSON does, such as \u001b, so that it is shown and not obeyed. */
export const escapeOf = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** Escapes control characters, line ends and changes of direction. */
const escaped = (text: string): string =>
  text.replace(/[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, escapeOf);

/** The bytes are not what they claim to be: a truncated, corrupt or hostile file. */
export class FormatError extends SafeError {
  override name = 'FormatError';
}

/** The request is well formed, but outside what this library does or what this machine can hold. */
export class UnsupportedError extends SafeError {
  override name = 'UnsupportedError';
}

/** The threads or the GPU that a model computes on are gone: nothing can be computed until it is opened again. */
export class LostError extends UnsupportedError {
  override name = 'LostError';
}

/** Tells an object of JSON, or what stands for one, such as a vocabulary. */
export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Options are an object of named values, so neither a list nor a set. */
export const isOptions = (value: unknown): value is Record<string, unknown> =>
  isRecord(value) && !(Symbol.iterator in value);

/** Shows a value in a message, short and on one line. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value !== 'object' || value === null) return String(value);
  return Array.isArray(value) ? 'a list' : `an object (${value.constructor?.name ?? 'no class'})`;
}
