/**
 * Eight texts written at once, beside llama.cpp (node-llama-cpp): tokens/s of one text and of all, each engine in its own process, in
 * turn. Every text has a prompt of its own, which is read before anything is timed. Run after bench:peers, which installs the peer.
 *
 *     npx tsx bench/peers/batch.ts [model.gguf] [--texts 8] [--prompt 1000] [--tokens 48] [--threads 2] [--rounds 3]
 */
import { execFileSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { median } from '../median.ts';
import { loadLlamaCpp } from './llamaCpp.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    texts: { type: 'string', default: '8' },
    prompt: { type: 'string', default: '1000' },
    tokens: { type: 'string', default: '48' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '3' },
    engine: { type: 'string' },
  },
});
const path = positionals[0] ?? 'models/SmolLM2-135M-Instruct.Q4_1.gguf';
const [nTexts, nPrompt, nTokens, threads, rounds] = [
  values.texts,
  values.prompt,
  values.tokens,
  values.threads,
  values.rounds,
].map(Number);
const promptOf = (text: number) => Array.from({ length: nPrompt }, (_, at) => 100 + ((at * 7919 + 31 * text) % 40000));

/** Writes so many tokens of a text; its prompt is read when the first one comes. */
type Write = (text: number, nTokens: number) => AsyncIterable<unknown>;

async function openDualchunk(): Promise<Write> {
  const { loadModel } = await import('../../src/node.ts');
  const load = { context: nPrompt + nTokens + 8, sequences: nTexts, threads, backend: 'wasm' as const, method: 'none' };
  const model = await loadModel(path, load);
  return (text, maxTokens) => model.generate(promptOf(text), { maxTokens, temperature: 0, stopTokens: [] });
}

async function openLlamaCpp(): Promise<Write> {
  const { model } = await loadLlamaCpp(path, threads);
  const context = await model.createContext({
    ...{ contextSize: nPrompt + nTokens + 8, sequences: nTexts, batchSize: 512, flashAttention: true },
    threads: { ideal: threads, min: threads },
  });
  const sequences = Array.from({ length: nTexts }, () => context.getSequence());
  return async function* (text, maxTokens) {
    await sequences[text].clearHistory();
    let count = 0;
    for await (const token of sequences[text].evaluate(promptOf(text), { temperature: 0, yieldEogToken: true })) {
      yield token;
      if (++count === maxTokens) return;
    }
  };
}

/** Tokens/s of texts that are written at once, from when all of them have their first token. */
async function rate(write: Write, texts: number[]): Promise<number> {
  let begun = 0;
  let startedAt = 0;
  let count = 0;
  await Promise.all(
    texts.map(async (text) => {
      let isFirst = true;
      for await (const _ of write(text, nTokens)) {
        if (isFirst && ++begun === texts.length) startedAt = performance.now();
        else if (begun === texts.length) count++;
        isFirst = false;
      }
    }),
  );
  return (1000 * count) / (performance.now() - startedAt);
}

if (values.engine) {
  const write = await (values.engine === 'dualchunk' ? openDualchunk() : openLlamaCpp());
  const all = Array.from({ length: nTexts }, (_, text) => text);
  await rate(write, all); // prompts are read, and kernels compiled
  const [alone, together] = [await rate(write, [0]), await rate(write, all)];
  console.log(JSON.stringify({ alone, together }));
  process.exit(0);
}
for (const engine of ['dualchunk', 'llama.cpp']) {
  const outcomes = Array.from({ length: rounds }, () => {
    const args = ['--import', 'tsx', import.meta.filename, path, '--engine', engine];
    const options = Object.entries(values).flatMap(([name, value]) => [`--${name}`, String(value)]);
    return JSON.parse(
      execFileSync(process.execPath, [...args, ...options], { encoding: 'utf8' })
        .trim()
        .split('\n')
        .at(-1) ?? '',
    );
  });
  const [alone, together] = ['alone', 'together'].map((key) => median(outcomes.map((outcome) => outcome[key])));
  console.log(
    `${engine}: one text ${alone.toFixed(1)} tokens/s, ${nTexts} at once ${together.toFixed(1)}, ${(together / alone).toFixed(2)} times`,
  );
}
