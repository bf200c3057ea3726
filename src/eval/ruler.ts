/**
 * These are RULER's eleven tasks that need no download (arXiv 2404.06654; templates and settings of NVIDIA/RULER,
 * `scripts/data/synthetic`, `scripts/synthetic.yaml`). Two things differ for want of its files: the essays are the
 * texts at hand, and words come from these texts too. Answers are scored by its `string_match_all`.
 */
import { UnsupportedError } from '../errors.ts';
import { bookSentences, encodePiece, fill, hide, NOISE, noise, roomFor, wordsOf } from './haystack.ts';
import { type Random, seededRandom } from './random.ts';
import { stringMatchAll } from './scores.ts';
import type { Making, Sample, Task } from './task.ts';

type Ids = readonly number[];

/** A task draws its own part; the prompt is `head`, `body`, `tail`. */
interface Drawn {
  head: string;
  /** Makes exactly `room` ids. */
  body: (room: number) => Ids;
  tail: string;
  answers: string[];
}

function rulerTask(name: string, maxTokens: number, draw: (making: Making, random: Random) => Drawn): Task {
  return {
    name,
    *makeSamples(making) {
      const { tokenizer, frame, length, samples, seed } = making;
      for (let n = 0; n < samples; n++) {
        const { head, body, tail, answers } = draw(making, seededRandom(`${name} ${seed} ${length} ${n}`));
        const [begin, end] = [head, tail].map((text) => encodePiece(tokenizer, text));
        const room = roomFor(making, name, [begin, end], maxTokens);
        const ids = [...frame.before, ...begin, ...body(room), ...end, ...frame.after];
        yield { id: `${n}`, length, ids, maxTokens, answers } satisfies Sample;
      }
    },
    score: (answer, { answers }) => ({ accuracy: stringMatchAll(answer, answers) }),
  };
}

// --- needles ---

interface Niah {
  haystack: 'noise' | 'essay' | 'needle';
  keys: 'words' | 'uuids';
  values: 'numbers' | 'uuids';
  nKeys: number;
  nValues: number;
  nQueries: number;
}
const ONE: Niah = { haystack: 'essay', keys: 'words', values: 'numbers', nKeys: 1, nValues: 1, nQueries: 1 };
const NIAH: Record<string, Niah> = {
  niah_single_1: { ...ONE, haystack: 'noise' },
  niah_single_2: ONE,
  niah_single_3: { ...ONE, values: 'uuids' },
  niah_multikey_1: { ...ONE, nKeys: 4 },
  niah_multikey_2: { ...ONE, haystack: 'needle' },
  niah_multikey_3: { ...ONE, haystack: 'needle', keys: 'uuids', values: 'uuids' },
  niah_multivalue: { ...ONE, nValues: 4 },
  niah_multiquery: { ...ONE, nQueries: 4 },
};
const NIAH_TOKENS = 128;

function drawNiah({ haystack, keys, values, nKeys, nValues, nQueries }: Niah) {
  return (making: Making, random: Random): Drawn => {
    const { tokenizer, texts } = making;
    const words = keys === 'words' ? wordsOf(texts) : [];
    const draw = (kind: Niah['keys'] | Niah['values']) => {
      if (kind === 'numbers') return String(random.integer(1_000_000, 9_999_999));
      return kind === 'words' ? `${random.pick(words)}-${random.pick(words)}` : random.uuid();
    };
    const say = (key: string, value: string) => `One of the special magic ${values} for ${key} is: ${value}.`;
    const needles = Array.from({ length: Math.max(nKeys, nQueries) }, () => ({
      key: draw(keys),
      values: Array.from({ length: nValues }, () => draw(values)),
    }));
    const asked = random.shuffled(needles).slice(0, nQueries);
    const names = asked.map(({ key }) => key);
    const query = names.length === 1 ? names[0] : `${names.slice(0, -1).join(', ')}, and ${names[names.length - 1]}`;
    const isOne = nQueries * nValues === 1;
    const what = isOne ? values.slice(0, -1) : values;
    const joint = haystack === 'essay' ? ' ' : '\n';
    const hidden = needles.flatMap(({ key, values }) =>
      values.map((value) => ({
        ids: encodePiece(tokenizer, `${joint}${say(key, value)}`),
        depth: random.integer(0, 39) / 39, // RULER has 40 depths
      })),
    );
    const distractors = function* () {
      for (;;) yield encodePiece(tokenizer, `${joint}${say(draw(keys), draw(values))}`);
    };
    return {
      head:
        `${isOne ? 'A' : 'Some'} special magic ${what} ${isOne ? 'is' : 'are'} hidden within the following text. ` +
        `Make sure to memorize it. I will quiz you about the ${what} afterwards.\n`,
      body(room) {
        const left = room - hidden.reduce((sum, { ids }) => sum + ids.length, 0);
        if (left < 0) throw tooShort(making);
        const units =
          haystack === 'noise'
            ? noise(tokenizer, '\n')
            : haystack === 'needle'
              ? distractors()
              : bookSentences(making, random, left);
        return hide(fill(units, left), hidden);
      },
      tail:
        `\nWhat ${isOne ? 'is' : 'are all'} the special magic ${what} for ${query} mentioned in the provided text? ` +
        `The special magic ${what} for ${query} mentioned in the provided text ${isOne ? 'is' : 'are'}`,
      answers: asked.flatMap(({ values }) => values),
    };
  };
}

// --- variable tracking ---

const VT_HOPS = 4;
const VT_TOKENS = 30;

/** Draws a chain of variables: the first has a value, each other that of the one before. */
function drawChain(random: Random) {
  const name = () => Array.from({ length: 5 }, () => String.fromCharCode(65 + random.integer(0, 25))).join('');
  const names = Array.from({ length: VT_HOPS + 1 }, name);
  const value = String(random.integer(10_000, 99_999));
  const lines = names.map((variable, at) => `VAR ${variable} = ${at === 0 ? value : `VAR ${names[at - 1]}`}`);
  return { names, value, lines };
}

const vtHead = 'Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n';
const vtTail = (value: string) =>
  `\nQuestion: Find all variables that are assigned the value ${value} in the text above. Answer: According to the chain(s) ` +
  `of variable assignment in the text above, ${VT_HOPS + 1} variables are assigned the value ${value}, they are: `;

function drawVt(making: Making, random: Random): Drawn {
  const { tokenizer } = making;
  const { names, value, lines } = drawChain(random);
  const example = drawChain(random);
  const exampleText = example.lines.flatMap((line, at) => [NOISE.slice(0, 1 + (at % 5)).join(' '), line]).join('\n');
  return {
    head: `${vtHead}${exampleText}${vtTail(example.value)}${example.names.join(' ')}\n\n${vtHead}`,
    body(room) {
      // A chain is told in order, at sorted random depths.
      const depths = lines.map(() => random.uniform()).sort((a, b) => a - b);
      const hidden = lines.map((line, at) => ({ ids: encodePiece(tokenizer, `\n${line}`), depth: depths[at] }));
      const left = room - hidden.reduce((sum, { ids }) => sum + ids.length, 0);
      if (left < 0) throw tooShort(making);
      return hide(fill(noise(tokenizer, '\n'), left), hidden);
    },
    tail: vtTail(value).trimEnd(),
    answers: names,
  };
}

// --- common and frequent words ---

const CWE = { common: 10, often: 30, rarely: 3, tokens: 120 };
const CWE_EXAMPLE = { often: 10, rarely: 3, nRare: 10 };

const cweHead =
  'Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most often.\n';
const cweTail = `\nQuestion: What are the ${CWE.common} most common words in the above list? Answer: The top ${CWE.common} words that appear most often in the list are:`;
const numbered = (words: readonly string[]) => words.map((word, at) => `${at + 1}. ${word}`);
const answered = (words: readonly string[]) => ` ${numbered(words).join(' ')}`;
const times = (words: readonly string[], n: number) => words.flatMap((word) => new Array<string>(n).fill(word));

function drawCwe(making: Making, random: Random): Drawn {
  const { tokenizer, texts } = making;
  const words = random.shuffled(wordsOf(texts)); // the first ten are common, ten more the example's, the rest rare
  const [common, shown, rare] = [words.slice(0, 10), words.slice(10, 20), words.slice(20)];
  const shownList = random.shuffled([
    ...times(shown, CWE_EXAMPLE.often),
    ...times(rare.slice(0, CWE_EXAMPLE.nRare), CWE_EXAMPLE.rarely),
  ]);
  const example = `${cweHead}${numbered(shownList).join(' ')}${cweTail}${answered(shown)}\n\n`;
  // The example takes some 700 tokens; a short length goes without.
  const hasExample = encodePiece(tokenizer, example).length < making.length / 4;
  return {
    head: `${hasExample ? example : ''}${cweHead}`,
    body(room) {
      const idsOf = known((text: string) => encodePiece(tokenizer, text));
      const listOf = (nRare: number) => {
        const list = [...times(common, often), ...times(rare.slice(10, 10 + nRare), CWE.rarely)];
        const shuffled = seededRandom(`${common} ${nRare}`).shuffled(list);
        return shuffled.map((word, at) => [...idsOf(at === 0 ? '1.' : ` ${at + 1}.`), ...idsOf(` ${word}`)]);
      };
      // Short lists have fewer of everything, so that the common words stay ahead.
      const often = room < 2048 ? 6 : CWE.often;
      const size = (nRare: number) => listOf(nRare).reduce((sum, ids) => sum + ids.length, 0);
      let [fits, tooMany] = [0, Math.min(rare.length - 10, Math.ceil(room / (2 * CWE.rarely)))]; // an item is two tokens at least
      if (size(0) > room) throw tooShort(making);
      while (tooMany - fits > 1) {
        const middle = (fits + tooMany) >> 1;
        if (size(middle) <= room) fits = middle;
        else tooMany = middle;
      }
      const items = listOf(fits);
      const more = [...idsOf(` ${items.length + 1}.`), ...idsOf(` ${rare[10 + fits]}`)];
      return fill([...items, more, ...new Array<readonly number[]>(room).fill(idsOf('\n'))], room).flat();
    },
    tail: cweTail,
    answers: common,
  };
}

const FWE = { alpha: 2, wordLetters: 6, tokens: 50, answers: 3 };

function drawFwe({ tokenizer, length }: Making, random: Random): Drawn {
  const letters = () =>
    Array.from({ length: FWE.wordLetters }, () => String.fromCharCode(97 + random.integer(0, 25))).join('');
  const nWords = Math.max(FWE.answers + 1, Math.floor(length / 50));
  const vocabulary = ['...', ...Array.from({ length: nWords - 1 }, letters)]; // the commonest are dots
  const shares = vocabulary.map((_, rank) => (rank + 1) ** -FWE.alpha);
  const zeta = Math.PI ** 2 / 6;
  return {
    head: 'Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared coded words. ',
    body(room) {
      const cost = vocabulary.map((word) => encodePiece(tokenizer, ` ${word}`).length);
      const counts = (nTotal: number) => shares.map((share) => Math.floor((share / zeta) * nTotal));
      const size = (nTotal: number) => counts(nTotal).reduce((sum, n, word) => sum + n * cost[word], 0);
      let [fits, tooMany] = [0, room];
      while (tooMany - fits > 1) {
        const middle = (fits + tooMany) >> 1;
        if (size(middle) <= room) fits = middle;
        else tooMany = middle;
      }
      const words = random.shuffled(counts(fits).flatMap((n, word) => times([vocabulary[word]], n)));
      const units = words.map((word) => encodePiece(tokenizer, ` ${word}`));
      return fill([...units, ...new Array<number[]>(room).fill(encodePiece(tokenizer, ' ...'))], room).flat();
    },
    tail:
      "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently appeared words in the above coded text? " +
      'Answer: According to the coded text above, the three most frequently appeared words are:',
    answers: vocabulary.slice(1, 1 + FWE.answers),
  };
}

/** Makes the same function, which computes each result once. */
function known<T>(of: (text: string) => T): (text: string) => T {
  const results = new Map<string, T>();
  return (text) => {
    const result = results.get(text) ?? of(text);
    results.set(text, result);
    return result;
  };
}

const tooShort = ({ length }: Making) =>
  new UnsupportedError(`RULER: what is to be found does not fit into ${length} tokens; give longer lengths`);

export const RULER: readonly Task[] = [
  ...Object.entries(NIAH).map(([name, settings]) => rulerTask(name, NIAH_TOKENS, drawNiah(settings))),
  rulerTask('vt', VT_TOKENS, drawVt),
  rulerTask('cwe', CWE.tokens, drawCwe),
  rulerTask('fwe', FWE.tokens, drawFwe),
];
