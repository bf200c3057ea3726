/**
 * Speed and memory on a real model: attention against its float64 definition, then attention GFLOP/s, prefill and decode
 * tokens/s at several lengths, and peak memory at a 16k context. A table for people, then one JSON line for machines.
 *
 *     npm run bench -- [model.gguf] [--lengths 512,2048,4096,8192,16384] [--threads 2] [--precision f32] [--kv-type f32]
 */
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Backend } from '../src/backends/backend.ts';
import { openReference } from '../src/backends/reference.ts';
import { openWasm } from '../src/backends/wasm.ts';
import type { Precision } from '../src/backends/wasmStage.ts';
import type { KvType } from '../src/kvTypes.ts';
import { loadModel, type ModelConfig } from '../src/node.ts';
import { nodeMachine } from '../src/platform/nodeMachine.ts';
import { firstPages, slice, stretches } from '../test/stretches.ts';
import { median } from './median.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    lengths: { type: 'string', default: '512,2048,4096,8192,16384' },
    threads: { type: 'string' },
    precision: { type: 'string' },
    'kv-type': { type: 'string' },
  },
});
const path = positionals[0] ?? 'models/SmolLM2-135M-Instruct.Q4_1.gguf';
const lengths = values.lengths.split(',').map(Number);
const threads = values.threads === undefined ? undefined : Number(values.threads);
const wasm = { threads, precision: values.precision as Precision, kvType: values['kv-type'] as KvType };
if (!existsSync(path)) throw new Error(`${path} is missing; fetch it with: npm run fetch-model`);

const noise = (n: number) => Float32Array.from({ length: n }, () => Math.random() * 2 - 1);

/** Records one attention of the last `n` of `nTokens` tokens, `chunkLen` tokens a chunk; returns its output. */
function recordAttention(b: Backend, config: ModelConfig, n: number, nTokens: number, chunkLen: number, data: Inputs) {
  const { numAttentionHeads: nHeads, numKeyValueHeads: nKvHeads, headDim } = config;
  const tensor = (rows: number, cols: number, numbers: Float32Array) => {
    const t = b.alloc('F32', rows, cols);
    b.write(t, numbers);
    return t;
  };
  const seen = stretches({ n, start: nTokens - n, chunkLen });
  const rows = seen.nRotations * n;
  const q = tensor(rows, nHeads * headDim, data.queries.subarray(0, rows * nHeads * headDim));
  const kv = b.allocKv(firstPages(nTokens).length, nKvHeads, headDim);
  const width = nKvHeads * headDim;
  b.append(kv, [tensor(nTokens, width, data.keys)], tensor(nTokens, width, data.values), [slice(nTokens)]);
  const out = b.alloc('F32', n, nHeads * headDim);
  return { out, attend: () => b.attend(out, q, kv, seen.stretches) };
}

interface Inputs {
  /** Of three rotations. */
  queries: Float32Array;
  keys: Float32Array;
  values: Float32Array;
}

function makeInputs({ numAttentionHeads, numKeyValueHeads, headDim }: ModelConfig, n: number, nTokens: number): Inputs {
  const width = nTokens * numKeyValueHeads * headDim;
  return { queries: noise(3 * n * numAttentionHeads * headDim), keys: noise(width), values: noise(width) };
}

/** @param bound On the largest error; outputs are about 1. */
async function checkAttention(config: ModelConfig, backend: Backend, bound: number): Promise<void> {
  const inputs = makeInputs(config, 70, 301);
  const { name } = backend;
  const [truth, found] = await Promise.all(
    [openReference(), backend].map(async (backend) => {
      const { out, attend } = recordAttention(backend, config, 70, 301, 96, inputs);
      attend();
      const numbers = await backend.read(out);
      await backend.dispose();
      return numbers;
    }),
  );
  const worst = Math.max(...Array.from(truth, (t, i) => Math.abs(t - found[i])));
  if (!(worst < bound)) throw new Error(`attention is off by ${worst} from its definition; no timing of wrong results`);
  console.log(`attention agrees with its float64 definition to ${worst.toExponential(1)} (${name})`);
}

async function attentionSpeed(config: ModelConfig, nTokens: number): Promise<number> {
  const n = 512;
  const backend = openWasm(nodeMachine, wasm);
  const chunkLen = Math.max(64, Math.floor((nTokens * 3) / 8)); // three chunks, so that all parts take part
  const { attend } = recordAttention(backend, config, n, nTokens, chunkLen, makeInputs(config, n, nTokens));
  const times: number[] = [];
  for (let round = 0; round < 12; round++) {
    await backend.submit();
    const start = performance.now();
    attend();
    await backend.submit();
    if (round >= 3) times.push(performance.now() - start); // the first rounds warm up the compiler
  }
  await backend.dispose();
  const pairs = n * (nTokens - n) + (n * (n + 1)) / 2;
  return (4 * config.numAttentionHeads * config.headDim * pairs) / median(times) / 1e6;
}

const decodeTokens = 33;
const context = Math.max(16384, ...lengths) + decodeTokens;
const model = await loadModel(path, { context, ...wasm });
const { config } = model;
console.log(`${path}, ${model.backendName}, method ${model.method.name}, context ${context}, node ${process.version}`);
await checkAttention(config, openWasm(nodeMachine, { threads, precision: 'f32', kvType: 'f32' }), 1e-5);
await checkAttention(config, openWasm(nodeMachine, wasm), 6e-2);

const results: Record<string, number>[] = [];
for (const length of lengths) {
  const attentionGflops = await attentionSpeed(config, Math.max(1024, length));
  // Other tokens for every length, so that nothing is found in the cache.
  const prompt = Array.from({ length }, (_, i) => (i * 7919 + length) % config.vocabSize);
  const started = performance.now();
  let readAt = started;
  const arrivals: number[] = [];
  const onProgress = (done: number, total: number) => {
    if (done === total) readAt = performance.now();
  };
  const options = { temperature: 0, maxTokens: decodeTokens, stopTokens: [], onProgress };
  for await (const _ of model.generate(prompt, options)) {
    arrivals.push(performance.now());
  }
  const decodeMs = median(arrivals.slice(1).map((at, i) => at - arrivals[i]));
  results.push({
    length,
    prefillTokensPerSecond: length / ((readAt - started) / 1000),
    decodeTokensPerSecond: 1000 / decodeMs,
    attentionGflops,
  });
  console.log(`${length} done`);
}
await model.dispose();

const rounded = results.map((row) =>
  Object.fromEntries(Object.entries(row).map(([k, v]) => [k, Math.round(v * 10) / 10])),
);
console.table(rounded);
const peakMemoryBytes = process.resourceUsage().maxRSS * 1024;
console.log(`peak memory ${(peakMemoryBytes / 2 ** 30).toFixed(2)} GiB`);
console.log(
  JSON.stringify({
    model: path,
    backend: model.backendName,
    method: model.method.name,
    results: rounded,
    peakMemoryBytes,
  }),
);
