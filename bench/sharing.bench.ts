/**
 * A short chat while a book is read: tokens/s of both at once against each alone, in one run.
 *
 *     npm run bench:sharing -- [model.gguf] [--book 6144] [--chat 300] [--threads 2]
 */
import { existsSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { loadModel } from '../src/node.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    book: { type: 'string', default: '6144' },
    chat: { type: 'string', default: '300' },
    threads: { type: 'string' },
  },
});
const path = positionals[0] ?? 'models/SmolLM2-135M-Instruct.Q4_1.gguf';
if (!existsSync(path)) throw new Error(`${path} is missing; fetch it with: npm run fetch-model`);
const [nBook, nChat] = [Number(values.book), Number(values.chat)];
const threads = values.threads === undefined ? undefined : Number(values.threads);
const model = await loadModel(path, { context: nBook + 1024, sequences: 2, backend: 'wasm', threads });
const book = model.tokenizer.encode(readFileSync('texts/dracula.txt', 'utf8'));

/** Reads a book, each time another part, so that nothing of it is in the cache. Returns its tokens/s. */
let nth = 0;
async function read(): Promise<number> {
  const ids = book.slice(nth++ * nBook).slice(0, nBook);
  const startedAt = performance.now();
  for await (const _ of model.generate(ids, { maxTokens: 1, temperature: 0 }));
  return (1000 * nBook) / (performance.now() - startedAt);
}

/** Writes until it is told to stop. Returns tokens/s from the first token on, and the longest wait in milliseconds. */
async function chat(signal?: AbortSignal): Promise<{ rate: number; longest: number }> {
  let count = 0;
  let [startedAt, last, longest] = [0, 0, 0];
  const options = { maxTokens: signal ? 5000 : nChat, temperature: 0, stopTokens: [] };
  for await (const { tokens } of model.generate([1, 2, 3, 4, 5, 6, 7, 8 + nth], options)) {
    const now = performance.now();
    if (count === 0) startedAt = now;
    else longest = Math.max(longest, now - last);
    last = now;
    count += tokens.length;
    if (signal?.aborted) break;
  }
  return { rate: (1000 * (count - 1)) / (last - startedAt), longest };
}

console.log(`${model.backendName}, Node ${process.version}; a book of ${nBook} tokens`);
for (let round = 0; round < 2; round++) {
  const bookAlone = await read();
  const chatAlone = await chat();
  const stop = new AbortController();
  const chatting = chat(stop.signal);
  const bookBeside = await read();
  stop.abort();
  const beside = await chatting;
  console.log(
    `book ${bookAlone.toFixed(0)} tokens/s alone, ${bookBeside.toFixed(0)} beside a chat: ${(bookAlone / bookBeside).toFixed(2)} times slower; ` +
      `chat ${chatAlone.rate.toFixed(1)} alone, ${beside.rate.toFixed(1)} beside the book: ${(chatAlone.rate / beside.rate).toFixed(2)} times slower, ` +
      `longest wait ${beside.longest.toFixed(0)} ms`,
  );
}
await model.dispose();
