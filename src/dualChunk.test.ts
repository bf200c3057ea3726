import { describe, expect, it } from 'vitest';
import { type DualChunk, dualChunk, type Parts, PLAIN } from './dualChunk.ts';
import { relativePosition } from './placement.ts';

const PARTS: readonly Parts[] = ['full', 'intra+inter', 'intra'];

const settings = (chunkLen: number, maxDistance: number, more: Partial<DualChunk> = {}): DualChunk => ({
  ...{ chunkLen, maxDistance, parts: 'full', scale: 'none', trainedLen: maxDistance + 1 },
  ...more,
});

/** Every valid pair of chunk length and distance with chunks of up to 8 tokens. */
const SMALL = Array.from({ length: 8 }, (_, c) => c + 1).flatMap((chunkLen) =>
  Array.from({ length: chunkLen + 1 }, (_, local) => settings(chunkLen, chunkLen + local)),
);

/** Every query of six chunks with every key up to it. */
function* pairs({ chunkLen }: DualChunk): Generator<[i: number, j: number]> {
  for (let i = 0; i < 6 * chunkLen; i++) for (let j = 0; j <= i; j++) yield [i, j];
}

const chunkOf = (i: number, { chunkLen }: DualChunk) => Math.floor(i / chunkLen);
const distances = (i: number, dca: DualChunk) =>
  Array.from({ length: i + 1 }, (_, j) => relativePosition(i, j, dualChunk(dca)));

describe.each(PARTS)('distances, %s', (parts) => {
  const all = SMALL.map((dca) => ({ ...dca, parts }));

  it('lie between 0 and maxDistance, if the key is seen at all', () => {
    for (const dca of all) {
      for (const [i, j] of pairs(dca)) {
        const distance = relativePosition(i, j, dualChunk(dca));
        const isSeen = parts !== 'intra' || chunkOf(i, dca) === chunkOf(j, dca);
        const isInRange = distance !== undefined && distance >= 0 && distance <= dca.maxDistance;
        expect(isInRange, `${i} to ${j}: ${distance} of ${dca.chunkLen}/${dca.maxDistance}`).toBe(isSeen);
      }
    }
  });

  it('are exact within a chunk', () => {
    for (const dca of all) {
      for (const [i, j] of pairs(dca)) {
        if (chunkOf(i, dca) === chunkOf(j, dca)) expect(relativePosition(i, j, dualChunk(dca))).toBe(i - j);
      }
    }
  });

  it('come from one position of the key, whatever the query', () => {
    for (const dca of all) {
      for (const [i, j] of pairs(dca)) {
        const distance = relativePosition(i, j, dualChunk(dca));
        const positions = dualChunk(dca)
          .spans(i)
          .map(({ position }) => position);
        if (distance !== undefined) expect(positions).toContain(distance + dualChunk(dca).keyPositions[0](j));
      }
    }
  });
});

describe('distances', () => {
  it('are exact over a chunk border up to maxDistance - chunkLen', () => {
    for (const dca of SMALL) {
      for (const [i, j] of pairs(dca)) {
        if (i - j <= dca.maxDistance - dca.chunkLen) expect(relativePosition(i, j, dualChunk(dca))).toBe(i - j);
      }
    }
  });

  it.each([
    [6, [6, 5, 4, 3, 2, 1, 0]],
    [11, [9, 8, 7, 6, 5, 4, 5, 4, 3, 2, 1, 0]],
    [13, [9, 8, 7, 6, 5, 4, 7, 6, 5, 4, 3, 2, 1, 0]],
  ])('row %i of chunks of 6 with distances up to 9; rows 6 and 11 are in figure 2 of the paper', (i, expected) => {
    expect(distances(i, settings(6, 9))).toEqual(expected);
  });

  it.each<[Parts, (number | undefined)[]]>([
    ['full', [6, 5, 4, 5, 4, 3, 2, 1, 0]],
    ['intra+inter', [6, 5, 4, 6, 5, 4, 2, 1, 0]],
    ['intra', [...Array(6).fill(undefined), 2, 1, 0]],
  ])('%s: of the last query of three chunks of 3', (parts, expected) => {
    expect(distances(8, settings(3, 6, { parts }))).toEqual(expected);
  });

  it('are i - j under plain attention, however far', () => {
    for (const [i, j] of [
      [0, 0],
      [5, 3],
      [2 ** 28, 0],
      [2 ** 28, 2 ** 28 - 1],
    ]) {
      expect(relativePosition(i, j, PLAIN)).toBe(i - j);
      expect(PLAIN.keyPositions.map((at) => at(i))).toEqual([i]);
      expect(PLAIN.spans(i)).toEqual([{ from: 0, to: i + 1, position: i }]);
    }
  });
});
