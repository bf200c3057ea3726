/**
 * Key-value retrieval asks, in the words of nelson-liu/lost-in-the-middle, for one value out of a JSON object of random
 * UUIDs. All samples of one number ask for another pair of the same object, which then needs reading once.
 */
import { encodePiece, roomFor } from './haystack.ts';
import { seededRandom } from './random.ts';
import { stringMatchAll } from './scores.ts';
import type { Task } from './task.ts';

const HEAD = 'Extract the value corresponding to the specified key in the JSON object below.\n\nJSON data:\n{';

export const kvRetrieval: Task = {
  name: 'kv',
  *makeSamples(making) {
    const { tokenizer, frame, length, depths, samples, seed } = making;
    const piece = (text: string) => encodePiece(tokenizer, text);
    const [head, end, padding] = [piece(HEAD), piece('}'), piece('\n').slice(-1)];
    for (let n = 0; n < samples; n++) {
      const random = seededRandom(`kv ${seed} ${length} ${n}`);
      const drawn: { value: string; ids: number[]; question: number[] }[] = [];
      for (let nTokens = 0; nTokens < length; nTokens += drawn[drawn.length - 1].ids.length) {
        const [key, value] = [random.uuid(), random.uuid()];
        const ids = piece(`${drawn.length === 0 ? '' : ',\n '}"${key}": "${value}"`);
        drawn.push({ value, ids, question: piece(`\n\nKey: "${key}"\nCorresponding value:`) });
      }
      // UUIDs differ in tokens: there is room for the longest question and answer, and what is left is padded.
      const longest = Math.max(...drawn.map(({ question }) => question.length));
      const maxTokens = 2 + Math.max(...drawn.map(({ value }) => piece(` "${value}"`).length));
      const room = roomFor(making, 'kv', [head, end, new Array(longest)], maxTokens);
      const pairs: typeof drawn = [];
      let left = room;
      for (const pair of drawn) {
        if (pair.ids.length > left) break;
        pairs.push(pair);
        left -= pair.ids.length;
      }
      if (pairs.length === 0) roomFor(making, 'kv', [head, end, drawn[0].ids, new Array(longest)], maxTokens);
      const object = [...frame.before, ...head, ...pairs.flatMap(({ ids }) => ids), ...end];
      for (let d = 0; d < depths; d++) {
        const depth = (d + 0.5) / depths;
        const { value, question } = pairs[Math.floor(depth * pairs.length)];
        const gap = new Array<number>(left + longest - question.length).fill(padding[0]);
        const ids = [...object, ...gap, ...question, ...frame.after];
        yield { id: `depth ${d + 1} of ${depths}, ${n}`, length, depth, ids, maxTokens, answers: [value] };
      }
    }
  },
  score: (answer, { answers }) => ({ accuracy: stringMatchAll(answer, answers) }),
};
