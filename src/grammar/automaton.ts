/**
 * A grammar over bytes, run one byte at a time. What may follow is a set of stacks, which share what they have in common; sets
 * that were met are kept with where each byte leads from them, so that a byte mostly costs a look into a table.
 */
import { UnsupportedError } from '../errors.ts';

/** A node says what a text may be. Nodes form a tree, or a graph where a `reference` leads back. */
export type Node =
  | { readonly kind: 'bytes'; readonly from: number; readonly to: number }
  | { readonly kind: 'sequence'; readonly parts: readonly Node[] }
  | { readonly kind: 'choice'; readonly parts: readonly Node[] }
  | {
      readonly kind: 'repeat';
      readonly parts: readonly [Node];
      readonly min: number;
      readonly max: number;
      /** The part is any character of a string, at least those of `Vocabulary.plain`, which knows at once what fits. */
      readonly isText: boolean;
    }
  | { readonly kind: 'reference'; to?: Node };

const SINGLE: readonly Node[] = Array.from({ length: 256 }, (_, byte) => ({ kind: 'bytes', from: byte, to: byte }));
export const bytes = (from: number, to = from): Node => (from === to ? SINGLE[from] : { kind: 'bytes', from, to });
export const sequence = (...parts: Node[]): Node => (parts.length === 1 ? parts[0] : { kind: 'sequence', parts });
export const choice = (...parts: Node[]): Node => (parts.length === 1 ? parts[0] : { kind: 'choice', parts });
/** `part` must not be empty itself. */
export const repeat = (part: Node, min: number, max = Infinity, isText = false): Node => ({
  kind: 'repeat',
  parts: [part],
  min,
  max,
  isText,
});
export const optional = (part: Node): Node => choice(part, EMPTY);
export const EMPTY: Node = sequence();
/** Nothing fits. */
export const NEVER: Node = choice();

/** Stacks that a state may have, and steps that may be taken to find them. */
const MAX_STACKS = 1024;
const MAX_VISITS = 16_384;
/** States and frames that are kept; with more, all are forgotten. */
const MAX_STATES = 8192;
const MAX_FRAMES = 500_000;
/** Nodes of a grammar. */
const MAX_NODES = 500_000;

/** A node that something fits, with what it is made of. */
interface Part {
  readonly id: number;
  readonly kind: Node['kind'];
  readonly parts: Part[];
  readonly min: number;
  readonly max: number;
  readonly isText: boolean;
}

/** A part from place `at` on, or after `at` repeats, and what comes behind it. */
interface Frame {
  readonly id: number;
  readonly part?: Part;
  readonly at: number;
  readonly next?: Frame;
  /** Frames on this one by their `at` and part. */
  readonly above: Map<number, Frame>;
}

/** All that a text so far may go on with. */
export interface State {
  /** Each begins with a byte. */
  readonly stacks: readonly Frame[];
  /** The text may end here. */
  readonly canEnd: boolean;
  /** So many characters of a string may come, whichever they are. */
  readonly room: number;
  /** Nothing else may come but a quote or a backslash. */
  readonly isOnlyText: boolean;
  /** States by class of byte, null where nothing fits, absent where it was not tried. */
  readonly to: (State | null | undefined)[];
}

export class Automaton {
  readonly start: State;
  /** Bytes of one class lead to the same states. */
  readonly #classOf: Uint8Array;
  readonly #nParts: number;
  #states = new Map<string, State>();
  #nFrames = 0;
  /** Frames that there were when all were forgotten last. */
  #nForgotten = 0;
  /** Steps that were taken so far to find states: what a caller bounds. */
  nVisits = 0;

  /** Absent where no text fits. @throws UnsupportedError when there are too many nodes. */
  static of(root: Node): Automaton | undefined {
    const nodes = reachable(root);
    const parts = linked(nodes, fitting(nodes));
    const first = parts.get(root);
    return first && new Automaton(first, parts.size, byteClasses(nodes));
  }

  private constructor(first: Part, nParts: number, classOf: Uint8Array) {
    this.#classOf = classOf;
    this.#nParts = nParts;
    const end: Frame = { id: this.#nFrames++, at: 0, above: new Map() };
    this.start = this.#stateOf([this.#frame(first, 0, end)]);
  }

  /** The state behind a byte, null where the byte does not fit. @throws UnsupportedError when a limit is passed. */
  step(state: State, byte: number): State | null {
    const byteClass = this.#classOf[byte];
    const known = state.to[byteClass];
    if (known !== undefined) return known;
    const fit = state.stacks.filter(({ part }) => part && part.min <= byte && byte <= part.max);
    const next = fit.length === 0 ? null : this.#stateOf(fit.map((stack) => stack.next as Frame));
    state.to[byteClass] = next;
    return next;
  }

  /** Tells whether the bytes are a whole text. */
  accepts(text: Uint8Array): boolean {
    let state: State | null = this.start;
    for (const byte of text) {
      state = this.step(state, byte);
      if (!state) return false;
    }
    return state.canEnd;
  }

  // --- internal ---

  #frame(part: Part, at: number, next: Frame): Frame {
    const key = at * this.#nParts + part.id;
    const known = next.above.get(key);
    if (known) return known;
    const frame = { id: this.#nFrames++, part, at, next, above: new Map<number, Frame>() };
    next.above.set(key, frame);
    return frame;
  }

  /** Follows stacks to all that begin with a byte. */
  #stateOf(begin: Frame[]): State {
    const seen = new Set<Frame>();
    const stacks: Frame[] = [];
    let canEnd = false;
    let room = 0;
    let isOnlyText = true;
    let isWithinText = false;
    const visit = (frame: Frame): void => {
      const { part, at, next } = frame;
      if (seen.has(frame)) return;
      this.nVisits++;
      if (seen.add(frame).size > MAX_VISITS || stacks.length > MAX_STACKS) throw tooMany();
      if (!part || !next) {
        canEnd = true;
      } else if (part.kind === 'bytes') {
        stacks.push(frame);
        isOnlyText &&= isWithinText || isByte(part, 0x22) || isByte(part, 0x5c);
      } else if (part.kind === 'sequence') {
        if (at === part.parts.length) visit(next);
        // What is last leaves nothing behind, so that lists are no deeper than their items.
        else visit(this.#frame(part.parts[at], 0, at + 1 < part.parts.length ? this.#frame(part, at + 1, next) : next));
      } else if (part.kind === 'repeat') {
        if (part.isText) room = Math.max(room, part.max - at);
        const count = part.max === Infinity ? Math.min(at + 1, part.min) : at + 1;
        isWithinText = part.isText && isByte(next.part?.parts[next.at], 0x22);
        if (at < part.max && part.parts.length > 0)
          visit(this.#frame(part.parts[0], 0, this.#frame(part, count, next)));
        isWithinText = false;
        if (at >= part.min) visit(next);
      } else {
        for (const one of part.parts) visit(this.#frame(one, 0, next));
      }
    };
    for (const frame of begin) visit(frame);
    const key = `${canEnd} ${stacks.map(({ id }) => id).sort((a, b) => a - b)}`;
    const known = this.#states.get(key);
    if (known) return known;
    if (this.#states.size >= MAX_STATES || this.#nFrames - this.#nForgotten > MAX_FRAMES) this.#forget(stacks);
    const state = { stacks, canEnd, room, isOnlyText, to: [] };
    this.#states.set(key, state);
    return state;
  }

  /** Leaves states to those who hold them; from there and from the start all is found anew, some of it twice. */
  #forget(stacks: readonly Frame[]): void {
    for (const { to } of [this.start, ...this.#states.values()]) to.length = 0;
    this.#states = new Map();
    this.#nForgotten = this.#nFrames;
    const cleared = new Set<Frame>();
    for (const stack of [...stacks, ...this.start.stacks]) {
      for (let at: Frame | undefined = stack; at && !cleared.has(at); at = at.next) cleared.add(at);
    }
    for (const { above } of cleared) above.clear();
  }
}

const isByte = (part: Part | undefined, byte: number) =>
  part?.kind === 'bytes' && part.min === byte && part.max === byte;

const tooMany = () =>
  new UnsupportedError(
    `the schema leaves more than ${MAX_STACKS} ways to read a text; make its patterns and choices differ sooner`,
  );

const partsOf = (node: Node): readonly Node[] =>
  node.kind === 'bytes' ? [] : node.kind === 'reference' ? (node.to ? [node.to] : []) : node.parts;

/** All nodes, parts before what they are parts of as far as they can be. */
function reachable(root: Node): Set<Node> {
  const seen = new Set<Node>([root]);
  for (const node of seen) {
    for (const part of partsOf(node)) seen.add(part);
    if (seen.size > MAX_NODES) throw new UnsupportedError(`the schema is too large: more than ${MAX_NODES} nodes`);
  }
  return new Set([...seen].reverse());
}

/** Those nodes that some text fits: found from their parts upwards, each once. */
function fitting(nodes: Set<Node>): Set<Node> {
  const users = new Map<Node, Node[]>();
  const nMissing = new Map<Node, number>();
  const found = new Set<Node>();
  for (const node of nodes) {
    const parts = new Set(partsOf(node));
    for (const part of parts) {
      const of = users.get(part);
      if (of) of.push(node);
      else users.set(part, [node]);
    }
    nMissing.set(node, node.kind === 'sequence' ? parts.size : 1);
    const isFit = node.kind === 'bytes' || (node.kind === 'repeat' && node.min === 0);
    if (isFit || (node.kind === 'sequence' && parts.size === 0)) found.add(node);
  }
  for (const node of found) {
    for (const user of users.get(node) ?? []) {
      const left = (nMissing.get(user) ?? 0) - 1;
      nMissing.set(user, left);
      if (left <= 0) found.add(user);
    }
  }
  return found;
}

function linked(nodes: Set<Node>, found: Set<Node>): Map<Node, Part> {
  const parts = new Map<Node, Part>();
  for (const node of found) {
    const [min, max] =
      node.kind === 'bytes' ? [node.from, node.to] : node.kind === 'repeat' ? [node.min, node.max] : [0, 0];
    const isText = node.kind === 'repeat' && node.isText;
    parts.set(node, { id: parts.size, kind: node.kind, parts: [], min, max, isText });
  }
  for (const node of nodes) {
    parts.get(node)?.parts.push(...partsOf(node).flatMap((part) => parts.get(part) ?? []));
  }
  return parts;
}

/** Bytes are told apart where some range begins or ends. */
function byteClasses(nodes: Set<Node>): Uint8Array {
  const begins = new Uint8Array(257);
  for (const node of nodes) if (node.kind === 'bytes') begins[node.from] = begins[node.to + 1] = 1;
  let byteClass = 0;
  return Uint8Array.from({ length: 256 }, (_, byte) => (byte > 0 && begins[byte] ? ++byteClass : byteClass));
}
