/** Every way of reading, against what it means pair by pair, in float64. */
import { describe, expect, it } from 'vitest';
import { slice } from '../test/stretches.ts';
import { openReference } from './backends/reference.ts';
import { reRope, selfExtend, shifted, streaming, windowed } from './byDistance.ts';
import { type DualChunk, dualChunk, type Parts, PLAIN } from './dualChunk.ts';
import { seededRandom } from './eval/random.ts';
import { pagesFor } from './kvCache.ts';
import { attentionScale, endsAt, type Placement, relativePosition, type Scale, stretchesOf } from './placement.ts';

const SCALES: readonly Scale[] = ['none', 'yarn', 'logn'];
const PARTS: readonly Parts[] = ['full', 'intra+inter', 'intra'];
const N = 40;

/** What a method says of a query and a key at or before it: a distance, or undefined where it does not see the key. */
type Distance = (i: number, j: number) => number | undefined;

const dca = (chunkLen: number, maxDistance: number, more: Partial<DualChunk> = {}): Placement =>
  dualChunk({ ...{ chunkLen, maxDistance, parts: 'full', scale: 'none', trainedLen: maxDistance + 1 }, ...more });

const scaled = (positions: Omit<Placement, 'attentionScale'>, scale: Scale = 'none'): Placement => ({
  ...positions,
  attentionScale: (i) => attentionScale(i, scale, 16),
});

/** The published formulas, written down once more, of `d = i - j`. */
const BY_DISTANCE: [name: string, Placement, Distance][] = [
  ['window 1', scaled(windowed(1)), (i, j) => (i - j < 1 ? i - j : undefined)],
  ['window 7', scaled(windowed(7)), (i, j) => (i - j < 7 ? i - j : undefined)],
  [
    'streaming 3/8: places in a cache of the first 3 and the last 8',
    scaled(streaming(3, 8)),
    (i, j) => {
      const kept = Array.from({ length: i + 1 }, (_, t) => t).filter((t) => t < 3 || i - t < 8);
      return kept.includes(j) ? kept.length - 1 - kept.indexOf(j) : undefined;
    },
  ],
  ['ReRoPE 6', scaled(reRope(6), 'logn'), (i, j) => Math.min(i - j, 6)],
  ['ReRoPE 1', scaled(reRope(1)), (i, j) => Math.min(i - j, 1)],
  ...[
    [4, 8],
    [3, 7],
    [5, 1],
    [1, 9],
  ].map(([G, w]): [string, Placement, Distance] => [
    `Self-Extend ${G}/${w}`,
    scaled(selfExtend(G, w)),
    (i, j) => (i - j < w ? i - j : Math.floor(i / G) - Math.floor(j / G) + w - Math.floor(w / G)),
  ]),
  ['STRING 10/4', scaled(shifted(10, 4)), (i, j) => (i - j < 10 ? i - j : i - j - 10 + 4)],
];

describe('distances', () => {
  it.each(BY_DISTANCE)('%s', (_, placement, distance) => {
    for (let i = 0; i < 3 * N; i++) {
      for (let j = 0; j <= i; j++) expect(relativePosition(i, j, placement), `${i} to ${j}`).toBe(distance(i, j));
    }
  });
});

describe('attentionScale', () => {
  it('is finite for a window of one token', () => {
    expect(attentionScale(0, 'logn', 1)).toBe(1);
    expect(attentionScale(3, 'logn', 1)).toBe(3);
  });

  const trainedLen = 100;
  const scaleAt = (i: number, scale: Scale) => attentionScale(i, scale, trainedLen);

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

const PLACEMENTS: [name: string, Placement][] = [
  ...PARTS.map((parts): [string, Placement] => [`dca 6/9 ${parts}`, dca(6, 9, { parts })]),
  ...SCALES.map((scale): [string, Placement] => [`dca 8/11 ${scale}`, dca(8, 11, { scale })]),
  ['dca 1/1', dca(1, 1)],
  ['dca 5/10', dca(5, 10)],
  [`dca ${N}/${N}`, dca(N, N)],
  ['plain', PLAIN],
  ...BY_DISTANCE.map(([name, placement]): [string, Placement] => [name, placement]),
];

describe('stretches', () => {
  it.each(PLACEMENTS)('cover every row once with just the keys it sees: %s', (_, placement) => {
    const random = seededRandom('stretches');
    for (let draw = 0; draw < 50; draw++) {
      const window = random.pick([Infinity, 1, 9]);
      let row = 0;
      const slices = Array.from({ length: random.integer(1, 3) }, (__, text) => {
        const [start, nRows] = [random.integer(0, 60), random.integer(1, 60)];
        row += nRows;
        return { row: row - nRows, nRows, start, pages: [text] };
      });
      const { stretches, used } = stretchesOf(placement, slices, window);
      const rows = stretches.flatMap(({ row, nRows, spans, pages }) =>
        Array.from({ length: nRows }, (__, r) => ({
          row: row + r,
          ends: spans.map((span) => endsAt(span, r)),
          spans,
          pages,
        })),
      );
      expect(rows.map(({ row }) => row)).toEqual([...Array(row).keys()]);
      for (const { row: first, nRows, start, pages } of slices) {
        for (let r = 0; r < nRows; r++) {
          const found = rows[first + r];
          expect(found.pages).toBe(pages);
          // The keys of every span that the placement has, less those before the window.
          const wanted = placement.spans(start + r).map(({ from, to }, number) => {
            const oldest = start + r - window + 1;
            const nth = found.spans.findIndex(({ rotation }) => used[rotation] === number);
            const [begin, end] = nth < 0 ? [0, 0] : found.ends[nth];
            const seen = [...Array(Math.max(0, end - begin)).keys()].map((k) => begin + k);
            expect(seen, `span ${number} of row ${r}`).toEqual(
              [...Array(Math.max(0, to - Math.max(from, oldest))).keys()].map((k) => Math.max(from, oldest) + k),
            );
            return nth;
          });
          expect(wanted.filter((nth) => nth >= 0)).toHaveLength(found.spans.length);
        }
      }
    }
  });

  it('are few: one for each chunk, two where a window fills', () => {
    const count = (placement: Placement, start: number, window?: number) =>
      stretchesOf(placement, [slice(512, start)], window).stretches.length;
    expect(count(PLAIN, 100)).toBe(1);
    expect(count(dca(100, 120), 50)).toBe(6);
    expect(count(scaled(windowed(100)), 0)).toBe(2);
    expect(count(scaled(selfExtend(4, 100)), 0)).toBe(2);
    expect(count(PLAIN, 0, 100)).toBe(2);
  });
});

describe('attention by turned queries and cached keys', () => {
  const [headDim, invFreq] = [8, [1, 0.3, 0.1, 0.03]];
  const random = seededRandom('twin');
  const [q, k, v] = [0, 1, 2].map(() => random.normals(N * headDim));

  it.each(PLACEMENTS)('equals looking every pair up: %s', async (name, placement) => {
    const b = openReference();
    const filled = (rows: number, cols: number, values: ArrayLike<number>) => {
      const tensor = b.alloc('F32', rows, cols);
      b.write(tensor, values);
      return tensor;
    };
    const rotated = (x: Float32Array, at: (i: number) => number, factor: (i: number) => number) => {
      const out = b.alloc('F32', N, headDim);
      const turn = (f: (angle: number) => number) =>
        filled(
          N,
          headDim / 2,
          Array.from({ length: N }, (_, i) => invFreq.map((w) => factor(i) * f(at(i) * w))).flat(),
        );
      b.rotate(out, filled(N, headDim, x), turn(Math.cos), turn(Math.sin));
      return out;
    };
    const scale = (i: number) => placement.attentionScale(i) / Math.sqrt(headDim);
    const { keyPositions, spans } = placement;
    const { stretches, used } = stretchesOf(placement, [slice(N)]);
    const keys = keyPositions.map((at) => rotated(k, at, () => 1));
    const kv = b.allocKv(pagesFor(N), 1, headDim, 0, keys.length);
    b.append(kv, keys, filled(N, headDim, v), [slice(N)]);
    const queries = b.alloc('F32', used.length * N, headDim);
    for (const [rotation, number] of used.entries()) {
      const to = b.view(queries, N, headDim, rotation * N * headDim);
      b.copy(
        to,
        rotated(q, (i) => spans(i)[number].position, scale),
      );
    }
    const out = b.alloc('F32', N, headDim);
    b.attend(out, queries, kv, stretches);
    const published = BY_DISTANCE.find(([one]) => one === name)?.[2];
    const distance = published ?? ((i, j) => relativePosition(i, j, placement));
    const expected = attendByPair(q, k, v, invFreq, distance, placement.attentionScale);
    (await b.read(out)).forEach((value: number, at: number) => {
      expect(value).toBeCloseTo(expected[at], 12);
    });
  });
});

/**
 * What a method means, pair by pair: every score looks its distance up and turns the query by that distance alone. It
 * shares no idea with turned queries and a cache. `q`, `k`, `v` `[n, headDim]`.
 */
function attendByPair(
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  invFreq: readonly number[],
  distanceOf: Distance,
  scale: (i: number) => number,
) {
  const half = invFreq.length;
  const headDim = 2 * half;
  return Array.from({ length: q.length / headDim }, (_, i) => {
    const weights = Array.from({ length: i + 1 }, (_, j) => {
      const distance = distanceOf(i, j);
      if (distance === undefined) return 0;
      let score = 0;
      invFreq.forEach((frequency, d) => {
        const [cos, sin] = [Math.cos(distance * frequency), Math.sin(distance * frequency)];
        const [a, b] = [q[i * headDim + d], q[i * headDim + d + half]];
        score += (a * cos - b * sin) * k[j * headDim + d] + (b * cos + a * sin) * k[j * headDim + d + half];
      });
      return Math.exp((score * scale(i)) / Math.sqrt(headDim));
    });
    const sum = weights.reduce((a, b) => a + b);
    return Array.from({ length: headDim }, (_, d) =>
      weights.reduce((o, w, j) => o + (w / sum) * v[j * headDim + d], 0),
    );
  }).flat();
}
