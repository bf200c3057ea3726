/**
 * A cursor reads a file's header from front to back. Nothing is allocated that the bytes of the file do not account
 * for.
 */
import { FormatError } from '../errors.ts';
import type { Source } from './source.ts';

/** So many bytes are read at once. */
const PIECE_BYTES = 2 ** 20;

/** This is some five times the longest published header. Parsed, a header may take a few times its size in memory. */
const MAX_HEADER_BYTES = 64 * 2 ** 20;

/** So few characters are cheaper to decode one by one. */
const SHORT = 24;

export class Cursor {
  readonly #source: Source;
  readonly #end: number;
  readonly #utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  /** These are bytes `#start..#start + #bytes.length` of the file. */
  #bytes = new Uint8Array();
  #view = new DataView(this.#bytes.buffer);
  #start: number;
  #at = 0;

  constructor(source: Source, position: number) {
    this.#source = source;
    this.#start = position;
    this.#end = Math.min(source.size, MAX_HEADER_BYTES);
  }

  /** So many bytes of the file stand before what is read next. */
  get position(): number {
    return this.#start + this.#at;
  }

  /** Tells whether the next `n` bytes can be read at once; where it is false, `fill(n)` makes them available. */
  has(n: number): boolean {
    return n <= this.#bytes.length - this.#at;
  }

  /** Makes the next `n` bytes available. @throws FormatError when the header cannot have as many. */
  async fill(n: number): Promise<void> {
    if (this.has(n)) return;
    const { name, size } = this.#source;
    const { position } = this;
    if (n > size - position) {
      throw new FormatError(`${name}: ends at byte ${size}, inside its header; it is truncated, download it again`);
    }
    if (n > this.#end - position) {
      throw new FormatError(`${name}: has a header of more than ${MAX_HEADER_BYTES} bytes; wanted at most as many`);
    }
    this.#bytes = new Uint8Array(
      await this.#source.read(position, Math.min(Math.max(n, PIECE_BYTES), this.#end - position)),
    );
    this.#view = new DataView(this.#bytes.buffer);
    this.#start = position;
    this.#at = 0;
  }

  /** Takes the next `n` bytes, which must be there. They are valid until the next `fill`. */
  take(n: number): Uint8Array {
    this.#at += n;
    return this.#bytes.subarray(this.#at - n, this.#at);
  }

  u32(): number {
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4, true);
  }

  u64(): bigint {
    this.#at += 8;
    return this.#view.getBigUint64(this.#at - 8, true);
  }

  /** Reads a 64-bit length or count as a number; one above 2^53 only has to stay too large. */
  length(): number {
    return this.u32() + 2 ** 32 * this.u32();
  }

  /** Reads a text of `n` bytes, all of them kept. @throws FormatError when they are not UTF-8. */
  text(n: number, what: () => string): string {
    const bytes = this.take(n);
    if (n <= SHORT && bytes.every((byte) => byte < 0x80)) return String.fromCharCode(...bytes);
    try {
      return this.#utf8.decode(bytes);
    } catch (error) {
      throw new FormatError(`${this.#source.name}: ${what()} is not valid UTF-8; convert the model again`, {
        cause: error,
      });
    }
  }
}
