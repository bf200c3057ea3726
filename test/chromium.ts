/** Headless Chromium for tests, and pages that are bundled for it as users bundle theirs. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';

const ROOT = join(import.meta.dirname, '..');
export const CHROMIUM = '/usr/bin/chromium';

/** Tests are skipped where there is no Chromium, or fail where REQUIRE_WEBGPU is set. */
export const isSkipped = !existsSync(CHROMIUM) && !process.env.REQUIRE_WEBGPU;
if (isSkipped) console.warn(`skipped: ${CHROMIUM} is missing; apt-get install chromium`);

export const launch = (args: string[] = []): Promise<Browser> =>
  chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', ...args] });

/** Makes a page with this script, which may import the package by its name. @returns its folder. */
async function bundledPage(script: string): Promise<{ folder: string; remove(): void }> {
  const { build } = await import('vite');
  const folder = mkdtempSync(join(tmpdir(), 'page-'));
  const entry = join(ROOT, 'test', `pageEntry-${process.pid}-${Math.random().toString(36).slice(2)}.js`);
  writeFileSync(entry, script);
  try {
    await build({
      ...{ root: ROOT, configFile: false, logLevel: 'silent', publicDir: false, base: './' },
      worker: { format: 'es' },
      build: {
        outDir: folder,
        target: 'es2023',
        rollupOptions: { input: entry, output: { entryFileNames: 'main.js' } },
      },
    });
  } finally {
    rmSync(entry);
  }
  writeFileSync(
    join(folder, 'index.html'),
    '<!doctype html><title>page</title><script type="module" src="main.js"></script>',
  );
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

const TYPES: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

/** Serves a folder; what `answer` takes is its own. @returns the address, which ends in `/`. */
export async function serveFolder(
  folder: string,
  answer: (request: IncomingMessage, response: ServerResponse) => boolean = () => false,
): Promise<{ address: string; close(): void }> {
  const server = createServer((request, response) => {
    if (answer(request, response)) return;
    const { pathname } = new URL(request.url ?? '', 'http://host');
    const path = join(folder, pathname.endsWith('/') ? `${pathname}index.html` : pathname);
    if (!existsSync(path)) return response.writeHead(404).end();
    if (statSync(path).isDirectory()) return response.writeHead(404).end();
    response.setHeader('content-type', TYPES[extname(path)] ?? 'application/octet-stream').end(readFileSync(path));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return {
    address,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

export interface OpenPage {
  readonly page: Page;
  /** Errors in the page that nobody caught. */
  readonly faults: string[];
  close(): Promise<void>;
}

/** Opens an address in a browser of its own, which has a new user. */
export async function openPage(address: string, args: string[] = []): Promise<OpenPage> {
  const browser = await launch(args);
  const page = await browser.newPage();
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(String(error)));
  await page.goto(address);
  return { page, faults, close: () => browser.close() };
}

/** Opens a page with this script, which sets a global of this name at its end. @param answer As of `serveFolder`. */
export async function openScript(
  script: string,
  name: string,
  answer?: (request: IncomingMessage, response: ServerResponse) => boolean,
  args: string[] = [],
): Promise<OpenPage> {
  const { folder, remove } = await bundledPage(script);
  const server = await serveFolder(folder, answer);
  const opened = await openPage(server.address, args);
  await opened.page.waitForFunction((name) => name in globalThis, name);
  return {
    ...opened,
    async close() {
      await opened.close();
      server.close();
      remove();
    },
  };
}
