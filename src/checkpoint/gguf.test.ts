import { describe, expect, it } from 'vitest';
import { f32Bytes, type GgufFile, ggufBytes, mutations, sourceOf, tinyLlama } from '../../test/checkpointBytes.ts';
import { FormatError, UnsupportedError } from '../errors.ts';
import { familyOf } from '../families.ts';
import { readGguf } from './gguf.ts';
import { ggufConfig, ggufTensors, huggingFaceName } from './ggufConfig.ts';

const read = (file: GgufFile) => readGguf(sourceOf(ggufBytes(file)));

const configOf = async (file: GgufFile) => {
  const source = sourceOf(ggufBytes(file));
  return ggufConfig(await readGguf(source), source);
};

const vector = (name: string, more = {}) => ({ name, shape: [8], data: f32Bytes(Array(8).fill(1)), ...more });

/** Resolves when reading succeeds or fails with one of our errors; anything else is the test's failure. */
async function survives(bytes: Uint8Array): Promise<'read' | 'refused'> {
  const source = sourceOf(bytes);
  try {
    const gguf = await readGguf(source);
    ggufTensors(gguf, await ggufConfig(gguf, source), source);
    return 'read';
  } catch (error) {
    if (error instanceof FormatError || error instanceof UnsupportedError) return 'refused';
    throw error;
  }
}

describe('readGguf', () => {
  it.each([2, 3])('reads version %i', async (version) => {
    const { metadata, tensors } = await read({ version, metadata: [['a', 7n]], tensors: [vector('x'), vector('y')] });
    expect(metadata).toEqual({ a: 7 });
    expect(tensors.map(({ name, type, rows, cols, nBytes }) => [name, type, rows, cols, nBytes])).toEqual([
      ['x', 'F32', 1, 8, 32],
      ['y', 'F32', 1, 8, 32],
    ]);
    expect(tensors[1].byteOffset - tensors[0].byteOffset).toBe(32);
  });

  it('keeps the order of dimensions that Hugging Face has', async () => {
    const { tensors } = await read({ tensors: [{ name: 'x', shape: [8, 2], data: new Uint8Array(64) }] });
    expect(tensors[0]).toMatchObject({ rows: 2, cols: 8 });
  });

  it('keeps a byte order mark that is a token', async () => {
    const tokens = ['a', '\ufeff', 'b'];
    expect(
      (
        await read({
          metadata: [
            ['tokens', tokens],
            ['url', ''],
          ],
        })
      ).metadata,
    ).toEqual({ tokens, url: '' });
    expect((await read({ metadata: [['tokens', ['a', '']]] })).metadata).toEqual({ tokens: ['a', ''] });
  });

  it('keeps a byte order mark anywhere in a text, beside empty texts', async () => {
    const metadata: [string, string | string[]][] = [
      ['template', '\ufeff{{ messages }}'],
      ['tokens', ['', '\ufeff', '\ufeffa', 'a\ufeff', '']],
      ['\ufeffkey', ''],
    ];
    expect((await read({ metadata })).metadata).toEqual(Object.fromEntries(metadata));
  });

  it('reads metadata longer than what is read at once', async () => {
    const tokens = Array.from({ length: 60_000 }, (_, i) => `a rather long token, number ${i}`);
    const template = 'é'.repeat(1_100_000);
    const metadata: [string, string | string[]][] = [
      ['tokens', tokens],
      ['template', template],
    ];
    const gguf = await read({ metadata, tensors: [vector('x')] });
    expect(gguf.metadata).toEqual({ tokens, template });
  });

  it('reads the names of properties that every object has as the keys they are', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'kv_count', 'version', ''];
    const { metadata } = await read({ metadata: names.map((name) => [name, 'x']) });
    expect(Object.entries(metadata)).toEqual(names.map((name) => [name, 'x']));
  });

  /** One value, from its type and bytes. */
  const single = async (type: number, bytes: Uint8Array) =>
    (await read({ metadata: [['a', { type, bytes }]] })).metadata.a;
  const bytesOf = (array: ArrayBufferView<ArrayBuffer>) => new Uint8Array(array.buffer);
  const NUMBERS = [
    [0, Uint8Array.of(255)],
    [1, Int8Array.of(-1)],
    [2, Uint16Array.of(65_535)],
    [3, Int16Array.of(-2)],
    [4, Uint32Array.of(2 ** 32 - 1)],
    [5, Int32Array.of(-3)],
    [6, Float32Array.of(0.5)],
    [12, Float64Array.of(0.1)],
  ] as const;

  it.each(NUMBERS)('reads numbers of type %i, alone and as a list that keeps its type', async (type, numbers) => {
    expect(await single(type, bytesOf(numbers))).toBe(numbers[0]);
    const list = Uint8Array.from([type, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, ...bytesOf(numbers)]);
    expect(await single(9, list)).toEqual(numbers);
  });

  it('reads 64-bit integers, exactly where one stands alone', async () => {
    expect(await single(10, bytesOf(BigUint64Array.of(2n ** 53n - 1n)))).toBe(2 ** 53 - 1);
    expect(await single(10, bytesOf(BigUint64Array.of(2n ** 64n - 1n)))).toBe(2n ** 64n - 1n);
    expect(await single(11, bytesOf(BigInt64Array.of(-5n)))).toBe(-5);
    const list = Uint8Array.from([11, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, ...bytesOf(BigInt64Array.of(-5n, 7n))]);
    expect(await single(9, list)).toEqual(Float64Array.of(-5, 7));
  });

  it('takes a flag of 0 or 1 only', async () => {
    expect(await single(7, Uint8Array.of(1))).toBe(true);
    expect(await single(7, Uint8Array.of(0))).toBe(false);
    await expect(single(7, Uint8Array.of(7))).rejects.toThrow('a is 7; wanted a flag of 0 or 1');
  });

  it('refuses text that is not UTF-8, and says which', async () => {
    await expect(single(8, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0xff))).rejects.toThrow('a is not valid UTF-8');
    const list = [8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x80];
    await expect(single(9, Uint8Array.from(list))).rejects.toThrow('a[1] is not valid UTF-8');
  });

  it('reads millions of empty texts in the time their bytes take', async () => {
    const list = new Uint8Array(12 + 8 * 2_000_000);
    new DataView(list.buffer).setUint32(0, 8, true);
    new DataView(list.buffer).setUint32(4, 2_000_000, true);
    const start = performance.now();
    expect(await single(9, list)).toHaveLength(2_000_000);
    expect(performance.now() - start).toBeLessThan(2000);
  });

  const hugeCount = 2n ** 60n;
  it.each<[string, GgufFile, string | RegExp]>([
    ['an older version', { version: 1 }, 'version 1'],
    ['a big-endian file', { version: 3 << 24 }, 'big-endian'],
    ['an unsupported type', { tensors: [vector('x', { type: 17 })] }, /x has type IQ2_XS; supported: F32, F16/],
    ['an unknown type', { tensors: [vector('x', { type: 99 })] }, 'type number 99'],
    ['three dimensions', { tensors: [{ name: 'x', shape: [2, 2, 2] }] }, '3 dimensions'],
    ['no dimensions', { tensors: [{ name: 'x', shape: [] }] }, '0 dimensions'],
    ['an empty tensor', { tensors: [{ name: 'x', shape: [0, 4] }] }, 'shape [4,0]'],
    ['half a block', { tensors: [{ name: 'x', type: 8, shape: [40] }] }, 'multiple of 32'],
    ['a tensor past the end', { tensors: [vector('x', { shape: [9] })] }, 'truncated'],
    ['an absurd shape', { tensors: [{ name: 'x', shape: [2 ** 32, 2 ** 32] }] }, 'truncated'],
    ['a shape above 32 bits', { tensors: [{ name: 'x', shape: [2n ** 63n] }] }, 'x'],
    ['an absurd offset', { tensors: [vector('x', { offset: 2n ** 63n })] }, 'truncated'],
    ['an odd offset', { tensors: [vector('x', { offset: 4 })] }, 'multiple of 32'],
    ['overlap', { tensors: [vector('x'), vector('y', { offset: 0 })] }, 'x and y overlap'],
    ['a name that comes twice', { tensors: [vector('x'), vector('x')] }, 'x is listed twice'],
    [
      'a key that comes twice',
      {
        metadata: [
          ['a', 1],
          ['a', 2],
        ],
      },
      'twice',
    ],
    ['more tensors than fit', { nTensors: hugeCount }, 'claims 1152921504606847000 tensors'],
    ['more tensors than there are', { nTensors: 90_000n }, 'truncated'],
    ['more keys than fit', { nKeys: hugeCount }, 'claims 1152921504606847000 keys'],
    ['more keys than there are', { nKeys: 50_000n }, 'truncated'],
    ['a value of no type', { metadata: [['a', { type: 13, bytes: new Uint8Array(8) }]] }, 'unknown type 13'],
    ['a list of lists', { metadata: [['a', { type: 9, bytes: Uint8Array.of(9, ...Array(11).fill(0)) }]] }, 'lists'],
    [
      'a longer list than the file',
      { metadata: [['a', { type: 9, bytes: Uint8Array.of(0, 0, 0, 0, ...Array(8).fill(127)) }]] },
      'truncated',
    ],
    ['five dimensions', { tensors: [{ name: 'x', shape: [1, 1, 1, 1, 1] }] }, 'has 5 dimensions'],
    ['alignment zero', { metadata: [['general.alignment', 0]] }, 'alignment'],
    ['alignment that is no power of two', { metadata: [['general.alignment', 24]] }, 'power of two'],
    ['alignment that is a text', { metadata: [['general.alignment', '32']] }, 'power of two'],
    ['a huge alignment', { metadata: [['general.alignment', 2n ** 40n]] }, 'power of two'],
    ['one file of several', { metadata: [['split.count', 4]] }, 'llama-gguf-split --merge'],
  ])('refuses %s', async (_what, file, message) => {
    await expect(read(file)).rejects.toThrow(message);
    expect(await survives(ggufBytes(file))).toBe('refused');
  });

  it('says so when a file is something else', async () => {
    await expect(readGguf(sourceOf(new Uint8Array(100)))).rejects.toThrow('not a GGUF file');
    await expect(readGguf(sourceOf(new Uint8Array(3)))).rejects.toThrow('too short');
    const text = (start: string) => readGguf(sourceOf(new TextEncoder().encode(start)));
    await expect(text('version https://git-lfs.github.com/spec/v1\noid sha256:0')).rejects.toThrow('git lfs pull');
    await expect(text('\n<!DOCTYPE html><html>')).rejects.toThrow('an HTML page: the download asked for a login?');
  });

  it('refuses every beginning of a file', { timeout: 60_000 }, async () => {
    const bytes = ggufBytes(tinyLlama());
    expect(await survives(bytes)).toBe('read');
    for (let length = 0; length < bytes.length; length++) {
      await expect(readGguf(sourceOf(bytes.subarray(0, length))), `${length} bytes`).rejects.toThrow(FormatError);
    }
  });

  it('reads or refuses whatever bytes change', { timeout: 120_000 }, async () => {
    const whole = ggufBytes(tinyLlama({ 'general.alignment': 32, 'llama.rope.freq_base': 5e5 }));
    const header = (await readGguf(sourceOf(whole))).tensors[0].byteOffset;
    const outcomes = new Set();
    for (const changed of mutations(whole.subarray(0, header), 3000, 1)) {
      const bytes = whole.slice();
      bytes.set(changed);
      outcomes.add(await survives(bytes));
    }
    expect(outcomes).toEqual(new Set(['read', 'refused']));
  });
});

describe('ggufConfig', () => {
  it('reads a llama', async () => {
    expect(await configOf(tinyLlama())).toEqual({
      modelType: 'llama',
      vocabSize: 5,
      hiddenSize: 8,
      intermediateSize: 12,
      numHiddenLayers: 1,
      numAttentionHeads: 2,
      numKeyValueHeads: 1,
      headDim: 8,
      rmsNormEps: Math.fround(0.001),
      hiddenAct: 'silu',
      ropeTheta: 10_000,
      maxPositionEmbeddings: 64,
      tieWordEmbeddings: true,
    });
  });

  it('reads numbers listed by layer when they agree', async () => {
    expect(await configOf(tinyLlama({ 'llama.attention.head_count_kv': [1, 1] }))).toMatchObject({
      numKeyValueHeads: 1,
    });
    await expect(configOf(tinyLlama({ 'llama.attention.head_count_kv': [1, 2] }))).rejects.toThrow(UnsupportedError);
  });

  it('reads every kind of RoPE scaling', async () => {
    const scalingOf = async (overrides: Parameters<typeof tinyLlama>[0]) =>
      (await configOf(tinyLlama(overrides))).ropeScaling;
    expect(await scalingOf({ 'llama.rope.scaling.type': 'none' })).toBeUndefined();
    expect(await scalingOf({ 'llama.rope.scale_linear': 4 })).toEqual({ ropeType: 'linear', factor: 4 });
    const linear = { 'llama.rope.scaling.type': 'linear', 'llama.rope.scaling.factor': 8 };
    expect(await scalingOf(linear)).toEqual({ ropeType: 'linear', factor: 8 });
    const yarn = {
      'llama.rope.scaling.type': 'yarn',
      'llama.rope.scaling.factor': 4,
      'llama.rope.scaling.original_context_length': 32,
    };
    const expected = { ropeType: 'yarn', factor: 4, originalMaxPositionEmbeddings: 32 };
    expect(await scalingOf(yarn)).toEqual(expected);
    expect(await scalingOf({ ...yarn, 'llama.rope.scaling.attn_factor': 2 })).toEqual({
      ...expected,
      attentionFactor: 2 * (0.1 * Math.log(4) + 1),
    });
  });

  it('reads which layers have a window', async () => {
    const windowOf = async (pattern?: number | number[], window = 5) => {
      const { slidingWindow, slidingLayers } = await configOf(
        tinyLlama({
          'llama.block_count': 4,
          'llama.attention.sliding_window': window,
          'llama.attention.sliding_window_pattern': pattern,
        }),
      );
      return [slidingWindow, slidingLayers];
    };
    expect(await windowOf(undefined)).toEqual([5, undefined]);
    expect(await windowOf(2)).toEqual([5, [0, 2]]);
    expect(await windowOf([0, 1, 1, 0])).toEqual([5, [1, 2]]);
    expect(await windowOf(1)).toEqual([undefined, undefined]);
    expect(await windowOf(2, 0)).toEqual([undefined, undefined]);
    const { ropeLocalTheta } = await configOf(tinyLlama({ 'llama.rope.freq_base_swa': 500 }));
    expect(ropeLocalTheta).toBe(500);
  });

  it('reads a gemma3, whose files leave out what all of them have', async () => {
    const { metadata, ...rest } = tinyLlama({ 'llama.attention.sliding_window': 5 });
    const gemma = (nLayers: number) =>
      configOf({
        ...rest,
        metadata: metadata.map(([key, value]) => {
          if (key === 'general.architecture') return [key, 'gemma3'];
          return [key.replace('llama.', 'gemma3.'), key === 'llama.block_count' ? nLayers : value];
        }),
      });
    expect(await gemma(7)).toMatchObject({
      modelType: 'gemma3_text',
      hiddenAct: 'gelu',
      embeddingFactor: 2.828125, // the root of 8 in bfloat16
      slidingWindow: 5,
      slidingLayers: [0, 1, 2, 3, 4, 6],
      ropeLocalTheta: 1e4,
      queryPreAttnScalar: undefined,
    });
    expect((await gemma(62)).queryPreAttnScalar).toBe(4); // hidden 8, 2 heads
  });

  it('reads rope_freqs.weight as factors', async () => {
    const factors = (values: number[]) => [
      { name: 'rope_freqs.weight', shape: [values.length], data: f32Bytes(values) },
    ];
    const { ropeScaling } = await configOf(tinyLlama({}, factors([1, 2, 4, 8])));
    expect(ropeScaling).toEqual({ ropeType: 'factors', factors: [1, 2, 4, 8] });
    await expect(configOf(tinyLlama({}, factors([1, 2, 4])))).rejects.toThrow('has 3 numbers; wanted 4');
    await expect(configOf(tinyLlama({}, factors([1, 2, 4, 0])))).rejects.toThrow('ropeScaling.factors is 0');
    await expect(configOf(tinyLlama({ 'llama.rope.scale_linear': 2 }, factors([1, 2, 4, 8])))).rejects.toThrow('both');
  });

  it.each<[string, Parameters<typeof tinyLlama>[0], string]>([
    [
      'another architecture',
      { 'general.architecture': 'gemma2' },
      '"gemma2"; supported: llama, qwen2, qwen3, olmo2, smollm3, gemma3',
    ],
    ['no architecture', { 'general.architecture': undefined }, 'general.architecture is missing'],
    ['a missing number', { 'llama.block_count': undefined }, 'llama.block_count is missing'],
    ['a text for a number', { 'llama.block_count': '1' }, 'llama.block_count is "1"'],
    ['no heads', { 'llama.attention.head_count': 0 }, 'numAttentionHeads is 0'],
    ['experts', { 'llama.expert_count': 8 }, 'mixture of 8 experts'],
    ['partial rotary embedding', { 'llama.rope.dimension_count': 4 }, 'partial rotary embedding, 4 of 8'],
    ['values unlike keys', { 'llama.attention.value_length': 16 }, 'keys have 8 numbers and values 16'],
    ['capped logits', { 'llama.final_logit_softcapping': 30 }, 'final_logit_softcapping 30; supported: none'],
    ['longrope', { 'llama.rope.scaling.type': 'longrope' }, '"longrope"; supported: none, linear, yarn'],
    ['scaling by zero', { 'llama.rope.scaling.type': 'linear', 'llama.rope.scaling.factor': 0 }, 'above 0'],
    [
      'a pattern of too few layers',
      { 'llama.attention.sliding_window': 5, 'llama.attention.sliding_window_pattern': [1, 0] },
      'a list of 2; wanted a whole number, or a 0 or 1 for each of 1 layers',
    ],
    [
      'half a pattern',
      { 'llama.attention.sliding_window': 5, 'llama.attention.sliding_window_pattern': 1.5 },
      'sliding_window_pattern is 1.5',
    ],
    ['a window of half a token', { 'llama.attention.sliding_window': 0.5 }, 'slidingWindow is 0.5'],
    ['more tokens than rows', { 'tokenizer.ggml.tokens': Array(6).fill('a') }, '6 tokens'],
  ])('refuses %s', async (_what, overrides, message) => {
    await expect(configOf(tinyLlama(overrides))).rejects.toThrow(message);
  });
});

describe('huggingFaceName', () => {
  it('tells the norms of a layer that has four', () => {
    const name = huggingFaceName('blk.3.ffn_norm.weight', familyOf('gemma3_text'));
    expect(name).toBe('model.layers.3.pre_feedforward_layernorm.weight');
  });

  it.each([
    ['token_embd.weight', 'model.embed_tokens.weight'],
    ['output.weight', 'lm_head.weight'],
    ['output_norm.weight', 'model.norm.weight'],
    ['blk.12.attn_q.bias', 'model.layers.12.self_attn.q_proj.bias'],
    ['blk.0.attn_k_norm.weight', 'model.layers.0.self_attn.k_norm.weight'],
    ['blk.3.ffn_norm.weight', 'model.layers.3.post_attention_layernorm.weight'],
    ['blk.3.ffn_down.weight', 'model.layers.3.mlp.down_proj.weight'],
    ['rope_freqs.weight', 'rope_freqs.weight'],
    ['blk.0.output.weight', 'blk.0.output.weight'],
    ['constructor.weight', 'constructor.weight'],
  ])('%s is %s', (name, expected) => expect(huggingFaceName(name, familyOf('llama'))).toBe(expected));
});
