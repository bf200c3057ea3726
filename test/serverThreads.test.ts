/** A thread of the model dies under a running server. */
import type { Worker } from 'node:worker_threads';
import { expect, it, onTestFinished } from 'vitest';
import { loadModel } from '../src/node.ts';
import { makeServer } from '../src/server/app.ts';

it('what runs fails in words, later requests are told so, and so is whoever asks for its health', {
  timeout: 30_000,
}, async () => {
  const workers: Worker[] = [];
  const onWorker = (worker: Worker) => workers.push(worker);
  process.on('worker', onWorker);
  const model = await loadModel('test/golden/llama/model.gguf', {
    context: 4096,
    backend: 'wasm',
    threads: 2,
    sequences: 2,
  });
  process.off('worker', onWorker);
  onTestFinished(() => model.dispose());
  const server = makeServer(model, { name: 'tiny', sequences: 2 });
  const ask = async (path: string, body?: object) => {
    const headers = { 'content-type': 'application/json', host: 'localhost' };
    const method = body ? 'POST' : 'GET';
    const response = await server.fetch(
      new Request(`http://localhost${path}`, { method, headers, body: body && JSON.stringify(body) }),
    );
    return { status: response.status, text: await response.text() };
  };
  expect((await ask('/health')).status).toBe(200);
  const logit_bias = Object.fromEntries([...model.tokenizer.eosTokens].map((id) => [id, -100])); // it goes on until it is ended
  const long = { prompt: 'Once', max_tokens: 4000, temperature: 0, logit_bias };
  const running = [ask('/v1/completions', long), ask('/v1/completions', { ...long, stream: true })];
  await new Promise((resolve) => setTimeout(resolve, 150));
  await workers[0].terminate();
  const [whole, stream] = await Promise.all(running);
  expect(whole.status).toBe(503);
  expect(whole.text).toMatch(/thread.*open the model again/);
  expect(stream.text).toMatch(/"error".*thread.*open the model again/);
  const later = await ask('/v1/completions', { prompt: 'Again', max_tokens: 2 });
  expect(later.text).toMatch(/thread.*open the model again/);
  expect(later.status).toBe(503);
  expect(await ask('/health')).toMatchObject({ status: 503 });
});
