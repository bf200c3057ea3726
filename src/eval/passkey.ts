/**
 * Pass key retrieval hides, in the words of the public script (HKUNLP/ChunkLlama, `passkey/test_passkey.py`), a number
 * from 1 to 50,000 between lines of filler. Its depths are random and its lengths counted by characters; here depths
 * are the middles of equal parts, and lengths exact. Filler is the script's sentences, or a book.
 */
import { bookSentences, encodePiece, fill, noise, roomFor } from './haystack.ts';
import { seededRandom } from './random.ts';
import type { Making, Sample, Task } from './task.ts';

const TASK =
  'There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you about the important information there.';
const QUESTION = 'What is the pass key? The pass key is';
const LARGEST_KEY = 50000;
/** An answer that may be a sentence has so many tokens. */
const CHAT_ANSWER = 32;

export const passkey: Task = {
  name: 'passkey',
  *makeSamples(making) {
    // The deepest comes first, so that what a sample shares with the one before it reaches to its own key.
    for (let d = making.depths - 1; d >= 0; d--) {
      for (let n = 0; n < making.samples; n++) yield makeSample(making, d, n);
    }
  },
  score: (answer, { answers }) => ({
    accuracy: Number(/\d[\d,]*/.exec(answer)?.[0].replaceAll(',', '') === answers[0]),
  }),
};

function makeSample(making: Making, d: number, n: number): Sample {
  const { tokenizer, frame, length, depths, seed, filler, form } = making;
  const random = seededRandom(`passkey ${seed} ${length} ${d} ${n}`);
  const key = String(random.integer(1, LARGEST_KEY));
  const depth = (d + 0.5) / depths;
  const piece = (text: string) => encodePiece(tokenizer, text);
  const head = piece(`${TASK}\n`);
  const needle = piece(`\nThe pass key is ${key}. Remember it. ${key} is the pass key.\n`);
  const question = piece(`\n${QUESTION}`);
  // The answer has one token more than the key, so that a longer number shows.
  const maxTokens = form === 'chat' ? CHAT_ANSWER : piece(` ${key}`).length + 1;
  const room = roomFor(making, 'passkey', [head, needle, question], maxTokens);
  const before = Math.round(depth * room);
  let parts: (readonly number[])[];
  if (filler === 'sentences') {
    parts = [...fill(noise(tokenizer, ' '), before), needle, ...fill(noise(tokenizer, ' '), room - before)];
  } else {
    // Samples of one number begin with the same page.
    const pages = fill(bookSentences(making, seededRandom(`page ${seed} ${n}`), room), room).flat();
    parts = [pages.slice(0, before), needle, pages.slice(before)];
  }
  const ids = [...frame.before, ...head, ...parts.flat(), ...question, ...frame.after];
  return { id: `depth ${d + 1} of ${depths}, ${n}`, length, depth, ids, maxTokens, answers: [key] };
}
