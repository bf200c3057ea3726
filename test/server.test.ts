/** The server as a function of requests: protocols, limits, errors. `serverClients.test.ts` asks it over a port. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { loadModel, UnsupportedError } from '../src/node.ts';
import type { RequestRecord } from '../src/server/app.ts';
import { eventsOf, get, type Json, post, scripted, serverOf } from './serverModel.ts';

const CHAT = '/v1/chat/completions';
const messages = [{ role: 'user', content: 'Hi' }];
const weather = { type: 'function', function: { name: 'weather', parameters: { type: 'object' } } };

describe('a chat', () => {
  it('is answered whole, with what it took', async () => {
    const server = serverOf(await scripted());
    const response = await post(server, CHAT, { messages, model: 'any', unknown: 1 });
    expect(response.status).toBe(200);
    const body = await response.json();
    expect(body).toMatchObject({ object: 'chat.completion', model: 'scripted' });
    expect(body.choices).toEqual([
      {
        index: 0,
        message: { role: 'assistant', content: 'Hello there', refusal: null },
        logprobs: null,
        finish_reason: 'stop',
      },
    ]);
    const { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details } = body.usage;
    expect(completion_tokens).toBe(4);
    expect(total_tokens).toBe(prompt_tokens + 4);
    expect(prompt_tokens_details.cached_tokens).toBe(Math.floor((prompt_tokens - 1) / 2));
  });

  it('is streamed: the role first, a reason last, then usage', async () => {
    const server = serverOf(await scripted());
    const body = { messages, stream: true, stream_options: { include_usage: true } };
    const response = await post(server, CHAT, body);
    expect(response.headers.get('content-type')).toMatch('text/event-stream');
    const events = await eventsOf(response);
    expect(events.at(-1)).toBe('[DONE]');
    const usage = events.at(-2);
    expect(usage).toMatchObject({ choices: [], usage: { completion_tokens: 4 } });
    const choices = events.slice(0, -2).map((event) => event.choices[0]);
    expect(choices[0].delta).toEqual({ role: 'assistant', content: '' });
    expect(choices.map(({ finish_reason }) => finish_reason)).toEqual([null, null, null, null, null, 'stop']);
    expect(choices.map(({ delta }) => delta.content ?? '').join('')).toBe('Hello there');
  });

  it('gives as many answers as are asked for, the prompt counted once', async () => {
    const server = serverOf(await scripted());
    const one = await (await post(server, CHAT, { messages })).json();
    const { choices, usage } = await (await post(server, CHAT, { messages, n: 3 })).json();
    expect(choices.map(({ index, message }: Json) => [index, message.content])).toEqual(
      [0, 1, 2].map((index) => [index, 'Hello there']),
    );
    expect(usage).toMatchObject({ prompt_tokens: one.usage.prompt_tokens, completion_tokens: 12 });
    const events = await eventsOf(await post(server, CHAT, { messages, n: 2, stream: true }));
    for (const index of [0, 1]) {
      const own = events.filter((event) => event.choices?.[0].index === index);
      expect(own.map((event) => event.choices[0].delta.content ?? '').join('')).toBe('Hello there');
    }
  });

  it('tells how far a prompt is read', async () => {
    const server = serverOf(await scripted());
    const events = await eventsOf(await post(server, CHAT, { messages, stream: true, return_progress: true }));
    const told = events.map((event) => event.prompt_progress).filter(Boolean);
    expect(told.length).toBe(2);
    expect(told[0].processed).toBe(told[0].cache);
    expect(told[1].processed).toBe(told[1].total);
  });

  it('tells probabilities, with bytes', async () => {
    const server = serverOf(await scripted());
    const { choices } = await (await post(server, CHAT, { messages, logprobs: true, top_logprobs: 0 })).json();
    const { content } = choices[0].logprobs;
    expect(content.length).toBe(4);
    expect(content[0]).toMatchObject({ logprob: -1, top_logprobs: [] });
    expect(new TextDecoder().decode(Uint8Array.from(content[0].bytes))).toBe(content[0].token);
  });

  it('separates reasoning, also where the prompt opens it', async () => {
    const server = serverOf(await scripted({ says: '<think>Hm.</think>\n\nYes.' }));
    const { choices } = await (await post(server, CHAT, { messages })).json();
    expect(choices[0].message).toMatchObject({ content: 'Yes.', reasoning_content: 'Hm.' });
    const opened = serverOf(await scripted({ says: 'Hm.</think>\n\nYes.' }));
    const body = { messages, stream: true, chat_template_kwargs: { think: true } };
    const deltas = (await eventsOf(await post(opened, CHAT, body))).map((event) => event.choices?.[0].delta ?? {});
    expect(deltas.map((delta) => delta.content ?? '').join('')).toBe('Yes.');
    expect(deltas.map((delta) => delta.reasoning_content ?? '').join('')).toBe('Hm.');
  });

  it('calls tools, which the template is given', async () => {
    const model = await scripted({
      says: '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>',
    });
    const server = serverOf(model);
    const { choices } = await (await post(server, CHAT, { messages, tools: [weather] })).json();
    expect(model.prompts[0]).toContain('[{"type": "function", "function": {"name": "weather"');
    expect(choices[0]).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } });
    const [call] = choices[0].message.tool_calls;
    expect(call).toMatchObject({ type: 'function', function: { name: 'weather', arguments: '{"city":"Bonn"}' } });
    const events = await eventsOf(await post(server, CHAT, { messages, tools: [weather], stream: true }));
    const calls = events.flatMap((event) => event.choices?.[0].delta.tool_calls ?? []);
    expect(calls[0]).toMatchObject({ index: 0, type: 'function', function: { name: 'weather', arguments: '' } });
    expect(calls[1]).toEqual({ index: 0, function: { arguments: '{"city":"Bonn"}' } });
    const history = [
      ...messages,
      { role: 'assistant', content: null, tool_calls: [call] },
      { role: 'tool', tool_call_id: call.id, content: 'rain' },
    ];
    await post(server, CHAT, { messages: history, tools: [weather], tool_choice: 'none' });
    expect(model.prompts.at(-1)).toContain('{"name": "weather", "arguments": {"city": "Bonn"}}');
    expect(model.prompts.at(-1)).not.toContain('"type": "function"');
  });

  it('takes parts and the role developer', async () => {
    const model = await scripted();
    const parts = [
      { role: 'developer', content: 'Be kind.' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
      },
    ];
    await post(serverOf(model), CHAT, { messages: parts });
    expect(model.prompts[0]).toContain('<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\na\nb<|im_end|>');
  });
});

const CALLS = '<think>Hm.</think>So:\n<tool_call>{"name": "weather", "arguments": {"city": "Bonn"}}</tool_call>';

describe('a completion', () => {
  const PATH = '/v1/completions';
  it('continues texts and token ids', async () => {
    const model = await scripted();
    const server = serverOf(model);
    const ids = model.encode('word');
    const { choices, usage } = await (await post(server, PATH, { prompt: ['word', ids], echo: true, n: 2 })).json();
    expect(choices.map(({ text, index }: Json) => [index, text])).toEqual(
      [0, 1, 2, 3].map((index) => [index, 'wordHello there']),
    );
    expect(usage).toMatchObject({ prompt_tokens: 2 * ids.length, completion_tokens: 16 });
    for (const prompt of ['', [], [[]], 5, [-1], [999_999], Array(17).fill('a')]) {
      expect((await post(server, PATH, { prompt })).status).toBe(400);
    }
  });

  it('is streamed, and ends with 16 tokens unless told', async () => {
    const server = serverOf(await scripted({ says: 'x'.repeat(100), size: 1 }));
    const body = { prompt: 'a', stream: true, stream_options: { include_usage: true }, logprobs: 1 };
    const events = await eventsOf(await post(server, PATH, body));
    expect(events.map((event) => event.choices?.[0]?.text ?? '').join('')).toBe('x'.repeat(16));
    expect(events.at(-3).choices[0]).toMatchObject({ finish_reason: 'length' });
    expect(events.at(-2).usage.completion_tokens).toBe(16);
    expect(events[0].choices[0].logprobs.token_logprobs).toEqual([-1]);
  });
});

describe('a message of Anthropic', () => {
  const PATH = '/v1/messages';
  const tools = [{ name: 'weather', input_schema: { type: 'object' } }];

  it('reasons, speaks and calls', async () => {
    const model = await scripted({ says: CALLS });
    const body = { messages, system: [{ type: 'text', text: 'Be kind.' }], max_tokens: 500, tools };
    const answer = await (await post(serverOf(model), PATH, body)).json();
    expect(answer).toMatchObject({ type: 'message', role: 'assistant', stop_reason: 'tool_use' });
    expect(answer.content).toMatchObject([
      { type: 'thinking', thinking: 'Hm.' },
      { type: 'text', text: 'So:' },
      { type: 'tool_use', name: 'weather', input: { city: 'Bonn' } },
    ]);
    const turns = [
      ...messages,
      { role: 'assistant', content: answer.content },
      {
        role: 'user',
        content: [
          { type: 'tool_result', tool_use_id: answer.content[2].id, content: 'rain' },
          { type: 'text', text: 'So?' },
        ],
      },
    ];
    await post(serverOf(model), PATH, { ...body, messages: turns });
    expect(model.prompts.at(-1)).toContain(
      '<|im_start|>assistant\nSo:{"name": "weather", "arguments": {"city": "Bonn"}}<|im_end|>\n' +
        '<|im_start|>tool\nrain<|im_end|>\n<|im_start|>user\nSo?<|im_end|>',
    );
  });

  it('is counted, and refused in its own shape', async () => {
    const server = serverOf(await scripted());
    const { input_tokens } = await (await post(server, `${PATH}/count_tokens`, { messages })).json();
    const { usage } = await (await post(server, PATH, { messages, max_tokens: 9 })).json();
    expect(usage.input_tokens + usage.cache_read_input_tokens).toBe(input_tokens);
    const refused = await post(server, PATH, { messages });
    expect(refused.status).toBe(400);
    expect(await refused.json()).toMatchObject({
      type: 'error',
      error: { type: 'invalid_request_error', message: expect.stringContaining('max_tokens') },
    });
  });
});

describe('a response', () => {
  const PATH = '/v1/responses';
  const tools = [{ type: 'function', name: 'weather', parameters: { type: 'object' } }];

  it('is told in typed events, numbered, each item begun and done', async () => {
    const server = serverOf(await scripted({ says: CALLS }));
    const body = { input: 'Hi', instructions: 'Be kind.', tools, stream: true };
    const events = await eventsOf(await post(server, PATH, body));
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, at) => at));
    const item = (...inner: string[]) => ['output_item.added', ...inner, 'output_item.done'];
    const part = (name: string) => item('content_part.added', `${name}.delta`, `${name}.done`, 'content_part.done');
    const types = events.map(({ type }) => type.replace('response.', ''));
    expect(types.filter((type, at) => type !== types[at - 1])).toEqual([
      ...['created', 'in_progress', ...part('reasoning_text'), ...part('output_text')],
      ...[...item('function_call_arguments.delta', 'function_call_arguments.done'), 'completed'],
    ]);
    const { response } = events.at(-1);
    expect(response.output.map(({ type }: Json) => type)).toEqual(['reasoning', 'message', 'function_call']);
    const whole = await (await post(server, PATH, { ...body, stream: false })).json();
    expect(whole.output[1].content[0].text).toBe('So:');
  });

  it('takes a conversation as items', async () => {
    const model = await scripted();
    const input = [
      { role: 'user', content: [{ type: 'input_text', text: 'Hi' }] },
      { type: 'reasoning', summary: [] },
      { type: 'function_call', call_id: 'c', name: 'weather', arguments: '{"city": "Bonn"}' },
      { type: 'function_call_output', call_id: 'c', output: 'rain' },
    ];
    expect((await post(serverOf(model), PATH, { input, tools })).status).toBe(200);
    expect(model.prompts[0]).toContain(
      '<|im_start|>assistant\n{"name": "weather", "arguments": {"city": "Bonn"}}<|im_end|>\n<|im_start|>tool\nrain',
    );
    for (const wrong of [
      { previous_response_id: 'x' },
      { tools: [{ type: 'web_search' }] },
      { input: [{ type: 'x' }] },
    ]) {
      expect((await post(serverOf(model), PATH, { input, ...wrong })).status).toBe(400);
    }
  });
});

it('tokens are told and taken', async () => {
  const server = serverOf(await scripted());
  const { tokens } = await (await post(server, '/tokenize', { content: 'some words' })).json();
  expect(await (await post(server, '/detokenize', { tokens })).json()).toEqual({ content: 'some words' });
  expect((await post(server, '/v1/embeddings', { input: 'x' })).status).toBe(501);
});

describe('what is refused', async () => {
  const server = serverOf(await scripted({ context: 64 }));
  it.each<[string, object | string, number, string, string?]>([
    ['no JSON', '{"messages":', 400, 'the body is not a JSON object'],
    ['a list', '[]', 400, 'the body is not a JSON object'],
    ['no messages', {}, 400, 'messages: ', 'messages'],
    ['no message', { messages: [] }, 400, 'messages: ', 'messages'],
    ['a strange role', { messages: [{ role: 'pope', content: '' }] }, 400, 'messages[0].role: ', 'messages[0].role'],
    [
      'a picture',
      { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
      400,
      'a part of type "image_url"',
    ],
    ['a text for a number', { messages, temperature: '1' }, 400, 'temperature: ', 'temperature'],
    ['too hot', { messages, temperature: 101 }, 400, 'temperature: ', 'temperature'],
    ['no tokens', { messages, max_tokens: 0 }, 400, 'max_tokens: ', 'max_tokens'],
    ['many answers', { messages, n: 17 }, 400, 'n: ', 'n'],
    ['many stops', { messages, stop: Array(17).fill('x') }, 400, 'stop: wanted a text or', 'stop'],
    ['an empty stop', { messages, stop: '' }, 400, 'stop: ', 'stop'],
    ['a strange bias', { messages, logit_bias: { x: 1 } }, 400, 'logit_bias', 'logit_bias.x'],
    ['a large bias', { messages, logit_bias: { 5: 101 } }, 400, 'logit_bias.5: ', 'logit_bias.5'],
    ['a token that is not', { messages, logit_bias: { 999999: 1 } }, 400, 'logit_bias has the token 999999'],
    [
      'no schema',
      { messages, response_format: { type: 'json_schema' } },
      400,
      'response_format.json_schema is missing',
    ],
    ['a choice of no tools', { messages, tool_choice: 'required' }, 400, 'tool_choice needs tools'],
    ['a choice that is none', { messages, tools: [weather], tool_choice: 'maybe' }, 400, 'tool_choice is "maybe"'],
    ['a variable that is taken', { messages, chat_template_kwargs: { messages: [] } }, 400, '"messages" has a meaning'],
  ])('%s', async (_name, body, status, message, param) => {
    const response = await post(server, CHAT, body);
    expect(response.status).toBe(status);
    const { error } = await response.json();
    expect(error.message).toContain(message);
    expect(error.type).toBe('invalid_request_error');
    if (param !== undefined) expect(error.param).toBe(param);
  });

  it('a prompt that leaves no room for an answer', async () => {
    const response = await post(server, CHAT, { messages: [{ role: 'user', content: 'word '.repeat(100) }] });
    expect(response.status).toBe(400);
    const { error } = await response.json();
    expect(error).toMatchObject({ code: 400, type: 'exceed_context_size_error', n_ctx: 64 });
    expect(error.n_prompt_tokens).toBeGreaterThan(64);
  });

  it('a body that is too long, whether it says so or not', async () => {
    const small = serverOf(await scripted(), { maxBodyBytes: 100 });
    const long = JSON.stringify({ messages, user: 'x'.repeat(200) });
    expect((await post(small, CHAT, long)).status).toBe(413);
    const body = new Blob([long]).stream();
    expect((await post(small, CHAT, '', { body, duplex: 'half' } as RequestInit)).status).toBe(413);
  });

  it('other routes and methods', async () => {
    expect((await post(server, '/v1/nothing', {})).status).toBe(404);
    const response = await get(server, CHAT);
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe('POST');
  });

  it('all but health while the model loads, and then nothing', async () => {
    let arrive = (_: Awaited<ReturnType<typeof scripted>>) => {};
    const loading = serverOf(new Promise<Awaited<ReturnType<typeof scripted>>>((resolve) => (arrive = resolve)));
    for (const response of [await get(loading, '/health'), await post(loading, CHAT, { messages })]) {
      expect(response.status).toBe(503);
      const { error } = await response.json();
      expect(error).toMatchObject({ code: 503, message: 'Loading model', type: 'unavailable_error' });
    }
    arrive(await scripted());
    await sleep(1);
    expect((await get(loading, '/health')).status).toBe(200);
    expect((await post(loading, CHAT, { messages })).status).toBe(200);
  });
});

describe('who may ask', () => {
  it('those with a key', async () => {
    const server = serverOf(await scripted(), { apiKeys: ['one', 'two'] });
    const status = async (headers: Record<string, string>) => (await get(server, '/v1/models', headers)).status;
    expect(await status({})).toBe(401);
    expect(await status({ authorization: 'Bearer three' })).toBe(401);
    expect(await status({ authorization: 'Bearer two' })).toBe(200);
    expect(await status({ 'x-api-key': 'one' })).toBe(200);
    expect((await get(server, '/health')).status).toBe(200);
  });

  it('those who call this machine by its own name', async () => {
    const server = serverOf(await scripted(), { isLoopback: true });
    for (const host of ['localhost:8080', '127.0.0.1', '[::1]:80']) {
      expect((await get(server, '/v1/models', { host })).status).toBe(200);
    }
    for (const host of ['evil.example', '127.0.0.1.evil.example', 'localhost.evil']) {
      expect((await get(server, '/v1/models', { host })).status).toBe(403);
    }
  });

  it('pages of allowed origins', async () => {
    const closed = serverOf(await scripted());
    expect((await get(closed, '/v1/models', { origin: 'http://a.example' })).status).toBe(403);
    const own = { origin: 'http://127.0.0.1:8080' };
    expect((await get(closed, '/v1/models', own)).status).toBe(403);
    expect((await get(serverOf(await scripted(), { isLoopback: true }), '/v1/models', own)).status).toBe(200);
    const response = await get(closed, '/v1/models');
    expect(response.headers.get('access-control-allow-origin')).toBeNull();
    const open = serverOf(await scripted(), { cors: ['http://a.example'], apiKeys: ['k'] });
    const headers = { origin: 'http://a.example', authorization: 'Bearer k' };
    expect((await get(open, '/v1/models', headers)).headers.get('access-control-allow-origin')).toBe(headers.origin);
    expect((await get(open, '/v1/models', { ...headers, origin: 'http://b.example' })).status).toBe(403);
    const asked = new Request(`http://127.0.0.1:8080${CHAT}`, {
      method: 'OPTIONS',
      headers: { origin: 'http://a.example', 'access-control-request-method': 'POST' },
    });
    expect((await open.fetch(asked)).status).toBe(204);
  });
});

describe('many at once', () => {
  it('wait for a place, and are refused where there is none', async () => {
    const model = await scripted({ delay: 20 });
    const server = serverOf(model, { sequences: 1, queue: 1 });
    const running = [post(server, CHAT, { messages }), post(server, CHAT, { messages })];
    await sleep(10);
    const refused = await post(server, CHAT, { messages });
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).toBe('1');
    expect((await Promise.all(running)).map(({ status }) => status)).toEqual([200, 200]);
    expect((await post(server, CHAT, { messages })).status).toBe(200);
  });

  it('who leaves makes place, in the middle of a stream and before an answer', async () => {
    const model = await scripted({ says: 'x'.repeat(600), delay: 20 });
    const server = serverOf(model, { sequences: 1, queue: 0 });
    const reader = (await post(server, CHAT, { messages, stream: true })).body?.getReader();
    await reader?.read();
    expect(model.active()).toBe(1);
    await reader?.cancel();
    await sleep(5);
    expect(model.active()).toBe(0);
    const leave = new AbortController();
    const left = post(server, CHAT, { messages }, { signal: leave.signal });
    await sleep(5);
    expect(model.active()).toBe(1);
    leave.abort();
    expect((await left).status).toBe(499);
    expect(model.active()).toBe(0);
    expect((await post(server, CHAT, { messages, max_tokens: 1 })).status).toBe(200);
  });

  it.each([CHAT, '/v1/responses', '/v1/messages'])('who leaves at once makes place too: %s', async (path) => {
    const server = serverOf(await scripted({ delay: 20 }), { sequences: 1, queue: 0 });
    const body = { messages, input: 'Hi', max_tokens: 9, stream: true };
    for (let n = 0; n < 3; n++) {
      const response = await post(server, path, body);
      expect(response.status).toBe(200);
      await response.body?.cancel();
    }
  });

  it('a client that reads nothing is not waited for', async () => {
    const model = await scripted({ says: 'x'.repeat(3000) });
    const server = serverOf(model, { sequences: 1, queue: 0, keepAliveMs: 10, stallMs: 50 });
    const response = await post(server, CHAT, { messages, stream: true });
    await sleep(20);
    expect((await post(server, CHAT, { messages })).status).toBe(429);
    await sleep(80);
    expect(model.active()).toBe(0);
    expect((await post(server, CHAT, { messages, max_tokens: 1 })).status).toBe(200);
    expect((await eventsOf(response)).at(-1).error.message).toContain('reads nothing');
  });

  it('a stream that is silent says so', async () => {
    const server = serverOf(await scripted({ delay: 50, says: 'a' }), { keepAliveMs: 10 });
    expect(await (await post(server, CHAT, { messages, stream: true })).text()).toMatch(
      /^(data.*\n\n)+(: keep-alive\n\n)+data/,
    );
  });
});

describe('an end', () => {
  it('waits for answers, and takes no more', async () => {
    const server = serverOf(await scripted({ delay: 5 }));
    const running = post(server, CHAT, { messages });
    await sleep(5);
    const closed = server.close(1000);
    expect((await post(server, CHAT, { messages })).status).toBe(503);
    await closed;
    expect((await running).status).toBe(200);
  });

  it('ends those that go on, with an error', async () => {
    const server = serverOf(await scripted({ delay: 10, says: 'x'.repeat(1000) }));
    const stream = await post(server, CHAT, { messages, stream: true });
    const whole = post(server, CHAT, { messages });
    await sleep(5);
    await server.close(20);
    expect((await whole).status).toBe(503);
    expect((await eventsOf(stream)).at(-1).error.message).toBe('the server is shutting down');
  });

  it('of a failed answer is an error, and no text is told to anybody', async () => {
    const faults: unknown[] = [];
    const records: RequestRecord[] = [];
    const options = {
      onFault: (error: unknown) => faults.push(error),
      onRequest: (r: RequestRecord) => records.push(r),
    };
    const broken = serverOf(await scripted({ fails: new Error('secret') }), options);
    expect(await (await post(broken, CHAT, { messages })).json()).toMatchObject({ error: { type: 'server_error' } });
    const events = await eventsOf(await post(broken, CHAT, { messages, stream: true }));
    expect(events.at(-1)).toMatchObject({ error: { message: 'the server met an unexpected fault' } });
    expect(faults.length).toBe(2);
    const damaged = serverOf(await scripted({ fails: new UnsupportedError('weights may be damaged') }), options);
    expect(await (await post(damaged, CHAT, { messages })).json()).toMatchObject({
      error: { message: 'weights may be damaged' },
    });
    expect(records.map(({ status }) => status)).toEqual([500, 200, 500]);
  });
});

describe('a real model', async () => {
  const model = await loadModel('test/golden/llama/model.gguf', { context: 256, sequences: 2, precision: 'f32' });
  const records: RequestRecord[] = [];
  const server = serverOf(model, { sequences: 2, onRequest: (record) => records.push(record) });
  afterAll(() => model.dispose());

  it('says over HTTP what it says itself, and finds a prompt again', async () => {
    let text = '';
    for await (const piece of model.generate(messages as never, { temperature: 0, maxTokens: 12 })) text += piece.text;
    const body = { messages, temperature: 0, max_tokens: 12, logprobs: true, top_logprobs: 2 };
    const { choices, usage } = await (await post(server, CHAT, body)).json();
    expect(choices[0].message.content).toBe(text);
    expect(choices[0].logprobs.content[0].top_logprobs.length).toBe(2);
    expect(usage.prompt_tokens_details.cached_tokens).toBe(usage.prompt_tokens - 1);
    expect(records.at(-1)).toMatchObject({ method: 'POST', path: CHAT, status: 200, usage: { completionTokens: 12 } });
    const metrics = await (await get(server, '/metrics')).text();
    expect(metrics).toMatch('dualchunk_generated_tokens_total 12');
    expect(metrics).toMatch('dualchunk_running 0');
  });

  it('tells which stop text ended an answer', async () => {
    const body = { messages, temperature: 0, max_tokens: 12 };
    const { content, stop_reason } = await (await post(server, '/v1/messages', body)).json();
    expect(stop_reason).toBe('max_tokens');
    const stop = content[0].text.slice(6, 9);
    const stopped = await (await post(server, '/v1/messages', { ...body, stop_sequences: ['\u0000', stop] })).json();
    expect(stopped).toMatchObject({ stop_reason: 'stop_sequence', stop_sequence: stop });
    expect(stopped.content[0]?.text ?? '').toBe(content[0].text.slice(0, content[0].text.indexOf(stop)));
  });
});
