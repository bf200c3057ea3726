/**
 * The same text from the same file on every platform: other versions of Node, Bun and Deno, which `npm install` in
 * `test/platforms` brings, and headless Chromium, in a page that is cross-origin isolated, in one that is not, and in one without
 * relaxed SIMD. What is missing is skipped by its name, or fails where REQUIRE_PLATFORMS is set.
 */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { CHROMIUM, launch } from './chromium.ts';

const ROOT = join(import.meta.dirname, '..');
const SMOLLM2 = join(ROOT, 'models/SmolLM2-135M-Instruct.Q4_1.gguf');
const MODEL = existsSync(SMOLLM2) ? SMOLLM2 : join(ROOT, 'books-16m/books-16m.Q8_0.gguf');
const SCRIPT = join(import.meta.dirname, 'platforms/generate.mjs');
const ENTRY = pathToFileURL(join(ROOT, 'dist/node.js')).href;
const isRequired = process.env.REQUIRE_PLATFORMS !== undefined;

interface Answer {
  backend: string;
  text: string;
  /** What follows a text that another copy of the model has read. */
  resumed: string;
  /** Tokens of it that were read again: the last one gives the logits. */
  nRead: number;
  json: string;
}

async function answerOf(command: string, args: readonly string[] = []): Promise<Answer> {
  const { stdout } = await promisify(execFile)(command, [...args, SCRIPT, ENTRY, MODEL]);
  return JSON.parse(stdout.trim().split('\n').at(-1) as string);
}

const installed = (path: string) => join(import.meta.dirname, 'platforms/node_modules', path);
const RUNTIMES = [
  { name: 'Node 22', command: installed('node22/bin/node'), args: [] },
  { name: 'Node 24', command: installed('node24/bin/node'), args: [] },
  { name: 'Bun', command: installed('.bin/bun'), args: [] },
  { name: 'Deno', command: installed('.bin/deno'), args: ['run', '--allow-all'] },
];

describe('the same text', { timeout: 240_000 }, () => {
  let expected: Answer;
  beforeAll(async () => {
    expected = await answerOf(process.execPath);
    expect(expected.backend).toMatch(/^wasm .*thread/);
    expect(expected.text.length).toBeGreaterThan(40);
    expect(expected.resumed.length).toBeGreaterThan(40);
    expect(expected.nRead).toBe(1);
    expect(JSON.parse(expected.json)).toMatchObject({ sons: expect.any(Number) });
  }, 120_000);

  for (const { name, command, args } of RUNTIMES) {
    it.skipIf(!existsSync(command) && !isRequired)(`in ${name}`, async () => {
      expect(await answerOf(command, args)).toEqual(expected);
    });
  }

  it.skipIf(!existsSync(CHROMIUM) && !isRequired).each([
    {
      page: 'a page that is cross-origin isolated',
      isolated: true,
      relaxed: true,
      runsOn: /\(relaxed SIMD, f32, f32 cache, \d+ thread/,
    },
    {
      page: 'a page that is not',
      isolated: false,
      relaxed: true,
      runsOn: /\(relaxed SIMD, f32, f32 cache, calling thread/,
    },
    {
      page: 'a page without relaxed SIMD, as in Safari',
      isolated: true,
      relaxed: false,
      runsOn: /\(SIMD, f32, f32 cache, \d+ thread/,
    },
  ])('in Chromium, $page', async ({ isolated, relaxed, runsOn }) => {
    const answer = await answerOfPage(isolated, relaxed);
    expect(answer).toEqual({ ...expected, backend: expect.stringMatching(runsOn) });
  });
});

// --- internal ---

/** Serves a bundle of the package and the model by ranges to a page, which posts its answer. */
async function answerOfPage(isolated: boolean, relaxed: boolean): Promise<Answer> {
  const contents = `
    import * as dualchunk from 'dualchunk';
    import { generate } from './test/platforms/generate.mjs';
    const answer = await generate(dualchunk, '/model.gguf').catch((error) => ({ fault: String(error?.stack ?? error) }));
    await fetch('/answer', { method: 'POST', body: JSON.stringify(answer) });`;
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: ROOT },
    ...{ bundle: true, format: 'esm', platform: 'browser', target: 'es2022', write: false, logLevel: 'silent' },
  });
  const model = readFileSync(MODEL);
  let tell: (answer: Answer) => void;
  const answered = new Promise<Answer>((resolve) => {
    tell = resolve;
  });
  const server = createServer(async (request, response) => {
    if (isolated) {
      response.setHeader('cross-origin-opener-policy', 'same-origin');
      response.setHeader('cross-origin-embedder-policy', 'require-corp');
    }
    if (request.url === '/model.gguf') {
      const [, first, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? [];
      const end = Math.min(Number(last) + 1, model.length);
      response.writeHead(206, { 'content-range': `bytes ${first}-${end - 1}/${model.length}` });
      response.end(model.subarray(Number(first), end));
    } else if (request.url === '/main.js') {
      response.setHeader('content-type', 'text/javascript').end(outputFiles[0].contents);
    } else if (request.url === '/answer') {
      let body = '';
      for await (const chunk of request) body += chunk;
      response.end();
      tell(JSON.parse(body));
    } else {
      response
        .setHeader('content-type', 'text/html')
        .end('<!doctype html><script type="module" src="/main.js"></script>');
    }
  });
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
  const browser = await launch(['--disable-gpu']);
  onTestFinished(async () => {
    await browser.close();
    server.close();
  });
  const page = await browser.newPage();
  // Chromium has no flag that takes relaxed SIMD away; the package asks this before it uses any.
  if (!relaxed) await page.addInitScript(() => Object.assign(WebAssembly, { validate: () => false }));
  await page.goto(`http://localhost:${(server.address() as AddressInfo).port}/`, { waitUntil: 'commit' });
  return answered;
}
