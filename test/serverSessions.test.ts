/** What a server has read it writes down under a name, and another one goes on from there. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { LostError, loadModel } from '../src/node.ts';
import { makeServer, type SessionShelf } from '../src/server/app.ts';
import { get, post, scripted, serverOf } from './serverModel.ts';

const folder = mkdtempSync(join(tmpdir(), 'server-sessions-'));
const TEXT = readFileSync('test/golden/text.txt', 'utf8').slice(0, 600);

/** A server without a port, and what asks it. */
async function open() {
  const model = await loadModel('test/golden/llama/model.gguf', { context: 1024, backend: 'wasm', threads: 2 });
  onTestFinished(() => model.dispose());
  const pathOf = (name: string) => join(folder, `${name}.kv`);
  const sessions: SessionShelf = {
    async save(name, tokens, signal) {
      const session = await model.read(tokens, { signal });
      await session.save(pathOf(name), { signal });
      return session.tokens.length;
    },
    restore: async (name, signal) => (await model.loadSession(pathOf(name), { signal })).tokens.length,
  };
  const server = makeServer(model, { name: 'tiny', sequences: 1, sessions });
  return async (path: string, body: object) => {
    const headers = { 'content-type': 'application/json', host: 'localhost' };
    const request = new Request(`http://localhost${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
    const response = await server.fetch(request);
    return { status: response.status, body: await response.json() };
  };
}
const question = { prompt: `${TEXT} And then?`, max_tokens: 8, temperature: 0 };

it('a prompt that was read, saved and restored is answered as before, from the cache', async () => {
  const [here, there] = [await open(), await open()];
  const saved = await here('/sessions/save', { name: 'a.text', prompt: TEXT });
  expect(saved).toMatchObject({ status: 200, body: { object: 'session', name: 'a.text' } });
  const { n_tokens } = saved.body;
  expect(await there('/sessions/restore', { name: 'a.text' })).toMatchObject({ status: 200, body: { n_tokens } });
  const [before, after] = [await here('/v1/completions', question), await there('/v1/completions', question)];
  expect(after.body.choices[0].text).toBe(before.body.choices[0].text);
  const { cached_tokens } = after.body.usage.prompt_tokens_details;
  expect(n_tokens - cached_tokens).toBeLessThan(4); // the last token of the text may go together with what follows
  expect((await there('/sessions/save', { name: 'b', messages: [{ role: 'user', content: 'Hello' }] })).status).toBe(
    200,
  );
});

it('names that lead elsewhere, and files that are no sessions, are refused', async () => {
  const ask = await open();
  for (const name of ['../x', '.hidden', 'a/b', '', 'x'.repeat(101), 7]) {
    expect(await ask('/sessions/restore', { name })).toMatchObject({ status: 400, body: { error: { param: 'name' } } });
  }
  expect(await ask('/sessions/save', { name: 'c' })).toMatchObject({
    status: 400,
    body: { error: { param: 'messages' } },
  });
  writeFileSync(join(folder, 'bad.kv'), 'no session');
  const { status, body } = await ask('/sessions/restore', { name: 'bad' });
  expect([status, body.error.message]).toEqual([400, expect.stringContaining('not a session')]);
  expect((await ask('/sessions/restore', { name: 'missing' })).status).toBe(400);
});

it('a model that is lost while a session is read is told of as such, and stays lost', async () => {
  const lost = () => Promise.reject(new LostError('the GPU was lost; open the model again'));
  const server = serverOf(await scripted(), { sessions: { save: lost, restore: lost } });
  expect((await post(server, '/sessions/restore', { name: 'a' })).status).toBe(503);
  expect((await get(server, '/health')).status).toBe(503);
});
