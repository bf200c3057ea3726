import { describe, expect, it } from 'vitest';
import {
  f32Bytes,
  type GgufTensorBytes,
  ggufBytes,
  memoryBackend,
  numbersOf,
  sourceOf,
  tinyLlama,
} from '../../test/checkpointBytes.ts';
import type { Tensor } from '../backends/backend.ts';
import type { TensorType } from '../tensorTypes.ts';
import type { Checkpoint, TensorEntry } from './checkpoint.ts';
import { readGguf } from './gguf.ts';
import { ggufConfig, ggufTensors } from './ggufConfig.ts';
import { expectedTensors, loadWeights, weightBytes } from './weights.ts';

async function checkpointOf(file: ReturnType<typeof tinyLlama>): Promise<Checkpoint> {
  const source = sourceOf(ggufBytes(file));
  const gguf = await readGguf(source);
  const config = await ggufConfig(gguf, source);
  const tensors = ggufTensors(gguf, config, source);
  return {
    name: 'tiny',
    format: 'GGUF',
    config,
    tensors,
    tokenizerJson: {},
    tokenizerConfig: {},
    sampling: {},
    close: source.close,
  };
}

const tiny = (extra: GgufTensorBytes[] = []) => checkpointOf(tinyLlama({}, extra));

const indices = (n: number) => Array.from({ length: n }, (_, i) => i);

describe('loadWeights', () => {
  it('fills every field with its tensor', async () => {
    const { backend, allocated } = memoryBackend();
    const { embedTokens, layers, norm, lmHead } = await loadWeights(await tiny(), backend, [0]);
    expect([embedTokens.rows, embedTokens.cols]).toEqual([5, 8]);
    expect(numbersOf(embedTokens)).toEqual(indices(40));
    expect(lmHead.weight).toBe(embedTokens);
    expect(numbersOf(norm)).toEqual(indices(8));
    expect(numbersOf(layers[0].downProj.weight)).toEqual(indices(96));
    expect(layers[0].qNorm).toBeUndefined();
    expect(layers[0].qProj.bias).toBeUndefined();
    expect(allocated).toHaveLength(11);
  });

  it('puts the rows of query and key heads in Hugging Face’s order', async () => {
    const bias = { name: 'blk.0.attn_k.bias', shape: [8], data: f32Bytes(indices(8)) };
    const { layers } = await loadWeights(await tiny([bias]), memoryBackend().backend, [0]);
    const rowsOf = (tensor: Tensor) =>
      numbersOf(tensor)
        .filter((_, i) => i % 8 === 0)
        .map((first) => first / 8);
    const head = [0, 2, 4, 6, 1, 3, 5, 7];
    expect(rowsOf(layers[0].kProj.weight)).toEqual(head);
    expect(rowsOf(layers[0].qProj.weight)).toEqual([...head, ...head.map((row) => row + 8)]);
    expect(rowsOf(layers[0].vProj.weight)).toEqual(indices(8));
    expect(numbersOf(layers[0].kProj.bias as Tensor)).toEqual(head);
  });

  it('makes vectors F32 and leaves matrices as they are stored', async () => {
    const file = tinyLlama();
    const half = { type: 1, data: new Uint8Array(Uint16Array.from(indices(8), () => 0x3c00).buffer) };
    const name = 'output_norm.weight';
    const tensors = file.tensors.map((tensor) => (tensor.name === name ? { ...tensor, ...half } : tensor));
    const checkpoint = await checkpointOf({ ...file, tensors });
    const { norm } = await loadWeights(checkpoint, memoryBackend().backend, [0]);
    expect(norm.type).toBe('F32');
    expect(numbersOf(norm)).toEqual(Array(8).fill(1));
    expect(weightBytes(checkpoint)).toEqual(weightBytes(await tiny()));
  });

  it('puts layers into their stages, and all else into the first', async () => {
    const [one, second] = [tinyLlama(), tinyLlama({ 'llama.block_count': 2 })];
    const more = one.tensors
      .filter(({ name }) => name.startsWith('blk.0.'))
      .map((tensor) => ({ ...tensor, name: tensor.name.replace('blk.0.', 'blk.1.') }));
    const checkpoint = await checkpointOf({ ...second, tensors: [...one.tensors, ...more] });
    const { embedTokens, layers, norm, lmHead } = await loadWeights(checkpoint, memoryBackend().backend, [1, 2]);
    const stagesOf = (part: object): number[] =>
      Object.values(part).flatMap((field) => (field?.weight ? stagesOf(field) : field ? [field.stage] : []));
    expect(stagesOf({ embedTokens, norm, lmHead })).toEqual([0, 0, 0]);
    expect(layers.map((layer) => new Set(stagesOf(layer)))).toEqual([new Set([1]), new Set([2])]);

    const { layers: bytes, others } = weightBytes(checkpoint);
    const onlyOne = weightBytes(await tiny());
    expect(bytes).toEqual([onlyOne.layers[0], onlyOne.layers[0]]);
    expect(others).toBe(4 * (40 + 8));
  });

  it('reads matrices in pieces of whole heads, and reports each', async () => {
    const [rows, cols] = [64, 65_536]; // 16 MiB
    const { config, tensors, ...rest } = await tiny();
    const entry = { type: 'F32' as TensorType, byteOffset: 0, nBytes: 4 * rows * cols };
    const lengths: number[] = [];
    const source = {
      ...sourceOf(new Uint8Array()),
      read: async (offset: number, length: number) => {
        lengths.push(length);
        return f32Bytes(new Float32Array(length / 4).fill(offset / (4 * cols)));
      },
    };
    const large = {
      ...rest,
      config: { ...config, hiddenSize: cols, vocabSize: rows, numAttentionHeads: 8, intermediateSize: 8 },
      tensors: new Map<string, TensorEntry>(),
    };
    for (const expected of expectedTensors(large)) {
      const interleaved = expected.name.includes('q_proj') && { interleavedHeadDim: 8 };
      large.tensors.set(expected.name, {
        ...entry,
        ...expected,
        nBytes: 4 * expected.rows * expected.cols,
        source,
        ...interleaved,
      });
    }
    const steps: number[] = [];
    const onProgress = (done: number) => steps.push(done);
    const { layers } = await loadWeights(large, memoryBackend().backend, [0], { onProgress });
    expect(Math.max(...lengths)).toBe(4 * 2 ** 20);
    const { layers: ofLayers, others } = weightBytes(large);
    expect(steps.at(-1)).toBe(ofLayers[0] + others);
    expect(numbersOf(layers[0].qProj.weight).at(-1)).toBe(48);
  });

  it('adds 1 to what is stored as above it', async () => {
    const checkpoint = await tiny();
    const name = 'model.norm.weight';
    const entry = { ...(checkpoint.tensors.get(name) as TensorEntry), isAboveOne: true };
    const tensors = new Map([...checkpoint.tensors, [name, entry]]);
    const { norm } = await loadWeights({ ...checkpoint, tensors }, memoryBackend().backend, [0]);
    expect(numbersOf(norm)).toEqual(indices(8).map((value) => value + 1));
  });

  it('stops when it is told to', async () => {
    const abort = new AbortController();
    const reason = new Error('enough');
    const options = { signal: abort.signal, onProgress: () => abort.abort(reason) };
    const { backend, allocated } = memoryBackend();
    await expect(loadWeights(await tiny(), backend, [0], options)).rejects.toBe(reason);
    expect(allocated).toHaveLength(1);
  });

  it.each<[string, (file: ReturnType<typeof tinyLlama>) => ReturnType<typeof tinyLlama>, string]>([
    [
      'a missing tensor',
      (file) => ({ ...file, tensors: file.tensors.filter(({ name }) => name !== 'blk.0.ffn_up.weight') }),
      'model.layers.0.mlp.up_proj.weight is missing',
    ],
    [
      'a missing layer',
      () => tinyLlama({ 'llama.block_count': 2 }),
      'model.layers.1.input_layernorm.weight is missing',
    ],
    [
      'another shape',
      () => tinyLlama({ 'llama.feed_forward_length': 16 }),
      'mlp.gate_proj.weight is [12, 8]; wanted [16, 8]',
    ],
    [
      'a tensor of another model',
      () => tinyLlama({}, [{ name: 'blk.0.attn_sinks.weight', shape: [8], data: f32Bytes(indices(8)) }]),
      'tensor blk.0.attn_sinks.weight is not part of a llama model',
    ],
    [
      'norms of qwen3 in a llama',
      () => tinyLlama({}, [{ name: 'blk.0.attn_q_norm.weight', shape: [8], data: f32Bytes(indices(8)) }]),
      'self_attn.q_norm.weight is not part of a llama model',
    ],
    [
      'a bias of a layer that the first layer has not',
      () => tinyLlama({}, [{ name: 'blk.7.attn_q.bias', shape: [16], data: f32Bytes(indices(16)) }]),
      'model.layers.7.self_attn.q_proj.bias is not part',
    ],
  ])('refuses %s before it allocates', async (_what, change, message) => {
    const checkpoint = await checkpointOf(change(tinyLlama()));
    const { backend, allocated } = memoryBackend();
    await expect(loadWeights(checkpoint, backend, [0])).rejects.toThrow(message);
    expect(() => weightBytes(checkpoint)).toThrow(message);
    expect(allocated).toEqual([]);
  });

  it('skips tensors that no forward pass needs', async () => {
    const { config, tensors, ...rest } = await tiny();
    const spare = tensors.get('model.norm.weight');
    if (!spare) throw new Error('the tiny llama has a norm');
    const names = ['rope_freqs.weight', 'model.layers.0.self_attn.rotary_emb.inv_freq'];
    const more = new Map([...tensors, ...names.map((name) => [name, { ...spare, name }] as const)]);
    const { lmHead, embedTokens } = await loadWeights({ ...rest, config, tensors: more }, memoryBackend().backend, [0]);
    expect(lmHead.weight).toBe(embedTokens);
  });

  it('uses a head of its own that the file has, though its config calls it tied', async () => {
    const head = indices(40).map((i) => i + 0.5);
    const { config, tensors, ...rest } = await tiny([{ name: 'output.weight', shape: [8, 5], data: f32Bytes(head) }]);
    const checkpoint = { ...rest, config: { ...config, tieWordEmbeddings: true }, tensors };
    const { lmHead, embedTokens } = await loadWeights(checkpoint, memoryBackend().backend, [0]);
    expect(numbersOf(lmHead.weight)).toEqual(head);
    expect(numbersOf(embedTokens)).toEqual(indices(40));
    expect(weightBytes(checkpoint).others).toBe(4 * (40 + 40 + 8));
  });
});

describe('expectedTensors', () => {
  const namesOf = async (modelType: 'qwen2' | 'qwen3' | 'gemma3_text') => {
    const { config, tensors } = await tiny();
    return expectedTensors({ config: { ...config, modelType }, tensors }).map(({ name }) => name);
  };

  it('wants four norms of a layer of gemma3_text', async () => {
    const norms = (await namesOf('gemma3_text')).filter((name) => name.endsWith('layernorm.weight'));
    expect(norms.map((name) => name.split('.')[3]).sort()).toEqual([
      ...['input_layernorm', 'post_attention_layernorm', 'post_feedforward_layernorm', 'pre_feedforward_layernorm'],
    ]);
  });

  it('wants biases of a qwen2 and norms of a qwen3', async () => {
    expect(await namesOf('qwen2')).toContain('model.layers.0.self_attn.v_proj.bias');
    expect(await namesOf('qwen2')).not.toContain('model.layers.0.self_attn.o_proj.bias');
    expect(await namesOf('qwen3')).toContain('model.layers.0.self_attn.k_norm.weight');
    expect(await namesOf('qwen3')).not.toContain('model.layers.0.self_attn.v_proj.bias');
  });
});
