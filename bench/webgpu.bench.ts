/**
 * The WebGPU backend's speed. Every kernel is judged on all its cases before anything is timed; beside each time
 * stands the floor's measure: causal floating-point operations, or bytes that must be read.
 *
 *     npm run bench:webgpu -- [--only check,attention,decode,matmul,matvec,model] [--length 32768] [--robust] [--plain]
 *                             [--torch python3]
 *
 * With `--torch`, an interpreter that has PyTorch, the same shapes are timed there afterwards and set beside.
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import type { Tensor } from '../src/backends/backend.ts';
import { openWebGpu } from '../src/backends/webgpu.ts';
import type { ModelConfig } from '../src/config.ts';
import { dualChunk, PLAIN } from '../src/dualChunk.ts';
import { Engine, type GenerateOptions } from '../src/engine.ts';
import { allocKvCache } from '../src/kvCache.ts';
import { type Placement, piecesOf } from '../src/placement.ts';
import { ropeFrequencies } from '../src/rope.ts';
import { rowBytes, type TensorType } from '../src/tensorTypes.ts';
import { type Layer, type Linear, makeTransformer } from '../src/transformer.ts';
import { judge } from '../test/judge.ts';
import { CASES, RISING } from '../test/kernelCases.ts';
import { median } from './median.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'check,attention,decode,matmul,matvec,model' },
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

async function attention(nHeads: number, nKvHeads: number, headDim: number, name: string, placement: Placement) {
  const kv = b.allocKv(LENGTH, nKvHeads, headDim);
  const [k, v] = [normal(BLOCK, nKvHeads * headDim), normal(BLOCK, nKvHeads * headDim)];
  for (let start = 0; start < LENGTH; start += BLOCK) b.append(kv, k, v, start);
  const query = () => normal(BLOCK, nHeads * headDim, 1 / Math.sqrt(headDim));
  const q = { inter: query(), succ: query(), intra: query() };
  const out = b.alloc('F32', BLOCK, nHeads * headDim);
  const ms = await time(() => {
    for (let start = 0; start < LENGTH; start += BLOCK) b.attend(out, q, kv, piecesOf(placement, start, BLOCK));
  }, 1);
  report(attentionName(nHeads, nKvHeads, headDim, name), ms, 4 * causalPairs(LENGTH) * nHeads * headDim, 'TFLOP/s');
}

async function decodeAttention(nHeads: number, nKvHeads: number, headDim: number) {
  const kvs = [0, 1].map(() => b.allocKv(LENGTH, nKvHeads, headDim));
  const [k, v] = [normal(BLOCK, nKvHeads * headDim), normal(BLOCK, nKvHeads * headDim)];
  for (const kv of kvs) for (let start = 0; start < LENGTH; start += BLOCK) b.append(kv, k, v, start);
  const q = normal(1, nHeads * headDim, 1 / Math.sqrt(headDim));
  const out = b.alloc('F32', 1, nHeads * headDim);
  const pieces = piecesOf(DCA, LENGTH - 1, 1);
  const ms = await time((i) => b.attend(out, { inter: q, succ: q, intra: q }, kvs[i % 2], pieces), 200);
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

async function model(type: TensorType) {
  const { hiddenSize, intermediateSize, headDim, numAttentionHeads, numKeyValueHeads, vocabSize } = CONFIG;
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
  const layers = Array.from({ length: CONFIG.numHiddenLayers }, layer);
  const weights = { embedTokens, layers, norm: norm(), lmHead: { weight: embedTokens } };
  const stageOf = layers.map(() => 0);
  const cache = allocKvCache(b, CONFIG, LENGTH + 64, stageOf);
  for (const [name, placement] of [
    ['plain', PLAIN],
    ['DCA', DCA],
  ] as const) {
    const transformer = makeTransformer(b, CONFIG, weights, placement, ropeFrequencies(CONFIG, LENGTH), BLOCK, 1);
    const parts = { transformer, cache, blockLen: BLOCK, maxLogitRows: 1, vocabSize };
    const engine = new Engine({ ...parts, backend: b });
    const onHost = new Engine({ ...parts, backend: { ...b, draw: undefined } });
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
if (values.torch) compare(values.torch);
console.log(JSON.stringify({ backend: b.name, robust: values.robust, length: LENGTH, ...facts }));
await b.dispose();
