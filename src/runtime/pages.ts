/**
 * Which pages of the cache hold which tokens. Pages form a tree: texts that begin alike share the pages of their common
 * beginning, and what a text leaves behind is found again until its pages are needed. A key's position depends only on its
 * own index, so a page is exact for every text that begins with its path.
 */
import { PAGE_LEN } from '../kvTypes.ts';

/** A page, and the tokens that a finished submission has written to it. Only a full page has pages behind it. */
interface Node {
  readonly page: number;
  tokens: number[];
  /** Absent while only one text knows the page. */
  parent?: Node;
  readonly children: Set<Node>;
  /** Texts whose paths it is on. */
  users: number;
  /** Larger is later. */
  usedAt: number;
}

/** The pages of one text. All but the last are full; those that are not in the tree yet are its own. */
export interface Path {
  readonly nodes: Node[];
  /** Tokens that a finished submission has written. */
  length: number;
}

export class PageTree {
  readonly #nPages: number;
  #root: Node = newNode(-1);
  /** Pages that hold nothing, the first ones last, so that they are taken first. */
  #free: number[] = [];
  #clock = 0;

  constructor(nPages: number) {
    this.#nPages = nPages;
    this.reset();
  }

  /** Pages that hold nothing or nothing that a text uses. */
  get nUnused(): number {
    return this.#nodes().reduce((sum, { users }) => sum + (users === 0 ? 1 : 0), this.#free.length);
  }

  /** Forgets everything, also what texts use: their paths count no more. */
  reset(): void {
    this.#root = newNode(-1);
    this.#free = Array.from({ length: this.#nPages }, (_, nth) => this.#nPages - 1 - nth);
  }

  /** An empty path. */
  begin = (): Path => ({ nodes: [], length: 0 });

  /**
   * Goes on along pages that hold what comes next in `tokens`, up to `most` of them: full pages are shared, also in place of
   * one that the text has begun itself, and the last one is taken over where no other text uses it.
   */
  adopt(path: Path, tokens: readonly number[], most: number): void {
    for (;;) {
      const nFull = Math.floor(path.length / PAGE_LEN);
      const at = PAGE_LEN * nFull;
      const last = path.nodes[nFull - 1] ?? this.#root;
      const common = (node: Node) => commonLength(node.tokens, tokens, at, Math.min(most - at, PAGE_LEN));
      const node = [...last.children].reduce((best: Node | undefined, one) => {
        return best && common(best) >= common(one) ? best : one;
      }, undefined);
      const nTokens = node ? common(node) : 0;
      if (!node || at + nTokens <= path.length) return;
      if (nTokens < PAGE_LEN) {
        if (node.users > 0 || node.children.size > 0 || path.length > at) return;
        last.children.delete(node);
        node.parent = undefined;
        node.tokens.length = nTokens;
      }
      for (const own of path.nodes.splice(nFull)) this.#free.push(own.page);
      this.#use(path, node);
      path.length = at + nTokens;
    }
  }

  /** Sees to it that the path has pages for `length` tokens. Texts that are read never need more pages than there are. */
  reserve(path: Path, length: number): void {
    while (PAGE_LEN * path.nodes.length < length) {
      const page = this.#free.pop() ?? this.#evict();
      this.#use(path, newNode(page));
    }
  }

  /** A finished submission has written `tokens` as far as `length`: full pages can be shared from now on. */
  commit(path: Path, tokens: readonly number[], length: number): void {
    path.nodes.forEach((node, nth) => {
      const [from, to] = [PAGE_LEN * nth + node.tokens.length, Math.min(length, PAGE_LEN * (nth + 1))];
      for (let at = from; at < to; at++) node.tokens.push(tokens[at]);
      if (node.parent || node.tokens.length < PAGE_LEN) return;
      const parent = path.nodes[nth - 1] ?? this.#root;
      // Another text may have read the same in the meantime: one page is enough.
      const same = [...parent.children].find(
        (other) => commonLength(other.tokens, node.tokens, 0, PAGE_LEN) === PAGE_LEN,
      );
      if (same) {
        this.#free.push(node.page);
        path.nodes[nth] = same;
        same.users++;
      } else this.#hang(node, parent);
    });
    path.length = Math.max(path.length, length);
    for (const node of path.nodes) node.usedAt = this.#clock;
    this.#clock++;
  }

  /** The text needs its pages no more; what they hold stays until they are needed for something else. */
  release(path: Path): void {
    path.nodes.forEach((node, nth) => {
      node.users--;
      if (node.parent) return;
      const parent = path.nodes[nth - 1] ?? this.#root;
      if (node.tokens.length === 0) this.#free.push(node.page);
      else this.#hang(node, parent);
    });
    path.nodes.length = 0;
    path.length = 0;
  }

  #use(path: Path, node: Node): void {
    node.users++;
    node.usedAt = this.#clock++;
    path.nodes.push(node);
  }

  #hang(node: Node, parent: Node): void {
    node.parent = parent;
    parent.children.add(node);
  }

  /** Takes the page of a leaf that no text uses, the one that was used longest ago. */
  #evict(): number {
    const leaves = this.#nodes().filter(({ users, children }) => users === 0 && children.size === 0);
    if (leaves.length === 0) throw new Error('every page of the cache is in use');
    const oldest = leaves.reduce((a, b) => (b.usedAt < a.usedAt ? b : a));
    oldest.parent?.children.delete(oldest);
    return oldest.page;
  }

  /** All pages of the tree. */
  #nodes(): Node[] {
    const found = [...this.#root.children];
    for (let at = 0; at < found.length; at++) found.push(...found[at].children);
    return found;
  }
}

const newNode = (page: number): Node => ({ page, tokens: [], children: new Set(), users: 0, usedAt: 0 });

/** How many of `a` are also in `b` from `at` on, at most `most`. */
function commonLength(a: readonly number[], b: readonly number[], at: number, most: number): number {
  const end = Math.min(a.length, b.length - at, most);
  let n = 0;
  while (n < end && a[n] === b[at + n]) n++;
  return n;
}
