/**
 * What a session saves: a text is read, written down and opened again in another copy of the model; both must give the same
 * answer, to the bit, before times are told. The floor of opening is the file's bytes at the disk's pace and one SHA-256 of them.
 *
 *     npm run bench:session -- [model.gguf] [--text texts/dracula.txt] [--tokens 16384] [--kv-type bf16] [--threads 2]
 */
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { KvType } from '../src/kvTypes.ts';
import { type GeneratedToken, loadModel, type Model } from '../src/node.ts';
import { median } from './median.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    text: { type: 'string', default: 'texts/dracula.txt' },
    tokens: { type: 'string', default: '16384' },
    threads: { type: 'string' },
    'kv-type': { type: 'string', default: 'bf16' },
  },
});
const path = positionals[0] ?? 'models/SmolLM2-135M-Instruct.Q4_1.gguf';
if (!existsSync(path)) throw new Error(`${path} is missing; fetch it with: npm run fetch-model`);
const nTokens = Number(values.tokens);
const options = {
  context: nTokens + 256,
  backend: 'wasm' as const,
  kvType: values['kv-type'] as KvType,
  threads: values.threads === undefined ? undefined : Number(values.threads),
};

async function timed<T>(work: () => Promise<T>): Promise<[seconds: number, result: T]> {
  const startedAt = performance.now();
  const result = await work();
  return [(performance.now() - startedAt) / 1000, result];
}

async function answer(model: Model, prompt: readonly number[]): Promise<GeneratedToken[]> {
  const tokens: GeneratedToken[] = [];
  const settings = { maxTokens: 16, temperature: 0, logprobs: 5, stopTokens: [] };
  for await (const piece of model.generate(prompt, settings)) tokens.push(...piece.tokens);
  return tokens;
}

const here = await loadModel(path, options);
const ids = here.tokenizer.encode(readFileSync(values.text, 'utf8')).slice(0, nTokens);
const question = [...ids, ...here.tokenizer.encode('\n\nWho is it?', { addSpecialTokens: false })];
const [reading, session] = await timed(() => here.read(ids));
const file = join(tmpdir(), `bench-${process.pid}.kv`);
const [saving] = await timed(() => session.save(file));
const expected = await answer(here, question);
const openings: number[] = [];
for (let round = 0; round < 3; round++) {
  const there = await loadModel(path, options);
  const [seconds] = await timed(() => there.loadSession(file));
  openings.push(seconds);
  const given = await answer(there, question);
  if (JSON.stringify(given) !== JSON.stringify(expected)) throw new Error('the session answers otherwise');
  await there.dispose();
}
const { size } = statSync(file);
rmSync(file);
const opening = median(openings);
console.log(`${here.backendName}, Node ${process.version}, method ${here.method.name}`);
console.log(
  `${ids.length} tokens: read in ${reading.toFixed(2)} s, ${(size / 2 ** 20).toFixed(0)} MiB saved in ${saving.toFixed(2)} s, ` +
    `opened in ${opening.toFixed(2)} s (${(size / 2 ** 20 / opening).toFixed(0)} MiB/s), ${(reading / opening).toFixed(0)} times as fast; the same answer to the bit`,
);
console.log(JSON.stringify({ tokens: ids.length, bytes: size, reading, saving, opening }));
await here.dispose();
