/** Which tokens may come next in a state of a grammar, and the constraint of one text that is made of that. */
import { UnsupportedError } from '../errors.ts';
import type { Constraint, Logits } from '../runtime/texts.ts';
import type { Automaton, State } from './automaton.ts';
import type { Trie, Vocabulary } from './vocabulary.ts';

/** Masks that are kept, a bit a token: 19 KB each for 150,000 tokens. */
const MAX_MASKS = 256;

/** Steps that may be taken for one mask: a second or so. Common ones take thousands. */
const MAX_VISITS = 10_000_000;

/** A grammar with a vocabulary. Texts share what was found out about its states. */
export class TokenGrammar {
  readonly #automaton: Automaton;
  readonly #vocabulary: Vocabulary;
  /** Masks by state, the one that was used longest ago first. */
  readonly #masks = new Map<State, Int32Array>();
  readonly #allPlain: Int32Array;
  /** States on the way through a tree, by depth. */
  readonly #path: State[] = [];

  constructor(automaton: Automaton, vocabulary: Vocabulary) {
    this.#automaton = automaton;
    this.#vocabulary = vocabulary;
    this.#allPlain = this.#plainUpTo(Infinity);
  }

  get start(): State {
    return this.#automaton.start;
  }

  /** A bit for each token, set where it fits. */
  maskOf(state: State): Int32Array {
    const known = this.#masks.get(state);
    const mask = known ?? this.#makeMask(state);
    this.#masks.delete(state);
    this.#masks.set(state, mask);
    if (this.#masks.size > MAX_MASKS) this.#masks.delete(this.#masks.keys().next().value as State);
    return mask;
  }

  /** The state behind a token, null where it does not fit. */
  step(state: State, token: Uint8Array): State | null {
    let at: State | null = state;
    for (const byte of token) at &&= this.#automaton.step(at, byte);
    return at;
  }

  // --- internal ---

  #makeMask(state: State): Int32Array {
    const { plain, other, longestPlain } = this.#vocabulary;
    let mask: Int32Array;
    if (state.room >= longestPlain) {
      mask = this.#allPlain.slice();
    } else if (state.room > 0 && state.isOnlyText) {
      mask = this.#plainUpTo(state.room);
    } else {
      mask = new Int32Array(this.#allPlain.length);
      this.#walk(plain, state, mask);
    }
    this.#walk(other, state, mask);
    return mask;
  }

  #plainUpTo(nCharacters: number): Int32Array {
    const { size, plain, plainLengths } = this.#vocabulary;
    const mask = new Int32Array(Math.ceil(size / 32));
    for (const id of plain.tokens) if (plainLengths[id] <= nCharacters) mask[id >> 5] |= 1 << (id & 31);
    return mask;
  }

  /** Goes down wherever the grammar does. */
  #walk({ bytes, depths, ends, firsts, tokens }: Trie, start: State, mask: Int32Array): void {
    const path = this.#path;
    const automaton = this.#automaton;
    const most = automaton.nVisits + MAX_VISITS;
    path[0] = start;
    for (let node = 0; node < bytes.length; ) {
      const depth = depths[node];
      const next = automaton.step(path[depth], bytes[node]);
      if (automaton.nVisits > most) {
        throw new UnsupportedError(
          'a pattern of the schema takes too long; make its parts differ sooner, or repeat less',
        );
      }
      if (next === null) {
        node = ends[node];
        continue;
      }
      path[depth + 1] = next;
      for (let nth = firsts[node]; nth < firsts[node + 1]; nth++) mask[tokens[nth] >> 5] |= 1 << (tokens[nth] & 31);
      node++;
    }
    path.length = 0; // holds no states that may be forgotten
  }
}

/**
 * Holds one text to a grammar.
 * @param bytesOf The bytes that a token adds to the text.
 * @param endTokens These end the text, which they may where it is complete, and nowhere else.
 */
export function makeConstraint(
  grammar: TokenGrammar,
  bytesOf: (id: number) => Uint8Array,
  endTokens: ReadonlySet<number>,
): Constraint {
  let state = grammar.start;
  return {
    get isComplete() {
      return state.canEnd && state.stacks.length === 0;
    },
    mask(logits) {
      const ends = state.canEnd ? [...endTokens].filter((id) => id < logits.length) : [];
      const kept = ends.map((id) => logits[id]);
      const nFit = keep(logits, grammar.maskOf(state), endTokens);
      ends.forEach((id, nth) => {
        logits[id] = kept[nth];
      });
      if (nFit + ends.length > 0) return;
      throw new UnsupportedError(
        'no token of the vocabulary goes on with what the schema wants; allow other characters, or take another model',
      );
    },
    accept(token) {
      const next = grammar.step(state, bytesOf(token));
      if (next === null) throw new UnsupportedError(`token ${token} does not fit the schema`);
      state = next;
    },
  };
}

/** Takes away all that is not in the mask, or is in `never`, and tells how many are left. */
function keep(logits: Logits, mask: Int32Array, never: ReadonlySet<number>): number {
  let nFit = 0;
  for (const id of never) {
    if (id >= logits.length) continue;
    logits[id] = -Infinity;
    if (((mask[id >> 5] ?? 0) >> (id & 31)) & 1) nFit--; // it is counted below
  }
  for (let word = 0; word < mask.length; word++) {
    const bits = mask[word];
    const first = word * 32;
    if (bits === 0) {
      logits.fill(-Infinity, first, first + 32);
      continue;
    }
    const end = Math.min(first + 32, logits.length);
    for (let id = first; id < end; id++) {
      if ((bits >> (id & 31)) & 1) nFit++;
      else logits[id] = -Infinity;
    }
  }
  logits.fill(-Infinity, mask.length * 32);
  return nFit;
}
