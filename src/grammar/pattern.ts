/**
 * Regular expressions as grammars: those of JavaScript with the flag `u`, as far as they are regular. What looks ahead or behind,
 * or refers back, is refused.
 */
import { choice, EMPTY, NEVER, type Node, repeat, sequence } from './automaton.ts';
import { anyText, characters, complement, type Ranges, union } from './characters.ts';

/** Characters of a pattern, and how deep its groups are. */
const MAX_LENGTH = 2000;
const MAX_DEPTH = 50;

const DIGITS: Ranges = [[0x30, 0x39]];
const WORD: Ranges = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
/** Blanks and line ends of ECMAScript. */
const SPACE: Ranges = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const LINE_ENDS: Ranges = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const CLASSES: Record<string, Ranges> = {
  d: DIGITS,
  D: complement(DIGITS),
  w: WORD,
  W: complement(WORD),
  s: SPACE,
  S: complement(SPACE),
};
const DOT = characters(complement(LINE_ENDS));
const CONTROLS: Record<string, number> = { t: 0x09, n: 0x0a, v: 0x0b, f: 0x0c, r: 0x0d, '0': 0 };

/** Strings with a match of `pattern` in them, without their quotes. `refuse` throws, given what cannot be done. */
export function matching(pattern: string, refuse: (what: string) => never): Node {
  if (pattern.length > MAX_LENGTH) refuse(`it has ${pattern.length} characters; wanted at most ${MAX_LENGTH}`);
  try {
    new RegExp(pattern, 'u');
  } catch (error) {
    refuse((error as Error).message);
  }
  const reader = new Reader(Array.from(pattern), refuse);
  const options: Node[] = [];
  do {
    const isBegin = reader.take('^');
    const body = reader.terms(0);
    const isEnd = reader.take('$');
    options.push(sequence(...(isBegin ? [] : [anyText()]), body, ...(isEnd ? [] : [anyText()])));
  } while (reader.take('|'));
  if (!reader.isDone) refuse(`${reader.rest} stands where only an end is supported`);
  return choice(...options);
}

// --- internal ---

/** Reads a pattern that `RegExp` has found well formed. */
class Reader {
  readonly #letters: readonly string[];
  readonly #refuse: (what: string) => never;
  readonly #nodes = new Map<string, Node>();
  #at = 0;

  constructor(letters: readonly string[], refuse: (what: string) => never) {
    this.#letters = letters;
    this.#refuse = refuse;
  }

  get isDone(): boolean {
    return this.#at === this.#letters.length;
  }

  get rest(): string {
    return JSON.stringify(this.#letters.slice(this.#at, this.#at + 20).join(''));
  }

  take(text: string): boolean {
    const isThere = this.#letters.slice(this.#at, this.#at + text.length).join('') === text;
    if (isThere) this.#at += text.length;
    return isThere;
  }

  /** Terms up to `|`, `)`, `$` or the end. */
  terms(depth: number): Node {
    if (depth > MAX_DEPTH) this.#refuse(`its groups are deeper than ${MAX_DEPTH}`);
    const parts: Node[] = [];
    while (!this.isDone && !['|', ')', '$'].includes(this.#letters[this.#at])) {
      parts.push(this.#quantified(this.#atom(depth)));
    }
    return sequence(...parts);
  }

  #atom(depth: number): Node {
    const letter = this.#letters[this.#at];
    if (letter === '^') this.#refuse(`^ stands in its middle: ${this.rest}`);
    if (letter === '(') return this.#group(depth);
    if (letter === '[') return this.#characters(this.#set());
    this.#at++;
    if (letter === '.') return DOT;
    if (letter === '\\') return this.#characters(this.#escape());
    return this.#characters(single(letter));
  }

  /** The same node for the same ranges. */
  #characters(ranges: Ranges): Node {
    const key = ranges.join(' ');
    const node = this.#nodes.get(key) ?? characters(ranges);
    this.#nodes.set(key, node);
    return node;
  }

  #group(depth: number): Node {
    for (const look of ['(?=', '(?!', '(?<=', '(?<!']) {
      if (this.take(look)) this.#refuse(`${look}…) looks at what is not its own`);
    }
    if (this.take('(?<')) {
      while (!this.take('>')) this.#at++;
    } else if (!this.take('(?:')) {
      if (this.take('(?')) this.#refuse('it has a group with flags');
      this.take('(');
    }
    const options: Node[] = [];
    do options.push(this.terms(depth + 1));
    while (this.take('|'));
    if (!this.take(')')) this.#refuse(`${this.rest} stands in a group; $ is supported at the end only`);
    return choice(...options);
  }

  #quantified(part: Node): Node {
    const from = this.#at;
    let [min, max] = [1, 1];
    if (this.take('*')) [min, max] = [0, Infinity];
    else if (this.take('+')) max = Infinity;
    else if (this.take('?')) min = 0;
    else if (this.take('{')) {
      const end = this.#letters.indexOf('}', this.#at);
      const [least, most = least] = this.#letters.slice(this.#at, end).join('').split(',');
      [min, max] = [Number(least), most === '' ? Infinity : Number(most)];
      this.#at = end + 1;
    }
    if (this.#at === from) return part;
    this.take('?');
    if (min === 1 && max === 1) return part;
    if (max === 0) return EMPTY;
    const some = nonEmpty(part);
    return repeat(some, some === part ? min : 0, max, some === DOT);
  }

  /** A class in brackets. */
  #set(): Ranges {
    this.#at++;
    const isNegated = this.take('^');
    const ranges: Ranges[number][] = [];
    while (!this.take(']')) {
      const first = this.#setPart();
      const isRange = this.#letters[this.#at] === '-' && this.#letters[this.#at + 1] !== ']';
      if (!isRange || !isSingle(first)) {
        ranges.push(...first);
        continue;
      }
      this.#at++;
      ranges.push([first[0][0], this.#setPart()[0][0]]);
    }
    return isNegated ? complement(ranges) : union(ranges);
  }

  #setPart(): Ranges {
    const letter = this.#letters[this.#at++];
    return letter === '\\' ? this.#escape() : single(letter);
  }

  /** What stands behind a backslash. */
  #escape(): Ranges {
    const letter = this.#letters[this.#at++];
    if (CLASSES[letter]) return CLASSES[letter];
    if (letter in CONTROLS) return range(CONTROLS[letter]);
    if (letter === 'x') return range(this.#hex(2));
    if (letter === 'c') return range(this.#letters[this.#at++].charCodeAt(0) % 32);
    if (letter === 'u') return range(this.#codePoint());
    if (/[pPbBk1-9]/.test(letter)) this.#refuse(`\\${letter} is not supported`);
    return single(letter);
  }

  #codePoint(): number {
    if (this.take('{')) {
      const end = this.#letters.indexOf('}', this.#at);
      return this.#hex(end - this.#at, 1);
    }
    const code = this.#hex(4);
    const isPair = code >= 0xd800 && code < 0xdc00 && this.take('\\u');
    return isPair ? 0x10000 + (code - 0xd800) * 0x400 + (this.#hex(4) - 0xdc00) : code;
  }

  #hex(length: number, behind = 0): number {
    const text = this.#letters.slice(this.#at, this.#at + length).join('');
    this.#at += length + behind;
    return Number.parseInt(text, 16);
  }
}

const range = (code: number): Ranges => [[code, code]];
const single = (letter: string): Ranges => range(letter.codePointAt(0) as number);
const isSingle = (ranges: Ranges) => ranges.length === 1 && ranges[0][0] === ranges[0][1];

/** What fits a node but for the empty text; the node itself where it is never empty. */
function nonEmpty(node: Node): Node {
  if (!canBeEmpty(node)) return node;
  if (node.kind === 'choice') return choice(...node.parts.map(nonEmpty).filter((part) => part !== NEVER));
  if (node.kind === 'repeat') return sequence(node.parts[0], repeat(node.parts[0], 0, node.max - 1, node.isText));
  if (node.kind !== 'sequence' || node.parts.length === 0) return NEVER;
  const [first, ...others] = node.parts;
  const rest = sequence(...others);
  return choice(sequence(nonEmpty(first), rest), nonEmpty(rest));
}

function canBeEmpty(node: Node): boolean {
  if (node.kind === 'sequence') return node.parts.every(canBeEmpty);
  if (node.kind === 'choice') return node.parts.some(canBeEmpty);
  return node.kind === 'repeat' && (node.min === 0 || canBeEmpty(node.parts[0]));
}
