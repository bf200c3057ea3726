/**
 * What is fuzzed. A target makes one input from random numbers and tries it: it returns what became of it in a word, or throws.
 * A `FormatError` or `UnsupportedError` of one harmless line is a good answer; all else that is thrown is a finding.
 */
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openFolder } from '../../src/cli/evalFolder.ts';
import { decodeText } from '../../src/cli/text.ts';
import { UnsupportedError } from '../../src/errors.ts';
import type { Random } from '../../src/eval/random.ts';
import type { SampleRecord } from '../../src/eval/records.ts';
import { MODEL_TYPES } from '../../src/families.ts';
import { openModel, type TextOptions } from '../../src/node.ts';
import { MARK } from '../../src/tokenizer/literal.ts';
import { makeTokenizer, type Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { post, scripted, serverOf } from '../serverModel.ts';
import { mutateBytes, mutateJson, strangeText } from './mutate.ts';
import { trySchema } from './schemas.ts';
import { randomTemplate } from './templates.ts';

export type Target = (random: Random) => Promise<string>;

const GOLDEN = join(import.meta.dirname, '../golden');
const bytesOf = (path: string) => new Uint8Array(readFileSync(path));
const jsonOf = (path: string) => JSON.parse(readFileSync(path, 'utf8'));

/** A folder for one input. */
async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'dualchunk-fuzz-'));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What opens must load, generate what is text, and take its own text apart and together again; or refuse. */
async function tryModel(path: string, random: Random, options: TextOptions = {}): Promise<string> {
  const file = await openModel(path);
  try {
    tryTokenizer(file.tokenizer, random);
    if (file.config.hiddenSize * file.config.vocabSize > 2 ** 22) return 'large';
    const model = await file.load({ context: 16, backend: 'reference' });
    try {
      let text = '';
      const prompt = random.pick<string | number[]>(['a', [0]]);
      for await (const piece of model.generate(prompt, { maxTokens: 2, temperature: 0, ...options }))
        text += piece.text;
      return typeof text === 'string' ? 'generates' : 'nothing';
    } finally {
      await model.dispose();
    }
  } finally {
    await file.close();
  }
}

function tryTokenizer(tokenizer: Tokenizer, random: Random): void {
  const text = strangeText(random);
  const ids = tokenizer.encode(text);
  const stranger = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= tokenizer.vocabSize);
  if (stranger !== undefined) throw new Error(`encode gave ${stranger}, which is no id`);
  const decoder = tokenizer.streamDecoder();
  const streamed = ids.map((id) => decoder.push(id)).join('') + decoder.flush();
  if (streamed !== tokenizer.decode(ids)) throw new Error('the pieces of a stream do not join to the decoded text');
  const nTokens = random.integer(0, 40);
  const prefix = tokenizer.encodePrefix(text, nTokens).ids;
  if (JSON.stringify(prefix) !== JSON.stringify(ids.slice(0, nTokens))) throw new Error('encodePrefix is no prefix');
}

const gguf: Target = (random) =>
  inFolder((folder) => {
    const path = join(folder, 'model.gguf');
    writeFileSync(path, mutateBytes(bytesOf(join(GOLDEN, random.pick(MODEL_TYPES), 'model.gguf')), random));
    return tryModel(path, random);
  });

/** One of a folder's files is damaged, as bytes or in its JSON. */
const folder: Target = (random) =>
  inFolder((folder) => {
    cpSync(join(GOLDEN, random.pick(MODEL_TYPES)), folder, { recursive: true });
    const names = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'generation_config.json'];
    const more = ['special_tokens_map.json', 'model.safetensors', 'model.safetensors.index.json'];
    const path = join(folder, random.pick([...names, ...more].filter((name) => existsSync(join(folder, name)))));
    const isJson = path.endsWith('.json') && random.uniform() < 0.8;
    writeFileSync(path, isJson ? JSON.stringify(mutateJson(jsonOf(path), random)) : mutateBytes(bytesOf(path), random));
    return tryModel(folder, random);
  });

const tokenizer: Target = async (random) => {
  const base = join(GOLDEN, random.pick(MODEL_TYPES));
  const json = mutateJson(jsonOf(join(base, 'tokenizer.json')), random) as Record<string, unknown>;
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return 'no object';
  tryTokenizer(makeTokenizer(json, jsonOf(join(base, 'tokenizer_config.json')), 'fuzz'), random);
  return 'encodes';
};

/** A tokenizer whose template is tried. */
const plain = jsonOf(join(GOLDEN, 'qwen3/tokenizer.json'));

const template: Target = async (random) => {
  const tokenizer = makeTokenizer(plain, { chat_template: randomTemplate(random) }, 'fuzz');
  const messages = Array.from({ length: random.integer(1, 3) }, () => ({
    role: random.pick(['system', 'user', 'assistant'] as const),
    content: strangeText(random).replaceAll(MARK, '').toWellFormed(),
  }));
  const text = tokenizer.applyChatTemplate(messages).normalize('NFC');
  // The templates of the grammar write no control token, and decoding leaves out those that messages could make.
  const read = tokenizer.decode(tokenizer.encodeChat(messages));
  if (read === text) return 'renders';
  let at = 0;
  while (read[at] === text[at]) at++;
  const [given, wanted] = [read, text].map((one) => JSON.stringify(one.slice(Math.max(0, at - 40), at + 40)));
  throw new Error(`encodeChat reads ${given} where the template says ${wanted}`);
};

const SAMPLE: SampleRecord = {
  ...{ task: 'perplexity', model: 'm', method: 'dca', length: 1024, depth: 0.5, sample: '0', seed: 0, setup: 's' },
  ...{ scores: { nll: 30, tokens: 10 }, buckets: [[0, 30, 100, 10]], seconds: 1 },
};
const FACTS = {
  ...{ dualchunk: '0', date: 'd', hardware: 'h', runtime: 'r', seed: 0 },
  ...{ models: { m: { layers: 2 } }, methods: { dca: 'words' }, tasks: { perplexity: { samples: 1 } } },
};

const samples: Target = (random) =>
  inFolder(async (folder) => {
    const good = JSON.stringify(SAMPLE);
    const bad =
      random.uniform() < 0.7
        ? JSON.stringify(mutateJson(SAMPLE, random))
        : new TextDecoder().decode(mutateBytes(new TextEncoder().encode(good), random));
    writeFileSync(join(folder, 'samples.jsonl'), `${good}\n${bad}\n`);
    writeFileSync(join(folder, 'facts.json'), JSON.stringify(mutateJson(FACTS, random)));
    const write = process.stderr.write;
    process.stderr.write = () => true; // it tells of what it writes
    try {
      await openFolder(folder).finish(FACTS);
    } finally {
      process.stderr.write = write;
      if (!readFileSync(join(folder, 'samples.jsonl'), 'utf8').startsWith(`${good}\n`)) {
        // biome-ignore lint/correctness/noUnsafeFinally: a lost line counts for more than what was thrown
        throw new Error('a good line was lost');
      }
    }
    return 'reports';
  });

const text: Target = async (random) => {
  const encodings = ['utf8', 'utf16le', 'latin1'] as const;
  const bytes = new Uint8Array(Buffer.from(strangeText(random), random.pick(encodings)));
  decodeText(random.uniform() < 0.5 ? bytes : mutateBytes(bytes, random), 'fuzz', random.uniform() < 0.5);
  return 'reads';
};

/** Options of any type and name: they mean something, or are refused. */
const options: Target = (random) => {
  const names = ['maxTokens', 'temperature', 'topK', 'topP', 'minP', 'seed', 'stop', 'stopTokens', 'logprobs'];
  const name = random.pick([...names, 'max_tokens', 'top_p', 'signal', 'onProgress', 'templateVariables', 'x']);
  const value = random.pick<unknown>([
    0,
    1,
    -1,
    0.5,
    NaN,
    Infinity,
    '3',
    '',
    'a',
    null,
    true,
    [],
    [1],
    {},
    new Set([1]),
  ]);
  return tryModel(join(GOLDEN, 'llama'), random, { [name]: value } as TextOptions).then((outcome) => {
    if (['max_tokens', 'top_p', 'x'].includes(name)) throw new Error(`the unknown option ${name} was taken`);
    return outcome;
  });
};

const CHAT = {
  messages: [
    { role: 'developer', content: 'a' },
    { role: 'user', content: [{ type: 'text', text: 'a' }] },
    { role: 'assistant', content: null, tool_calls: [{ id: 'c', function: { name: 'f', arguments: '{"a": 1}' } }] },
    { role: 'tool', tool_call_id: 'c', content: 'b' },
  ],
  tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'object' } } }],
  ...{ n: 1, max_tokens: 3, stop: ['a'], seed: 1, temperature: 1, top_p: 1, top_k: 4, logit_bias: { 1: 1 } },
  ...{
    logprobs: true,
    top_logprobs: 1,
    stream_options: { include_usage: true },
    chat_template_kwargs: { think: true },
  },
};
const MESSAGES = {
  system: [{ type: 'text', text: 'a' }],
  messages: [
    { role: 'user', content: 'a' },
    { role: 'assistant', content: [{ type: 'tool_use', id: 'c', name: 'f', input: { a: 1 } }] },
    { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'c', content: 'b' }] },
  ],
  ...{ max_tokens: 3, tools: [{ name: 'f', input_schema: { type: 'object' } }], stop_sequences: ['a'] },
};
const INPUT = {
  input: [
    { role: 'user', content: [{ type: 'input_text', text: 'a' }] },
    { type: 'function_call', call_id: 'c', name: 'f', arguments: '{}' },
    { type: 'function_call_output', call_id: 'c', output: 'b' },
  ],
  ...{ instructions: 'a', max_output_tokens: 3, tools: [{ type: 'function', name: 'f' }], tool_choice: 'auto' },
};
const REQUESTS: readonly [path: string, body: object][] = [
  ['/v1/chat/completions', CHAT],
  ['/v1/completions', { prompt: ['a', [1]], echo: true, max_tokens: 2, n: 2, logit_bias: { 1: 1 } }],
  ['/v1/responses', INPUT],
  ['/v1/messages', MESSAGES],
  ['/v1/messages/count_tokens', MESSAGES],
  ['/tokenize', { content: 'a', add_special: true }],
  ['/detokenize', { tokens: [1, 2] }],
];
const faults: unknown[] = [];
const server = serverOf(await scripted({ says: '<think>a</think>b<tool_call>{"name": "f"}</tool_call>' }), {
  onFault: (fault) => faults.push(fault),
});

/** Requests of any shape are answered or refused, and are never the server's fault. */
const requests: Target = async (random) => {
  const [path, body] = random.pick(REQUESTS);
  const mutated = JSON.stringify({ ...(mutateJson(body, random) as object), stream: random.uniform() < 0.5 });
  const response = await post(server, path, mutated);
  const text = await response.text();
  if (faults.length > 0) throw faults.pop();
  if (![200, 400, 413].includes(response.status)) throw new Error(`${response.status} for ${path}: ${text}`);
  return String(response.status);
};

export const TARGETS: Readonly<Record<string, Target>> = {
  ...{ gguf, folder, tokenizer, template, samples, text, options, requests, schema: trySchema },
};

/** Whether a thrown error is a good answer to bad input. */
export function isGoodAnswer(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const isOurs = error instanceof UnsupportedError || error.name === 'FormatError';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what must not be there
  return isOurs && error.message.length < 4000 && !/[\u0000-\u001f\u007f-\u009f]/.test(error.message);
}
