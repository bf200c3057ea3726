/** From logits to the next token: a penalty on what the text has, then a draw, whose definition is in `kernels/draw.ts`. */
import { UnsupportedError } from './errors.ts';
import { argmax, type Choice, draw, MAX_TOP_K } from './kernels/draw.ts';

export interface SamplingOptions {
  /** 0 takes the likeliest token. Default 0. */
  temperature?: number;
  /** Keep the `topK` likeliest tokens, the first of equals first; 0 keeps all. Default 0. */
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

export interface Sampler {
  /**
   * The next token, from logits `[vocabSize]`, which it may change, and the tokens of the text so far.
   * @throws Error when a logit is not a number.
   */
  sample(logits: Float32Array | Float64Array, history: readonly number[]): number;
  /** In place of `sample`, how a backend is to draw the next token. Absent where that is more than its `draw` takes. */
  choose?(): Choice;
}

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
    const kind = name === 'topK' ? 'whole number' : 'number';
    if (value !== undefined && !(value >= min && value <= max && (kind === 'number' || Number.isInteger(value)))) {
      throw new UnsupportedError(`${name} is ${value}; wanted a ${kind} from ${min} to ${max}`);
    }
  }
  const { temperature = 0, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1, seed = 0 } = options;
  const random = seededRandom(seed);
  const filters = temperature === 0 ? { topK: 1, temperature: 1 } : { topK, temperature };
  const choose = (): Choice => ({ ...filters, topP, minP, u: random() });
  const isForBackends = repetitionPenalty === 1 && filters.topK > 0 && filters.topK <= MAX_TOP_K;
  return {
    sample(logits, history) {
      if (repetitionPenalty !== 1) {
        for (const id of new Set(history)) logits[id] *= logits[id] > 0 ? 1 / repetitionPenalty : repetitionPenalty;
      }
      return checkedToken(draw(logits, choose()));
    },
    ...(isForBackends && { choose }),
  };
}

/** A token as `draw` gives it. @throws Error when that is none, since a logit is not a number. */
export function checkedToken(token: number): number {
  if (token < 0) throw new Error('the model computed a logit that is not a number');
  return token;
}

/** `ln(sum(exp(values)))`: a token's log-probability is its logit less this. */
export function logSumExp(values: Float32Array | Float64Array): number {
  const max = values[checkedToken(argmax(values))];
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Math.exp(values[i] - max);
  return max + Math.log(sum);
}

// --- internal ---

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
