/** The page in Chromium, as a user has it: the built files, the bundled model, a real book. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AxeBuilder } from '@axe-core/playwright';
import { serve } from '@hono/node-server';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pageFetch } from '../src/cli/page.ts';
import { isSkipped, launch, serveFolder } from './chromium.ts';

const ROOT = join(import.meta.dirname, '..');
const MODEL = join(ROOT, 'books-16m/books-16m.Q8_0.gguf');
const BOOK = readFileSync(join(ROOT, 'texts/dracula.txt'));
/** The page as `dualchunk serve` gives it. @returns the address, which ends in `/`. */
async function served(): Promise<{ address: string; close(): void }> {
  const page = pageFetch();
  const fetch = async (request: Request) => (await page(request)) ?? new Response(null, { status: 404 });
  const server = await new Promise<ReturnType<typeof serve>>((resolve) => {
    const made = serve({ fetch, port: 0, hostname: '127.0.0.1' }, () => resolve(made));
  });
  return { address: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, close: () => void server.close() };
}

/** Milliseconds of tasks that held up the page, as the page sees them. */
declare const longTasks: number[];

describe.skipIf(isSkipped)('the page', { timeout: 240_000 }, () => {
  let browser: Browser;
  let address: string;
  const ends: (() => unknown)[] = [];
  beforeAll(async () => {
    browser = await launch();
    const server = await served();
    ({ address } = server);
    ends.push(() => browser.close(), server.close);
  }, 60_000);
  afterAll(async () => {
    for (const end of ends) await end();
  });

  /** Opens the page as a new user, and tells what went wrong in it and which requests left the machine. */
  async function open(options: BrowserContextOptions = {}) {
    const page = await (await browser.newContext(options)).newPage();
    const faults: string[] = [];
    page.on('pageerror', (error) => faults.push(String(error)));
    page.on('console', (message) => {
      if (message.type() === 'error') faults.push(message.text());
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(address) && !request.url().startsWith(`blob:${address}`))
        faults.push(request.url());
    });
    await page.addInitScript(() => {
      crypto.getRandomValues = (numbers) =>
        (numbers as unknown as Uint32Array).fill(31_415).map((n, nth) => n * (nth + 3)) as never; // the same keys each time
      const tasks: number[] = [];
      Object.assign(globalThis, { longTasks: tasks });
      new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) tasks.push(duration);
      }).observe({ type: 'longtask' });
    });
    await page.goto(address);
    return { page, faults };
  }
  const button = (page: Page, name: string | RegExp) =>
    page.getByRole('button', { name, exact: typeof name === 'string' });
  const said = (page: Page) => page.getByRole('progressbar', { name: 'Tokens read' }).getAttribute('aria-valuetext');

  async function loadBundled(page: Page, context = '8192') {
    await button(page, 'Use the bundled model').click();
    await page.getByLabel('Context, in tokens').selectOption(context);
    await button(page, 'Load').click();
    await page.getByText(/^Loaded: context/).waitFor();
  }
  /** What was said to the last question, with DCA and without. */
  const marks = (page: Page) => page.locator('.exchanges li').last().locator('.right, .wrong').allTextContents();

  // On a machine that others use too, a page may wait for a core; it is looked at again then.
  it('reads a book that is dropped, stops, goes on, and finds a key in it with DCA and not without', {
    retry: 2,
  }, async () => {
    const { page, faults } = await open();
    await page.getByText(/WebAssembly with relaxed SIMD, \d+ threads?/).waitFor();
    await loadBundled(page);
    const transfer = await page.evaluateHandle((text) => {
      const files = new DataTransfer();
      files.items.add(new File([text], 'book.txt', { type: 'text/plain' }));
      return files;
    }, BOOK.toString());
    // Making the file took its time too.
    await page.evaluate(() => longTasks.splice(0));
    await page.locator('main').dispatchEvent('drop', { dataTransfer: transfer });
    await expect.poll(() => said(page), { timeout: 60_000 }).toMatch(/^reading: [1-9]/);
    await button(page, 'Stop reading').click();
    await button(page, 'Go on').waitFor();
    const stopped = Number(/stopped at ([\d,]+)/.exec((await said(page)) ?? '')?.[1].replace(',', ''));
    expect(stopped).toBeGreaterThan(0);
    await button(page, 'Go on').click();
    await button(page, 'Save what was read').waitFor({ timeout: 120_000 });
    const [, read] = /^read: ([\d,]+) tokens/.exec((await said(page)) ?? '') ?? [];
    expect(Number(read.replace(',', ''))).toBeGreaterThan(7700);
    expect(stopped).toBeLessThan(Number(read.replace(',', '')));
    const blocked = await page.evaluate(() => longTasks);
    expect(blocked.filter((milliseconds) => milliseconds > 50)).toEqual([]);

    // A model of 16 million parameters may miss one of five.
    const right: boolean[] = [];
    for (const holder of ['Alice', 'Daniel', 'Florence', 'Harold', 'Martha']) {
      await button(page, new RegExp(`^${holder}’s key`)).click();
      await expect.poll(() => page.locator('.exchanges li').count()).toBe(right.length + 1);
      await expect.poll(() => marks(page), { timeout: 30_000 }).toHaveLength(1);
      right.push((await marks(page))[0] === '✓ right');
    }
    expect(right.filter(Boolean).length).toBeGreaterThanOrEqual(4);
    const found = ['Alice', 'Daniel', 'Florence'][right.indexOf(true)];
    await page.getByLabel(/Answer without DCA too/).check();
    await button(page, new RegExp(`^${found}’s key`)).click();
    await expect.poll(() => page.locator('.exchanges li').count()).toBe(6);
    await expect.poll(() => marks(page), { timeout: 180_000 }).toHaveLength(2);
    const [withDca, without] = await marks(page);
    expect(withDca).toBe('✓ right');
    expect(without).toMatch(/^✗ it is \d{5}$/);

    // What was read is kept over a reload, and answers without reading again.
    await button(page, 'Save what was read').click();
    await page.getByRole('heading', { name: 'Read before' }).waitFor({ timeout: 60_000 });
    await page.reload();
    await button(page, /^Reopen book/).click();
    await expect.poll(() => said(page), { timeout: 60_000 }).toMatch(/^read: /);
    await button(page, new RegExp(`^${found}’s key`)).click();
    await expect.poll(() => marks(page), { timeout: 30_000 }).toEqual(['✓ right']);
    await button(page, 'Remove book').click();
    await page.getByRole('heading', { name: 'Read before' }).waitFor({ state: 'detached' });
    expect(faults).toEqual([]);
  });

  it('says what is wrong with a file, and keeps what there is', async () => {
    const { page } = await open();
    await loadBundled(page, '2048');
    const bytes = readFileSync(MODEL).subarray(0, 2_000_000);
    await page.getByLabel('Open a .gguf file').setInputFiles({ name: 'cut.gguf', mimeType: '', buffer: bytes });
    await expect.poll(() => page.getByRole('alert').textContent()).toMatch(/cut\.gguf: .*truncated or corrupt/);
    await page
      .getByLabel('Open a text')
      .setInputFiles({ name: 'no.txt', mimeType: 'text/plain', buffer: Buffer.alloc(0) });
    await expect.poll(() => page.getByRole('alert').textContent()).toMatch(/no\.txt: .*empty/);
    await page
      .getByLabel('Open a text')
      .setInputFiles({ name: 'a.md', mimeType: '', buffer: BOOK.subarray(0, 20_000) });
    await button(page, 'Save what was read').waitFor({ timeout: 60_000 });
    expect(await page.getByText(/^Loaded: context 2,048/).count()).toBe(1);
    await page.getByLabel(/Address of a .gguf file/).fill(`${address}nothing.gguf`);
    await button(page, 'Download').click();
    await expect
      .poll(() => page.getByRole('alert').textContent())
      .toMatch(/nothing\.gguf: there is no such file \(404\)/);
  });

  it('tells that the worker is gone, and reads on after the model was loaded again', async () => {
    const { page } = await open();
    await page.getByLabel('Open a .gguf file').setInputFiles(MODEL);
    await page.getByLabel('Context, in tokens').selectOption('1024');
    await button(page, 'Load').click();
    await page.getByText(/^Loaded: context/).waitFor();
    await page
      .getByLabel('Open a text')
      .setInputFiles({ name: 'a.txt', mimeType: '', buffer: BOOK.subarray(0, 20_000) });
    await button(page, 'Save what was read').waitFor({ timeout: 60_000 });
    const [worker] = page.workers();
    await worker.evaluate(() => {
      setTimeout(() => {
        throw new Error('out of memory');
      });
    });
    await button(page, /^Alice’s key/).click();
    await expect.poll(() => page.getByRole('alert').textContent()).toMatch(/the worker has failed .*out of memory/);
    await button(page, 'Load the model again').click();
    await page.getByText(/^Loaded: context 1,024/).waitFor(); // as it was chosen
    await button(page, 'Save what was read').waitFor({ timeout: 60_000 });
    await button(page, /^Alice’s key/).click();
    await expect.poll(() => marks(page), { timeout: 30_000 }).toEqual(['✓ right']);
  });

  it('reads a text that was there first, then more with a larger context, whatever is chosen beside it', async () => {
    const { page, faults } = await open();
    await button(page, 'Read Dracula').click();
    await page.getByText('It waits for a model.').waitFor();
    await loadBundled(page, '1024');
    const most = () => page.getByRole('progressbar', { name: 'Tokens read' }).getAttribute('aria-valuemax');
    await button(page, 'Save what was read').waitFor({ timeout: 60_000 });
    expect(await most()).toBe('1024');
    await page.getByLabel('Context, in tokens').selectOption('16384');
    await page.getByText(/^94 MiB of memory/).waitFor();
    expect(await most()).toBe('1024');
    await button(page, 'Read more, with a context of 2,048 tokens').click();
    await page.getByText(/^Loaded: context 2,048/).waitFor();
    await expect.poll(() => said(page), { timeout: 60_000 }).toMatch(/^read: 1,[6-9]\d\d tokens/);
    expect(await most()).toBe('2048');
    expect(faults).toEqual([]);
  });

  it('keeps a file that was chosen, so that what it has read is opened again', async () => {
    const { page, faults } = await open();
    await page.getByLabel('Open a .gguf file').setInputFiles(MODEL);
    await button(page, 'Keep this model here').click();
    await page.getByRole('list', { name: 'Models kept here' }).waitFor({ timeout: 60_000 });
    await button(page, 'Keep this model here').waitFor({ state: 'detached' });
    await page.getByLabel('Context, in tokens').selectOption('2048');
    await button(page, 'Load').click();
    await button(page, 'Read Dracula').click();
    await button(page, 'Save what was read').click({ timeout: 60_000 });
    await page.getByRole('heading', { name: 'Read before' }).waitFor({ timeout: 60_000 });
    await page.reload();
    await button(page, /^Reopen Dracula/).click();
    await button(page, /^Alice’s key/).click({ timeout: 60_000 });
    await expect.poll(() => marks(page), { timeout: 30_000 }).toEqual(['✓ right']);
    expect(faults).toEqual([]);
  });

  it('keeps a model that was downloaded, opens it again, and removes it', async () => {
    const { page, faults } = await open();
    await page.getByLabel(/Address of a .gguf file/).fill(`${address}books-16m.Q8_0.gguf`);
    await button(page, 'Download').click();
    await button(page, 'Load').waitFor({ timeout: 60_000 });
    await page.reload();
    await button(page, /^Open http/).click();
    await page.getByText(/trained to read 1,024 tokens/).waitFor();
    await button(page, /^Remove http/).click();
    await page.getByRole('list', { name: 'Models kept here' }).waitFor({ state: 'detached' });
    expect(faults).toEqual([]);
  });

  it('measures perplexity and pass keys against length', async () => {
    const { page, faults } = await open();
    await button(page, 'Measure the bundled model').click();
    await button(page, 'Start measuring').click();
    await expect.poll(() => page.getByRole('status').last().textContent(), { timeout: 200_000 }).toBe('done');
    const rows = await page.locator('table tbody tr').allTextContents();
    const of = (row: string) =>
      [...row.matchAll(/(\d+\.\d), keys (\d+)%/g)].map(([, ppl, keys]) => [Number(ppl), Number(keys)]);
    const [[plain, plainKeys], [dca, dcaKeys]] = of(rows.at(-1) ?? '');
    expect(dca).toBeLessThan(plain / 3);
    expect(dcaKeys).toBeGreaterThanOrEqual(75);
    expect(plainKeys).toBeLessThan(50);
    expect(await page.locator('.chart canvas').count()).toBe(2);
    expect(faults).toEqual([]);
  });

  it.each([
    { name: 'in light', options: { colorScheme: 'light' } },
    { name: 'in the dark', options: { colorScheme: 'dark' } },
    { name: 'on a phone', options: { viewport: { width: 360, height: 740 }, hasTouch: true } },
  ] as const)('is accessible $name', async ({ options }) => {
    const { page } = await open(options);
    const findings = async () => {
      const { violations } = await new AxeBuilder({ page }).analyze();
      return violations.map(({ id, impact, nodes }) => `${id} (${impact}): ${nodes[0].html}`);
    };
    await page.getByText('Computes on:').waitFor();
    expect(await findings()).toEqual([]);
    await loadBundled(page, '2048');
    await page
      .getByLabel('Open a text')
      .setInputFiles({ name: 'a.txt', mimeType: '', buffer: BOOK.subarray(0, 20_000) });
    await button(page, /^Alice’s key/).click({ timeout: 60_000 });
    await expect.poll(() => marks(page), { timeout: 30_000 }).toHaveLength(1);
    expect(await findings()).toEqual([]);
    const { scroll, client } = await page.evaluate(() => {
      const { scrollWidth: scroll, clientWidth: client } = document.documentElement;
      return { scroll, client };
    });
    expect(scroll).toBeLessThanOrEqual(client); // nothing stands out to the side
  });

  it('is used by keyboard alone', async () => {
    const { page } = await open();
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('Use the bundled model');
    await page.keyboard.press('Enter');
    const load = button(page, 'Load');
    await load.waitFor();
    for (
      let presses = 0;
      presses < 20 && !(await load.evaluate((node) => node === document.activeElement));
      presses++
    ) {
      await page.keyboard.press('Tab');
    }
    await page.keyboard.press('Enter');
    await page.getByText(/^Loaded: context/).waitFor();
  });

  it('opens and answers without a network, once it was open', async () => {
    const { page, faults } = await open();
    await loadBundled(page, '2048');
    await page.evaluate(() => navigator.serviceWorker.ready);
    await button(page, 'Read Dracula').click();
    await button(page, 'Save what was read').click({ timeout: 60_000 });
    await page.getByRole('heading', { name: 'Read before' }).waitFor({ timeout: 60_000 });
    await page.context().setOffline(true);
    await page.reload();
    await button(page, /^Reopen Dracula/).click();
    await button(page, /^Alice’s key/).click({ timeout: 60_000 });
    await expect.poll(() => marks(page), { timeout: 30_000 }).toEqual(['✓ right']);
    expect(faults).toEqual([]);
  });

  it('is served with the headers that it wants, and nothing beside it', async () => {
    const { headers, status } = await fetch(address);
    expect(status).toBe(200);
    expect(headers.get('cross-origin-opener-policy')).toBe('same-origin');
    expect(headers.get('cross-origin-embedder-policy')).toBe('require-corp');
    const policy = headers.get('content-security-policy') ?? '';
    expect(/script-src ([^;]*)/.exec(policy)?.[1]).toBe("'self' 'wasm-unsafe-eval'");
    expect(/default-src ([^;]*)/.exec(policy)?.[1]).toBe("'none'");
    const part = await fetch(`${address}books-16m.Q8_0.gguf`, { headers: { range: 'bytes=0-3' } });
    expect([part.status, await part.text()]).toEqual([206, 'GGUF']);
    for (const path of ['../package.json', '%2e%2e/node.js', '..%2f..%2fpackage.json', 'node.js', 'assets']) {
      const { status } = await fetch(address + path);
      expect(status, path).toBe(404);
    }
  });

  describe('on a host of static files without headers', () => {
    let host: string;
    beforeAll(async () => {
      const root = mkdtempSync(join(tmpdir(), 'host-'));
      mkdirSync(join(root, 'docs'));
      writeFileSync(join(root, 'docs/readme.txt'), 'mine');
      const main = join(ROOT, 'dist/cli/main.js');
      execFileSync(process.execPath, [main, 'page', join(root, 'app')], { stdio: 'pipe' });
      execFileSync(process.execPath, [main, 'page', join(root, 'app')], { stdio: 'pipe' }); // a newer one over it
      expect(() => execFileSync(process.execPath, [main, 'page', join(root, 'docs')], { stdio: 'pipe' })).toThrow(
        /holds something else \(readme\.txt\)/,
      );
      const server = await serveFolder(root);
      host = `${server.address}app/`;
      ends.push(server.close, () => rmSync(root, { recursive: true }));
    }, 60_000);

    it('becomes isolated by itself, and computes on threads', async () => {
      const page = await browser.newPage();
      await page.goto(host);
      await page.waitForFunction(() => crossOriginIsolated, undefined, { timeout: 20_000 });
      await page.getByText(/Computes on: CPU, WebAssembly with relaxed SIMD, \d+ threads?\./).waitFor();
      await loadBundled(page, '2048');
      await page.close();
    });

    it('computes on one thread where it is to stay as it is, and says why', async () => {
      const page = await browser.newPage();
      await page.goto(`${host}?isolated=no`);
      await page.getByText(/one thread\. .*One thread: the page is not cross-origin isolated/).waitFor();
      await loadBundled(page, '2048');
      await button(page, 'Read Dracula').click();
      await button(page, /^Alice’s key/).click({ timeout: 60_000 });
      await expect.poll(() => marks(page), { timeout: 30_000 }).toEqual(['✓ right']);
      await page.close();
    });
  });
});
