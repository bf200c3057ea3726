import { describe, expect, it } from 'vitest';
import { makeAnswerReader, type Part } from './toolCalls.ts';

const TOOLS = new Set(['weather', 'time']);
const CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>';
const WEATHER = { type: 'toolCall', name: 'weather', arguments: '{"city":"Bonn"}' };
const text = (text: string) => ({ type: 'text', text });
const reasoning = (text: string) => ({ type: 'reasoning', text });

/** Joins what is of one kind and follows each other. */
function joined(parts: readonly Part[]): Part[] {
  const all: Part[] = [];
  for (const part of parts) {
    const last = all.at(-1);
    if (last && part.type !== 'toolCall' && last.type === part.type) last.text += part.text;
    else all.push({ ...part });
  }
  return all;
}

/** What an answer says, in pieces of every size. */
function read(answer: string, tools?: ReadonlySet<string>, isThinking = false): Part[] {
  const readings = [1, 2, 3, 7, answer.length].map((size) => {
    const reader = makeAnswerReader(isThinking, tools);
    const parts: Part[] = [];
    for (let at = 0; at < answer.length; at += size) parts.push(...reader.push(answer.slice(at, at + size)));
    return joined([...parts, ...reader.end()]);
  });
  for (const reading of readings) expect(reading).toEqual(readings[0]);
  return readings[0];
}

describe('an answer', () => {
  it.each<[string, string, object[], ReadonlySet<string>?, boolean?]>([
    ['is text', ' Hello <b>there</b>\n', [text(' Hello <b>there</b>\n')]],
    ['has reasoning in front', '<think>\nWell.\n</think>\n\nYes.', [reasoning('Well.'), text('Yes.')]],
    ['goes on with reasoning', '\nWell.\n</think>\n\nYes.', [reasoning('Well.'), text('Yes.')], undefined, true],
    ['reasons to its end', '<think>Well, <', [reasoning('Well, <')]],
    ['does not reason', '<think></think>Yes', [text('Yes')]],
    ['reasons at the beginning alone', 'A <think>b</think>', [text('A <think>b</think>')]],
    ['reasons once', '<think>a</think><think>b</think>', [reasoning('a'), text('<think>b</think>')]],
    ['calls', CALL, [WEATHER], TOOLS],
    ['calls twice behind text', `So:\n${CALL}\n${CALL}\n`, [text('So:'), WEATHER, WEATHER], TOOLS],
    ['reasons and calls', `<think>Hm</think>\n\n${CALL}`, [reasoning('Hm'), WEATHER], TOOLS],
    ['calls and ends early', CALL.slice(0, -12), [WEATHER], TOOLS],
    ['calls wrongly', '<tool_call>{"name"</tool_call> no', [text('<tool_call>{"name"</tool_call> no')], TOOLS],
    ['may not call', CALL, [text(CALL)]],
    ['is a call of Llama 3', '{"name": "weather", "parameters": {"city": "Bonn"}}', [WEATHER], TOOLS],
    [
      'is two calls of Llama 3',
      '{"name": "weather", "parameters": {"city": "Bonn"}}; {"name": "time", "parameters": {}}',
      [WEATHER, { type: 'toolCall', name: 'time', arguments: '{}' }],
      TOOLS,
    ],
    ['is JSON of another kind', '{"name": "Ada", "age": 36}', [text('{"name": "Ada", "age": 36}')], TOOLS],
    ['is empty', '', []],
  ])('%s', (_name, answer, parts, tools, isThinking) => {
    expect(read(answer, tools, isThinking)).toEqual(parts);
  });

  it('is given as it comes', () => {
    const reader = makeAnswerReader(false, TOOLS);
    expect(reader.push('Hello, wor')).toEqual([text('Hello, wor')]);
    expect(reader.push('ld <to')).toEqual([text('ld')]);
    expect(reader.push('ad')).toEqual([text(' <toad')]);
  });
});
