import { describe, expect, it } from 'vitest';
import type { ModelConfig } from './config.ts';
import { checkFits, memoryPlan } from './memoryPlan.ts';

/** Llama 2 7B. */
const LLAMA: ModelConfig = {
  modelType: 'llama',
  vocabSize: 32000,
  hiddenSize: 4096,
  intermediateSize: 11008,
  numHiddenLayers: 32,
  numAttentionHeads: 32,
  numKeyValueHeads: 32,
  headDim: 128,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  maxPositionEmbeddings: 4096,
  tieWordEmbeddings: false,
};
const Q4_0 = 18 / 32;
const LAYER = (4 * 4096 ** 2 + 3 * 4096 * 11008) * Q4_0 + 2 * 4 * 4096; // 109 MiB
const OTHERS = 2 * 32000 * 4096 * Q4_0 + 4 * 4096;
const WEIGHTS = { layers: Array(32).fill(LAYER), others: OTHERS };
/** A block of 512 tokens: x and h; q, k, v, o and three rotations of q; gate and up; four tables of angles. */
const SCRATCH = 4 * 512 * (2 * 4096 + 7 * 4096 + 2 * 11008 + 5 * 128); // 116 MiB
const LOGITS = 4 * 32 * (4096 + 32000);

const runs = (...lengths: number[]) => lengths.flatMap((length, stage) => Array(length).fill(stage));

describe('memoryPlan', () => {
  it('keeps a model that fits in one memory', () => {
    const kvCache = 32 * 2 * 256 * 4096 * 2; // 128 MiB
    const scratch = SCRATCH / 2 + LOGITS;
    const total = 32 * LAYER + OTHERS + kvCache + scratch; // 3.70 GiB
    expect(memoryPlan(LLAMA, WEIGHTS, 256, { kvType: 'bf16' })).toEqual({
      weights: 32 * LAYER + OTHERS,
      kvCache,
      scratch,
      total,
      stageOf: runs(32),
      stageBytes: [total],
    });
  });

  it('spreads 7B with 32k tokens over six memories', () => {
    const layer = LAYER + 2 * 32768 * 4096 * 2; // 109 + 512 MiB
    const plan = memoryPlan(LLAMA, WEIGHTS, 32768, { kvType: 'bf16', stageLimit: 3840 * 2 ** 20 });
    // of 3840 MiB, 261 are taken in the first and 116 in the others
    expect(plan.stageOf).toEqual(runs(5, 6, 6, 6, 6, 3));
    const full = 6 * layer + SCRATCH;
    expect(plan.stageBytes).toEqual([
      OTHERS + LOGITS + 5 * layer + SCRATCH,
      full,
      full,
      full,
      full,
      3 * layer + SCRATCH,
    ]);
    expect(plan.scratch).toBe(6 * SCRATCH + LOGITS);
    expect(plan.total).toBe(plan.weights + plan.kvCache + plan.scratch);
  });

  // embedding, head and logits take the room of one layer, though not of two
  it.each([
    ['all layers', 3, 0, [0, 0, 0]],
    ['all but a byte of the last', 3, 1, [0, 0, 1]],
    ['one', 1, 0, [0, 1, 1]],
    ['none', 1, 1, [1, 1, 2]],
  ])('a first memory that holds %s', (_, nLayers, missing, stageOf) => {
    const weights = { layers: [LAYER, LAYER, LAYER], others: OTHERS };
    const kvLayer = 2 * 512 * 4096 * 2;
    const limit = OTHERS + LOGITS + SCRATCH + nLayers * (LAYER + kvLayer) - missing;
    expect(memoryPlan(LLAMA, weights, 512, { kvType: 'bf16', stageLimit: limit }).stageOf).toEqual(stageOf);
  });

  it('goes by the size of each layer', () => {
    const weights = { layers: [LAYER, 3 * LAYER, 2 * LAYER, LAYER], others: OTHERS };
    const kvLayer = 2 * 512 * 4096 * 2;
    const limit = SCRATCH + 3 * LAYER + 2 * kvLayer + OTHERS + LOGITS;
    expect(memoryPlan(LLAMA, weights, 512, { kvType: 'bf16', stageLimit: limit }).stageOf).toEqual([0, 1, 2, 2]);
  });
});

describe('checkFits', () => {
  let available = Infinity;
  const planOf = (context: number) => memoryPlan(LLAMA, WEIGHTS, context, { kvType: 'bf16' });
  const check = (context: number, backend: 'wasm' | 'reference' = 'wasm') =>
    checkFits(planOf, context, backend, available);
  const fittingOf = (context: number): number => {
    try {
      check(context);
    } catch (error) {
      return Number(/up to (\d+) tokens fits/.exec(String(error))?.[1]);
    }
    return context;
  };

  it('lets more than one memory holds pass where the machine has it', () => {
    available = 24 * 2 ** 30;
    expect(planOf(32768).total).toBeGreaterThan(20 * 2 ** 30);
    expect(() => check(32768)).not.toThrow();
  });

  it('refuses what the machine has not, and names the longest context that passes', () => {
    available = 12 * 2 ** 30;
    expect(() => check(32768)).toThrow(
      'a context of 32768 tokens needs 20.22 GiB (weights 3.53 GiB, KV cache 16.00 GiB, scratch 0.69 GiB), ' +
        'but this machine has free 12.00 GiB; a context of up to ',
    );
    const fitting = fittingOf(32768);
    expect(fitting % 64).toBe(0);
    expect(() => check(fitting)).not.toThrow();
    expect(() => check(fitting + 64)).toThrow();
  });

  it('refuses a layer with a cache that one memory cannot hold', () => {
    available = 2 ** 50;
    // a layer takes 16 KiB a token; 4095 MiB less scratch and weights are as much as 247,000
    expect(() => check(2 ** 18)).toThrow(
      /^a context of 262144 tokens needs 4\.22 GiB in one piece, .* one WebAssembly memory holds 4\.00 GiB; a context of up to/,
    );
    const fitting = fittingOf(2 ** 18);
    expect(fitting).toBe(64 * Math.floor((4095 * 2 ** 20 - SCRATCH - LAYER) / 2 ** 14 / 64));
    expect(() => check(2 ** 18, 'reference')).not.toThrow();
  });

  it('says when no context fits', () => {
    available = 2 ** 31;
    expect(() => check(100)).toThrow(/this machine has free 2\.00 GiB; no context fits: choose a smaller model/);
  });
});
