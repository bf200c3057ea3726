import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { ModelConfig } from './config.ts';
import { ropeFrequencies } from './rope.ts';

interface Golden {
  name: string;
  config: Pick<ModelConfig, 'headDim' | 'ropeTheta' | 'maxPositionEmbeddings'> & { ropeScaling: object | null };
  longest: number;
  invFreq: number[];
  attentionFactor: number;
}

/** By transformers, in float64; see test/golden/README.md. */
const GOLDEN: Golden[] = JSON.parse(readFileSync(new URL('../test/golden/rope.json', import.meta.url), 'utf8'));

const ropeOf = (config: object, longest: number) => ropeFrequencies(config as ModelConfig, longest);

function expectRelativelyNear(actual: number, expected: number): void {
  expect(Math.abs(actual / expected - 1)).toBeLessThan(1e-12);
}

describe('ropeFrequencies', () => {
  it.each(GOLDEN)('$name', ({ config, longest, invFreq, attentionFactor }) => {
    const rope = ropeOf({ ...config, ropeScaling: config.ropeScaling ?? undefined }, longest);
    expect(rope.invFreq).toHaveLength(invFreq.length);
    rope.invFreq.forEach((actual, d) => {
      expectRelativelyNear(actual, invFreq[d]);
    });
    expectRelativelyNear(rope.attentionFactor, attentionFactor);
  });

  it('factors divide the frequencies, one each', () => {
    const config = { headDim: 8, ropeTheta: 10000, maxPositionEmbeddings: 100 };
    const { invFreq, attentionFactor } = ropeOf(
      { ...config, ropeScaling: { ropeType: 'factors', factors: [1, 2, 4, 8] } },
      100,
    );
    [1, 0.1 / 2, 0.01 / 4, 0.001 / 8].forEach((expected, d) => {
      expectRelativelyNear(invFreq[d], expected);
    });
    expect(attentionFactor).toBe(1);
  });

  it('only the dynamic rule depends on the context', () => {
    for (const { config, longest } of GOLDEN.filter(({ config }) => config.ropeScaling)) {
      const [short, long] = [longest, 100 * longest].map((n) => ropeOf(config, n).invFreq);
      const isDynamic = (config.ropeScaling as { ropeType: string }).ropeType === 'dynamic';
      expect(Array.from(short).every((f, d) => f === long[d])).toBe(!isDynamic);
    }
  });
});
