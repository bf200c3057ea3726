import { describe, expect, it } from 'vitest';
import { seededRandom } from '../eval/random.ts';
import { PAGE_LEN } from '../kvTypes.ts';
import { PageTree, type Path } from './pages.ts';

const tokensOf = (seed: string, length: number) => {
  const random = seededRandom(seed);
  return Array.from({ length }, () => random.integer(0, 9));
};
const [A, B] = [tokensOf('a', 1000), tokensOf('b', 1000)];

/** Reads a text as the engine does: finds what is there, writes the rest. */
function read(tree: PageTree, tokens: readonly number[], most = tokens.length - 1): { path: Path; found: number } {
  const path = tree.begin();
  tree.adopt(path, tokens, most);
  const found = path.length;
  tree.reserve(path, tokens.length);
  tree.commit(path, tokens, tokens.length);
  return { path, found };
}
const pagesOf = ({ nodes }: Path) => nodes.map(({ page }) => page);

describe('pages', () => {
  it('are shared by texts that begin alike, but for the last', () => {
    const tree = new PageTree(20);
    const first = read(tree, A.slice(0, 700));
    const second = read(tree, [...A.slice(0, 600), ...B.slice(0, 100)]);
    expect([first.found, second.found]).toEqual([0, 4 * PAGE_LEN]);
    expect(pagesOf(second.path).slice(0, 4)).toEqual(pagesOf(first.path).slice(0, 4));
    expect(new Set([...pagesOf(first.path), ...pagesOf(second.path)]).size).toBe(6 + 2);
  });

  it('are found again when their text has ended, to the token', () => {
    const tree = new PageTree(20);
    tree.release(read(tree, A.slice(0, 700)).path);
    expect(tree.nUnused).toBe(20);
    expect(read(tree, [...A.slice(0, 650), ...B.slice(0, 9)]).found).toBe(650);
  });

  it('of a text that goes on are not taken over, nor those that others build on', () => {
    const tree = new PageTree(20);
    const first = read(tree, A.slice(0, 200));
    expect(read(tree, A.slice(0, 190)).found).toBe(PAGE_LEN);
    tree.release(first.path);
    tree.release(read(tree, A.slice(0, 400)).path);
    const within = [...A.slice(0, 150), ...B.slice(0, 10)]; // leaves A within its second page, which has a third behind it
    expect(read(tree, within).found).toBe(PAGE_LEN);
  });

  it('that two texts read at once become one', () => {
    const tree = new PageTree(20);
    const paths = [tree.begin(), tree.begin()];
    for (const length of [100, 256, 300]) {
      for (const path of paths) tree.reserve(path, length);
      for (const path of paths) tree.commit(path, A, length);
    }
    expect(pagesOf(paths[0]).slice(0, 2)).toEqual(pagesOf(paths[1]).slice(0, 2));
    for (const path of paths) tree.release(path);
    expect(tree.nUnused).toBe(20);
  });

  it('that were used longest ago are given up first, leaves before what they stand on', () => {
    const tree = new PageTree(6);
    tree.release(read(tree, A.slice(0, 3 * PAGE_LEN)).path);
    tree.release(read(tree, B.slice(0, 3 * PAGE_LEN)).path);
    tree.release(read(tree, A.slice(0, 2 * PAGE_LEN)).path); // used again, but for the third page
    const c = tokensOf('c', 4 * PAGE_LEN);
    tree.release(read(tree, c).path);
    expect(read(tree, A.slice(0, 3 * PAGE_LEN), 3 * PAGE_LEN).found).toBe(2 * PAGE_LEN);
  });

  it('that are all in use are an error', () => {
    const tree = new PageTree(2);
    read(tree, A.slice(0, 2 * PAGE_LEN));
    expect(() => tree.reserve(tree.begin(), 1)).toThrow('every page of the cache is in use');
  });

  it('hold what their texts say, whatever comes and goes', () => {
    const random = seededRandom('pages');
    const [nPages, most] = [24, 6 * PAGE_LEN];
    for (let life = 0; life < 30; life++) {
      const tree = new PageTree(nPages);
      /** What a reader would find in every page of the cache. */
      const memory = new Map<number, number[]>();
      const live: { path: Path; tokens: number[] }[] = [];
      for (let n = 0; n < 60; n++) {
        const dice = random.uniform();
        if (dice < 0.4 && live.length < nPages / 6) {
          const at = random.integer(0, most);
          const tokens = [...A.slice(0, at), ...random.pick([A, B]).slice(at, most)].slice(0, random.integer(1, most));
          const path = tree.begin();
          tree.adopt(path, tokens, tokens.length - 1);
          live.push({ path, tokens });
        } else if (dice < 0.8 && live.length > 0) {
          const { path, tokens } = random.pick(live);
          const end = Math.min(tokens.length, path.length + random.integer(1, 300));
          tree.reserve(path, end);
          for (let at = path.length; at < end; at++) {
            const page = path.nodes[Math.floor(at / PAGE_LEN)].page;
            const held = memory.get(page) ?? [];
            held[at % PAGE_LEN] = tokens[at];
            memory.set(page, held);
          }
          if (random.uniform() < 0.9) tree.commit(path, tokens, end); // else the submission failed
        } else if (live.length > 0) {
          const [gone] = live.splice(random.integer(0, live.length - 1), 1);
          tree.release(gone.path);
        }
        for (const { path, tokens } of live) {
          for (let at = 0; at < path.length; at++) {
            const held = memory.get(path.nodes[Math.floor(at / PAGE_LEN)].page)?.[at % PAGE_LEN];
            if (held !== tokens[at]) expect(held, `token ${at}`).toBe(tokens[at]);
          }
        }
      }
      for (const { path } of live) tree.release(path);
      expect(tree.nUnused).toBe(nPages);
    }
  });
});
