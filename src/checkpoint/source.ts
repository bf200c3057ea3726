/** Bytes by range, wherever they are. A reader asks for what it needs; nothing holds a whole file. */
import { FormatError } from '../errors.ts';

export interface Source {
  /** For messages: the path, the address, or the name of the file. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /**
   * Reads exactly `length` bytes at `offset`.
   * @throws FormatError when the range ends past the end of the file, or the file cannot be read.
   */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** @throws FormatError when the range is not within the file. */
export function checkRange({ name, size }: Pick<Source, 'name' | 'size'>, offset: number, length: number): void {
  if (offset >= 0 && offset + length <= size) return;
  throw new FormatError(
    `${name}: bytes ${offset} to ${offset + length} are wanted, but the file has ${size}; it is truncated or corrupt`,
  );
}

/** Reads a Blob, which a browser keeps on disk where it is a file. */
export function blobSource(blob: Blob, name: string): Source {
  const { size } = blob;
  return {
    name,
    size,
    async read(offset, length) {
      checkRange({ name, size }, offset, length);
      try {
        return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      } catch (error) {
        const advice = 'it may have been changed or moved since it was chosen; choose it again';
        throw new FormatError(`${name}: cannot be read (${(error as Error).message}); ${advice}`, { cause: error });
      }
    },
    async close() {},
  };
}
