import { describe, expect, it } from 'vitest';
import { mergesByScore } from './mergesByScore.ts';

/** The definition: every place between two characters of every token. */
function byDefinition(pieces: ReadonlyMap<string, number>) {
  const merges = [...pieces].flatMap(([piece, score]) => {
    const characters = Array.from(piece);
    return characters.slice(1).flatMap((_, i) => {
      const left = characters.slice(0, i + 1).join('');
      const right = piece.slice(left.length);
      const known = pieces.has(left) && pieces.has(right);
      return known ? [{ left, right, score, nLeft: i + 1, nRight: characters.length - i - 1 }] : [];
    });
  });
  return merges.sort((a, b) => b.score - a.score || b.nLeft - a.nLeft || b.nRight - a.nRight);
}

describe('mergesByScore', () => {
  it('finds what the definition finds, in its order', () => {
    let state = 7;
    const random = (limit: number) => {
      state = (state * 48271) % 2147483647;
      return state % limit;
    };
    let nMerges = 0;
    for (let round = 0; round < 60; round++) {
      // Surrogate pairs that share halves, and lone ones, as in no text but in a hostile file.
      const letters = ['a', 'b', '▁', '\u{1d518}', '\u{1d519}', '\ud835', '\udd18'].slice(0, 2 + random(6));
      const word = () => Array.from({ length: 1 + random(9) }, () => letters[random(letters.length)]).join('');
      const pieces = new Map(Array.from({ length: 200 }, () => [word(), -random(20)]));
      const expected = byDefinition(pieces);
      nMerges += expected.length;
      expect(mergesByScore(pieces)).toEqual(expected);
    }
    expect(nMerges).toBeGreaterThan(1000);
  });

  it('takes time by the length of long tokens, not by its square', () => {
    const long = Array.from({ length: 2000 }, (_, i): [string, number] => [`${i}${'ab'.repeat(505)}`, 0]);
    const start = performance.now();
    expect(mergesByScore(new Map([...long, ['ab', -1], ['a', -2], ['b', -3]]))).toHaveLength(1);
    expect(performance.now() - start).toBeLessThan(1500);
  });

  it('refuses tokens that can be merged in countless ways', () => {
    const runs = Array.from({ length: 500 }, (_, i): [string, number] => ['a'.repeat(i + 1), 0]);
    expect(() => mergesByScore(new Map(runs))).toThrow('can be merged in more than 73536 ways');
  });
});
