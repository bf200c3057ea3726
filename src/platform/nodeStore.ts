/** A folder of pages: a file each, with a checksum behind it, the least recently used removed where they are too many. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UnsupportedError } from '../errors.ts';
import { leftoverOf, partialOf } from './nodePartial.ts';

const SUFFIX = '.page';
const DIGEST = 32;

/** As `PageStore`. @throws UnsupportedError where the folder cannot be made or read. */
export function openFolderStore(folder: string, maxBytes: number) {
  /** Bytes of each page; the first was used longest ago. */
  const sizes = new Map<string, number>();
  try {
    mkdirSync(folder, { recursive: true });
    const names = readdirSync(folder);
    for (const name of names) if (leftoverOf(name)?.endsWith(SUFFIX)) rmSync(join(folder, name), { force: true });
    const pages = names
      .filter((name) => name.endsWith(SUFFIX))
      .map((name) => ({ name: name.slice(0, -SUFFIX.length), info: statSync(join(folder, name)) }));
    for (const { name, info } of pages.sort((a, b) => a.info.mtimeMs - b.info.mtimeMs)) sizes.set(name, info.size);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new UnsupportedError(`${folder}: cannot be used for pages (${code ?? message}); give another cacheDir`, {
      cause: error,
    });
  }
  let total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  const pathOf = (name: string) => join(folder, name + SUFFIX);
  const digestOf = (name: string, bytes: Uint8Array) => createHash('sha256').update(name).update(bytes).digest();
  async function remove(name: string): Promise<void> {
    total -= sizes.get(name) ?? 0;
    sizes.delete(name);
    await rm(pathOf(name), { force: true }).catch(() => {});
  }
  return {
    has: (name: string): boolean => sizes.has(name),
    async read(name: string): Promise<Uint8Array | undefined> {
      const bytes = await readFile(pathOf(name)).catch(() => undefined);
      const page = bytes?.subarray(0, -DIGEST);
      if (!page || !bytes?.subarray(-DIGEST).equals(digestOf(name, page))) {
        await remove(name);
        return undefined;
      }
      sizes.delete(name);
      sizes.set(name, bytes.length);
      const now = new Date();
      await utimes(pathOf(name), now, now).catch(() => {});
      return page;
    },
    async write(name: string, bytes: Uint8Array): Promise<void> {
      const size = bytes.length + DIGEST;
      if (sizes.has(name) || size > maxBytes) return;
      for (const oldest of sizes.keys()) {
        if (total + size <= maxBytes) break;
        await remove(oldest);
      }
      const partial = partialOf(pathOf(name));
      try {
        await writeFile(partial, Buffer.concat([bytes, digestOf(name, bytes)]));
        await rename(partial, pathOf(name));
      } catch {
        await rm(partial, { force: true }).catch(() => {});
        return; // the disk is full, or the folder gone
      }
      sizes.set(name, size);
      total += size;
    },
  };
}
