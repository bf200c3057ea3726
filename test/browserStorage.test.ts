/** Files that the browser keeps, in Chromium's origin private file system, from a server that breaks on purpose. */
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WorkerModels } from '../src/browser/index.ts';
import { isSkipped, type OpenPage, openScript } from './chromium.ts';

const BYTES = Buffer.from(Uint8Array.from({ length: 3_000_001 }, (_, at) => (at * 7919) >> 5));
const DIGEST = createHash('sha256').update(BYTES).digest();

/** What the page sees as global. */
declare const models: WorkerModels;

/** Requests for each path, by the first byte asked for. */
const asked = new Map<string, number[]>();

/** Answers under `/files/`, each name with a fault of its own. */
function answer({ url = '', headers }: IncomingMessage, response: ServerResponse): boolean {
  const [, name] = /^\/files\/([^?]*)/.exec(url) ?? [];
  if (name === undefined) return false;
  const count = (asked.get(name) ?? []).length;
  const [, first, last] = /bytes=(\d+)-(\d*)/.exec(headers.range ?? '') ?? [];
  asked.set(name, [...(asked.get(name) ?? []), Number(first ?? 0)]);
  const status = { missing: 404, secret: 401, broken: 500 }[name];
  if (status) response.writeHead(status).end();
  else if (name === 'login') response.setHeader('content-type', 'text/html; charset=utf-8').end('<!doctype html>');
  else if (name === 'huge') response.writeHead(200, { 'content-length': 10 ** 15 }).write(BYTES);
  else {
    // One file changes after its first request, one has no ranges, one says a checksum that is wrong, one as hubs do.
    const etag =
      name === 'changing' ? `"${Math.min(count, 1)}"` : name === 'hub' ? `"${DIGEST.toString('hex')}"` : '"1"';
    const digest = { wrong: Buffer.alloc(32), right: DIGEST }[name];
    const said = { etag, ...(digest && { 'repr-digest': `sha-256=:${digest.toString('base64')}:` }) };
    const start = name === 'whole' ? 0 : Number(first ?? 0);
    const end = last && name !== 'whole' ? Number(last) + 1 : BYTES.length;
    const part = BYTES.subarray(start, end);
    const range = { 'content-range': `bytes ${start}-${end - 1}/${BYTES.length}` };
    const isPart = first !== undefined && name !== 'whole';
    response.writeHead(isPart ? 206 : 200, { ...said, 'content-length': part.length, ...(isPart && range) });
    const hangs = (name === 'stopped' || name === 'whole') && count === 0;
    const breaks = (name === 'dropping' || name === 'changing') && count < 3 && part.length > 10;
    if (hangs) response.write(part.subarray(0, 1_000_000));
    else if (!breaks) response.end(part);
    else response.write(part.subarray(0, 1_000_000), () => setTimeout(() => response.destroy(), 100));
  }
  return true;
}

describe.skipIf(isSkipped)('files in the browser', { timeout: 60_000 }, () => {
  let page: Page;
  let faults: string[];
  let close: OpenPage['close'] = async () => {};
  beforeAll(async () => {
    const script = "import { startWorker } from 'dualchunk/browser'; globalThis.models = startWorker();";
    ({ page, faults, close } = await openScript(script, 'models', answer));
  }, 60_000);
  afterAll(() => close());

  /** Downloads beside the page, and tells what came: the checksum of the file, or the error. */
  const download = (name: string, options: { sha256?: string; stopAt?: number } = {}) =>
    page.evaluate(
      async ([name, { stopAt, ...options }]) => {
        const abort = new AbortController();
        const seen: number[] = [];
        const onProgress = (done: number, total: number) => {
          seen.push(done, total);
          if (stopAt !== undefined && done >= stopAt) abort.abort();
        };
        try {
          const file = await models.storage.download(`./files/${name}`, {
            ...options,
            onProgress,
            signal: abort.signal,
          });
          const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', await file.arrayBuffer()));
          return {
            digest: Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join(''),
            name: file.name,
            seen,
          };
        } catch (error) {
          return { error: `${(error as Error).name}: ${(error as Error).message}`, seen };
        }
      },
      [name, options] as const,
    );
  const list = () => page.evaluate(() => models.storage.list());
  const named = async (name: string) => (await list()).find((file) => file.name.endsWith(`/files/${name}`));
  const hex = DIGEST.toString('hex');

  it('are downloaded once, by their address, with progress and their checksum', async () => {
    const { digest, name, seen } = await download('good?key=secret');
    expect(digest).toBe(hex);
    expect(name).toMatch(/^http:.*\/files\/good$/);
    expect(seen.slice(-2)).toEqual([BYTES.length, BYTES.length]);
    expect(await named('good')).toMatchObject({
      ...{ kind: 'model', isWhole: true, bytes: BYTES.length, totalBytes: BYTES.length, version: '"1"', sha256: hex },
      url: expect.not.stringMatching('secret'),
    });
    expect((await download('good')).seen).toEqual([]); // nothing came again
    expect(asked.get('good')).toEqual([0, 0]);
  });

  it('are taken up where the connection broke', async () => {
    expect((await download('dropping')).digest).toBe(hex);
    const starts = asked.get('dropping') ?? [];
    expect(starts.length).toBeGreaterThan(2);
    expect(starts.every((start, at) => at === 0 || start > starts[at - 1])).toBe(true);
  });

  it('are taken up after a stop, in another page too', async () => {
    expect((await download('stopped', { stopAt: 1 })).error).toMatch(/^AbortError/);
    const part = await named('stopped');
    expect(part).toMatchObject({ isWhole: false, totalBytes: BYTES.length });
    expect(
      await page.evaluate(() => models.storage.open(`${location.origin}/files/stopped`).catch((e) => e.message)),
    ).toMatch(/only a part of .* is here; download it again/);
    await page.reload();
    await page.waitForFunction(() => 'models' in globalThis);
    const { digest, seen } = await download('stopped');
    expect(digest).toBe(hex);
    expect(seen[0]).toBe(part?.bytes);
    expect(seen[0]).toBeGreaterThan(0);
  });

  it('are begun anew where the server has another version, or no ranges', async () => {
    expect((await download('changing')).digest).toBe(hex);
    expect(await named('changing')).toMatchObject({ version: '"1"', isWhole: true });
    expect((await download('whole', { stopAt: 1 })).error).toMatch(/^AbortError/);
    expect((await download('whole')).digest).toBe(hex);
    expect((await list()).filter(({ name }) => name.endsWith('/whole')).length).toBe(1);
  });

  it('are held against checksums', async () => {
    expect((await download('right')).digest).toBe(hex);
    expect((await download('hub')).digest).toBe(hex);
    expect((await download('wrong')).error).toMatch(/FormatError: .*SHA-256 is [0-9a-f]{64}, where 0{64} was expected/);
    expect((await download('given', { sha256: 'ab'.repeat(32) })).error).toMatch(/where (ab){32} was expected/);
    expect((await download('given', { sha256: hex.toUpperCase() })).digest).toBe(hex);
    expect(await named('wrong')).toBeUndefined();
  });

  it('are refused in words', async () => {
    for (const [name, words] of [
      ['missing', 'there is no such file (404); look at the address again'],
      ['secret', 'the server refuses it (401); it may want a login'],
      ['broken', 'the server answered 500; try again later'],
      ['login', 'an HTML page came: the download asks for a login'],
      ['huge', 'MiB are wanted, and this browser has'],
    ]) {
      const { error } = await download(name);
      expect(error).toContain(words);
      expect(error).toMatch(/^(FormatError|UnsupportedError): http:/);
      expect(await named(name)).toBeUndefined();
    }
  });

  it('are kept from files, in the place of what had the name, and removed', async () => {
    const sizes = await page.evaluate(async () => {
      const { storage } = models;
      const done: number[] = [];
      await storage.keep('mine', new Blob(['first']), { about: { title: 'a' } });
      const file = await storage.keep('mine', new Blob(['second!']), {
        about: { title: 'b' },
        onProgress: (n) => done.push(n),
      });
      const text = await (await storage.open('mine')).text();
      const names = (await storage.list()).filter(({ name }) => name === 'mine');
      const before = await storage.room();
      await storage.remove('mine');
      const gone = await storage.open('mine').catch((error) => error.message);
      return { text, size: file.size, done, names, before, gone };
    });
    expect(sizes).toMatchObject({
      text: 'second!',
      size: 7,
      done: [7],
      gone: expect.stringMatching(/"mine" is not kept here/),
    });
    expect(sizes.names).toEqual([expect.objectContaining({ isWhole: true, about: { title: 'b' }, bytes: 7 })]);
    expect(sizes.before.used).toBeGreaterThan(BYTES.length);
    expect(sizes.before.quota).toBeGreaterThan(sizes.before.used);
  });

  it('are given without a network', async () => {
    await page.context().setOffline(true);
    expect((await download('good')).digest).toBe(hex);
    expect((await download('unknown')).error).toMatch(/FormatError: .*unknown: the connection broke.*try again/);
    await page.context().setOffline(false);
    expect(faults).toEqual([]);
  });
});
