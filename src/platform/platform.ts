/** What differs between the places this library runs in. Entries of the package bind it to one of them. */
import type { Source } from '../checkpoint/source.ts';
import type { PageStore } from '../session/kept.ts';
import type { Machine } from './machine.ts';

/** What gives a file when asked for it, such as a `FileSystemFileHandle` of the origin private file system. */
export interface FileHandle {
  getFile(): Promise<Blob>;
}

/** One file. A `Source` is closed when it has been read. */
export type FileSource = Blob | FileHandle | Source;

/**
 * Where a model is: a .gguf file or the files of a Hugging Face folder. A text is a path, where there is a file system, or
 * an address; the address of a folder ends in `/`. Files that are already at hand are given themselves, those of a folder by
 * their names, such as `config.json`.
 */
export type ModelSource = string | URL | FileSource | ReadonlyMap<string, FileSource> | Record<string, FileSource>;

/** Files in Hugging Face's layout. */
export interface Folder {
  /** For messages. */
  readonly name: string;
  /** Absent where files can only be asked for by name. */
  readonly names?: readonly string[];
  /** Opens a file of the folder; undefined where it has none of that name. @throws FormatError, UnsupportedError */
  open(name: string): Promise<Source | undefined>;
}

export interface Platform {
  readonly machine: Machine;
  /**
   * Opens what the user gives for a model.
   * @throws FormatError when it is not there or cannot be read; UnsupportedError when it is nothing that can be opened.
   */
  openFiles(source: ModelSource): Promise<Source | Folder>;
  /** Opens a folder in which pages are kept. @throws UnsupportedError where it cannot be used. */
  openStore?(folder: string, maxBytes: number): PageStore;
  /**
   * Puts bytes in the place of a file, which holds all of them or is as it was before. Absent where there is no file system.
   * @throws UnsupportedError when they cannot be written.
   */
  replaceFile?(path: string, pieces: AsyncIterable<Uint8Array>): Promise<void>;
}
