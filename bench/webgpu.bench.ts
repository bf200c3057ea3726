/**
 * The WebGPU backend's speed. Every kernel is judged on all its cases before anything is timed; beside each time
 * stands the floor's measure: causal floating-point operations, or bytes that must be read.
 *
 *     npm run bench:webgpu -- [--only check,attention,decode,matmul,matvec,model,batch] [--length 32768] [--robust] [--plain]
 *                             [--torch python3]
 *
 * With `--torch`, an interpreter that has PyTorch, the same shapes are timed there afterwards and set beside.
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { attentionOf } from '../src/attention.ts';
import type { Tensor } from '../src/backends/backend.ts';
import { openWebGpu } from '../src/backends/webgpu.ts';
import type { ModelConfig } from '../src/config.ts';
import { dualChunk, PLAIN } from '../src/dualChunk.ts';
import { allocKvCache, pagesFor } from '../src/kvCache.ts';
import { type Placement, type Slice, stretchesOf } from '../src/placement.ts';
import { Engine } from '../src/runtime/engine.ts';
import type { GenerateOptions } from '../src/runtime/texts.ts';
import { rowBytes, type TensorType } from '../src/tensorTypes.ts';
import { type Layer, type Linear, makeTransformer, type Weights } from '../src/transformer.ts';
import { judge } from '../test/judge.ts';
import { CASES, RISING } from '../test/kernelCases.ts';
import { firstPages } from '../test/stretches.ts';
import { median } from './median.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'check,attention,decode,matmul,matvec,model,batch' },
    length: { type: 'string', default: '32768' },
    robust: { type: 'boolean', default: false },
    plain: { type: 'boolean', default: false },
    torch: { type: 'string' },
  },
});
const LENGTH = Number(values.length);
const BLOCK = 2048; // tokens read at a time
const wants = (section: string) => values.only.split(',').includes(section);
const b = await openWebGpu({ robust: values.robust, tensorCores: !values.plain });
const has16Bits = b.name.includes('f16 cache');
const facts: Record<string, number> = {};
console.log(`${b.name}${values.robust ? ', robust' : ''}`);

const DCA = dualChunk({ chunkLen: 6144, maxDistance: 8192, parts: 'full', scale: 'none', trainedLen: 8192 });

function report(name: string, ms: number, amount: number, unit: 'TFLOP/s' | 'GB/s') {
  const rate = unit === 'TFLOP/s' ? amount / ms / 1e9 : amount / ms / 1e6;
  facts[name] = Number(rate.toPrecision(4));
  const floor = unit === 'TFLOP/s' ? `${(amount / 1e12).toFixed(3)} TFLOP` : `${(amount / 1e9).toFixed(3)} GB`;
  console.log(`${name.padEnd(56)} ${ms.toFixed(3).padStart(9)} ms  ${floor.padStart(14)}  ${rate.toFixed(1)} ${unit}`);
}

/** Until clocks are up, which a GPU lets down while inputs are made. */
const WAKING_MS = 1500;

/** Median milliseconds that the GPU takes for `record`, called `repeats` times a measurement: it starts when all is recorded. */
async function time(record: (i: number) => void, repeats: number): Promise<number> {
  const done = b.alloc('F32', 1, 4);
  const times: number[] = [];
  for (let round = 0, begunAt = performance.now(); times.length < 6; round++) {
    await b.read(done);
    for (let i = 0; i < repeats; i++) record(i);
    const startedAt = performance.now();
    await b.read(done);
    if (round > 0 && startedAt - begunAt > WAKING_MS) times.push((performance.now() - startedAt) / repeats);
  }
  return median(times);
}

/** A few thousand normal numbers, again and again: enough to keep matrix units from resting on zeros. */
const noise = Float32Array.from({ length: 4099 }, () => {
  const angle = 2 * Math.PI * Math.random();
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(angle);
});
function normal(rows: number, cols: number, deviation = 1): Tensor {
  const tensor = b.alloc('F32', rows, cols);
  b.write(
    tensor,
    Float32Array.from({ length: rows * cols }, (_, i) => deviation * noise[i % 4099]),
  );
  return tensor;
}

/** Random weights of a deviation near 0.02, as new models have them: attention is neither flat nor one-hot then. */
function stored(type: TensorType, rows: number, cols: number): Tensor {
  const tensor = b.alloc(type, rows, cols);
  const chunkRows = Math.max(1, Math.floor(2 ** 20 / rowBytes(type, cols)));
  const bytes = new Uint8Array(chunkRows * rowBytes(type, cols));
  const view = new DataView(bytes.buffer);
  const half = () => (Math.random() < 0.5 ? 0x8000 : 0) | (0x1a00 + Math.floor(0x1000 * Math.random()));
  if (type === 'F16') for (let i = 0; i < bytes.length; i += 2) view.setUint16(i, half(), true);
  else {
    for (let i = 0; i < bytes.length; i++) bytes[i] = 256 * Math.random();
    for (let i = 0; i < bytes.length; i += 34) view.setUint16(i, 0x1000, true); // Q8_0
  }
  for (let row = 0; row < rows; row += chunkRows) {
    const n = Math.min(chunkRows, rows - row);
    b.load(tensor, bytes.subarray(0, n * rowBytes(type, cols)), row * rowBytes(type, cols));
  }
  return tensor;
}

async function check() {
  let nWrong = 0;
  const cases = [...CASES, ...RISING];
  for (const kernelCase of cases) {
    const fault = await judge(kernelCase, b);
    if (fault === undefined) continue;
    nWrong++;
    console.log(`WRONG ${kernelCase.name}: ${fault}`);
  }
  console.log(`${cases.length - nWrong} of ${cases.length} cases right`);
  if (nWrong > 0) process.exitCode = 1;
}

/** Pairs of a query and a key it sees, of a text of `length`. */
const causalPairs = (length: number) => (length * (length + 1)) / 2;

const attentionName = (nHeads: number, nKvHeads: number, headDim: number, name: string) =>
  `attention ${LENGTH}, ${nHeads}/${nKvHeads} heads of ${headDim}, ${name}`;

const PAGES = firstPages(LENGTH);
const blockAt = (start: number, nRows = BLOCK): Slice[] => [{ row: 0, nRows, start, pages: PAGES }];

/** A cache of `LENGTH` tokens. */
function filledKv(nKvHeads: number, headDim: number) {
  const kv = b.allocKv(PAGES.length, nKvHeads, headDim);
  const [k, v] = [normal(BLOCK, nKvHeads * headDim), normal(BLOCK, nKvHeads * headDim)];
  for (let start = 0; start < LENGTH; start += BLOCK) b.append(kv, [k], v, blockAt(start));
  return kv;
}

async function attention(nHeads: number, nKvHeads: number, headDim: number, name: string, placement: Placement) {
  const kv = filledKv(nKvHeads, headDim);
  const q = normal(3 * BLOCK, nHeads * headDim, 1 / Math.sqrt(headDim));
  const out = b.alloc('F32', BLOCK, nHeads * headDim);
  const ms = await time(() => {
    for (let start = 0; start < LENGTH; start += BLOCK) {
      b.attend(out, q, kv, stretchesOf(placement, blockAt(start)).stretches);
    }
  }, 1);
  report(attentionName(nHeads, nKvHeads, headDim, name), ms, 4 * causalPairs(LENGTH) * nHeads * headDim, 'TFLOP/s');
}

async function decodeAttention(nHeads: number, nKvHeads: number, headDim: number) {
  const kvs = [0, 1].map(() => filledKv(nKvHeads, headDim));
  const q = normal(3, nHeads * headDim, 1 / Math.sqrt(headDim));
  const out = b.alloc('F32', 1, nHeads * headDim);
  const { stretches } = stretchesOf(DCA, blockAt(LENGTH - 1, 1));
  const ms = await time((i) => b.attend(out, q, kvs[i % 2], stretches), 200);
  const bytes = 2 * LENGTH * nKvHeads * headDim * (has16Bits ? 2 : 4);
  report(`decode attention ${LENGTH}, ${nHeads}/${nKvHeads} heads of ${headDim}`, ms, bytes, 'GB/s');
}

async function matmul(type: TensorType, n: number, N: number, K: number) {
  const nWeights = n === 1 ? 8 : 1; // more than caches hold
  const weights = Array.from({ length: nWeights }, () => stored(type, N, K));
  const [x, out] = [normal(n, K), b.alloc('F32', n, N)];
  const ms = await time((i) => b.matmul(out, x, weights[i % nWeights]), n === 1 ? 400 : 20);
  const name = `${n === 1 ? 'matvec' : 'matmul'} ${type} ${n} x ${N} x ${K}`;
  if (n === 1) report(name, ms, N * rowBytes(type, K), 'GB/s');
  else report(name, ms, 2 * n * N * K, 'TFLOP/s');
}

/** A Llama of 1.24 billion parameters. */
const CONFIG: ModelConfig = {
  modelType: 'llama',
  vocabSize: 128256,
  hiddenSize: 2048,
  intermediateSize: 8192,
  numHiddenLayers: 16,
  numAttentionHeads: 32,
  numKeyValueHeads: 8,
  headDim: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 500000,
  maxPositionEmbeddings: 8192,
  tieWordEmbeddings: true,
};

/** Random weights of a config. */
function randomWeights(type: TensorType, config: ModelConfig): Weights {
  const { hiddenSize, intermediateSize, headDim, numAttentionHeads, numKeyValueHeads, vocabSize } = config;
  const linear = (rows: number, cols: number): Linear => ({ weight: stored(type, rows, cols) });
  const norm = () => {
    const tensor = b.alloc('F32', 1, hiddenSize);
    b.write(tensor, new Float32Array(hiddenSize).fill(1));
    return tensor;
  };
  const layer = (): Layer => ({
    inputLayernorm: norm(),
    qProj: linear(numAttentionHeads * headDim, hiddenSize),
    kProj: linear(numKeyValueHeads * headDim, hiddenSize),
    vProj: linear(numKeyValueHeads * headDim, hiddenSize),
    oProj: linear(hiddenSize, numAttentionHeads * headDim),
    preFeedforwardLayernorm: norm(),
    gateProj: linear(intermediateSize, hiddenSize),
    upProj: linear(intermediateSize, hiddenSize),
    downProj: linear(hiddenSize, intermediateSize),
  });
  const embedTokens = stored(type, vocabSize, hiddenSize);
  const layers = Array.from({ length: config.numHiddenLayers }, layer);
  return { embedTokens, layers, norm: norm(), lmHead: { weight: embedTokens } };
}

/** An engine for texts of `context` tokens. */
function engineOf(config: ModelConfig, weights: Weights, placement: Placement, context: number, sequences: number) {
  const attention = attentionOf(config, placement, context);
  const sizes = { blockLen: BLOCK, maxLogitRows: Math.max(1, sequences), nPages: sequences * pagesFor(context) };
  const cache = allocKvCache(
    b,
    config,
    attention,
    sizes.nPages,
    weights.layers.map(() => 0),
  );
  const transformer = makeTransformer(b, config, weights, attention, sizes);
  const parts = { transformer, cache, context, sequences, ...sizes, vocabSize: config.vocabSize };
  return {
    engine: new Engine({ ...parts, backend: b }),
    onHost: new Engine({ ...parts, backend: { ...b, draw: undefined } }),
  };
}

/** Tokens a second of eight texts that are written at once, beside one alone, in a model of SmolLM2-135M's shape. */
async function batch(type: TensorType) {
  const small = {
    hiddenSize: 576,
    intermediateSize: 1536,
    numHiddenLayers: 30,
    numAttentionHeads: 9,
    numKeyValueHeads: 3,
  };
  const config: ModelConfig = { ...CONFIG, ...small, vocabSize: 49152, maxPositionEmbeddings: 8192 };
  const { engine } = engineOf(config, randomWeights(type, config), PLAIN, 1200, 8);
  const rateOf = async (nTexts: number): Promise<number> => {
    const times: number[] = [];
    const write = async (text: number) => {
      const prompt = Array.from({ length: 1000 }, (_, i) => (text * 31 + i * 7919) % config.vocabSize);
      for await (const _ of engine.generate(prompt, { maxTokens: 128 })) times.push(performance.now());
    };
    await Promise.all(Array.from({ length: nTexts }, (_, text) => write(text)));
    const [first, last] = [times.length >> 2, (3 * times.length) >> 2]; // all are written then
    return ((last - first) / (times[last] - times[first])) * 1000;
  };
  await rateOf(8); // warm
  const rates: number[][] = [];
  for (let round = 0; round < 3; round++) rates.push([await rateOf(1), await rateOf(8)]);
  const [one, eight] = [0, 1].map((of) => median(rates.map((rate) => rate[of])));
  facts[`tokens/s of one text, ${type}`] = one;
  facts[`tokens/s of eight texts, ${type}`] = eight;
  console.log(
    `${type} 135M, after 1000 tokens: one text ${one.toFixed(0)} tokens/s, eight ${eight.toFixed(0)}: ${(eight / one).toFixed(2)}`,
  );
}

async function model(type: TensorType) {
  const { hiddenSize, intermediateSize, headDim, numKeyValueHeads, vocabSize } = CONFIG;
  const weights = randomWeights(type, CONFIG);
  for (const [name, placement] of [
    ['plain', PLAIN],
    ['DCA', DCA],
  ] as const) {
    const { engine, onHost } = engineOf(CONFIG, weights, placement, LENGTH + 64, 1);
    /** Milliseconds until each token, the first behind a prompt that begins with token `first`. */
    const timesOf = async (on: Engine, first: number, options: GenerateOptions): Promise<number[]> => {
      const prompt = Array.from({ length: LENGTH }, (_, i) => (first + i * 7919) % vocabSize);
      const times: number[] = [];
      let startedAt = performance.now();
      for await (const _ of on.generate(prompt, options)) {
        times.push(performance.now() - startedAt);
        startedAt = performance.now();
      }
      return times;
    };
    await timesOf(engine, 0, { maxTokens: 1 }); // warm
    const runs = {
      '': await timesOf(engine, 1, { maxTokens: 32 }),
      ', top 40': await timesOf(engine, 2, { maxTokens: 32, temperature: 1, topK: 40 }),
      ', drawn by the host': await timesOf(onHost, 3, { maxTokens: 32 }),
    };
    const prefill = median(Object.values(runs).map(([first]) => first));
    const inLayers =
      CONFIG.numHiddenLayers * (2 * hiddenSize ** 2 + (1 / 2) * hiddenSize ** 2 + 3 * hiddenSize * intermediateSize);
    const work = 2 * inLayers * LENGTH + 4 * causalPairs(LENGTH) * hiddenSize * CONFIG.numHiddenLayers;
    report(`${type} model, ${name}: prefill ${LENGTH}`, prefill, work, 'TFLOP/s');
    facts[`prefill ${LENGTH}, ${name}`] = prefill;
    const bytes =
      2 * (inLayers + vocabSize * hiddenSize + 2 * CONFIG.numHiddenLayers * LENGTH * numKeyValueHeads * headDim);
    for (const [how, [, ...times]] of Object.entries(runs)) {
      report(`${type} model, ${name}: a token at ${LENGTH}${how}`, median(times), bytes, 'GB/s');
      facts[`decode at ${LENGTH}, ${name}${how}`] = median(times);
    }
  }
}

/** Runs PyTorch on the same GPU and prints its figures, with ours where there is one: above 1 we are faster. */
function compare(python: string) {
  const script = new URL('peers/torchPeer.py', import.meta.url).pathname;
  const { stdout, stderr, status } = spawnSync(python, [script, String(LENGTH)], { encoding: 'utf8' });
  const ours: Record<string, string> = {
    [`attention ${LENGTH}, 32 heads of 128, FlashAttention-2`]: attentionName(32, 32, 128, 'plain'),
    [`attention ${LENGTH}, 32 heads of 128, three calls`]: attentionName(32, 32, 128, 'DCA'),
    [`attention ${LENGTH}, 32 heads of 64, FlashAttention-2`]: attentionName(32, 8, 64, 'plain'),
    [`attention ${LENGTH}, 32 heads of 64, three calls`]: attentionName(32, 8, 64, 'DCA'),
  };
  for (const line of stdout.split('\n').filter(Boolean)) {
    const { name, ms, work, unit } = JSON.parse(line);
    const rate = work === null ? ms : work / ms / (unit === 'TFLOP/s' ? 1e9 : 1e6);
    const own = facts[ours[name] ?? name];
    const ratio =
      own === undefined ? '' : `ours ${own.toPrecision(4)}: ${(work === null ? rate / own : own / rate).toFixed(2)}`;
    facts[`PyTorch ${name}`] = Number(rate.toPrecision(4));
    console.log(`PyTorch ${name.padEnd(56)} ${rate.toFixed(1).padStart(8)} ${(unit ?? 'ms').padEnd(8)} ${ratio}`);
  }
  if (status !== 0) {
    console.log(`PyTorch stopped with ${status}: ${stderr.slice(-2000)}`);
    process.exitCode = 1;
  }
}

if (wants('check')) await check();
if (wants('attention')) {
  for (const [name, placement] of [
    ['plain', PLAIN],
    ['DCA', DCA],
  ] as const) {
    await attention(32, 32, 128, name, placement);
    await attention(32, 8, 64, name, placement);
  }
}
if (wants('decode')) {
  await decodeAttention(32, 32, 128);
  await decodeAttention(32, 8, 64);
}
if (wants('matmul')) {
  for (const type of ['F16', 'Q8_0'] as const) {
    await matmul(type, 4096, 4096, 4096);
    await matmul(type, 2048, 8192, 2048);
  }
}
if (wants('matvec')) {
  for (const type of ['F16', 'Q8_0'] as const) {
    await matmul(type, 1, 8192, 2048);
    await matmul(type, 1, 2048, 2048);
    await matmul(type, 1, 128256, 2048);
  }
}
if (wants('model')) await model('F16');
if (wants('batch')) for (const type of ['F16', 'Q8_0'] as const) await batch(type);
if (values.torch) compare(values.torch);
console.log(JSON.stringify({ backend: b.name, robust: values.robust, length: LENGTH, ...facts }));
await b.dispose();
