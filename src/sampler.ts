/**
 * The next token comes of logits by penalties on what the text has and biases, then a draw, whose definition is in
 * `kernels/draw.ts`.
 */
import { UnsupportedError } from './errors.ts';
import { argmax, type Choice, draw, likeliest, MAX_TOP_K } from './kernels/draw.ts';

/** The defaults are a sampler's own; `Model.generate` fills in what the model wants, and draws a seed. */
export interface SamplingOptions {
  /** 0 takes the likeliest token. Default 0. */
  temperature?: number;
  /** Keep the `topK` likeliest tokens, the first of equals first; 0 keeps all. Default 0. */
  topK?: number;
  /** Keep the likeliest tokens that together reach this probability. Default 1. */
  topP?: number;
  /** Drop tokens less likely than this share of the likeliest. Default 0. */
  minP?: number;
  /**
   * Divides positive and multiplies negative logits of tokens already in the text; above 1 avoids repeats. Default 1.
   */
  repetitionPenalty?: number;
  /** Taken off the logit of a token for every time it was drawn; the prompt does not count. -2 to 2, default 0. */
  frequencyPenalty?: number;
  /** Taken off the logit of a token that was drawn before; the prompt does not count. -2 to 2, default 0. */
  presencePenalty?: number;
  /** Added to the logits of tokens by their ids, from -100, which all but bans one, to 100. Default: none. */
  logitBias?: Readonly<Record<number, number>>;
  /**
   * The seed is a whole number, all 53 bits of which count. The same seed, prompt and options give the same text.
   * Default 0.
   */
  seed?: number;
}

export interface LogProb {
  token: number;
  /** This is the natural logarithm of the model's own probability, before penalty, temperature and filters. */
  logprob: number;
}

/** A sampler draws the tokens of one text. */
export interface Sampler {
  /** How the next token is to be drawn. Every call makes the choice of one more token. */
  choose(): Choice;
  /** Whether a backend's `draw` takes such choices, and the text so far does not count. */
  readonly isForBackends: boolean;
  /**
   * Draws the next token from logits `[vocabSize]`, which it may change, and the tokens of the text so far, which only
   * grows.
   * @throws UnsupportedError when a logit is not a number, or the largest is infinite.
   */
  sample(logits: Float32Array | Float64Array, history: readonly number[], choice?: Choice): number;
}

/** A model may say this of how its tokens are to be drawn. */
export type Sampling = Required<Pick<SamplingOptions, 'temperature' | 'topK' | 'topP' | 'minP' | 'repetitionPenalty'>>;

/** Each option that is not a whole number has a least and a largest value. */
export const SAMPLING_RANGES = {
  temperature: [0, 100],
  topP: [0, 1],
  minP: [0, 1],
  repetitionPenalty: [0.01, 100],
  frequencyPenalty: [-2, 2],
  presencePenalty: [-2, 2],
  logitBias: [-100, 100],
} as const satisfies Partial<Record<keyof SamplingOptions, readonly [min: number, max: number]>>;

/** This is llama.cpp's sampling, for models that say nothing of how they want to be sampled. */
const USUAL: Sampling = { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05, repetitionPenalty: 1 };
/** This is Hugging Face's sampling, which a model that says its temperature counts upon for what it does not say. */
const BESIDE_TEMPERATURE: Sampling = { temperature: 1, topK: 50, topP: 1, minP: 0, repetitionPenalty: 1 };

/** Fills in the sampling that a model wants by what its files say. */
export const samplingOf = (said: Partial<Sampling>): Sampling => ({
  ...(said.temperature === undefined ? USUAL : BESIDE_TEMPERATURE),
  ...said,
});

/** Draws a seed for those who give none. */
export const drawSeed = (): number => crypto.getRandomValues(new Uint32Array(1))[0];

/** @param nPrompt So many tokens of the history were not drawn. */
export function makeSampler(options: SamplingOptions = {}, nPrompt = 0): Sampler {
  const { temperature = 0, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1, seed = 0 } = options;
  const { frequencyPenalty = 0, presencePenalty = 0, logitBias = {} } = options;
  const bias = Object.entries(logitBias).map(([id, value]) => [Number(id), value] as const);
  const isPenalised = repetitionPenalty !== 1 || frequencyPenalty !== 0 || presencePenalty !== 0;
  const random = seededRandom(seed);
  const filters = temperature === 0 ? { topK: 1, temperature: 1 } : { topK, temperature };
  const choose = (): Choice => ({ ...filters, topP, minP, u: random() });
  const isForBackends = !isPenalised && bias.length === 0 && filters.topK > 0 && filters.topK <= MAX_TOP_K;
  const drawn = new Map<number, number>(); // how often each token of the history was drawn, of the prompt 0 times
  let nCounted = 0;
  return {
    choose,
    isForBackends,
    sample(logits, history, choice = choose()) {
      if (isPenalised) {
        for (; nCounted < history.length; nCounted++) {
          const id = history[nCounted];
          drawn.set(id, (drawn.get(id) ?? 0) + (nCounted < nPrompt ? 0 : 1));
        }
        for (const [id, times] of drawn) {
          if (repetitionPenalty !== 1) logits[id] *= logits[id] > 0 ? 1 / repetitionPenalty : repetitionPenalty;
          if (times > 0) logits[id] -= times * frequencyPenalty + presencePenalty;
        }
      }
      for (const [id, value] of bias) logits[id] += value;
      return checkedToken(draw(logits, choice));
    },
  };
}

/** Checks a token as `draw` gives it. @throws UnsupportedError when that is none. */
export function checkedToken(token: number): number {
  if (token < 0) {
    throw new UnsupportedError(
      'the model computed a logit that is not a number; its weights may be damaged, or overflow: try another file or precision f32',
    );
  }
  return token;
}

/** Gives a token's log-probability and those of the `count` likeliest, from the logits of all. */
export function logprobsOf(
  logits: Float32Array | Float64Array,
  token: number,
  count = 0,
): { logprob: number; topLogprobs: LogProb[] } {
  const total = logSumExp(logits);
  const ids = count > 0 ? likeliest(logits, Uint32Array.from(logits.keys()), (_, n) => n === count) : [];
  return {
    logprob: logits[token] - total,
    topLogprobs: Array.from(ids, (id) => ({ token: id, logprob: logits[id] - total })),
  };
}

/**
 * Computes `ln(sum(exp(values)))`: a token's log-probability is its logit less this.
 * @throws UnsupportedError when a value is not a number, or the largest is infinite.
 */
export function logSumExp(values: Float32Array | Float64Array): number {
  const max = values[argmax(values)] ?? NaN;
  checkedToken(Number.isFinite(max) ? 0 : -1);
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Math.exp(values[i] - max);
  return max + Math.log(sum);
}

// --- internal ---

/**
 * Makes sfc32 (Chris Doty-Humphrey, PractRand), with 128 bits of state, of which the seed sets 64; uniform in [0, 1).
 */
function seededRandom(seed: number): () => number {
  let [a, b, c, counter] = [seed | 0, Math.floor(seed / 2 ** 32) | 0, 0, 1];
  const next = () => {
    const sum = (a + b + counter++) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let n = 0; n < 15; n++) next(); // until every bit of the seed has reached every word
  return next;
}
