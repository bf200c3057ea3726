/**
 * dualchunk in a page beside wllama (llama.cpp in WebAssembly) in the same Chromium, and beside itself in Node: the same file, the
 * same text, the same threads, in turn. No speed is told unless all begin alike behind a text, have read as many tokens, and ours
 * says in the page what it says in Node. Beside speeds stand the floors' measures: FLOPs of reading, 2 for each weight
 * of a layer and 4 for each key and dimension that a query sees, and bytes that a token behind takes, of weights and cache.
 *
 *     npm install --prefix bench/peers
 *     npm run bench:browser -- [model.gguf] [--lengths 2k,8k,16k] [--rounds 3] [--threads 2] [--webgpu] [--no-wllama] [--json]
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium, type Page } from 'playwright-core';
import { build } from 'vite';
import { parseSize } from '../src/cli/options.ts';
import { loadModel, openModel } from '../src/node.ts';
import { measured, type Order, type Timing } from './browser/timing.ts';
import { median } from './median.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  allowNegative: true,
  options: {
    text: { type: 'string', default: 'texts/dracula.txt' },
    lengths: { type: 'string', default: '2k,8k,16k' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: `${availableParallelism()}` },
    webgpu: { type: 'boolean', default: false },
    wllama: { type: 'boolean', default: true },
    json: { type: 'boolean', default: false },
  },
});
const ROOT = join(import.meta.dirname, '..');
const PEERS = join(ROOT, 'bench/peers/node_modules');
const WLLAMA = join(PEERS, '@wllama/wllama/esm');
const path = positionals[0] ?? 'models/SmolLM2-135M-Instruct.Q4_1.gguf';
if (!existsSync(path)) throw new Error(`${path} is missing; fetch it with: npm run fetch-model`);
if (values.wllama && !existsSync(WLLAMA))
  throw new Error('wllama is missing; bring it with: npm install --prefix bench/peers');
const [threads, rounds] = (['threads', 'rounds'] as const).map((option) => {
  const n = Number(values[option]);
  if (Number.isInteger(n) && n > 0) return n;
  throw new Error(`--${option} is ${values[option]}; wanted a whole number above 0`);
});
const lengths = values.lengths.split(',').map(parseSize);
const N_ANSWER = 32;

const progress = (what: string) => process.stderr.write(`${what}\n`);

// --- the page ---

const folder = mkdtempSync(join(tmpdir(), 'bench-browser-'));
await build({
  ...{ root: ROOT, configFile: false, logLevel: 'error', publicDir: false, base: './' },
  worker: { format: 'es' },
  build: {
    ...{ outDir: folder, target: 'es2023' },
    rollupOptions: { input: join(ROOT, 'bench/browser/page.ts'), output: { entryFileNames: 'main.js' } },
  },
});
const files: Record<string, string> = {
  '/model.gguf': path,
  '/wllama.js': join(WLLAMA, 'index.js'),
  '/wllama.wasm': join(WLLAMA, 'wasm/wllama.wasm'),
};
const types: Record<string, string> = { '.js': 'text/javascript', '.wasm': 'application/wasm' };
const server = createServer(({ url = '', headers }, response) => {
  const { pathname } = new URL(url, 'http://host');
  response.setHeader('cross-origin-opener-policy', 'same-origin');
  response.setHeader('cross-origin-embedder-policy', 'require-corp');
  if (pathname === '/') {
    return response
      .setHeader('content-type', 'text/html')
      .end('<!doctype html><script type="module" src="main.js"></script>');
  }
  const file = files[pathname] ?? join(folder, pathname);
  if (!existsSync(file)) return response.writeHead(404).end();
  const bytes = readFileSync(file);
  response.setHeader('content-type', types[extname(file)] ?? 'application/octet-stream');
  const [, first, last] = /bytes=(\d+)-(\d+)/.exec(headers.range ?? '') ?? [];
  if (first === undefined) return response.end(bytes);
  const part = bytes.subarray(Number(first), Number(last) + 1);
  const range = `bytes ${first}-${Number(first) + part.length - 1}/${bytes.length}`;
  response.writeHead(206, { 'content-range': range }).end(part);
});
await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
const address = `http://localhost:${(server.address() as AddressInfo).port}/`;
const gpuFlags = values.webgpu ? ['--enable-unsafe-webgpu', '--enable-features=Vulkan'] : ['--disable-gpu'];
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', ...gpuFlags] });

/** Each run has a page of its own, so that nothing is left of the one before. */
async function inPage(order: Order): Promise<Timing> {
  const page: Page = await browser.newPage();
  try {
    await page.goto(address);
    await page.waitForFunction(() => 'measure' in globalThis);
    return await page.evaluate((order) => globalThis.measure(order), order);
  } finally {
    await page.close();
  }
}

// --- Node ---

async function inNode(order: Order): Promise<Timing> {
  const from = performance.now();
  const model = await loadModel(path, { context: order.context, threads, backend: 'wasm' });
  const loadSeconds = (performance.now() - from) / 1000;
  const timing = await measured(model, order);
  await model.dispose();
  return { ...timing, loadSeconds };
}

// --- the table ---

const OURS = ['dualchunk in Chromium', 'dualchunk in Node'];
const file = await openModel(path);
const { tokenizer, config } = file;
const book = readFileSync(values.text, 'utf8');
const check = book.slice(-1000);

/** Throws where engines do not do the same work. Log-probabilities differ by rounding, so that only the first token must agree. */
function compare(length: number, timings: Readonly<Record<string, readonly Timing[]>>): void {
  const [page, node] = OURS.map((who) => timings[who][0]);
  if (!values.webgpu && page.text !== node.text) {
    throw new Error(`the page says ${JSON.stringify(page.text)}, Node ${JSON.stringify(node.text)}`);
  }
  for (const [who, [{ promptTokens, check }]] of Object.entries(timings)) {
    if (promptTokens !== page.promptTokens || Math.abs(promptTokens - length) > 0.01 * length) {
      throw new Error(`${who} read ${promptTokens} tokens, the page ${page.promptTokens}; wanted about ${length}`);
    }
    if (check !== node.check) {
      throw new Error(`${who} goes on with ${JSON.stringify(check)}, Node with ${JSON.stringify(node.check)}`);
    }
  }
}

/** FLOPs of reading so many tokens: each sees half of the others, and only the last has logits. */
function readingFlops(length: number): number {
  const { hiddenSize, intermediateSize, numHiddenLayers, numAttentionHeads, numKeyValueHeads, headDim } = config;
  const projections = 2 * (numAttentionHeads + numKeyValueHeads) * headDim + 3 * intermediateSize;
  return numHiddenLayers * (2 * length * hiddenSize * projections + 2 * length ** 2 * numAttentionHeads * headDim);
}

interface Row {
  readonly who: string;
  readonly tokens: number;
  /** Tokens a second. */
  readonly prefill: number;
  /** 1e9 FLOPs a second. */
  readonly gigaflops: number;
  /** Milliseconds a token. */
  readonly decode: number;
  /** 1e9 bytes a second. */
  readonly gigabytes: number;
  readonly runsOn: string;
}

function rowOf(who: string, all: readonly Timing[], decodeBytes: number): Row {
  const [{ promptTokens: tokens, runsOn }] = all;
  const reading = median(all.map(({ prefillSeconds }) => prefillSeconds));
  const decode = median(all.map(({ decode }) => decode));
  const floors = { gigaflops: readingFlops(tokens) / reading / 1e9, gigabytes: decodeBytes / decode / 1e6 };
  return { who, tokens, prefill: tokens / reading, decode, ...floors, runsOn };
}

async function rowsOf(length: number): Promise<Row[]> {
  const prompt = tokenizer.decode(tokenizer.encodePrefix(book, length, { addSpecialTokens: false }).ids);
  const order: Order = {
    ...{ engine: 'dualchunk', threads, isGpu: values.webgpu, model: 'model.gguf', check, prompt, nAnswer: N_ANSWER },
    ...{ context: length + N_ANSWER + 512, flashAttention: false },
  };
  const wllama = (flashAttention: boolean) => inPage({ ...order, engine: 'wllama', flashAttention });
  const runs: Record<string, () => Promise<Timing>> = {
    [OURS[0]]: () => inPage(order),
    [OURS[1]]: () => inNode(order),
    // One of them reads faster here, the other writes faster.
    ...(values.wllama && {
      'wllama, flash_attn false': () => wllama(false),
      'wllama, flash_attn true': () => wllama(true),
    }),
  };
  const timings = Object.fromEntries(Object.keys(runs).map((who) => [who, [] as Timing[]]));
  for (let round = 1; round <= rounds; round++) {
    for (const [who, run] of Object.entries(runs)) {
      const timing = await run();
      timings[who].push(timing);
      const speed = (timing.promptTokens / timing.prefillSeconds).toFixed(1);
      progress(
        `round ${round}, ${who}, ${timing.promptTokens} tokens: ${speed} tokens/s, ${timing.decode.toFixed(1)} ms a token; ${timing.runsOn}; says ${JSON.stringify(timing.text.slice(0, 70))}`,
      );
    }
  }
  compare(length, timings);
  const { weights } = await file.memoryPlan(order.context);
  const cache = 2 * 2 * config.numHiddenLayers * config.numKeyValueHeads * config.headDim * length; // of 16 bits
  return Object.entries(timings).map(([who, all]) => rowOf(who, all, weights + cache));
}

/** How many times as fast ours is in the page; beside wllama's better setting for each figure. */
function ratiosOf(rows: readonly Row[]) {
  const [ours, node, ...peers] = rows;
  const { tokens, prefill, decode } = ours;
  return {
    tokens,
    ...(peers.length > 0 && {
      prefillToWllama: prefill / Math.max(...peers.map((peer) => peer.prefill)),
      decodeToWllama: Math.min(...peers.map((peer) => peer.decode)) / decode,
    }),
    prefillToNode: prefill / node.prefill,
    decodeToNode: node.decode / decode,
  };
}

const rounded = (row: Row | ReturnType<typeof ratiosOf>) =>
  Object.fromEntries(
    Object.entries(row).map(([name, value]) => [
      name,
      typeof value === 'number' ? Number(value.toPrecision(4)) : value,
    ]),
  );

const rows: Row[][] = [];
try {
  for (const length of lengths) rows.push(await rowsOf(length));
} finally {
  await browser.close();
  server.close();
  await file.close();
  rmSync(folder, { recursive: true });
}
const machine = `${cpus()[0].model}, ${threads} threads, ${rounds} rounds, Node ${process.versions.node}, Chromium ${browser.version()}`;
const ratios = rows.map(ratiosOf).map(rounded);
if (values.json) console.log(JSON.stringify({ machine, model: path, rows: rows.flat().map(rounded), ratios }));
else {
  console.log(`${machine}\n`);
  console.table(rows.flat().map(rounded));
  console.table(ratios);
}
