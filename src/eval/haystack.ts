/**
 * Prompts have an exact number of tokens. Every piece of text is encoded on its own and ids are put together, so that
 * lengths add up; filler comes as sentences, whole ones while they fit, and the head of one more. Samples that begin
 * with the same filler share those ids, which then need reading once.
 */
import { UnsupportedError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Random } from './random.ts';
import type { Making, NamedText } from './task.ts';

/**
 * The public passkey script repeats these sentences (ChunkLlama, `passkey/test_passkey.py`); RULER's noise is the same.
 */
export const NOISE = [
  'The grass is green.',
  'The sky is blue.',
  'The sun is yellow.',
  'Here we go.',
  'There and back again.',
] as const;

/** Gives the ids of a piece of text in the middle of a prompt. */
export const encodePiece = (tokenizer: Tokenizer, text: string): number[] =>
  tokenizer.encode(text, { addSpecialTokens: false, allowSpecial: false });

/**
 * Counts the tokens that are left for filler.
 * @throws UnsupportedError when there are none.
 */
export function roomFor(
  { length, frame }: Making,
  task: string,
  pieces: readonly (readonly number[])[],
  answer: number,
) {
  const fixed = frame.before.length + frame.after.length + pieces.reduce((sum, { length }) => sum + length, answer);
  if (fixed < length) return length - fixed;
  throw new UnsupportedError(`${task} does not fit into ${length} tokens; wanted a length above ${fixed}`);
}

/** Takes units while they fit, and the head of one more: exactly `room` ids, in runs of whole units. */
export function fill(units: Iterable<readonly number[]>, room: number): (readonly number[])[] {
  const taken: (readonly number[])[] = [];
  let left = room;
  for (const unit of units) {
    if (left === 0) break;
    taken.push(unit.length <= left ? unit : unit.slice(0, left));
    left -= taken[taken.length - 1].length;
  }
  return taken;
}

/** Puts each piece between units, where the border lies nearest to its share of the filler before it. */
export function hide(
  units: readonly (readonly number[])[],
  pieces: readonly { ids: readonly number[]; depth: number }[],
) {
  const total = units.reduce((sum, { length }) => sum + length, 0);
  const result: number[] = [];
  const left = [...pieces].sort((a, b) => a.depth - b.depth);
  let at = 0;
  for (const unit of units) {
    while (left.length > 0 && left[0].depth * total - at < at + unit.length - left[0].depth * total) {
      result.push(...(left.shift() as { ids: readonly number[] }).ids);
    }
    result.push(...unit);
    at += unit.length;
  }
  return [...result, ...left.flatMap(({ ids }) => ids)];
}

/** Gives the same sentences again and again, each behind `joint`. */
export function* noise(tokenizer: Tokenizer, joint: string): Generator<readonly number[]> {
  yield encodePiece(tokenizer, NOISE[0]);
  const units = NOISE.map((sentence) => encodePiece(tokenizer, `${joint}${sentence}`));
  for (let n = 1; ; n++) yield units[n % units.length];
}

/**
 * Gives sentences of the texts from a random one on, from text to text, each behind its own white space.
 * @throws UnsupportedError when they come round to the first before `room` tokens are read.
 */
export function* bookSentences({ tokenizer, texts }: Making, random: Random, room: number) {
  const first = random.integer(0, texts.length - 1);
  const start = random.integer(0, sentencesOf(texts[first]).length - 1);
  let nTokens = 0;
  for (let t = 0; t <= texts.length; t++) {
    const text = texts[(first + t) % texts.length];
    const all = sentencesOf(text);
    const [from, to] = t === 0 ? [start, all.length] : t === texts.length ? [0, start] : [0, all.length];
    for (let s = from; s < to; s++) {
      const ids = sentenceIds(tokenizer, text, s);
      yield ids;
      nTokens += ids.length;
    }
  }
  if (nTokens < room) {
    const names = texts.map(({ name }) => name).join(', ');
    throw new UnsupportedError(
      `${names}: ${nTokens} tokens, but a sample needs ${room} to hide things in; give more texts, or filler sentences`,
    );
  }
}

/** With fewer words, a list would have no rare ones, and keys would be each other's. */
const FEWEST_WORDS = 100;

/**
 * Gives the lower-case words of four to nine letters that the texts use, each once, in alphabetical order.
 * @throws UnsupportedError when there are few, as in other scripts than Latin.
 */
export function wordsOf(texts: readonly NamedText[]): readonly string[] {
  const known = vocabularies.get(texts);
  const words = known ?? [...new Set(texts.flatMap(({ text }) => text.match(/\b[a-z]{4,9}\b/g) ?? []))].sort();
  vocabularies.set(texts, words);
  if (words.length >= FEWEST_WORDS) return words;
  const names = texts.map(({ name }) => name).join(', ');
  throw new UnsupportedError(
    `${names}: ${words.length} different words of four to nine letters from a to z, but RULER's keys and lists take at ` +
      `least ${FEWEST_WORDS}; give a longer text in English`,
  );
}

// --- internal ---

const vocabularies = new WeakMap<readonly NamedText[], readonly string[]>();

const sentences = new WeakMap<NamedText, string[]>();

function sentencesOf(named: NamedText): string[] {
  const known = sentences.get(named) ?? named.text.split(/(?<=[.!?]["'”’)\]]*)(?=\s)/u);
  sentences.set(named, known);
  return known;
}

const encoded = new WeakMap<Tokenizer, WeakMap<NamedText, (readonly number[])[]>>();

function sentenceIds(tokenizer: Tokenizer, text: NamedText, s: number): readonly number[] {
  const ofTokenizer = encoded.get(tokenizer) ?? new WeakMap<NamedText, (readonly number[])[]>();
  const all = ofTokenizer.get(text) ?? [];
  encoded.set(tokenizer, ofTokenizer.set(text, all));
  all[s] ??= encodePiece(tokenizer, sentencesOf(text)[s]);
  return all[s];
}
