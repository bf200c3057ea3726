/** Bytes by range, wherever they are. A reader asks for what it needs; nothing holds a whole file. */
import { open, stat } from 'node:fs/promises';
import { FormatError } from '../errors.ts';

export interface Source {
  /** For messages: the path or address. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /**
   * Reads exactly `length` bytes at `offset`.
   * @throws FormatError when the range ends past the end of the file.
   */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/**
 * Opens a local file.
 * @throws the system's error when it is missing or not readable.
 * @throws FormatError when it, or what it links to, is a pipe, a device or a folder, which might never end.
 */
export async function openFile(path: string): Promise<Source> {
  // Opening a pipe would wait for a writer.
  if (!(await stat(path)).isFile()) {
    throw new FormatError(`${path}: not a regular file but a pipe, a device or a folder; wanted a file of the model`);
  }
  const file = await open(path, 'r');
  const { size } = await file.stat();
  return {
    name: path,
    size,
    async read(offset, length) {
      if (offset < 0 || offset + length > size) {
        throw new FormatError(
          `${path}: bytes ${offset} to ${offset + length} are wanted, but the file has ${size}; it is truncated or corrupt`,
        );
      }
      const bytes = new Uint8Array(length);
      for (let done = 0; done < length; ) {
        const { bytesRead } = await file.read(bytes, done, length - done, offset + done);
        if (bytesRead === 0) throw new FormatError(`${path}: ended at byte ${offset + done} while being read`);
        done += bytesRead;
      }
      return bytes;
    },
    close: () => file.close(),
  };
}
