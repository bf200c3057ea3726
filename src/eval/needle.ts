/**
 * The needle in a haystack is the sentence of gkamradt/LLMTest_NeedleInAHaystack in a book, over depth and length. Its
 * judge is a model; here an answer is scored by the share of the needle's two facts that it names.
 */
import { bookSentences, encodePiece, fill, hide, roomFor } from './haystack.ts';
import { seededRandom } from './random.ts';
import type { Task } from './task.ts';

const NEEDLE = 'The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day.';
const QUESTION = 'What is the best thing to do in San Francisco? The best thing to do in San Francisco is';
const FACTS = ['eat a sandwich', 'dolores park'];
const ANSWER_TOKENS = 32;

export const needle: Task = {
  name: 'needle',
  *makeSamples(making) {
    const { tokenizer, frame, length, depths, samples, seed } = making;
    const head = encodePiece(tokenizer, 'Read this text; a question about it follows.\n\n');
    const hidden = encodePiece(tokenizer, ` ${NEEDLE}`);
    const question = encodePiece(tokenizer, `\n\n${QUESTION}`);
    const room = roomFor(making, 'needle', [head, hidden, question], ANSWER_TOKENS);
    for (let n = 0; n < samples; n++) {
      const pages = fill(bookSentences(making, seededRandom(`needle ${seed} ${n}`), room), room);
      for (let d = depths - 1; d >= 0; d--) {
        const depth = (d + 0.5) / depths;
        const body = hide(pages, [{ ids: hidden, depth }]);
        const ids = [...frame.before, ...head, ...body, ...question, ...frame.after];
        yield { id: `depth ${d + 1} of ${depths}, ${n}`, length, depth, ids, maxTokens: ANSWER_TOKENS, answers: FACTS };
      }
    }
  },
  score: (answer, { answers }) => ({
    accuracy: answers.filter((fact) => answer.toLowerCase().includes(fact)).length / answers.length,
  }),
};
