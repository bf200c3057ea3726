/**
 * Models and sessions in the origin private file system. A file lies under a number of its own beside a record, `NUMBER.json`, that
 * names it, so that a new file takes the place of an old one only when it is whole. It needs a worker: only there do files grow in place.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { hexOf } from '../bytes.ts';
import { FormatError, isRecord, shown, UnsupportedError } from '../errors.ts';
import type { Session } from '../session/session.ts';
import { itemsOf } from '../streams.ts';
import { type Download, openDownload, StalledError, versionOf } from './download.ts';

export interface StoredFile {
  readonly name: string;
  readonly kind: 'model' | 'session';
  /** Bytes that are here. */
  readonly bytes: number;
  /** Bytes of the whole, as far as they are known. */
  readonly totalBytes?: number;
  readonly isWhole: boolean;
  /** It was downloaded from there; what stands behind a `?` may be secret, and is left out. */
  readonly url?: string;
  /** ETag or date that the server gave. */
  readonly version?: string;
  /** Of a whole file that was downloaded. */
  readonly sha256?: string;
  /** Milliseconds since 1970. */
  readonly savedAt: number;
  /** What was given when it was kept; anything that JSON holds. */
  readonly about?: unknown;
}

export interface KeepOptions {
  /** Default: `session` of a session, else `model`. */
  kind?: StoredFile['kind'];
  about?: unknown;
  signal?: AbortSignal;
  /** Called with bytes written of bytes to write; of a session with pages. */
  onProgress?: (done: number, total: number) => void;
}

export interface DownloadOptions {
  /** Default: the address up to its `?`. */
  name?: string;
  /** 64 hexadecimal digits; what has another checksum is thrown away. Default: what the server says, if it says one. */
  sha256?: string;
  about?: unknown;
  signal?: AbortSignal;
  /** Called with bytes that are here of all; the total is 0 while nobody knows it. */
  onProgress?: (done: number, total: number) => void;
}

const FOLDER = 'dualchunk';
/** Bytes that are read at a time for a checksum. */
const PIECE = 2 ** 22;
/** Times that a download is taken up again without a byte in between, and in all. */
const MOST_FAILURES = 3;
const MOST_ATTEMPTS = 100;

type StoredRecord = Omit<StoredFile, 'bytes'>;

/** Files that are written in place; the compiler's library has them for workers alone. */
interface SyncHandle {
  read(bytes: Uint8Array, options: { at: number }): number;
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

type WorkerFileHandle = FileSystemFileHandle & { createSyncAccessHandle(): Promise<SyncHandle> };

interface Entry {
  readonly id: string;
  readonly record: StoredRecord;
}

export class Storage {
  #folder?: Promise<FileSystemDirectoryHandle>;

  /** What is kept, the newest first. What was broken off while it was kept is removed. */
  async list(): Promise<StoredFile[]> {
    const folder = await this.#open();
    const files: StoredFile[] = [];
    for (const { id, record } of await this.#entries()) {
      const file = await (await folder.getFileHandle(id)).getFile();
      files.push({ ...record, bytes: file.size });
    }
    return files.sort((a, b) => b.savedAt - a.savedAt);
  }

  /** Bytes that the origin uses and may use, and whether the browser has promised not to throw them away. */
  async room(): Promise<{ used: number; quota: number; isPersistent: boolean }> {
    const { usage = 0, quota = 0 } = await navigator.storage.estimate();
    return { used: usage, quota, isPersistent: await navigator.storage.persisted() };
  }

  /**
   * Downloads a file, or the rest of one whose beginning is here and has not changed on the server; one that is here is given at once,
   * and without a network too. Breaks of the connection are taken up again.
   *
   * @throws FormatError when the server refuses, stalls or sends something else, or the checksum is wrong; UnsupportedError when there
   *   is no room; the reason of `signal`. What had come stays for the next call, but for what has a wrong checksum.
   */
  async download(url: string | URL, options: DownloadOptions = {}): Promise<File> {
    const address = new URL(url, globalThis.location?.href);
    const { name = address.origin + address.pathname } = options;
    return this.#locked(name, async () => {
      const found = await this.#find(name, true);
      const isExpected = options.sha256 === undefined || options.sha256.toLowerCase() === found?.record.sha256;
      if (found && isExpected && (await isCurrent(address, found.record, options.signal))) return this.#file(found);
      for (let [failures, attempts] = [0, 1]; ; attempts++) {
        const before = await this.#partOf(name);
        try {
          return await this.#fetch(address, name, options);
        } catch (error) {
          const isBroken = error instanceof TypeError || error instanceof StalledError;
          if (!isBroken || options.signal?.aborted) throw error;
          failures = (await this.#partOf(name)) > before ? 1 : failures + 1;
          if (failures > MOST_FAILURES || attempts === MOST_ATTEMPTS) {
            throw new FormatError(`${name}: the connection broke (${error.message}); try again, what came is kept`);
          }
        }
      }
    });
  }

  /**
   * Keeps a file or a session, a piece at a time, in the place of what had its name.
   * @throws UnsupportedError when there is no room; what had the name is then still there.
   */
  async keep(name: string, source: Blob | Session, options: KeepOptions = {}): Promise<File> {
    const isFile = source instanceof Blob;
    const { kind = isFile ? 'model' : 'session', about, signal, onProgress } = options;
    if (name === '') throw new UnsupportedError('the name is empty; wanted a text');
    return this.#locked(name, async () => {
      if (isFile) await checkRoom(name, source.size);
      const stream = isFile ? source.stream() : source.stream({ signal, onProgress });
      const entry = await this.#begin({ name, kind, isWhole: false, savedAt: Date.now(), about });
      try {
        const handle = await this.#handle(entry.id);
        let done = 0;
        try {
          signal?.throwIfAborted();
          for await (const piece of itemsOf(stream)) {
            write(handle, piece, done, name);
            done += piece.length;
            if (isFile) onProgress?.(done, source.size);
            signal?.throwIfAborted();
          }
          handle.flush();
        } finally {
          handle.close();
        }
        return await this.#finish(entry, { isWhole: true, totalBytes: done });
      } catch (error) {
        await this.#discard(entry.id);
        throw error;
      }
    });
  }

  /** @throws UnsupportedError when nothing has that name, or only a part of it is here. */
  async open(name: string): Promise<File> {
    const found = await this.#find(name, true);
    if (found) return this.#file(found);
    if (await this.#find(name, false)) {
      throw new UnsupportedError(`only a part of ${shown(name)} is here; download it again`);
    }
    throw new UnsupportedError(`${shown(name)} is not kept here; list() tells what is`);
  }

  /** Nothing of that name is there afterwards. */
  async remove(name: string): Promise<void> {
    await this.#locked(name, async () => {
      for (const { id, record } of await this.#entries()) if (record.name === name) await this.#discard(id);
    });
  }

  // --- internal ---

  /** Goes on with what is here of a file. */
  async #fetch(address: URL, name: string, { signal, onProgress, about, ...options }: DownloadOptions): Promise<File> {
    let entry = await this.#find(name, false);
    const have = entry ? (await this.#file(entry)).size : 0;
    const download = await openDownload(address, have, entry?.record.version, signal);
    const { version, totalBytes, start } = download;
    const expected = (options.sha256 ?? download.sha256)?.toLowerCase();
    try {
      if (totalBytes !== undefined) await checkRoom(name, totalBytes - start);
      if (!entry || start === 0) {
        const url = address.origin + address.pathname;
        const more = { url, version, totalBytes, about };
        const record = { name, kind: 'model' as const, isWhole: false, savedAt: Date.now(), ...more };
        const replaced = entry;
        entry = await this.#begin(record);
        if (replaced) await this.#discard(replaced.id);
      }
      const { digest, bytes } = await this.#write(entry.id, download, name, onProgress);
      if (expected !== undefined && digest !== expected) {
        await this.#discard(entry.id);
        throw new FormatError(`${name}: its SHA-256 is ${digest}, where ${expected} was expected; download it again`);
      }
      return await this.#finish(entry, { isWhole: true, sha256: digest, totalBytes: bytes });
    } finally {
      await download.body.cancel().catch(() => {});
    }
  }

  /** Writes a download behind what is here. @returns the checksum and the length of the whole. */
  async #write(
    id: string,
    download: Download,
    name: string,
    onProgress?: DownloadOptions['onProgress'],
  ): Promise<{ digest: string; bytes: number }> {
    const { start, totalBytes, pieces } = download;
    const handle = await this.#handle(id);
    const hash = sha256.create();
    try {
      handle.truncate(start);
      for (let at = 0; at < start; at += PIECE) {
        const piece = new Uint8Array(Math.min(PIECE, start - at));
        handle.read(piece, { at });
        hash.update(piece);
      }
      let done = start;
      onProgress?.(done, totalBytes ?? 0);
      for await (const piece of pieces) {
        if (done + piece.length > (totalBytes ?? Infinity)) {
          throw new FormatError(`${name}: more came than the ${totalBytes} bytes that were said; take another server`);
        }
        write(handle, piece, done, name);
        hash.update(piece);
        done += piece.length;
        onProgress?.(done, totalBytes ?? 0);
      }
      if (totalBytes !== undefined && done !== totalBytes) throw new TypeError(`${done} of ${totalBytes} bytes came`);
      return { digest: hexOf(hash.digest()), bytes: done };
    } finally {
      handle.flush();
      handle.close();
    }
  }

  #open(): Promise<FileSystemDirectoryHandle> {
    this.#folder ??= openFolder().catch((error: Error) => {
      this.#folder = undefined;
      throw new UnsupportedError(
        `this browser keeps no files for this page (${error.message}); it does at https: and localhost, in windows that are not private`,
      );
    });
    return this.#folder;
  }

  /** Records that can be read, and clears away what was broken off and cannot go on. */
  async #entries(): Promise<Entry[]> {
    const folder = await this.#open();
    const names = new Set<string>();
    for await (const name of folder.keys()) names.add(name);
    const entries: Entry[] = [];
    for (const id of [...names].filter((name) => !name.endsWith('.json'))) {
      const record = names.has(`${id}.json`) ? await readRecord(folder, id) : undefined;
      if (record?.isWhole || record?.url !== undefined) entries.push({ id, record });
      else if (!record || !(await isLocked(record.name))) await this.#discard(id);
    }
    return entries;
  }

  /** The newest file of a name, of those that are whole or of those that are not. */
  async #find(name: string, isWhole: boolean): Promise<Entry | undefined> {
    const found = (await this.#entries()).filter(({ record }) => record.name === name && record.isWhole === isWhole);
    return found.sort((a, b) => b.record.savedAt - a.record.savedAt)[0];
  }

  /** Bytes that have come of a file that is not whole. */
  async #partOf(name: string): Promise<number> {
    const found = await this.#find(name, false);
    return found ? (await this.#file(found)).size : 0;
  }

  async #file({ id, record: { name } }: Entry): Promise<File> {
    const file = await (await (await this.#open()).getFileHandle(id)).getFile();
    return new File([file], name, { lastModified: file.lastModified }); // it has only its number as a name
  }

  async #handle(id: string): Promise<SyncHandle> {
    const file = (await (await this.#open()).getFileHandle(id, { create: true })) as WorkerFileHandle;
    return file.createSyncAccessHandle();
  }

  async #begin(record: StoredRecord): Promise<Entry> {
    const entry = { id: crypto.randomUUID(), record };
    await this.#note(entry);
    (await this.#handle(entry.id)).close();
    return entry;
  }

  /** Makes a file the one of its name. */
  async #finish({ id, record }: Entry, more: Partial<StoredRecord>): Promise<File> {
    const whole = { id, record: { ...record, ...more, savedAt: Date.now() } };
    await this.#note(whole);
    for (const other of await this.#entries()) {
      if (other.record.name === record.name && other.id !== id) await this.#discard(other.id);
    }
    return this.#file(whole);
  }

  async #note({ id, record }: Entry): Promise<void> {
    const handle = await this.#handle(`${id}.json`);
    const bytes = new TextEncoder().encode(JSON.stringify(record));
    try {
      handle.truncate(0);
      write(handle, bytes, 0, record.name);
      handle.flush();
    } finally {
      handle.close();
    }
  }

  async #discard(id: string): Promise<void> {
    const folder = await this.#open();
    for (const name of [id, `${id}.json`]) await folder.removeEntry(name).catch(() => {});
  }

  /** One call a name at a time, in all tabs. */
  async #locked<T>(name: string, call: () => Promise<T>): Promise<T> {
    await this.#open(); // where files can be kept, there are locks
    return navigator.locks.request(lockOf(name), call) as Promise<T>;
  }
}

async function openFolder(): Promise<FileSystemDirectoryHandle> {
  if (!navigator.storage?.getDirectory) throw new Error('it has no file system');
  return (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
}

const lockOf = (name: string) => `${FOLDER} ${name}`;

const isLocked = async (name: string): Promise<boolean> =>
  (await navigator.locks.query()).held?.some((lock) => lock.name === lockOf(name)) ?? false;

async function readRecord(folder: FileSystemDirectoryHandle, id: string): Promise<StoredRecord | undefined> {
  try {
    const record: unknown = JSON.parse(await (await (await folder.getFileHandle(`${id}.json`)).getFile()).text());
    return isRecord(record) && typeof record.name === 'string' ? (record as unknown as StoredRecord) : undefined;
  } catch {
    return undefined; // it was broken off
  }
}

/** Whether the server still has the version that is here. Without a network it is what there is. */
async function isCurrent(address: URL, { version, totalBytes }: StoredRecord, signal?: AbortSignal): Promise<boolean> {
  const now = await versionOf(address, signal).catch((error) => {
    if (signal?.aborted) throw error;
    return undefined;
  });
  return now === undefined || (now.version === version && (now.totalBytes ?? totalBytes) === totalBytes);
}

/** @throws UnsupportedError when so many bytes more do not fit. */
async function checkRoom(name: string, bytes: number): Promise<void> {
  const { usage = 0, quota = Infinity } = await navigator.storage.estimate();
  if (usage + bytes <= quota) return;
  const mib = (value: number) => `${Math.ceil(value / 2 ** 20)} MiB`;
  throw new UnsupportedError(
    `${name}: ${mib(bytes)} are wanted, and this browser has ${mib(Math.max(0, quota - usage))} left for this page; remove something that is kept`,
  );
}

/** @throws UnsupportedError when not all of it was written. */
function write(handle: SyncHandle, bytes: Uint8Array, at: number, name: string): void {
  let written = 0;
  try {
    written = handle.write(bytes, { at });
  } catch (error) {
    throw new UnsupportedError(
      `${name}: cannot be written (${(error as Error).message}); remove something that is kept`,
    );
  }
  if (written < bytes.length) throw new UnsupportedError(`${name}: the disk is full; remove something that is kept`);
}
