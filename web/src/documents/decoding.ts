/** What readers of all kinds of documents share: bytes in some encoding, bounds, and what is said of damage. */
import { FormatError } from 'dualchunk';

/** A text may have so many bytes or characters, more than any model here reads. */
export const MOST_TEXT = 64 * 2 ** 20;

/** What a reader of a kind gives; the title where the file tells one. */
export type Read = (bytes: Uint8Array, name: string) => Promise<{ title?: string; text: string }>;

export const damaged = (name: string, what: string) =>
  new FormatError(`${name}: damaged: ${what}; get the file again, or choose another`);

/** @throws FormatError when the bytes are neither UTF-8, nor UTF-16 with a byte order mark, nor in the encoding named. */
export function decoded(bytes: Uint8Array, name: string, encoding = 'utf-8'): string {
  const [first, second] = bytes;
  const marked = first === 0xff && second === 0xfe ? 'utf-16le' : first === 0xfe && second === 0xff ? 'utf-16be' : '';
  let text: string;
  try {
    text = new TextDecoder(marked || encoding, { fatal: true }).decode(bytes);
  } catch {
    const isBinary = bytes.subarray(0, 4096).includes(0);
    throw new FormatError(isBinary ? binary(name) : `${name}: not valid ${marked || encoding}; save it as UTF-8`);
  }
  if (text.includes('\0')) throw new FormatError(binary(name));
  return text;
}

const binary = (name: string) => `${name}: binary data, not a text; wanted txt, md, html, epub or pdf`;
