/** From logits to the next token. Filters run in Hugging Face's order: penalty, temperature, top-k, top-p, min-p. */
import { UnsupportedError } from './errors.ts';

export interface SamplingOptions {
  /** 0 takes the likeliest token. Default 0. */
  temperature?: number;
  /** Keep the `topK` likeliest tokens; 0 keeps all. Default 0. */
  topK?: number;
  /** Keep the likeliest tokens that together reach this probability. Default 1. */
  topP?: number;
  /** Drop tokens less likely than this share of the likeliest. Default 0. */
  minP?: number;
  /** Divides positive and multiplies negative logits of tokens already in the text; above 1 avoids repeats. Default 1. */
  repetitionPenalty?: number;
  /** Whole number. The same seed, prompt and options give the same text. Default 0. */
  seed?: number;
}

/** Takes logits `[vocabSize]`, which it may change, and the tokens of the text so far. */
export type Sampler = (logits: Float32Array | Float64Array, history: readonly number[]) => number;

const RANGES: Record<keyof SamplingOptions, [min: number, max: number]> = {
  temperature: [0, 100],
  topK: [0, 2 ** 31],
  topP: [0, 1],
  minP: [0, 1],
  repetitionPenalty: [0.01, 100],
  seed: [-(2 ** 53), 2 ** 53],
};

/** @throws UnsupportedError when an option is out of its range. */
export function makeSampler(options: SamplingOptions = {}): Sampler {
  for (const [name, [min, max]] of Object.entries(RANGES)) {
    const value = options[name as keyof SamplingOptions];
    if (value !== undefined && !(value >= min && value <= max)) {
      throw new UnsupportedError(`${name} is ${value}; wanted a number from ${min} to ${max}`);
    }
  }
  const { temperature = 0, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1, seed = 0 } = options;
  const random = seededRandom(seed);
  return (logits, history) => {
    if (repetitionPenalty !== 1) {
      for (const id of new Set(history)) logits[id] *= logits[id] > 0 ? 1 / repetitionPenalty : repetitionPenalty;
    }
    if (temperature === 0) return argmax(logits);
    const weights = Float64Array.from(logits);
    const max = weights[argmax(logits)];
    for (let id = 0; id < weights.length; id++) weights[id] = Math.exp((weights[id] - max) / temperature);
    const threshold = Math.max(minP, topK > 0 || topP < 1 ? topThreshold(weights, topK, topP) : 0);
    return draw(weights, threshold, random());
  };
}

/** Index of the largest value, the first of several. @throws Error when a value is not a number. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) throw new Error('the model computed a logit that is not a number');
    if (values[i] > values[best]) best = i;
  }
  return best;
}

/** `ln(sum(exp(values)))`: a token's log-probability is its logit less this. */
export function logSumExp(values: Float32Array | Float64Array): number {
  const max = values[argmax(values)];
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Math.exp(values[i] - max);
  return max + Math.log(sum);
}

// --- internal ---

/** Smallest weight that top-k and then top-p keep. Tokens of equal weight stay or go together. */
function topThreshold(weights: Float64Array, topK: number, topP: number): number {
  const descending = weights.slice().sort().reverse();
  const kept = topK > 0 ? descending.subarray(0, topK) : descending;
  const wanted = topP * kept.reduce((a, b) => a + b, 0);
  let last = 0;
  for (let sum = kept[0]; sum < wanted && last + 1 < kept.length; sum += kept[last]) last++;
  return kept[last];
}

/** Draws an index by weight among those at least `threshold`; `u` in [0, 1). */
function draw(weights: Float64Array, threshold: number, u: number): number {
  let total = 0;
  for (const weight of weights) if (weight >= threshold) total += weight;
  let left = u * total;
  let last = 0;
  for (let id = 0; id < weights.length; id++) {
    if (weights[id] < threshold) continue;
    last = id;
    left -= weights[id];
    if (left < 0) return id;
  }
  return last;
}

/** Mulberry32 (Tommy Ettinger): 32 bits of state, uniform in [0, 1). */
function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
