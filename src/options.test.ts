import { describe, expect, it } from 'vitest';
import { UnsupportedError } from './errors.ts';
import { checkOptions, idSet } from './options.ts';

type Call = Parameters<typeof checkOptions>[0];

describe('values', () => {
  it.each<[Call, Record<string, unknown>, string]>([
    ['generate', { maxTokens: '4' }, 'maxTokens is "4"; wanted a whole number of at least 1'],
    ['generate', { maxTokens: 1.5 }, 'maxTokens is 1.5; wanted a whole number of at least 1'],
    ['generate', { maxTokens: NaN }, 'maxTokens is NaN; wanted a whole number of at least 1'],
    ['generate', { maxTokens: 0 }, 'maxTokens is 0; wanted a whole number of at least 1'],
    ['generate', { maxTokens: null }, 'maxTokens is null; wanted a whole number of at least 1'],
    ['generate', { maxTokens: 4n }, 'maxTokens is 4n; wanted a whole number of at least 1'],
    ['generate', { logprobs: 1.5 }, 'logprobs is 1.5; wanted a whole number of at least 0'],
    ['generate', { logprobs: true }, 'logprobs is true; wanted a whole number of at least 0'],
    ['generate', { stop: 5 }, 'stop is 5; wanted a text or a list of texts, none of them empty'],
    ['generate', { stop: '' }, 'stop is ""; wanted a text or a list of texts, none of them empty'],
    ['generate', { stop: ['a', 5] }, 'stop is a list; wanted a text or a list of texts, none of them empty'],
    ['generate', { stopTokens: 5 }, 'stopTokens is 5; wanted token ids, as a list or a set'],
    ['generate', { stopTokens: '5' }, 'stopTokens is "5"; wanted token ids, as a list or a set'],
    ['generate', { temperature: -0.1 }, 'temperature is -0.1; wanted a number from 0 to 100'],
    ['generate', { temperature: NaN }, 'temperature is NaN; wanted a number from 0 to 100'],
    ['generate', { temperature: '0.5' }, 'temperature is "0.5"; wanted a number from 0 to 100'],
    ['generate', { topK: -1 }, 'topK is -1; wanted a whole number of at least 0'],
    ['generate', { topK: 2.5 }, 'topK is 2.5; wanted a whole number of at least 0'],
    ['generate', { topP: 1.01 }, 'topP is 1.01; wanted a number from 0 to 1'],
    ['generate', { minP: -1 }, 'minP is -1; wanted a number from 0 to 1'],
    ['generate', { repetitionPenalty: 0 }, 'repetitionPenalty is 0; wanted a number from 0.01 to 100'],
    ['generate', { frequencyPenalty: 3 }, 'frequencyPenalty is 3; wanted a number from -2 to 2'],
    ['generate', { presencePenalty: -3 }, 'presencePenalty is -3; wanted a number from -2 to 2'],
    [
      'generate',
      { logitBias: { 5: 101 } },
      'logitBias is an object (Object); wanted an object of numbers from -100 to',
    ],
    ['generate', { logitBias: { a: 1 } }, 'logitBias is an object (Object); wanted an object of numbers from -100 to'],
    ['generate', { seed: 0.5 }, `seed is 0.5; wanted a whole number from ${1 - 2 ** 53} to ${2 ** 53 - 1}`],
    ['generate', { seed: 2 ** 53 }, `seed is ${2 ** 53}; wanted a whole number from ${1 - 2 ** 53} to ${2 ** 53 - 1}`],
    ['generate', { templateVariables: [] }, 'templateVariables is a list; wanted an object, such as'],
    ['generate', { signal: new AbortController() }, 'signal is an object (AbortController); wanted an AbortSignal'],
    ['score', { onProgress: 'x' }, 'onProgress is "x"; wanted a function'],
    ['load', { context: 0 }, 'context is 0; wanted a whole number of at least 1'],
    ['load', { method: 5 }, 'method is 5; wanted a text such as "dca"'],
    ['load', { scale: 'x' }, 'scale is "x"; wanted none, yarn or logn'],
    ['load', { backend: 'cuda' }, 'backend is "cuda"; wanted auto, wasm, webgpu or reference'],
    ['load', { threads: 257 }, 'threads is 257; wanted a whole number from 1 to 256'],
    ['load', { precision: 'int4' }, 'precision is "int4"; wanted int8, int16 or f32'],
    ['load', { kvType: 'toString' }, 'kvType is "toString"; wanted f32, bf16 or q8_0'],
  ])('%s refuses %o', (call, options, message) => {
    const check = () => checkOptions(call, options);
    expect(check).toThrow(message);
    expect(check).toThrow(UnsupportedError);
  });

  it.each<[Call, Record<string, unknown>]>([
    ['generate', { maxTokens: 1, logprobs: 0, stop: 'x', stopTokens: [0], temperature: 0, topK: 0, topP: 0, seed: -1 }],
    ['generate', { stop: ['\n'], stopTokens: new Set([1]), templateVariables: {}, maxTokens: undefined }],
    ['load', { context: 1, method: 'none', threads: 256, signal: new AbortController().signal, onProgress: () => {} }],
    ['score', {}],
  ])('%s takes %o', (call, options) => {
    expect(() => checkOptions(call, options)).not.toThrow();
  });

  it.each([null, 5, 'maxTokens', [], new Map()])('options that are %o', (options) => {
    expect(() => checkOptions('generate', options)).toThrow('the options of generate are');
  });

  it('ids are taken once, and looked at', () => {
    expect(idSet([3, 1, 3].values())).toEqual(new Set([3, 1]));
    for (const id of ['1', -1, 0.5, null]) expect(() => idSet([1, id])).toThrow('wanted token ids');
  });
});

describe('names', () => {
  it.each<[Call, string, string]>([
    ['generate', 'max_tokens', 'maxTokens'],
    ['generate', 'max_new_tokens', 'maxTokens'],
    ['generate', 'n_predict', 'maxTokens'],
    ['generate', 'maxToken', 'maxTokens'],
    ['generate', 'top_p', 'topP'],
    ['generate', 'temp', 'temperature'],
    ['generate', 'temprature', 'temperature'],
    ['generate', 'stopSequences', 'stop'],
    ['generate', 'repeat_penalty', 'repetitionPenalty'],
    ['generate', 'frequency_penalty', 'frequencyPenalty'],
    ['generate', 'logit_bias', 'logitBias'],
    ['load', 'n_ctx', 'context'],
    ['load', 'contextSize', 'context'],
    ['load', 'device', 'backend'],
    ['load', 'kv_type', 'kvType'],
    ['score', 'onprogress', 'onProgress'],
  ])('%s: %s is %s', (call, name, right) => {
    expect(() => checkOptions(call, { [name]: 1 })).toThrow(
      new UnsupportedError(`${call} has no option "${name}"; wanted ${right}`),
    );
  });

  it('that are like none are answered with all', () => {
    expect(() => checkOptions('score', { colour: 1 })).toThrow(
      'score has no option "colour"; wanted signal, onProgress',
    );
    expect(() => checkOptions('score', { maxTokens: 1 })).toThrow('wanted signal, onProgress');
    expect(() => checkOptions('load', { constructor: 1 })).toThrow(
      'load has no option "constructor"; wanted context, ',
    );
  });
});
