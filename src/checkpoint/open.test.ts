import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  f32Bytes,
  ggufBytes,
  memoryBackend,
  numbersOf,
  safetensorsBytes,
  tinyLlama,
} from '../../test/checkpointBytes.ts';
import { FormatError } from '../errors.ts';
import { MODEL_TYPES } from '../families.ts';
import { node } from '../platform/node.ts';
import type { ModelSource } from '../platform/platform.ts';
import { openCheckpoint } from './open.ts';
import { loadWeights } from './weights.ts';

const open = (source: ModelSource) => openCheckpoint(source, node);

vi.mock('../tokenizer/ggufTokenizer.ts', () => ({
  ggufTokenizer: ({ 'tokenizer.ggml.tokens': vocab }: Record<string, unknown>) => ({
    tokenizerJson: { vocab },
    tokenizerConfig: {},
  }),
}));

const config = {
  model_type: 'llama',
  vocab_size: 100,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  max_position_embeddings: 2048,
};

const tensor = (name: string) =>
  safetensorsBytes({ [name]: { dtype: 'F32', shape: [2], data_offsets: [0, 8] } }, f32Bytes([1, 2]));

const index = (weight_map: object) => JSON.stringify({ weight_map });

const whole = {
  'config.json': JSON.stringify(config),
  'model.safetensors': tensor('x'),
  'tokenizer.json': '{"version":"1.0"}',
};

let folder = '';

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dualchunk-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function write(files: Record<string, string | Uint8Array | undefined>): Promise<string> {
  for (const [name, content] of Object.entries(files)) {
    if (content !== undefined) await writeFile(join(folder, name), content);
  }
  return folder;
}

async function writeGguf(overrides: Parameters<typeof tinyLlama>[0]): Promise<string> {
  await writeFile(join(folder, 'model.gguf'), ggufBytes(tinyLlama(overrides)));
  return join(folder, 'model.gguf');
}

describe('openCheckpoint', () => {
  it('opens a folder', async () => {
    const checkpoint = await open(await write(whole));
    expect(checkpoint).toMatchObject({ name: folder, format: 'safetensors', tokenizerConfig: {} });
    expect(checkpoint.config.hiddenSize).toBe(64);
    const x = checkpoint.tensors.get('x');
    expect(await x?.source.read(x.byteOffset, x.nBytes)).toEqual(f32Bytes([1, 2]));
    await checkpoint.close();
  });

  it('opens a folder whose weights are in several files', async () => {
    const checkpoint = await open(
      await write({
        ...whole,
        'model.safetensors': undefined,
        'model.safetensors.index.json': index({ x: 'a.safetensors', y: 'b.safetensors' }),
        'a.safetensors': tensor('x'),
        'b.safetensors': tensor('y'),
      }),
    );
    expect([...checkpoint.tensors.keys()]).toEqual(['x', 'y']);
    await checkpoint.close();
  });

  it('puts chat template and end tokens into the tokenizer’s config', async () => {
    const checkpoint = await open(
      await write({
        ...whole,
        'tokenizer_config.json': '{"bos_token":"<s>","chat_template":"old"}',
        'chat_template.jinja': 'new',
        'generation_config.json': '{"eos_token_id":[1,2]}',
      }),
    );
    expect(checkpoint.tokenizerConfig).toEqual({ bos_token: '<s>', chat_template: 'new', eos_token_ids: [1, 2] });
    await checkpoint.close();
  });

  it('takes end tokens from config.json when there is no generation_config.json', async () => {
    const withEos = JSON.stringify({ ...config, eos_token_id: 7 });
    const checkpoint = await open(await write({ ...whole, 'config.json': withEos }));
    expect(checkpoint.tokenizerConfig).toEqual({ eos_token_ids: [7] });
    await checkpoint.close();
  });

  it('takes names of special tokens from special_tokens_map.json where the tokenizer’s config has none', async () => {
    const checkpoint = await open(
      await write({
        ...whole,
        'tokenizer_config.json': '{"bos_token":null,"eos_token":"<end>"}',
        'special_tokens_map.json': '{"bos_token":{"content":"<s>"},"eos_token":"</s>","pad_token":"<pad>"}',
      }),
    );
    const named = { bos_token: { content: '<s>' }, eos_token: '<end>', pad_token: '<pad>' };
    expect(checkpoint.tokenizerConfig).toEqual(named);
    await checkpoint.close();
  });

  it('takes tokens that tokenizer.json lacks from where older folders have them', async () => {
    const listed = { id: 5, content: '<a>', special: true };
    const checkpoint = await open(
      await write({
        ...whole,
        'tokenizer.json': JSON.stringify({ added_tokens: [listed], model: { vocab: { b: 1 } } }),
        'added_tokens.json': '{"<a>":5,"b":2,"<pad>":6,"<note>":7}',
        'special_tokens_map.json': '{"pad_token":"<pad>"}',
        'tokenizer_config.json':
          '{"added_tokens_decoder":{"5":{"content":"<a>"},"8":{"content":"<c>","special":true}}}',
      }),
    );
    expect(checkpoint.tokenizerJson.added_tokens).toEqual([
      listed,
      { id: 8, content: '<c>', special: true },
      { id: 6, content: '<pad>', special: true, normalized: false },
      { id: 7, content: '<note>', special: false, normalized: false },
    ]);
    await checkpoint.close();
  });

  it('reads files that an editor of Windows saved', async () => {
    const utf16 = (text: string) => new Uint8Array(Uint16Array.from(`\ufeff${text}`, (c) => c.charCodeAt(0)).buffer);
    const checkpoint = await open(
      await write({
        ...whole,
        'config.json': utf16(whole['config.json']),
        'tokenizer_config.json': '\ufeff{"bos_token":"é"}',
        'chat_template.jinja': utf16('{{ messages }}'),
      }),
    );
    expect(checkpoint.tokenizerConfig).toEqual({ bos_token: 'é', chat_template: '{{ messages }}' });
    await checkpoint.close();
  });

  it('says what sampling the makers recommend', async () => {
    const generation = '{"do_sample":true,"temperature":0.6,"top_k":-1,"top_p":0.95,"min_p":null}';
    const checkpoint = await open(await write({ ...whole, 'generation_config.json': generation }));
    expect(checkpoint.sampling).toEqual({ temperature: 0.6, topK: 0, topP: 0.95 });
    await checkpoint.close();
    await write({ 'generation_config.json': '{"do_sample":false,"temperature":0.6}' });
    const greedy = await open(folder);
    expect(greedy.sampling).toEqual({ temperature: 0 });
    await greedy.close();
    const gguf = await open(await writeGguf({ 'general.sampling.temp': 0.5, 'general.sampling.top_k': 20 }));
    expect(gguf.sampling).toEqual({ temperature: 0.5, topK: 20 });
    await gguf.close();
    await write({ 'generation_config.json': '{"top_p":1.5}' });
    await expect(open(folder)).rejects.toThrow('top_p is 1.5; wanted a number from 0 to 1');
    await expect(writeGguf({ 'general.sampling.top_k': 0.5 }).then(open)).rejects.toThrow('a whole number');
  });

  it.each(['tokenizer_config.json', 'config.json', 'model.safetensors'])(
    'refuses a %s that leads elsewhere',
    async (name) => {
      await write({ ...whole, 'tokenizer_config.json': '{}' });
      execFileSync('mkfifo', [join(folder, 'pipe')]);
      for (const target of [join(folder, 'pipe'), '/dev/zero', folder]) {
        await rm(join(folder, name));
        await symlink(target, join(folder, name));
        await expect(open(folder)).rejects.toThrow(`${name}: not a regular file`);
      }
    },
  );

  it('opens a GGUF file, and a folder that has one and no safetensors', async () => {
    await write({ 'model.gguf': ggufBytes(tinyLlama()) });
    for (const path of [join(folder, 'model.gguf'), folder]) {
      const checkpoint = await open(path);
      expect(checkpoint).toMatchObject({ name: path, format: 'GGUF' });
      expect(checkpoint.tensors.get('model.layers.0.self_attn.q_proj.weight')?.interleavedHeadDim).toBe(8);
      expect(checkpoint.tensors.get('model.layers.0.self_attn.v_proj.weight')).not.toHaveProperty('interleavedHeadDim');
      expect(checkpoint.tokenizerJson).toEqual({ vocab: ['a', 'b', 'c', 'd', 'e'] });
      await checkpoint.close();
    }
  });

  it('says what to give when there is nothing at the path', async () => {
    const path = join(folder, 'nothing');
    const message = `no such file or folder: ${path}; give the path of a .gguf file or of a Hugging Face folder`;
    await expect(open(path)).rejects.toThrow(new FormatError(message));
    await expect(open('/dev/null')).rejects.toThrow('neither a file nor a folder');
  });

  const indexed = (weightMap: object) => ({
    ...whole,
    'model.safetensors': undefined,
    'model.safetensors.index.json': index(weightMap),
    'a.safetensors': tensor('x'),
    'b.safetensors': tensor('x'),
  });
  const gguf = ggufBytes(tinyLlama());

  it.each<[string, Record<string, string | Uint8Array | undefined>, string]>([
    ['an empty folder', {}, 'has no model.safetensors'],
    ['a folder with two GGUF files', { 'b.gguf': gguf, 'a.gguf': gguf }, 'name one of them, such as a.gguf'],
    ['PyTorch weights', { 'config.json': '{}', 'pytorch_model.bin': '' }, "PyTorch's .bin format"],
    ['a missing config.json', { ...whole, 'config.json': undefined }, 'config.json is missing'],
    ['a missing tokenizer.json', { ...whole, 'tokenizer.json': undefined }, 'tokenizer.json is missing'],
    ['a config that is no JSON', { ...whole, 'config.json': '{' }, 'config.json: not valid JSON'],
    ['a config that is no object', { ...whole, 'config.json': '3' }, 'holds 3; wanted a JSON object'],
    ['a config that is not UTF-8', { ...whole, 'config.json': Uint8Array.of(0x22, 0xff, 0x22) }, 'not valid UTF-8'],
    ['weights that are a pointer', { ...whole, 'model.safetensors': 'version https://git-lfs' }, 'git lfs pull'],
    ['a tokenizer that is one', { ...whole, 'tokenizer.json': 'version https://git-lfs' }, 'git lfs pull'],
    ['a page in place of a config', { ...whole, 'config.json': '<!doctype html>' }, 'the download asked for a login?'],
    ['weights that are none', { ...whole, 'model.safetensors': 'x'.repeat(100) }, 'claims a header'],
    ['lists in lists', { ...whole, 'tokenizer.json': `{"x":${'['.repeat(1e6)}` }, 'lists in lists'],
    [
      'millions of values',
      { ...whole, 'tokenizer.json': `{"x":[${'0,'.repeat(4e6)}0]}` },
      '4000002 values and 1 keys; wanted at most 3000000',
    ],
    ['millions of keys', { ...whole, 'tokenizer.json': `{${'"a":0,'.repeat(7e5)}"b":0}` }, '700001 keys; wanted'],
    ['an index without a map', { ...indexed({}), 'model.safetensors.index.json': '{}' }, 'weight_map is missing'],
    ['an index that leads out', indexed({ x: '../a.safetensors' }), '"../a.safetensors"; wanted the plain name'],
    ['an index that leads away', indexed({ x: '/etc/a.safetensors' }), 'wanted the plain name'],
    ['an index that leads back', indexed({ x: '..\\a.safetensors' }), 'wanted the plain name'],
    ['an index that names no file', indexed({ x: 3 }), 'x is in 3; wanted the plain name'],
    ['a missing file', indexed({ x: 'c.safetensors' }), 'c.safetensors is missing'],
    ['a tensor in another file', indexed({ y: 'a.safetensors' }), 'y is missing, though the index lists it here'],
    ['a tensor in two files', indexed({ x: 'a.safetensors', y: 'b.safetensors' }), 'x is in two files'],
  ])('refuses %s', async (_what, files, message) => {
    await expect(open(await write(files))).rejects.toThrow(message);
  });

  it('refuses a JSON file that is too long, before it reads it', async () => {
    await write({ ...whole, 'config.json': ' '.repeat(17 * 2 ** 20) });
    await expect(open(folder)).rejects.toThrow('config.json: has 17825792 bytes; wanted at most 16777216');
  });

  it.each([
    ['a file that is not GGUF', 'model.gguf', 'x'.repeat(100), 'not a GGUF file'],
    ['an empty file', 'model.gguf', '', 'too short'],
    ['one file of a folder', 'model.safetensors', tensor('x'), 'give the folder'],
  ])('refuses %s', async (_what, name, content, message) => {
    await write({ [name]: content });
    await expect(open(join(folder, name))).rejects.toThrow(message);
  });

  it('refuses a folder in place of a file', async () => {
    await write({ ...whole, 'tokenizer.json': undefined });
    await mkdir(join(folder, 'tokenizer.json'));
    await expect(open(folder)).rejects.toThrow('tokenizer.json is missing');
  });
});

describe('golden models', () => {
  const golden = (path: string) => new URL(`../../test/golden/${path}`, import.meta.url).pathname;

  const load = async (path: string) => {
    const checkpoint = await open(path);
    const { backend, allocated } = memoryBackend();
    await loadWeights(checkpoint, backend, Array(checkpoint.config.numHiddenLayers).fill(0));
    await checkpoint.close();
    // GGUF keeps the numbers of a config in float32, and calls a Mistral a Llama.
    const { rmsNormEps, modelType, ...config } = checkpoint.config;
    return {
      config: { ...config, rmsNormEps: Math.fround(rmsNormEps), isQwen: modelType.startsWith('qwen') && modelType },
      weights: allocated.map((tensor) => [tensor.rows, tensor.cols, numbersOf(tensor)]),
    };
  };

  it.each(MODEL_TYPES)('%s is the same in a folder and as GGUF', async (model) => {
    const [fromFolder, fromGguf] = [await load(golden(model)), await load(golden(`${model}/model.gguf`))];
    expect(fromGguf.config).toEqual(fromFolder.config);
    expect(fromGguf.weights).toEqual(fromFolder.weights);
  });
});
