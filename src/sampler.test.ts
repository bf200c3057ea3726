import { describe, expect, it } from 'vitest';
import { UnsupportedError } from './errors.ts';
import { argmax, logSumExp, makeSampler, type SamplingOptions } from './sampler.ts';

const logitsOf = (probabilities: readonly number[]) => Float64Array.from(probabilities, Math.log);

/** How often each token is drawn in `draws` draws. */
function counts(probabilities: readonly number[], options: SamplingOptions, draws: number): number[] {
  const sample = makeSampler({ temperature: 1, ...options });
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
    const sample = makeSampler();
    expect(sample(Float32Array.of(1, 3, 2, 3), [])).toBe(1);
    expect(sample(Float32Array.of(-Infinity, -5, -Infinity), [])).toBe(1);
  });

  it('does not depend on filters or seed', () => {
    const sample = makeSampler({ topK: 2, topP: 0.5, minP: 0.5, seed: 7 });
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

describe('seed', () => {
  const draw = (seed?: number) => {
    const sample = makeSampler({ temperature: 1, seed });
    return Array.from({ length: 50 }, () => sample(logitsOf(PROBABILITIES), []));
  };

  it('the same gives the same tokens; the default is 0', () => {
    expect(draw(3)).toEqual(draw(3));
    expect(draw()).toEqual(draw(0));
  });

  it('another gives others', () => {
    expect(new Set([0, 1, 2, 3, -1].map((seed) => draw(seed).join())).size).toBe(5);
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
    [{ topK: 3, minP: 0.6 }, PROBABILITIES, [0, 2]],
    [{ topK: 1 }, [0.4, 0.2, 0.4], [0, 2]], // equals stay together
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
    makeSampler({ repetitionPenalty: 2 })(logits, [0, 1, 4, 0, 0]);
    expect(Array.from(logits)).toEqual([2, -8, 3, -3, 0]);
  });

  it('changes the greedy choice', () => {
    expect(makeSampler({ repetitionPenalty: 1.5 })(Float32Array.of(4, 3), [0])).toBe(1);
    expect(makeSampler({ repetitionPenalty: 1.5 })(Float32Array.of(4, 3), [1])).toBe(0);
  });
});

describe('refusals', () => {
  it.each<[SamplingOptions, string]>([
    [{ temperature: -0.1 }, 'temperature is -0.1; wanted a number from 0 to 100'],
    [{ temperature: NaN }, 'temperature is NaN; wanted a number from 0 to 100'],
    [{ topK: -1 }, `topK is -1; wanted a number from 0 to ${2 ** 31}`],
    [{ topP: 1.01 }, 'topP is 1.01; wanted a number from 0 to 1'],
    [{ minP: -1 }, 'minP is -1; wanted a number from 0 to 1'],
    [{ repetitionPenalty: 0 }, 'repetitionPenalty is 0; wanted a number from 0.01 to 100'],
    [{ seed: Infinity }, `seed is Infinity; wanted a number from ${-(2 ** 53)} to ${2 ** 53}`],
  ])('%o', (options, message) => {
    expect(() => makeSampler(options)).toThrow(new UnsupportedError(message));
  });

  it.each([0, 1, 2])('a logit that is not a number, at %i', (id) => {
    for (const temperature of [0, 1]) {
      const logits = Float32Array.of(1, 2, 3).fill(NaN, id, id + 1);
      expect(() => makeSampler({ temperature })(logits, [])).toThrow('not a number');
    }
  });
});

describe('argmax and logSumExp', () => {
  it('argmax is the first of the largest', () => {
    expect(argmax([-3, -1, -1, -2])).toBe(1);
  });

  it('logSumExp is ln of the sum of exp, at any size of logit', () => {
    expect(logSumExp(logitsOf([1, 2, 3, 4]))).toBeCloseTo(Math.log(10), 12);
    expect(logSumExp(Float64Array.of(1000, 1000))).toBeCloseTo(1000 + Math.log(2), 12);
    expect(logSumExp(Float64Array.of(-1000, -Infinity))).toBe(-1000);
  });
});
