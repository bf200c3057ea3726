/**
 * dualchunk in a page beside wllama (llama.cpp in WebAssembly) in the same Chromium, and beside itself in Node: the same file, the
 * same text, the same threads, in turn. Answers are compared before times are told: ours in the page with ours in Node, and both
 * engines must have read as many tokens. The floor of reading is 2 FLOPs a weight and token, and 4 a key, token and dimension.
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
import type { Order, Timing } from './browser/page.ts';
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
const threads = Number(values.threads);
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

async function inNode({ context, prompt, nAnswer }: Order): Promise<Timing> {
  const from = performance.now();
  const model = await loadModel(path, { context, threads, backend: 'wasm' });
  const loadSeconds = (performance.now() - from) / 1000;
  for await (const _ of model.generate('Once', { maxTokens: 4, temperature: 0 }));
  const begun = performance.now();
  let [first, last, text, nTokens] = [0, 0, '', 0];
  for await (const piece of model.generate(prompt, { maxTokens: nAnswer, temperature: 0, stopTokens: [] })) {
    last = performance.now();
    first ||= last;
    text += piece.text;
    nTokens += piece.tokens.length;
  }
  const { backendName: runsOn } = model;
  const promptTokens = model.encode(prompt).length;
  await model.dispose();
  const decode = (last - first) / (nTokens - 1);
  return { promptTokens, prefillSeconds: (first - begun) / 1000, decode, text, runsOn, loadSeconds };
}

// --- the table ---

const file = await openModel(path);
const { tokenizer, config } = file;
const book = readFileSync(values.text, 'utf8');
interface Row {
  readonly who: string;
  readonly tokens: number;
  readonly prefill: number;
  readonly decode: number;
  readonly runsOn: string;
}
const rows: Row[] = [];
const weights = (await file.memoryPlan(1024)).weights;
for (const length of lengths) {
  const prompt = tokenizer.decode(tokenizer.encodePrefix(book, length, { addSpecialTokens: false }).ids);
  const order: Order = {
    ...{ engine: 'dualchunk', threads, isGpu: values.webgpu, model: 'model.gguf', prompt, nAnswer: N_ANSWER },
    ...{ context: length + N_ANSWER + 64, flashAttention: false },
  };
  const others: Record<string, () => Promise<Timing>> = values.wllama
    ? {
        'wllama, flash_attn false': () => inPage({ ...order, engine: 'wllama' }),
        // It reads faster and writes slower; the shortest text has both, as a run takes minutes.
        ...(length === lengths[0] && {
          'wllama, flash_attn true': () => inPage({ ...order, engine: 'wllama', flashAttention: true }),
        }),
      }
    : {};
  const runs = { 'dualchunk in Chromium': () => inPage(order), 'dualchunk in Node': () => inNode(order), ...others };
  const timings = Object.fromEntries(Object.keys(runs).map((who) => [who, [] as Timing[]]));
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [who, run] of Object.entries(runs)) {
      const timing = await run();
      progress(
        `${who}, ${timing.promptTokens} tokens: ${(timing.promptTokens / timing.prefillSeconds).toFixed(1)} tokens/s, ${timing.decode.toFixed(1)} ms a token; ${timing.runsOn}`,
      );
      timings[who].push(timing);
    }
  }
  const [inChromium, inNodeToo] = [timings['dualchunk in Chromium'][0], timings['dualchunk in Node'][0]];
  if (!values.webgpu && inChromium.text !== inNodeToo.text) {
    throw new Error(`the page says ${JSON.stringify(inChromium.text)}, Node ${JSON.stringify(inNodeToo.text)}`);
  }
  for (const [who, all] of Object.entries(timings)) {
    if (Math.abs(all[0].promptTokens - length) > 0.01 * length)
      throw new Error(`${who} read ${all[0].promptTokens} tokens of ${length}`);
    const prefill = length / median(all.map(({ prefillSeconds }) => prefillSeconds));
    rows.push({ who, tokens: length, prefill, decode: median(all.map(({ decode }) => decode)), runsOn: all[0].runsOn });
  }
}
await browser.close();
server.close();
await file.close();
rmSync(folder, { recursive: true });

const parameters = (weights * 8) / 4.5; // of 4 bits and a scale
const flops = (length: number) =>
  2 * parameters + 2 * config.numHiddenLayers * config.numAttentionHeads * config.headDim * length;
const of = (who: string, tokens: number) => rows.find((row) => row.who === who && row.tokens === tokens);
const ratios = lengths.map((tokens) => {
  const ours = of('dualchunk in Chromium', tokens) as Row;
  const [node, wllama] = [of('dualchunk in Node', tokens) as Row, of('wllama, flash_attn false', tokens)];
  return {
    tokens,
    ...(wllama && { prefillToWllama: ours.prefill / wllama.prefill, decodeToWllama: wllama.decode / ours.decode }),
    prefillToNode: ours.prefill / node.prefill,
    decodeToNode: node.decode / ours.decode,
    gigaflopsASecond: (ours.prefill * flops(tokens)) / 1e9,
  };
});
const machine = `${cpus()[0].model}, ${threads} threads, Node ${process.versions.node}, Chromium ${browser.version()}`;
if (values.json) console.log(JSON.stringify({ machine, rows, ratios }));
else {
  console.log(`${machine}\n`);
  console.table(
    rows.map(({ prefill, decode, ...row }) => ({ ...row, prefill: prefill.toFixed(1), decode: decode.toFixed(1) })),
  );
  console.table(
    ratios.map((row) =>
      Object.fromEntries(Object.entries(row).map(([name, value]) => [name, Number(value.toFixed(2))])),
    ),
  );
}
