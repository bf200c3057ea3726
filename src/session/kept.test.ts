/** What one process has read, the next one finds in a folder; nothing else changes. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type LoadOptions, loadModel, type Model } from '../node.ts';
import { openFolderStore } from '../platform/nodeStore.ts';

const MODEL = 'test/golden/llama/model.gguf';
const TEXT = readFileSync('test/golden/text.txt', 'utf8').slice(0, 800);
let cacheDir: string;
beforeEach(() => {
  cacheDir = mkdtempSync(join(tmpdir(), 'kept-'));
  onTestFinished(() => rmSync(cacheDir, { recursive: true }));
});

/** A process that lives until the answers are given. */
async function inProcess<T>(options: LoadOptions, work: (model: Model) => Promise<T>): Promise<T> {
  const load: LoadOptions = { context: 1024, backend: 'wasm', threads: 2, method: 'dca:40/59', cacheDir, ...options };
  const model = await loadModel(MODEL, load);
  try {
    return await work(model);
  } finally {
    await model.dispose();
  }
}

/** The answer to a question behind the text, and how many tokens were read for it. */
async function ask(model: Model, question: string, signal?: AbortSignal) {
  let read = -1;
  const options = { maxTokens: 8, temperature: 0, logprobs: 2, stopTokens: [], signal };
  const tokens = [];
  const onProgress = (_: number, total: number) => (read = total);
  for await (const piece of model.generate(TEXT + question, { ...options, onProgress })) tokens.push(...piece.tokens);
  return { tokens, read };
}

describe('pages in a folder', () => {
  it('are found by the next process, whose answers are the same', async () => {
    const first = await inProcess({}, (model) => ask(model, ' And then?'));
    const nPages = readdirSync(cacheDir).length;
    expect(nPages).toBe(Math.floor((first.read + 7) / 128));
    const again = await inProcess({}, (model) => ask(model, ' And then?'));
    expect(again.tokens.map(({ token }) => token)).toEqual(first.tokens.map(({ token }) => token));
    expect(again.read).toBeLessThanOrEqual(128);
    const other = await inProcess({}, (model) => ask(model, ' But why?'));
    const fresh = await inProcess({ cacheDir: undefined }, (model) => ask(model, ' But why?'));
    expect(other.tokens.map(({ token }) => token)).toEqual(fresh.tokens.map(({ token }) => token));
    expect([other.read < 140, fresh.read > 300]).toEqual([true, true]);
  });

  it('are of one method and cache only', async () => {
    const first = await inProcess({}, (model) => ask(model, ''));
    const others: LoadOptions[] = [{ method: 'none' }, { kvType: 'q8_0' }];
    for (const options of others) {
      expect((await inProcess(options, (model) => ask(model, ''))).read).toBe(first.read);
    }
  });

  it('that are damaged are read again', async () => {
    const first = await inProcess({}, (model) => ask(model, ''));
    for (const name of readdirSync(cacheDir)) {
      const bytes = readFileSync(join(cacheDir, name));
      bytes[100] ^= 1;
      writeFileSync(join(cacheDir, name), bytes);
    }
    const again = await inProcess({}, (model) => ask(model, ''));
    expect(again).toEqual(first);
    expect((await inProcess({}, (model) => ask(model, ''))).read).toBeLessThan(first.read);
  });

  it('bring back what the cache had no room for', async () => {
    const [read, readAgain] = await inProcess({}, async (model) => {
      const first = await ask(model, '');
      for (let nth = 0; nth < 2; nth++)
        await model.read(Array.from({ length: 1000 }, (_, at) => (at * (nth + 3)) % 90));
      return [first.read, (await ask(model, '')).read];
    });
    expect(readAgain).toBeLessThanOrEqual(128);
    expect(read).toBeGreaterThan(300);
  });

  it('keep to their bytes, the least recently used gone first', async () => {
    const store = openFolderStore(cacheDir, 1000);
    const page = (fill: number) => new Uint8Array(300).fill(fill);
    for (const name of ['a', 'b', 'c']) await store.write(name, page(1)); // 332 bytes each
    await store.read('a');
    await store.write('d', page(4));
    expect(['a', 'b', 'c', 'd'].map(store.has)).toEqual([true, false, true, true]);
    expect(readdirSync(cacheDir).reduce((sum, name) => sum + statSync(join(cacheDir, name)).size, 0)).toBe(3 * 332);
    await store.write('huge', new Uint8Array(2000));
    expect(store.has('huge')).toBe(false);
    const later = openFolderStore(cacheDir, 700);
    await later.write('e', page(5));
    expect(['a', 'c', 'd', 'e'].filter(later.has)).toHaveLength(2);
    expect(await later.read('nothing')).toBeUndefined();
  });

  it('leave nothing of processes that were killed while they wrote', async () => {
    const gone = spawnSync('true').pid;
    const [left, written] = [`a.page.${gone}.x1.partial`, `a.page.${process.pid}.x1.partial`];
    for (const name of [left, written]) writeFileSync(join(cacheDir, name), 'half a page');
    openFolderStore(cacheDir, 1000);
    expect(readdirSync(cacheDir)).toEqual([written]);
  });

  it('do no harm where they cannot be written', async () => {
    const first = await inProcess({}, async (model) => {
      rmSync(cacheDir, { recursive: true });
      return ask(model, '');
    });
    writeFileSync(cacheDir, 'a file');
    expect(first.tokens).toHaveLength(8);
    await expect(inProcess({}, (model) => ask(model, ''))).rejects.toThrow('cannot be used for pages');
  });
});
