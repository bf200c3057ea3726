/** The server over a port, asked by the clients that people have, and by `curl`. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import Anthropic from '@anthropic-ai/sdk';
import { serve } from '@hono/node-server';
import { ChatOpenAI } from '@langchain/openai';
import { generateText, jsonSchema, Output, streamText, tool } from 'ai';
import OpenAI from 'openai';
import { afterAll, describe, expect, it } from 'vitest';
import { loadModel } from '../src/node.ts';
import { languageModel } from '../src/server/aiSdk.ts';
import type { Server } from '../src/server/app.ts';
import { type Script, scripted, serverOf } from './serverModel.ts';

const open: ReturnType<typeof serve>[] = [];
afterAll(() => {
  for (const http of open) http.close();
});

/** Listens with a server, and gives its address. */
async function address(server: Server): Promise<string> {
  const http = serve({ fetch: server.fetch, port: 0, hostname: '127.0.0.1' });
  open.push(http);
  if (!http.listening) await once(http, 'listening');
  return `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
}
const says = async (script?: Script) => address(serverOf(await scripted(script), { isLoopback: true, apiKeys: ['k'] }));

const CALLS = 'So:\n<tool_call>{"name": "weather", "arguments": {"city": "Bonn"}}</tool_call>';
const SCHEMA = { type: 'object', properties: { city: { type: 'string' } } } as const;
const messages = [{ role: 'user' as const, content: 'Hi' }];

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

describe('openai', () => {
  const client = async (script?: Script) =>
    new OpenAI({ baseURL: `${await says(script)}/v1`, apiKey: 'k', maxRetries: 0 });

  it('chats, streams and calls tools', async () => {
    const openai = await client();
    const answer = await openai.chat.completions.create({ model: 'm', messages });
    expect(answer.choices[0].message.content).toBe('Hello there');
    const chunks = await all(await openai.chat.completions.create({ model: 'm', messages, stream: true }));
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe('Hello there');
    const tools = [{ type: 'function' as const, function: { name: 'weather', parameters: SCHEMA } }];
    const runner = (await client({ says: CALLS })).chat.completions.stream({ model: 'm', messages, tools });
    const [call] = (await runner.finalChatCompletion()).choices[0].message.tool_calls ?? [];
    expect(call).toMatchObject({ function: { name: 'weather', arguments: '{"city":"Bonn"}' } });
    expect((await openai.models.list()).data[0].id).toBe('scripted');
  });

  it('completes, responds, and understands errors', async () => {
    const openai = await client();
    const completion = await openai.completions.create({ model: 'm', prompt: 'a' });
    expect(completion.choices[0].text).toBe('Hello there');
    expect((await openai.responses.create({ model: 'm', input: 'Hi' })).output_text).toBe('Hello there');
    const stream = openai.responses.stream({ model: 'm', input: 'Hi' });
    expect((await stream.finalResponse()).output_text).toBe('Hello there');
    const refused = openai.chat.completions.create({ model: 'm', messages, temperature: 1000 });
    await expect(refused).rejects.toMatchObject({ status: 400, param: 'temperature', type: 'invalid_request_error' });
    await expect(openai.withOptions({ apiKey: 'x' }).models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  });

  it('frees its place when it leaves a stream', async () => {
    const model = await scripted({ says: 'x'.repeat(3000), delay: 5, context: 4096 });
    const openai = new OpenAI({ baseURL: `${await address(serverOf(model))}/v1`, apiKey: 'k' });
    const stream = await openai.chat.completions.create({ model: 'm', messages, stream: true });
    for await (const _ of stream) break;
    const end = Date.now() + 2000;
    while (model.active() > 0 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(model.active()).toBe(0);
  });
});

describe('anthropic', () => {
  it('speaks, streams and calls tools', async () => {
    const anthropic = new Anthropic({ baseURL: await says(), apiKey: 'k' });
    const request = { model: 'm', max_tokens: 50, messages };
    expect((await anthropic.messages.create(request)).content).toEqual([{ type: 'text', text: 'Hello there' }]);
    expect(await anthropic.messages.stream(request).finalText()).toBe('Hello there');
    expect((await anthropic.messages.countTokens({ model: 'm', messages })).input_tokens).toBeGreaterThan(5);
    const caller = new Anthropic({ baseURL: await says({ says: `<think>Hm.</think>${CALLS}` }), apiKey: 'k' });
    const tools = [{ name: 'weather', input_schema: SCHEMA }];
    const message = await caller.messages.stream({ ...request, tools }).finalMessage();
    expect(message.stop_reason).toBe('tool_use');
    expect(message.content).toMatchObject([
      { type: 'thinking', thinking: 'Hm.' },
      { type: 'text', text: 'So:' },
      { type: 'tool_use', name: 'weather', input: { city: 'Bonn' } },
    ]);
    const refused = anthropic.messages.create({ ...request, max_tokens: 0 });
    await expect(refused).rejects.toBeInstanceOf(Anthropic.BadRequestError);
  });
});

describe('the AI SDK', () => {
  const provider = async (script?: Script) =>
    createOpenAICompatible({ name: 'dualchunk', baseURL: `${await says(script)}/v1`, apiKey: 'k', includeUsage: true });

  it('generates and streams text, and runs tools', async () => {
    const model = (await provider())('m');
    expect((await generateText({ model, prompt: 'Hi' })).text).toBe('Hello there');
    const stream = streamText({ model, prompt: 'Hi' });
    expect((await all(stream.textStream)).join('')).toBe('Hello there');
    expect((await stream.usage).outputTokens).toBe(4);
    const weather = tool({
      inputSchema: jsonSchema<{ city: string }>(SCHEMA),
      execute: ({ city }) => `rain in ${city}`,
    });
    const caller = (await provider({ says: `<think>Hm.</think>${CALLS}` }))('m');
    const called = streamText({ model: caller, prompt: 'Hi', tools: { weather } });
    expect((await called.toolResults)[0]?.output).toBe('rain in Bonn');
    expect(await called.reasoningText).toBe('Hm.');
  });

  it('takes a model of this process, without a server', async () => {
    const model = languageModel(await scripted());
    expect((await generateText({ model, prompt: 'Hi' })).text).toBe('Hello there');
    const stream = streamText({ model, prompt: 'Hi' });
    expect((await all(stream.textStream)).join('')).toBe('Hello there');
    expect((await stream.usage).outputTokens).toBe(4);
    const [first, second] = await Promise.all([1, 2].map(() => generateText({ model, prompt: 'Hi' })));
    expect([first.text, second.text]).toEqual(['Hello there', 'Hello there']);
    const real = await loadModel('test/golden/llama/model.gguf', { context: 512, backend: 'wasm', threads: 2 });
    const schema = jsonSchema<{ mood: string }>({
      type: 'object',
      properties: { mood: { enum: ['good', 'bad'] } },
      required: ['mood'],
      additionalProperties: false,
    });
    const { output } = await generateText({
      ...{ model: languageModel(real), prompt: 'Hi', output: Output.object({ schema }) },
    });
    await real.dispose();
    expect(['good', 'bad']).toContain(output.mood);
  });
});

describe('LangChain', () => {
  it('asks and streams', async () => {
    const model = new ChatOpenAI({ model: 'm', apiKey: 'k', configuration: { baseURL: `${await says()}/v1` } });
    expect((await model.invoke('Hi')).text).toBe('Hello there');
    expect((await all(await model.stream('Hi'))).map(({ text }) => text).join('')).toBe('Hello there');
  });
});

describe('without a port', () => {
  it('a client takes the server for fetch', async () => {
    const { clientFetch: fetch } = serverOf(await scripted());
    const openai = new OpenAI({ baseURL: 'http://dualchunk/v1', apiKey: 'none', fetch });
    const stream = await openai.chat.completions.create({ model: 'm', messages, stream: true });
    expect((await all(stream)).map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe('Hello there');
    const model = createOpenAICompatible({ name: 'dualchunk', baseURL: 'http://dualchunk/v1', fetch })('m');
    expect((await generateText({ model, prompt: 'Hi' })).text).toBe('Hello there');
  });
});

describe('the command', () => {
  const curl = async (...args: string[]) => (await promisify(execFile)('curl', ['-s', ...args])).stdout;

  it('listens, answers curl, lets an answer end and leaves', { timeout: 60_000 }, async () => {
    const args = ['dist/cli/main.js', 'serve', '--port', '0', '--context', '512', '--parallel', '1', '-t', '1'];
    const child = spawn('node', args, { env: { ...process.env, DUALCHUNK_API_KEY: 'k' } });
    let said = '';
    const at = await new Promise<string>((resolve, reject) => {
      child.stderr.on('data', (bytes) => {
        said += bytes;
        const found = /listening on (http:\/\/127\.0\.0\.1:\d+),/.exec(said);
        if (found) resolve(found[1]);
      });
      child.on('exit', () => reject(new Error(said)));
    });
    expect(await curl(`${at}/health`)).toBe('{"status":"ok"}');
    expect(await curl(`${at}/v1/models`)).toContain('API key');
    const key = ['-H', 'authorization: Bearer k'];
    const body = '{"prompt": "It was a dark night", "max_tokens": 8, "temperature": 0}';
    expect(JSON.parse(await curl(...key, `${at}/v1/completions`, '-d', body)).usage.completion_tokens).toBe(8);
    expect(await curl(`${at}/v1/models`, ...key, '-H', 'host: evil.example')).toContain('another machine');
    expect(await curl(`${at}/v1/chat/completions`, ...key, '-d', '{{')).toContain('not a JSON object');
    const long = JSON.stringify({ prompt: 'It was', max_tokens: 100, stream: true });
    const stream = curl('-N', ...key, `${at}/v1/completions`, '-d', long);
    await new Promise((resolve) => setTimeout(resolve, 300));
    child.removeAllListeners('exit');
    child.kill('SIGTERM');
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
    expect(await stream).toMatch(/data: \[DONE\]\n\n$/);
    expect(said).toMatch(/POST \/v1\/completions 200 \d+ ms, \d+ tokens read, \d+ cached, 8 written/);
    expect(said).not.toContain('dark night');
  });
});
