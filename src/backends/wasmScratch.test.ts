/** The plan for kernels must be what they take, whatever is read. */
import { expect, it, onTestFinished } from 'vitest';
import { randomWeights, tinyConfig, tinyEngine } from '../../test/tinyModel.ts';
import { dualChunk } from '../dualChunk.ts';
import { memoryPlan } from '../memoryPlan.ts';
import { nodeMachine } from '../platform/nodeMachine.ts';
import { callSizes } from '../transformer.ts';
import { openWasm } from './wasm.ts';
import { kernelBytes, largestScratch } from './wasmScratch.ts';

/** Llama 3 70B. */
const LARGE = tinyConfig({
  vocabSize: 128256,
  hiddenSize: 8192,
  intermediateSize: 28672,
  numHiddenLayers: 80,
  numAttentionHeads: 64,
  numKeyValueHeads: 8,
  headDim: 128,
});

it('is a few MiB for every thread, in every stage', () => {
  const thread = 4 * (41 * 28672 + 32 * 224 + 48) + 128; // 4.5 MiB: a product's rows and columns, and where they lie
  const quantized = 512 * (2 * 28672 + 4 * 224);
  const parts = (nSplits: number) => 8 * nSplits * 4 * 384 * 130; // of the keys that all heads of a tile of queries see
  const sizes = callSizes(LARGE, { blockLen: 512, nPages: 64 });
  expect(largestScratch(sizes, 2)).toEqual({ thread, quantized, parts: 0 }); // each thread has four heads
  expect(largestScratch(sizes, 128)).toEqual({ thread, quantized, parts: parts(64) });
  expect(kernelBytes(sizes, 128)).toBe(128 * thread + quantized + parts(64) + 4 * (4 * 512 + 64)); // 703 MiB

  const weights = { layers: Array(80).fill(480 * 2 ** 20), others: 2 ** 30 };
  const plan = (threads: number) => {
    const { stageBytes, scratch } = memoryPlan(LARGE, weights, 8192, {
      kvType: 'bf16',
      kernels: kernelBytes(sizes, threads),
    });
    return { nStages: stageBytes.length, largest: Math.max(...stageBytes), scratch };
  };
  expect(plan(128).largest).toBeLessThan(2 ** 32);
  expect(plan(128).nStages).toBeGreaterThan(plan(1).nStages);
  expect(plan(128).scratch).toBeGreaterThan(plan(128).nStages * 128 * thread);
});

it.each([
  { threads: 1, precision: 'int8' },
  { threads: 3, precision: 'int8' },
  { threads: 3, precision: 'f32' },
  { threads: 9, precision: 'int16' },
] as const)('is taken once: $threads threads, $precision', async ({ threads, precision }) => {
  const backend = openWasm(nodeMachine, { threads, precision });
  onTestFinished(() => backend.dispose());
  const config = tinyConfig({ numAttentionHeads: 6, numKeyValueHeads: 2, headDim: 16, intermediateSize: 96 });
  const [context, blockLen] = [3000, 160];
  const alone = openWasm(nodeMachine, { threads: 1 });
  randomWeights(alone, config);
  const weights = { layers: [0, 0], others: alone.nBytes };
  await alone.dispose();
  const chunks = { chunkLen: 700, maxDistance: 999, parts: 'full', scale: 'none', trainedLen: 1000 } as const;
  const { engine } = tinyEngine({ backend, config, context, blockLen, maxLogitRows: 32, placement: dualChunk(chunks) });
  await backend.submit();
  const nBytes = backend.nBytes;

  for (const length of [1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 127, 160, 161, 319, 500, 2999]) {
    const prompt = Array.from({ length }, (_, i) => (i * 7) % config.vocabSize);
    for await (const _ of engine.generate(prompt, { maxTokens: 2 })) expect(backend.nBytes).toBe(nBytes);
    for await (const _ of engine.score(prompt.slice(0, 400))) expect(backend.nBytes).toBe(nBytes);
  }
  const { total } = memoryPlan(config, weights, context, {
    kvType: 'bf16',
    blockLen,
    kernels: kernelBytes(callSizes(config, { blockLen, nPages: 24 }), threads),
  });
  expect(nBytes).toBeGreaterThan(0.99 * total);
  expect(nBytes).toBeLessThan(1.01 * total); // lines are filled up
});
