/** Models from the file system, by path or `file:` URL; all else is opened as on the web. */
import { open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkRange, type Source } from '../checkpoint/source.ts';
import { FormatError, UnsupportedError } from '../errors.ts';
import { nodeMachine } from './nodeMachine.ts';
import { leftoverOf, partialOf } from './nodePartial.ts';
import { openFolderStore } from './nodeStore.ts';
import type { Folder, Platform } from './platform.ts';
import { web } from './web.ts';

const WANTED = 'give the path of a .gguf file or of a Hugging Face folder';

export const node: Platform = {
  machine: nodeMachine,
  replaceFile,
  openStore: openFolderStore,
  async openFiles(source) {
    if (source === '') throw new UnsupportedError(`the path of the model is empty; ${WANTED}`);
    if (typeof source === 'string' && !/^(https?|file):\/\//i.test(source)) return openPath(source);
    const isLocal = (typeof source === 'string' || source instanceof URL) && /^file:/i.test(String(source));
    return isLocal ? openPath(pathOf(source)) : web.openFiles(source);
  },
};

function pathOf(url: string | URL): string {
  try {
    return fileURLToPath(url);
  } catch (error) {
    const fault = `the model is at ${String(url)}, which is no path here (${(error as Error).message})`;
    throw new UnsupportedError(`${fault}; ${WANTED}`, { cause: error });
  }
}

async function openPath(path: string): Promise<Source | Folder> {
  const info = await stat(path).catch(() => undefined);
  if (info?.isFile()) return openFile(path);
  if (!info?.isDirectory()) {
    throw new FormatError(`${info ? 'neither a file nor a folder' : 'no such file or folder'}: ${path}; ${WANTED}`);
  }
  const listing = await readdir(path, { withFileTypes: true }).catch(unreadable(path));
  const names = listing.filter((entry) => entry.isFile() || entry.isSymbolicLink()).map(({ name }) => name);
  const openNamed = async (name: string) => (names.includes(name) ? openFile(join(path, name)) : undefined);
  return { name: path, names, open: openNamed };
}

/**
 * Opens a local file.
 * @throws FormatError when it is missing or not readable, or when it, or what it links to, is a pipe, a device or a folder,
 *   which might never end.
 */
export async function openFile(path: string): Promise<Source> {
  const fail = unreadable(path);
  // Opening a pipe would wait for a writer.
  if (!(await stat(path).catch(fail)).isFile()) {
    throw new FormatError(`${path}: not a regular file but a pipe, a device or a folder; wanted a file of the model`);
  }
  const file = await open(path, 'r').catch(fail);
  const { size } = await file.stat();
  return {
    name: path,
    size,
    async read(offset, length) {
      checkRange({ name: path, size }, offset, length);
      const bytes = new Uint8Array(length);
      for (let done = 0; done < length; ) {
        const { bytesRead } = await file.read(bytes, done, length - done, offset + done).catch(fail);
        if (bytesRead === 0) throw new FormatError(`${path}: ended at byte ${offset + done} while being read`);
        done += bytesRead;
      }
      return bytes;
    },
    close: () => file.close(),
  };
}

async function replaceFile(path: string, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  await removeLeftovers(path);
  const partial = partialOf(path);
  const fail = (error: NodeJS.ErrnoException): never => {
    if (error.code === undefined || error.syscall === undefined) throw error; // the pieces themselves could not be had
    const why = error.code === 'ENOSPC' || error.code === 'EDQUOT' ? 'the disk is full' : error.code;
    throw new UnsupportedError(`${path}: cannot be written (${why}); what was there before is unchanged`, {
      cause: error,
    });
  };
  const file = await open(partial, 'wx').catch(fail);
  try {
    for await (const piece of pieces) await file.writeFile(piece);
    await file.sync();
    await file.close();
    await rename(partial, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await file.close().catch(() => {});
    await rm(partial, { force: true });
    fail(error as NodeJS.ErrnoException);
  }
}

/** Removes what processes that are gone have left of this file. */
async function removeLeftovers(path: string): Promise<void> {
  const names = await readdir(dirname(path)).catch(() => []);
  for (const name of names) {
    if (leftoverOf(name) === basename(path)) await rm(join(dirname(path), name), { force: true });
  }
}

/** Makes a new name last through a loss of power; not every system lets folders be opened. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r').catch(() => undefined);
  await folder?.sync().catch(() => {});
  await folder?.close();
}

/** The system's error as one of ours. */
const unreadable =
  (path: string) =>
  (error: NodeJS.ErrnoException): never => {
    throw new FormatError(`${path}: cannot be read (${error.code ?? error.message})`, { cause: error });
  };
