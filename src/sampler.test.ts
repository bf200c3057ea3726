import { describe, expect, it } from 'vitest';
import { UnsupportedError } from './errors.ts';
import { seededRandom } from './eval/random.ts';
import { argmax, type Choice, draw } from './kernels/draw.ts';
import { checkedToken, logprobsOf, logSumExp, makeSampler, type SamplingOptions, samplingOf } from './sampler.ts';

const logitsOf = (probabilities: readonly number[]) => Float64Array.from(probabilities, Math.log);

/** How often each token is drawn in `draws` draws. */
function counts(probabilities: readonly number[], options: SamplingOptions, draws: number): number[] {
  const { sample } = makeSampler({ temperature: 1, ...options });
  const count = probabilities.map(() => 0);
  for (let n = 0; n < draws; n++) count[sample(logitsOf(probabilities), [])]++;
  return count;
}

/** Sum of squared deviations in units of the expected count: chi-square for `probabilities.length - 1` freedoms. */
const chiSquare = (count: readonly number[], probabilities: readonly number[]) => {
  const draws = count.reduce((a, b) => a + b);
  return count.reduce((sum, n, id) => sum + (n - draws * probabilities[id]) ** 2 / (draws * probabilities[id]), 0);
};
const CHI_SQUARE_999 = 16.27; // three degrees of freedom: one fair sampler in 1000 is above

const PROBABILITIES = [0.3, 0.1, 0.4, 0.2];

describe('greedy', () => {
  it('is the default, and takes the first of equals', () => {
    const { sample } = makeSampler();
    expect(sample(Float32Array.of(1, 3, 2, 3), [])).toBe(1);
    expect(sample(Float32Array.of(-Infinity, -5, -Infinity), [])).toBe(1);
  });

  it('does not depend on filters or seed', () => {
    const { sample } = makeSampler({ topK: 2, topP: 0.5, minP: 0.5, seed: 7 });
    for (let n = 0; n < 20; n++) expect(sample(logitsOf(PROBABILITIES), [])).toBe(2);
  });
});

describe('temperature', () => {
  it.each([0, 1, 12345])('1 draws by the model’s probabilities, seed %i', (seed) => {
    expect(chiSquare(counts(PROBABILITIES, { seed }, 20_000), PROBABILITIES)).toBeLessThan(CHI_SQUARE_999);
  });

  it.each([0.5, 2])('%d draws by their power of its inverse', (temperature) => {
    const powers = PROBABILITIES.map((p) => p ** (1 / temperature));
    const sum = powers.reduce((a, b) => a + b);
    const count = counts(PROBABILITIES, { temperature }, 20_000);
    expect(
      chiSquare(
        count,
        powers.map((p) => p / sum),
      ),
    ).toBeLessThan(CHI_SQUARE_999);
  });

  it('near 0 is greedy, and a masked token is never drawn', () => {
    expect(counts(PROBABILITIES, { temperature: 1e-9 }, 100)).toEqual([0, 0, 100, 0]);
    expect(counts([0.5, 0, 0.5, 0], {}, 1000).map((n) => n > 0)).toEqual([true, false, true, false]);
  });
});

describe('penalties on drawn tokens, and biases', () => {
  it('a frequency counts every time, a presence once, and neither the prompt', () => {
    const history = [0, 0, 0, 1, 1, 2];
    const options = { frequencyPenalty: 0.5, presencePenalty: 1 };
    const logits = Float32Array.of(1, 1, 1, 1);
    makeSampler(options, 3).sample(logits, history);
    expect([...logits]).toEqual([1, -1, -0.5, 1]);
    makeSampler(options, 3).sample(logits, history.slice(0, 3));
    expect([...logits]).toEqual([1, -1, -0.5, 1]);
  });

  it('they follow a text that grows', () => {
    const { sample } = makeSampler({ frequencyPenalty: 2 }, 1);
    const text = [0];
    for (let n = 0; n < 4; n++) text.push(sample(Float32Array.of(1.5, 1, 0.2), text));
    expect(text).toEqual([0, 0, 1, 2, 0]);
  });

  it('a bias bans a token or forces it', () => {
    expect(makeSampler({ logitBias: { 1: -100 } }).sample(Float32Array.of(1, 3, 2), [])).toBe(2);
    expect(makeSampler({ logitBias: { 0: 100 } }).sample(Float32Array.of(1, 3, 2), [])).toBe(0);
  });

  it.each([{ frequencyPenalty: 1 }, { presencePenalty: -1 }, { logitBias: { 3: 1 } }, { repetitionPenalty: 2 }])(
    'no backend draws with %o',
    (options) => {
      expect(makeSampler({ topK: 40, temperature: 1 }).isForBackends).toBe(true);
      expect(makeSampler({ topK: 40, temperature: 1, ...options }).isForBackends).toBe(false);
    },
  );
});

describe('seed', () => {
  const draw = (seed?: number) => {
    const { sample } = makeSampler({ temperature: 1, seed });
    return Array.from({ length: 50 }, () => sample(logitsOf(PROBABILITIES), []));
  };

  it('the same gives the same tokens; the default is 0', () => {
    expect(draw(3)).toEqual(draw(3));
    expect(draw()).toEqual(draw(0));
  });

  it('another gives others', () => {
    expect(new Set([0, 1, 2, 3, -1].map((seed) => draw(seed).join())).size).toBe(5);
  });

  it('counts with all of its bits', () => {
    const seeds = [7, ...Array.from({ length: 53 }, (_, bit) => 7 + 2 ** bit)];
    expect(new Set([...seeds, ...seeds.map((seed) => -seed)].map((seed) => draw(seed).join())).size).toBe(108);
  });
});

describe('the sampling of a model', () => {
  it('is llama.cpp’s where its files say nothing, and Hugging Face’s beside a temperature', () => {
    expect(samplingOf({})).toEqual({ temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05, repetitionPenalty: 1 });
    expect(samplingOf({ topP: 0.5 })).toMatchObject({ temperature: 0.8, topK: 40, topP: 0.5 });
    const said = { temperature: 0.6, repetitionPenalty: 1.1 };
    expect(samplingOf(said)).toEqual({ ...said, topK: 50, topP: 1, minP: 0 });
  });
});

describe('filters', () => {
  it.each<[SamplingOptions, number[], number[]]>([
    [{ topK: 1 }, PROBABILITIES, [2]],
    [{ topK: 2 }, PROBABILITIES, [0, 2]],
    [{ topK: 0 }, PROBABILITIES, [0, 1, 2, 3]],
    [{ topK: 9 }, PROBABILITIES, [0, 1, 2, 3]],
    [{ topP: 0 }, PROBABILITIES, [2]],
    [{ topP: 0.39 }, PROBABILITIES, [2]],
    [{ topP: 0.41 }, PROBABILITIES, [0, 2]],
    [{ topP: 0.71 }, PROBABILITIES, [0, 2, 3]],
    [{ topP: 1 }, PROBABILITIES, [0, 1, 2, 3]],
    [{ minP: 0.51 }, PROBABILITIES, [0, 2]], // of the likeliest: at least 0.204
    [{ minP: 0.49 }, PROBABILITIES, [0, 2, 3]],
    [{ minP: 1 }, PROBABILITIES, [2]],
    [{ minP: 1 }, [0.4, 0.2, 0.4], [0, 2]],
    [{ topK: 3, minP: 0.6 }, PROBABILITIES, [0, 2]],
    [{ topK: 1 }, [0.2, 0.4, 0.4], [1]], // the first of equals
    [{ topK: 3 }, [0.1, 0.2, 0.3, 0.2, 0.2], [1, 2, 3]],
    [{ topP: 0.7 }, [0.2, 0.4, 0.2, 0.2], [0, 1, 2]],
    // in order: temperature before the shares are taken, top-k before top-p
    [{ topP: 0.5, temperature: 0.5 }, PROBABILITIES, [2]], // squares: 16 of 30
    [{ topP: 0.41, temperature: 100 }, PROBABILITIES, [0, 2]],
    [{ topK: 2, topP: 0.57 }, PROBABILITIES, [2]], // 4/7 of what top-k leaves
    [{ topK: 2, topP: 0.58 }, PROBABILITIES, [0, 2]],
  ])('%o of %o keep tokens %o', (options, probabilities, kept) => {
    const count = counts(probabilities, options, 1000);
    expect([...count.keys()].filter((id) => count[id] > 0)).toEqual(kept);
  });

  it('leave the kept tokens their shares', () => {
    const [a, , c] = counts([0.3, 0.1, 0.6], { topK: 2 }, 20_000);
    expect(a / (a + c)).toBeCloseTo(1 / 3, 1);
  });
});

describe('repetition penalty', () => {
  it('divides positive and multiplies negative logits of tokens in the text, each once', () => {
    const logits = Float64Array.of(4, -4, 3, -3, 0);
    makeSampler({ repetitionPenalty: 2 }).sample(logits, [0, 1, 4, 0, 0]);
    expect(Array.from(logits)).toEqual([2, -8, 3, -3, 0]);
  });

  it('goes with a text that grows', () => {
    const { sample } = makeSampler({ repetitionPenalty: 2 });
    const text = [1];
    text.push(sample(Float32Array.of(4, 5, 3.5), text));
    text.push(sample(Float32Array.of(4, 5, 3.5), text));
    expect(text).toEqual([1, 0, 2]);
  });

  it('changes the greedy choice', () => {
    expect(makeSampler({ repetitionPenalty: 1.5 }).sample(Float32Array.of(4, 3), [0])).toBe(1);
    expect(makeSampler({ repetitionPenalty: 1.5 }).sample(Float32Array.of(4, 3), [1])).toBe(0);
  });
});

describe('refusals', () => {
  it.each([0, 1, 2])('a logit that is not a number, at %i', (id) => {
    for (const temperature of [0, 1]) {
      const logits = Float32Array.of(1, 2, 3).fill(NaN, id, id + 1);
      expect(() => makeSampler({ temperature }).sample(logits, [])).toThrow(UnsupportedError);
    }
  });

  it.each<[string, number[]]>([
    ['one is infinite', [1, Infinity, 3]],
    ['all are masked', [-Infinity, -Infinity, -Infinity]],
  ])('logits of which %s', (_, values) => {
    for (const options of [
      {},
      { temperature: 1 },
      { temperature: 1, topK: 2, topP: 0.9 },
      { temperature: 1, minP: 0.1 },
    ]) {
      const logits = Float32Array.from(values);
      expect(() => makeSampler(options).sample(logits, []), JSON.stringify(options)).toThrow('not a number');
    }
    expect(() => logSumExp(Float32Array.from(values))).toThrow('not a number');
  });
});

describe('draw', () => {
  it.each([1, 2, 0])('draws nothing where the largest logit is infinite, topK %d', (topK) => {
    const choice = { topK, temperature: 1, topP: 1, minP: 0, u: 0.5 };
    expect(draw([1, Infinity, 0], choice)).toBe(-1);
    expect(draw([-Infinity, -Infinity], choice)).toBe(-1);
    expect(draw([-Infinity, 3e38], choice)).toBe(1);
  });

  /** The definition by sorting all. */
  function drawBySorting(logits: Float64Array, { topK, temperature, topP, minP, u }: Choice): number {
    let kept = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
    const max = logits[kept[0]];
    const weight = (id: number) => Math.exp((logits[id] - max) / temperature);
    const sumOf = (ids: number[]) => ids.reduce((sum, id) => sum + weight(id), 0);
    if (topK > 0) kept = kept.slice(0, topK);
    const total = sumOf(kept);
    kept = kept.filter((_, n) => n === 0 || sumOf(kept.slice(0, n)) < topP * total);
    kept = kept.filter((id) => weight(id) >= minP);
    return kept.find((_, n) => sumOf(kept.slice(0, n + 1)) > u * sumOf(kept)) as number;
  }

  it('is what sorting all would give, for any filters and however many equals', () => {
    const random = seededRandom('draw');
    const drawn = new Set<number>();
    for (let n = 0; n < 2000; n++) {
      const round = random.pick([(x: number) => x, Math.round]);
      const logits = Float64Array.from(random.normals(random.integer(1, 60), 2), round);
      const choice = {
        topK: random.integer(0, 70),
        temperature: random.pick([0.3, 1, 4]),
        topP: random.pick([random.uniform(), 0.999]), // the order counts whenever it is below 1
        minP: random.pick([0, random.uniform()]),
        u: random.uniform(),
      };
      const token = draw(logits, choice);
      expect(token, JSON.stringify(choice)).toBe(drawBySorting(logits, choice));
      drawn.add(token);
    }
    expect(drawn.size).toBeGreaterThan(50);
  });

  it('takes the likeliest for the least u, the least likely that is kept for the largest', () => {
    const draws = (u: number) => draw(logitsOf(PROBABILITIES), { topK: 3, temperature: 1, topP: 1, minP: 0, u });
    expect([0, 0.44, 0.45, 0.77, 0.78, 1 - 2 ** -32].map(draws)).toEqual([2, 2, 0, 0, 3, 3]);
  });
});

describe('log-probabilities', () => {
  it('are those of the likeliest, in order, the first of equals first', () => {
    const logits = logitsOf([0.125, 0.25, 0.125, 0.5]);
    const { logprob, topLogprobs } = logprobsOf(logits, 2, 3);
    expect(Math.exp(logprob)).toBeCloseTo(0.125, 12);
    expect(topLogprobs.map(({ token }) => token)).toEqual([3, 1, 0]);
    expect(topLogprobs.map(({ logprob: value }) => Math.exp(value))).toEqual(
      [0.5, 0.25, 0.125].map((p) => expect.closeTo(p, 12)),
    );
    expect(logprobsOf(logits, 2).topLogprobs).toEqual([]);
  });
});

describe('a choice for a backend', () => {
  it.each<[SamplingOptions, Omit<Choice, 'u'>]>([
    [{}, { topK: 1, temperature: 1, topP: 1, minP: 0 }],
    [
      { topK: 7, topP: 0.5 },
      { topK: 1, temperature: 1, topP: 0.5, minP: 0 },
    ],
    [
      { temperature: 2, topK: 256, minP: 0.1 },
      { topK: 256, temperature: 2, topP: 1, minP: 0.1 },
    ],
  ])('%o', (options, choice) => {
    expect(makeSampler(options).isForBackends).toBe(true);
    expect(makeSampler(options).choose()).toEqual({ ...choice, u: expect.any(Number) });
  });

  it.each<SamplingOptions>([
    { temperature: 1 },
    { temperature: 1, topP: 0.5 },
    { temperature: 1, topK: 257 },
    { repetitionPenalty: 1.1 },
    { temperature: 1, topK: 5, repetitionPenalty: 0.9 },
  ])('none for %o', (options) => {
    expect(makeSampler(options).isForBackends).toBe(false);
  });

  it('leads to the token that the sampler itself would give', () => {
    const options = { temperature: 1, topK: 3, seed: 8 };
    const [here, there] = [makeSampler(options), makeSampler(options)];
    const tokens = Array.from({ length: 50 }, () => here.sample(logitsOf(PROBABILITIES), []));
    expect(tokens).toEqual(tokens.map(() => draw(logitsOf(PROBABILITIES), there.choose())));
    expect(new Set(tokens).size).toBe(3);
  });

  it('that drew no token since a logit is not a number', () => {
    expect(checkedToken(7)).toBe(7);
    expect(() => checkedToken(-1)).toThrow('the model computed a logit that is not a number');
  });
});

describe('argmax and logSumExp', () => {
  it('argmax is the first of the largest', () => {
    expect(argmax([-3, -1, -1, -2])).toBe(1);
    expect(argmax([-3, NaN, -1])).toBe(-1);
  });

  it('logSumExp is ln of the sum of exp, at any size of logit', () => {
    expect(logSumExp(logitsOf([1, 2, 3, 4]))).toBeCloseTo(Math.log(10), 12);
    expect(logSumExp(Float64Array.of(1000, 1000))).toBeCloseTo(1000 + Math.log(2), 12);
    expect(logSumExp(Float64Array.of(-1000, -Infinity))).toBe(-1000);
    expect(() => logSumExp(Float64Array.of(1, NaN))).toThrow('not a number');
  });
});
