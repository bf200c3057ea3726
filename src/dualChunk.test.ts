import { describe, expect, it } from 'vitest';
import { seededRandom } from '../test/random.ts';
import { openReference } from './backends/reference.ts';
import {
  attentionScale,
  chunkOf,
  type DualChunk,
  keyPosition,
  type Parts,
  PLAIN,
  queryPositions,
  relativePosition,
  type Scale,
} from './dualChunk.ts';

const PARTS: readonly Parts[] = ['full', 'intra+inter', 'intra'];
const SCALES: readonly Scale[] = ['none', 'yarn', 'logn'];

const dualChunk = (chunkLen: number, maxDistance: number, more: Partial<DualChunk> = {}): DualChunk => ({
  ...{ chunkLen, maxDistance, parts: 'full', scale: 'none', trainedLen: maxDistance + 1 },
  ...more,
});

/** Every valid pair of chunk length and distance with chunks of up to 8 tokens. */
const SMALL = Array.from({ length: 8 }, (_, c) => c + 1).flatMap((chunkLen) =>
  Array.from({ length: chunkLen + 1 }, (_, local) => dualChunk(chunkLen, chunkLen + local)),
);

/** Every query of six chunks with every key up to it. */
function* pairs({ chunkLen }: DualChunk): Generator<[i: number, j: number]> {
  for (let i = 0; i < 6 * chunkLen; i++) for (let j = 0; j <= i; j++) yield [i, j];
}

const distances = (i: number, dca: DualChunk) => Array.from({ length: i + 1 }, (_, j) => relativePosition(i, j, dca));

describe.each(PARTS)('distances, %s', (parts) => {
  const settings = SMALL.map((dca) => ({ ...dca, parts }));

  it('lie between 0 and maxDistance, if the key is seen at all', () => {
    for (const dca of settings) {
      for (const [i, j] of pairs(dca)) {
        const distance = relativePosition(i, j, dca);
        const isSeen = parts !== 'intra' || chunkOf(i, dca) === chunkOf(j, dca);
        const isInRange = distance !== undefined && distance >= 0 && distance <= dca.maxDistance;
        expect(isInRange, `${i} to ${j}: ${distance} of ${dca.chunkLen}/${dca.maxDistance}`).toBe(isSeen);
      }
    }
  });

  it('are exact within a chunk', () => {
    for (const dca of settings) {
      for (const [i, j] of pairs(dca)) {
        if (chunkOf(i, dca) === chunkOf(j, dca)) expect(relativePosition(i, j, dca)).toBe(i - j);
      }
    }
  });

  it('come from one position of the key, whatever the query', () => {
    for (const dca of settings) {
      for (const [i, j] of pairs(dca)) {
        const distance = relativePosition(i, j, dca);
        const { intra, succ, inter } = queryPositions(i, dca);
        if (distance !== undefined) expect([intra, succ, inter]).toContain(distance + keyPosition(j, dca));
      }
    }
  });
});

describe('distances', () => {
  it('are exact over a chunk border up to maxDistance - chunkLen', () => {
    for (const dca of SMALL) {
      for (const [i, j] of pairs(dca)) {
        if (i - j <= dca.maxDistance - dca.chunkLen) expect(relativePosition(i, j, dca)).toBe(i - j);
      }
    }
  });

  it.each([
    [6, [6, 5, 4, 3, 2, 1, 0]],
    [11, [9, 8, 7, 6, 5, 4, 5, 4, 3, 2, 1, 0]],
    [13, [9, 8, 7, 6, 5, 4, 7, 6, 5, 4, 3, 2, 1, 0]],
  ])('row %i of chunks of 6 with distances up to 9; rows 6 and 11 are in figure 2 of the paper', (i, expected) => {
    expect(distances(i, dualChunk(6, 9))).toEqual(expected);
  });

  it.each<[Parts, (number | undefined)[]]>([
    ['full', [6, 5, 4, 5, 4, 3, 2, 1, 0]],
    ['intra+inter', [6, 5, 4, 6, 5, 4, 2, 1, 0]],
    ['intra', [...Array(6).fill(undefined), 2, 1, 0]],
  ])('%s: of the last query of three chunks of 3', (parts, expected) => {
    expect(distances(8, dualChunk(3, 6, { parts }))).toEqual(expected);
  });

  it('are i - j under plain attention, however far', () => {
    for (const [i, j] of [
      [0, 0],
      [5, 3],
      [2 ** 28, 0],
      [2 ** 28, 2 ** 28 - 1],
    ]) {
      expect(relativePosition(i, j, PLAIN)).toBe(i - j);
      expect([chunkOf(i, PLAIN), keyPosition(i, PLAIN), queryPositions(i, PLAIN).intra]).toEqual([0, i, i]);
    }
  });
});

describe('attentionScale', () => {
  const trainedLen = 100;
  const scaleAt = (i: number, scale: Scale) => attentionScale(i, dualChunk(75, 99, { scale, trainedLen }));

  it.each(SCALES)('%s: 1 within the trained window, never falling behind it', (scale) => {
    for (let i = 0; i < 1000; i++) {
      if (i < trainedLen) expect(scaleAt(i, scale)).toBe(1);
      expect(scaleAt(i + 1, scale)).toBeGreaterThanOrEqual(scaleAt(i, scale));
    }
  });

  it.each<[Scale, number, number]>([
    ['none', 9999, 1],
    ['yarn', 999, (1 + Math.log(10) / 10) ** 2],
    ['logn', 999, 3 / 2], // ln 1000 / ln 100
    ['logn', 9999, 2],
  ])('%s of token %i is %d', (scale, i, expected) => {
    expect(scaleAt(i, scale)).toBeCloseTo(expected, 12);
  });
});

describe('attention by three queries and keys rotated once', () => {
  const [n, headDim, invFreq] = [40, 8, [1, 0.3, 0.1, 0.03]];
  const random = seededRandom('twin');
  const [q, k, v] = [0, 1, 2].map(() => random.normals(n * headDim));

  it.each([
    ...PARTS.map((parts) => dualChunk(6, 9, { parts })),
    ...SCALES.map((scale) => dualChunk(8, 11, { scale })),
    dualChunk(1, 1),
    dualChunk(5, 10),
    dualChunk(n, n),
    PLAIN,
  ])('equals looking every pair up: %o', async (dca) => {
    const b = openReference();
    const filled = (rows: number, cols: number, values: ArrayLike<number>) => {
      const tensor = b.alloc('F32', rows, cols);
      b.write(tensor, values);
      return tensor;
    };
    const rotated = (x: Float32Array, at: (i: number) => number, factor: (i: number) => number) => {
      const out = b.alloc('F32', n, headDim);
      const turn = (f: (angle: number) => number) =>
        filled(
          n,
          headDim / 2,
          Array.from({ length: n }, (_, i) => invFreq.map((w) => factor(i) * f(at(i) * w))).flat(),
        );
      b.rotate(out, filled(n, headDim, x), turn(Math.cos), turn(Math.sin));
      return out;
    };
    const scale = (i: number) => attentionScale(i, dca) / Math.sqrt(headDim);
    const query = (variant: 'intra' | 'succ' | 'inter') => rotated(q, (i) => queryPositions(i, dca)[variant], scale);
    const kv = b.allocKv(n, 1, headDim);
    const keys = rotated(
      k,
      (j) => keyPosition(j, dca),
      () => 1,
    );
    b.append(kv, keys, filled(n, headDim, v), 0);
    const queries = { intra: query('intra'), succ: query('succ'), inter: query('inter') };
    const maxChunksBehind = dca.parts === 'intra' ? 0 : Infinity;
    const out = b.alloc('F32', n, headDim);
    b.attend(out, queries, kv, { start: 0, chunkLen: dca.chunkLen, maxChunksBehind, window: Infinity });
    const expected = attendByPair(q, k, v, invFreq, dca);
    (await b.read(out)).forEach((value: number, at: number) => {
      expect(value).toBeCloseTo(expected[at], 12);
    });
  });
});

/**
 * What Dual Chunk Attention means, pair by pair: every score looks its distance up and turns the query by that distance
 * alone. It shares no idea with three queries and a cache. `q`, `k`, `v` `[n, headDim]`.
 */
function attendByPair(q: Float32Array, k: Float32Array, v: Float32Array, invFreq: readonly number[], dca: DualChunk) {
  const half = invFreq.length;
  const headDim = 2 * half;
  return Array.from({ length: q.length / headDim }, (_, i) => {
    const weights = distances(i, dca).map((distance, j) => {
      if (distance === undefined) return 0;
      let score = 0;
      invFreq.forEach((frequency, d) => {
        const [cos, sin] = [Math.cos(distance * frequency), Math.sin(distance * frequency)];
        const [a, b] = [q[i * headDim + d], q[i * headDim + d + half]];
        score += (a * cos - b * sin) * k[j * headDim + d] + (b * cos + a * sin) * k[j * headDim + d + half];
      });
      return Math.exp((score * attentionScale(i, dca)) / Math.sqrt(headDim));
    });
    const sum = weights.reduce((a, b) => a + b);
    return Array.from({ length: headDim }, (_, d) =>
      weights.reduce((o, w, j) => o + (w / sum) * v[j * headDim + d], 0),
    );
  }).flat();
}
