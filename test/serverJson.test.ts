/** Answers that are held to a schema: `response_format`, `text.format`, and calls that must be made. */
import { expect, it, onTestFinished } from 'vitest';
import { loadModel } from '../src/node.ts';
import { post, scripted, serverOf } from './serverModel.ts';

const MESSAGES = [{ role: 'user', content: 'How is it?' }];
const SCHEMA = {
  type: 'object',
  properties: { mood: { enum: ['good', 'bad'] }, degrees: { type: 'integer', minimum: -9, maximum: 40 } },
  required: ['mood', 'degrees'],
  additionalProperties: false,
};
const weather = (name: string, more: object = {}) => ({
  type: 'function',
  function: { name, parameters: SCHEMA, ...more },
});

async function open() {
  const model = await loadModel('test/golden/llama/model.gguf', { context: 512, backend: 'wasm', threads: 2 });
  onTestFinished(() => model.dispose());
  return serverOf(model);
}

it('a schema is kept to in every protocol', async () => {
  const server = await open();
  const sampled = { temperature: 2, max_tokens: 200 };
  const format = { type: 'json_schema', json_schema: { name: 'weather', schema: SCHEMA } };
  const chat = async (seed: number) => {
    const body = { messages: MESSAGES, response_format: format, seed, ...sampled };
    const { choices } = await (await post(server, '/v1/chat/completions', body)).json();
    expect(choices[0].finish_reason).toBe('stop');
    return choices[0].message.content;
  };
  const texts = await Promise.all([1, 2, 3, 4].map(chat));
  const body = { input: 'How is it?', text: { format: { type: 'json_schema', name: 'weather', schema: SCHEMA } } };
  const { output } = await (await post(server, '/v1/responses', { ...body, max_output_tokens: 200 })).json();
  for (const text of [...texts, output.at(-1).content[0].text]) {
    const { mood, degrees, ...others } = JSON.parse(text);
    expect(['good', 'bad']).toContain(mood);
    expect(Number.isInteger(degrees) && degrees >= -9 && degrees <= 40).toBe(true);
    expect(others).toEqual({});
  }
});

it('what cannot be enforced is refused by name', async () => {
  const schema = { type: 'object', patternProperties: { '^a': true } };
  const body = { messages: MESSAGES, response_format: { type: 'json_schema', json_schema: { schema } } };
  const response = await post(await open(), '/v1/chat/completions', body);
  const { error } = await response.json();
  expect([response.status, error.message]).toEqual([400, expect.stringContaining('patternProperties')]);
});

it.each([
  [
    '/v1/chat/completions',
    { messages: MESSAGES, tools: [weather('a'), weather('b')] },
    'required',
    { type: 'function', function: { name: 'b' } },
  ],
  [
    '/v1/messages',
    { messages: MESSAGES, max_tokens: 50, tools: ['a', 'b'].map((name) => ({ name, input_schema: SCHEMA })) },
    { type: 'any' },
    { type: 'tool', name: 'b' },
  ],
  [
    '/v1/responses',
    { input: 'How is it?', tools: ['a', 'b'].map((name) => ({ type: 'function', name, parameters: SCHEMA })) },
    'required',
    { type: 'function', name: 'b' },
  ],
])('a call can be made a must: %s', async (path, body, any, one) => {
  const model = await scripted({ says: '{"name": "b", "arguments": {"mood": "good", "degrees": 7}}' });
  const schemas: unknown[] = [];
  const { generate } = model;
  const server = serverOf({
    ...model,
    generate(prompt, { jsonSchema, ...options } = {}) {
      schemas.push(jsonSchema);
      return generate(prompt, options);
    },
  });
  const call = (name: string) => ({
    type: 'object',
    properties: { name: { const: name }, arguments: SCHEMA },
    required: ['name', 'arguments'],
    additionalProperties: false,
  });
  const answer = await (await post(server, path, { ...body, tool_choice: any })).text();
  expect(answer).toMatch(/"name":"b"/);
  expect(answer).toMatch(/tool_calls|tool_use|function_call/);
  await post(server, path, { ...body, tool_choice: one });
  expect(schemas).toEqual([{ anyOf: [call('a'), call('b')] }, { anyOf: [call('b')] }]);
  const stranger =
    typeof any === 'string' ? { type: 'function', name: 'c', function: { name: 'c' } } : { type: 'tool', name: 'c' };
  expect((await post(server, path, { ...body, tool_choice: stranger })).status).toBe(400);
});
