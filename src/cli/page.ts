/** The page, as `serve` serves it beside its routes, and as `dualchunk page` writes it down for any other host. */
import { copyFile, cp, mkdir, readdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { serveStatic } from '@hono/node-server/serve-static';
import { Command } from 'commander';
import { Hono } from 'hono';
import { BUNDLED_BOOK, BUNDLED_MODEL, BUNDLED_PAGE } from '../bundled.ts';
import { UnsupportedError } from '../node.ts';
import { PAGE_HEADERS } from './pageHeaders.ts';
import { note } from './terminal.ts';

/** What lies beside the page, under its own names. */
const BESIDE = [BUNDLED_MODEL, BUNDLED_BOOK];
/** Hosts that read it send its headers. */
const HEADERS_FILE = '_headers';

/** Gives a file of the page; undefined where it has none of that name. */
export function pageFetch(): (request: Request) => Promise<Response | undefined> {
  const app = new Hono();
  app.use(async (c, next) => {
    await next();
    for (const [name, value] of Object.entries(PAGE_HEADERS)) c.res.headers.set(name, value);
  });
  for (const path of BESIDE) app.get(`/${basename(path)}`, serveStatic({ path }));
  app.use(serveStatic({ root: BUNDLED_PAGE }));
  return async (request) => {
    const response = await app.fetch(request);
    return response.status === 404 ? undefined : response;
  };
}

export const pageCommand = (): Command =>
  new Command('page')
    .argument('<folder>', 'where to write it; a folder that is empty, is not there, or holds a page')
    .description('Writes the page, with the bundled model and book, for any static host.')
    .addHelpText(
      'after',
      `
The page computes in the browser; the host only gives files. Threads need two headers, which ${HEADERS_FILE} names for hosts that read
it; elsewhere the page's service worker adds them. dualchunk serve has the same page at /.

Examples:
  $ dualchunk page ./public`,
    )
    .action(writePage);

async function writePage(folder: string): Promise<void> {
  const names = await readdir(folder).catch(({ code }: NodeJS.ErrnoException): string[] => {
    if (code === 'ENOENT') return [];
    throw new UnsupportedError(`${folder}: cannot be read (${code}); wanted a folder`);
  });
  if (names.length > 0 && !(names.includes(HEADERS_FILE) && names.includes('serviceWorker.js'))) {
    throw new UnsupportedError(
      `${folder}: holds something else (${names[0]}); wanted a folder that is empty or holds a page`,
    );
  }
  try {
    await mkdir(folder, { recursive: true });
    await cp(BUNDLED_PAGE, folder, { recursive: true });
    for (const path of BESIDE) await copyFile(path, join(folder, basename(path)));
    const headers = Object.entries(PAGE_HEADERS).map(([name, value]) => `  ${name}: ${value}\n`);
    await writeFile(join(folder, HEADERS_FILE), `/*\n${headers.join('')}`);
  } catch (error) {
    throw new UnsupportedError(`${folder}: cannot be written (${(error as NodeJS.ErrnoException).code})`);
  }
  note(`the page is in ${folder}; any static host can serve it`);
}
