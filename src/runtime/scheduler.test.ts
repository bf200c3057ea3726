import { describe, expect, it } from 'vitest';
import { seededRandom } from '../eval/random.ts';
import { owedAfter, schedule, type Waiting } from './scheduler.ts';

const BLOCK = 512;
const waits = (...unread: number[]): Waiting[] => unread.map((n) => ({ unread: n, isAlone: false }));
const rows = (waiting: Waiting[], blockLen = BLOCK) =>
  schedule(waiting, blockLen).map(({ nth, nRows }) => [nth, nRows]);

describe('schedule', () => {
  it.each<[string, number[], number[][]]>([
    ['nobody waits', [], []],
    ['one prompt gets a block', [2000], [[0, 512]]],
    ['one that ends gets what it needs', [17], [[0, 17]]],
    [
      'a prompt behind one that ends gets the rest of the block',
      [100, 2000, 50],
      [
        [0, 100],
        [1, 412],
      ],
    ],
    [
      'texts that are written go first, a row each',
      [2000, 1, 1],
      [
        [1, 1],
        [2, 1],
        [0, 256],
      ],
    ],
    [
      'prompts share what is left beside them',
      [100, 1, 100],
      [
        [1, 1],
        [0, 100],
        [2, 100],
      ],
    ],
  ])('%s', (_, unread, expected) => {
    expect(rows(waits(...unread))).toEqual(expected);
  });

  it('lets long prompts wait while it is the turn of texts that are written, if there are any', () => {
    const turn = (...unread: number[]) => schedule(waits(...unread), BLOCK, true).map(({ nth, nRows }) => [nth, nRows]);
    expect(turn(2000, 1, 1)).toEqual([
      [1, 1],
      [2, 1],
    ]);
    expect(turn(2000)).toEqual([[0, 512]]);
    expect(turn(2000, 1, 100)).toEqual([
      [1, 1],
      [2, 100],
    ]);
    expect(owedAfter(675)).toBeCloseTo(325);
  });

  it('reads one alone where it must be, whoever else waits', () => {
    const waiting = waits(1, 700, 5);
    expect(rows([waiting[0], { ...waiting[1], isAlone: true }, waiting[2]])).toEqual([[1, 512]]);
  });

  it('never exceeds a block, never reads more than is unread, never starves the first prompt', () => {
    const random = seededRandom('schedule');
    for (let n = 0; n < 2000; n++) {
      const blockLen = random.pick([1, 2, 7, 64, 512]);
      const waiting = waits(
        ...Array.from({ length: random.integer(1, 12) }, () => random.pick([1, 1, random.integer(2, 900)])),
      );
      const shares = schedule(waiting, blockLen);
      const total = shares.reduce((sum, { nRows }) => sum + nRows, 0);
      expect(total).toBeGreaterThan(0);
      expect(total).toBeLessThanOrEqual(blockLen);
      for (const { nth, nRows } of shares) {
        expect(nRows).toBeGreaterThan(0);
        expect(nRows).toBeLessThanOrEqual(waiting[nth].unread);
      }
      expect(new Set(shares.map(({ nth }) => nth)).size).toBe(shares.length);
      const written = waiting.filter(({ unread }) => unread === 1).length;
      expect(shares.filter(({ nth }) => waiting[nth].unread === 1)).toHaveLength(Math.min(written, blockLen));
      const prompt = waiting.findIndex(({ unread }) => unread > 1);
      if (prompt >= 0 && written < blockLen) expect(shares.map(({ nth }) => nth)).toContain(prompt);
    }
  });
});
