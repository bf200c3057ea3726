/**
 * What the bundled model reads beyond its window, measured with this engine: perplexity on books by authors it was not
 * trained on, and pass keys found in them and in repeated sentences. Every finished cell is kept in the result file, and
 * is not measured again.
 *
 *     npm run bench:books -- --books FOLDER [--methods none,ntk,dca] [--lengths 1k,4k,16k] [--samples 20]
 *                            [--tasks perplexity,passkey] [--out docs/books-16m.json]
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { BUNDLED_MODEL } from '../src/bundled.ts';
import { parseSize } from '../src/cli/options.ts';
import { seededRandom } from '../src/eval/random.ts';
import { loadModel, type Model } from '../src/index.ts';

const { values } = parseArgs({
  options: {
    books: { type: 'string', default: 'texts' },
    methods: { type: 'string', default: 'none,ntk,dca:none,dca' },
    lengths: { type: 'string', default: '1k,2k,4k,8k,16k,32k' },
    tasks: { type: 'string', default: 'perplexity,passkey' },
    fillers: { type: 'string', default: 'books,sentences' },
    samples: { type: 'string', default: '20' },
    model: { type: 'string', default: BUNDLED_MODEL },
    out: { type: 'string', default: 'docs/books-16m.json' },
  },
});
const lengths = values.lengths.split(',').map(parseSize);
const samples = Number(values.samples);

/** Tokens of each book that perplexity is measured on, at every length the same. */
const STRETCH = 16384;
const ANSWER_TOKENS = 6; // a space and five digits
const HEAD = 'There is a pass key hidden in the text below. Find it and remember it.';
const SENTENCES = 'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.';

/** `{task}/{method}/{filler}/{length}` to a perplexity or a share of keys found. */
type Results = Record<string, { value: number; samples: number; seconds: number; settings: string }>;
const results: Results = existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')) : {};

const texts = readdirSync(values.books)
  .filter((name) => name.endsWith('.txt'))
  .sort()
  .map((name) => readFileSync(join(values.books, name), 'utf8'));

/** Ids of every book, made once. */
let bookIds: number[][] | undefined;
function booksOf(model: Model): number[][] {
  bookIds ??= texts.map((text) => model.tokenizer.encode(text, { addSpecialTokens: false }));
  return bookIds;
}

async function measure(name: string, method: string, length: number, run: (model: Model) => Promise<[number, number]>) {
  if (results[name]) return;
  const model = await loadModel(values.model, { context: length, method });
  const startedAt = performance.now();
  const [value, n] = await run(model);
  const seconds = Math.round((performance.now() - startedAt) / 1000);
  results[name] = { value, samples: n, seconds, settings: `${model.method.name}, ${model.backendName}` };
  await model.dispose();
  writeFileSync(values.out, `${JSON.stringify(results, null, 1)}\n`);
  console.log(`${name}: ${value.toFixed(3)} of ${n}, ${seconds} s`);
}

/** Mean over every token of a stretch from the middle of each book, read in pieces of `length` behind a BOS. */
async function perplexity(model: Model, length: number): Promise<[number, number]> {
  let [sum, n] = [0, 0];
  const bos = model.tokenizer.encode('').slice(0, 1);
  for (const ids of booksOf(model)) {
    const begin = Math.floor((ids.length - STRETCH) / 2);
    for (let at = begin; at < begin + STRETCH; at += length) {
      const piece = [...bos, ...ids.slice(at, at + length - bos.length)];
      for await (const block of model.score(piece)) {
        for (const loss of block) sum += loss;
        n += block.length;
      }
    }
  }
  return [Math.exp(sum / n), n];
}

/** Depths are the middles of equal parts. A key counts if greedy decoding gives all five digits. */
async function passKeys(model: Model, filler: string, length: number): Promise<[number, number]> {
  const plain = (text: string) => model.tokenizer.encode(text, { addSpecialTokens: false });
  const sentence = plain(` ${SENTENCES}`);
  const gap = plain('\n\n.').slice(0, -1);
  const books = filler === 'books' ? booksOf(model) : [];
  let found = 0;
  for (let sample = 0; sample < samples; sample++) {
    const random = seededRandom(`${filler} ${length} ${sample}`);
    const key = String(random.integer(10000, 99999));
    const begin = [...model.tokenizer.encode(HEAD), ...gap];
    const needle = [...plain(`\n\nThe pass key is ${key}. Remember it. ${key} is the pass key.`), ...gap];
    const question = plain('\n\nWhat is the pass key? The pass key is');
    const room = length - begin.length - needle.length - question.length - ANSWER_TOKENS;
    const source =
      books[sample % books.length] ?? Array.from({ length: room }, (_, i) => sentence[i % sentence.length]);
    // Repeated sentences begin alike, so that what one sample shares with the next is read once.
    const at = filler === 'books' ? random.integer(0, source.length - room) : 0;
    const cut = at + Math.round(((sample + 0.5) / samples) * room);
    const prompt = [...begin, ...source.slice(at, cut), ...needle, ...source.slice(cut, at + room), ...question];
    let answer = '';
    for await (const { text } of model.generate(prompt, { maxTokens: ANSWER_TOKENS })) answer += text;
    if (answer === ` ${key}`) found++;
  }
  return [found / samples, samples];
}

for (const length of lengths) {
  for (const method of values.methods.split(',')) {
    const cell = (task: string) => `${task}/${method}/${length}`;
    if (values.tasks.includes('passkey')) {
      for (const filler of values.fillers.split(',')) {
        await measure(cell(`passkey ${filler}`), method, length, (model) => passKeys(model, filler, length));
      }
    }
    if (values.tasks.includes('perplexity')) {
      await measure(cell('perplexity'), method, length, (model) => perplexity(model, length));
    }
  }
}
