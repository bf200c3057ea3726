/**
 * The package's worker in Chromium, with the bundled model: on threads in a page that is cross-origin isolated, on one thread in a
 * page that is not, and on WebGPU (in software). Each says what Node says, and the page itself never waits.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WorkerModels } from '../src/browser/index.ts';
import { type LoadOptions, loadModel, type Model } from '../src/node.ts';
import { isSkipped, openScript } from './chromium.ts';

const MODEL = join(import.meta.dirname, '../books-16m/books-16m.Q8_0.gguf');
const BOOK = readFileSync(join(import.meta.dirname, '../texts/dracula.txt'), 'utf8');

/** What the page sees as global. */
declare const models: WorkerModels;

const PAGES = [
  {
    name: 'on threads',
    isIsolated: true,
    args: [],
    load: { backend: 'wasm' },
    runsOn: /^wasm \(relaxed SIMD.*\d threads?\)/,
  },
  { name: 'without shared memory', isIsolated: false, args: [], load: { backend: 'wasm' }, runsOn: /calling thread\)/ },
  {
    name: 'on WebGPU',
    isIsolated: true,
    args: ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'],
    load: { backend: 'webgpu' },
    runsOn: /^webgpu \(/,
  },
] satisfies { name: string; isIsolated: boolean; args: string[]; load: LoadOptions; runsOn: RegExp }[];

/** Products in float32, so that kernels of either build round alike. */
const WASM = { precision: 'f32', kvType: 'f32' } as const;
/** Characters of the book that are read: beyond the model's window of 1,024 tokens, on the GPU in software a little. */
const LENGTH = { wasm: 12_000, webgpu: 1500 } as const;

describe.skipIf(isSkipped)('the bundled model in a worker of a page', { timeout: 240_000 }, () => {
  let model: Model;
  const ends: (() => unknown)[] = [];
  beforeAll(async () => {
    model = await loadModel(MODEL, { context: 4096, backend: 'wasm', ...WASM });
    ends.push(() => model.dispose());
  }, 60_000);
  afterAll(async () => {
    for (const end of ends) await end();
  });

  /** Opens the page in a browser of its own. */
  async function pageOn({ isIsolated, args }: (typeof PAGES)[number]) {
    const bytes = readFileSync(MODEL);
    const script = "import { startWorker } from 'dualchunk/browser'; globalThis.models = startWorker();";
    const opened = await openScript(
      script,
      'models',
      ({ url }, response) => {
        if (isIsolated) {
          response.setHeader('cross-origin-opener-policy', 'same-origin');
          response.setHeader('cross-origin-embedder-policy', 'require-corp');
        }
        if (url !== '/model.gguf') return false;
        response.setHeader('content-length', bytes.length).end(bytes);
        return true;
      },
      args,
    );
    ends.push(opened.close);
    return opened;
  }

  it.each(PAGES)('says what it says in Node, $name', async (one) => {
    const { load, runsOn } = one;
    const book = BOOK.slice(20_000, 20_000 + LENGTH[load.backend as 'wasm' | 'webgpu']);
    const { page, faults } = await pageOn(one);
    const said = await page.evaluate(
      async ([book, load]) => {
        const blocked: number[] = [];
        const file = await models.storage.download('model.gguf');
        const model = await models.loadModel(file, { context: 4096, ...load });
        new PerformanceObserver((list) => {
          for (const { duration } of list.getEntries()) blocked.push(duration);
        }).observe({ type: 'longtask' });
        const done: number[] = [];
        const session = await model.read(book, { about: 'a book', onProgress: (n) => done.push(n) });
        let text = '';
        const pieces = model.generate(book, { maxTokens: 12, temperature: 0 });
        for await (const piece of pieces) text += piece.text;
        await models.storage.keep('book', session);
        const other = await models.loadModel(file, { context: 4096, ...load });
        const loaded = performance.now();
        await other.generate('Once upon a time', { maxTokens: 1 }).next();
        const firstToken = performance.now() - loaded;
        const opened = await other.loadSession(await models.storage.open('book'));
        let [again, nRead] = ['', -1];
        const options = {
          maxTokens: 12,
          temperature: 0,
          onProgress: (_: number, n: number) => {
            nRead = n;
          },
        };
        for await (const piece of other.generate(book, options)) again += piece.text;
        return {
          ...{ backend: model.backendName, firstToken },
          text,
          again,
          nRead,
          tokens: session.tokens,
          about: opened.about,
          done,
          blocked,
        };
      },
      [book, load.backend === 'wasm' ? { ...load, ...WASM } : load] as const,
    );
    let text = '';
    for await (const piece of model.generate(book, { maxTokens: 12, temperature: 0 })) text += piece.text;
    expect(said.backend).toMatch(runsOn);
    expect(said.tokens).toEqual(model.encode(book));
    if (load.backend === 'wasm') expect(said.tokens.length).toBeGreaterThan(1100);
    if (load.backend === 'wasm') expect(said.text).toBe(text);
    else expect(said.text.slice(0, 8)).toBe(text.slice(0, 8)); // a cache of 16 bits rounds otherwise
    expect(said).toMatchObject({ again: said.text, nRead: 1, about: 'a book' });
    expect(said.done.at(-1)).toBe(said.tokens.length);
    expect(said.blocked.filter((milliseconds) => milliseconds > 50)).toEqual([]);
    if (load.backend === 'wasm') expect(said.firstToken).toBeLessThan(2000); // milliseconds, of the bundled model
    expect(faults).toEqual([]);
  });
});
