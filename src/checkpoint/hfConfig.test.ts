import { describe, expect, it } from 'vitest';
import { hfConfig } from './hfConfig.ts';

const llama = {
  model_type: 'llama',
  vocab_size: 100,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  max_position_embeddings: 2048,
};

const read = (changes: object) => hfConfig({ ...llama, ...changes }, 'config.json');

describe('hfConfig', () => {
  it('fills in what old configs leave out', () => {
    expect(read({ head_dim: null, rope_scaling: null })).toEqual({
      modelType: 'llama',
      vocabSize: 100,
      hiddenSize: 64,
      intermediateSize: 128,
      numHiddenLayers: 4,
      numAttentionHeads: 4,
      numKeyValueHeads: 4,
      headDim: 16,
      rmsNormEps: 1e-6,
      hiddenAct: 'silu',
      ropeTheta: 10_000,
      maxPositionEmbeddings: 2048,
      tieWordEmbeddings: false,
    });
    expect(read({ model_type: 'qwen3' }).headDim).toBe(128);
  });

  it('reads which layers have no RoPE', () => {
    const smollm3 = { model_type: 'smollm3' };
    expect(read(smollm3)).toMatchObject({ layersWithoutRope: [3], tieWordEmbeddings: true });
    expect(read({ ...smollm3, no_rope_layer_interval: 2 }).layersWithoutRope).toEqual([1, 3]);
    expect(read({ ...smollm3, no_rope_layers: [0, 1, 1, 0] }).layersWithoutRope).toEqual([0, 3]);
    expect(read({ ...smollm3, no_rope_layers: [1, 1, 1, 1] }).layersWithoutRope).toEqual([]);
    expect(read({ no_rope_layers: [0, 1, 1, 0] }).layersWithoutRope).toBeUndefined(); // llama has no such field
  });

  it('reads both spellings of a RoPE scaling', () => {
    const linear = { ropeType: 'linear', factor: 2 };
    expect(read({ rope_scaling: { type: 'linear', factor: 2 } }).ropeScaling).toEqual(linear);
    expect(read({ rope_scaling: { rope_type: 'linear', factor: 2 } }).ropeScaling).toEqual(linear);
    const rope_parameters = { rope_type: 'linear', factor: 2, rope_theta: 5e5 };
    expect(read({ rope_parameters })).toMatchObject({ ropeScaling: linear, ropeTheta: 5e5 });
    expect(read({ rope_parameters: { rope_type: 'default' }, rope_theta: 7 })).toMatchObject({ ropeTheta: 7 });
  });

  it('reads dynamic, yarn and llama3', () => {
    expect(read({ rope_scaling: { type: 'dynamic', factor: 2 } }).ropeScaling).toEqual({
      ropeType: 'dynamic',
      factor: 2,
    });
    const yarn = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 512, attention_factor: 1.5 };
    expect(read({ rope_scaling: yarn }).ropeScaling).toEqual({
      ropeType: 'yarn',
      factor: 4,
      originalMaxPositionEmbeddings: 512,
      attentionFactor: 1.5,
    });
    const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 512 };
    expect(read({ rope_scaling: { rope_type: 'llama3', ...llama3 } }).ropeScaling).toEqual({
      ropeType: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositionEmbeddings: 512,
    });
  });

  it('reads a sliding window as each model type says it', () => {
    expect(read({ sliding_window: 16 }).slidingWindow).toBeUndefined();
    expect(read({ model_type: 'mistral', sliding_window: 16 }).slidingWindow).toBe(16);
    expect(read({ model_type: 'mistral', sliding_window: null }).slidingWindow).toBeUndefined();
    const qwen = { model_type: 'qwen2', sliding_window: 16, max_window_layers: 4 };
    expect(read({ ...qwen, use_sliding_window: false, max_window_layers: 0 }).slidingWindow).toBeUndefined();
    expect(read({ ...qwen, use_sliding_window: true }).slidingWindow).toBeUndefined();
    expect(read({ ...qwen, use_sliding_window: true, max_window_layers: 0 }).slidingWindow).toBe(16);
    expect(read({ sliding_window: 16, layer_types: Array(4).fill('sliding_attention') }).slidingWindow).toBe(16);
  });

  it('reads windows that only some layers have', () => {
    const qwen = { model_type: 'qwen2', use_sliding_window: true, sliding_window: 16 };
    expect(read({ ...qwen, max_window_layers: 3 })).toMatchObject({ slidingWindow: 16, slidingLayers: [3] });
    const smollm3 = { ...qwen, model_type: 'smollm3', num_hidden_layers: 8 };
    expect(read(smollm3)).toMatchObject({ slidingWindow: 16, slidingLayers: [3, 7], layersWithoutRope: [3, 7] });
    const layer_types = ['full_attention', ...Array(3).fill('sliding_attention')];
    expect(read({ sliding_window: 16, layer_types })).toMatchObject({ slidingWindow: 16, slidingLayers: [1, 2, 3] });
    const all = read({ sliding_window: 16, layer_types: Array(4).fill('sliding_attention') });
    expect(all.slidingLayers).toBeUndefined();
    const none = read({ sliding_window: null, layer_types: Array(4).fill('full_attention') });
    expect([none.slidingWindow, none.slidingLayers]).toEqual([undefined, undefined]);
  });

  it('reads a gemma3_text', () => {
    const gemma = { model_type: 'gemma3_text', num_hidden_layers: 12, hidden_size: 640, sliding_window: 512 };
    const published = { hidden_activation: 'gelu_pytorch_tanh', query_pre_attn_scalar: 168, rope_theta: 1e6 };
    expect(read({ ...gemma, ...published, attn_logit_softcapping: null })).toMatchObject({
      hiddenAct: 'gelu',
      headDim: 256,
      embeddingFactor: 25.25, // 25.298 in bfloat16
      queryPreAttnScalar: 168,
      ropeTheta: 1e6,
      ropeLocalTheta: 1e4,
      slidingWindow: 512,
      slidingLayers: [0, 1, 2, 3, 4, 6, 7, 8, 9, 10],
      tieWordEmbeddings: true,
    });
    expect(read({ ...gemma, sliding_window_pattern: 4 }).slidingLayers).toEqual([0, 1, 2, 4, 5, 6, 8, 9, 10]);
    const layer_types = ['full_attention', ...Array(11).fill('sliding_attention')];
    expect(read({ ...gemma, layer_types }).slidingLayers).toHaveLength(11);
  });

  it('reads the RoPE of layers with a window', () => {
    expect(read({ rope_theta: 1e6, rope_local_base_freq: 5e3 })).toMatchObject({ ropeTheta: 1e6, ropeLocalTheta: 5e3 });
    const rope_parameters = {
      full_attention: { rope_type: 'linear', factor: 8, rope_theta: 1e6 },
      sliding_attention: { rope_type: 'default', rope_theta: 5e3 },
    };
    expect(read({ rope_parameters })).toMatchObject({
      ropeTheta: 1e6,
      ropeScaling: { ropeType: 'linear', factor: 8 },
      ropeLocalTheta: 5e3,
    });
  });

  it('reads a dual chunk config', () => {
    const dual_chunk_attention_config = { chunk_size: 100, local_size: 20, original_max_position_embeddings: 400 };
    expect(read({ dual_chunk_attention_config }).dualChunkAttentionConfig).toEqual({
      chunkSize: 100,
      localSize: 20,
      originalMaxPositionEmbeddings: 400,
    });
  });

  it.each<[string, object, string]>([
    [
      'another model type',
      { model_type: 'gemma3' },
      'model_type gemma3; supported: llama, mistral, qwen2, qwen3, olmo2, smollm3, gemma3_text',
    ],
    ['no model type', { model_type: undefined }, 'model_type is missing'],
    ['a missing number', { hidden_size: undefined }, 'hidden_size is missing'],
    ['a text for a number', { hidden_size: '64' }, 'hidden_size is "64"'],
    ['absurd sizes', { vocab_size: 2 ** 40 }, 'vocabSize'],
    ['heads that do not divide', { num_attention_heads: 6 }, 'headDim'],
    ['another activation', { hidden_act: 'gelu' }, 'hidden_act "gelu"; supported: silu, gelu_pytorch_tanh'],
    ['capped logits', { final_logit_softcapping: 30 }, 'final_logit_softcapping 30; supported: none'],
    ['capped scores', { attn_logit_softcapping: 50 }, 'attn_logit_softcapping 50; supported: none'],
    ['attention that looks ahead', { use_bidirectional_attention: true }, 'use_bidirectional_attention'],
    ['queries scaled by nothing', { query_pre_attn_scalar: 0 }, 'query_pre_attn_scalar is 0'],
    [
      'a pattern of no layers',
      { model_type: 'gemma3_text', sliding_window_pattern: 0 },
      'sliding_window_pattern is 0; wanted a whole number above 0',
    ],
    ['quantised weights', { quantization_config: { quant_method: 'gptq' } }, '"gptq"; use a GGUF file'],
    ['partial rotary embedding', { partial_rotary_factor: 0.5 }, 'partial_rotary_factor 0.5'],
    ['it in rope_parameters', { rope_parameters: { partial_rotary_factor: 0.5 } }, 'partial_rotary_factor 0.5'],
    ['longrope', { rope_scaling: { rope_type: 'longrope' } }, 'rope type longrope; supported'],
    ['su', { rope_scaling: { type: 'su' } }, 'rope type su'],
    ['mrope', { rope_scaling: { type: 'default', mrope_section: [1, 2, 3] } }, 'mrope_section'],
    ['RoPE of one layer type only', { rope_parameters: { full_attention: {} } }, 'sliding_attention is missing'],
    ['RoPE of other layer types', { rope_parameters: { chunked_attention: {} } }, 'layer type "chunked_attention"'],
    [
      'a local RoPE without a base',
      { rope_parameters: { full_attention: {}, sliding_attention: {} } },
      'rope_parameters.sliding_attention: rope_theta is missing',
    ],
    [
      'a local RoPE that is scaled',
      { rope_parameters: { full_attention: {}, sliding_attention: { rope_type: 'yarn', rope_theta: 10 } } },
      'rope type yarn in layers with a window',
    ],
    ['a local base of nothing', { rope_local_base_freq: 0 }, 'rope_local_base_freq is 0'],
    ['a local base near nothing', { rope_local_base_freq: 1e-3 }, 'ropeLocalTheta is 0.001'],
    ['so many layers that none can be listed', { num_hidden_layers: 2 ** 40 }, 'numHiddenLayers is 1099511627776'],
    ['scaling without a factor', { rope_scaling: { type: 'linear' } }, 'rope_scaling: factor is missing'],
    ['scaling by a negative factor', { rope_scaling: { type: 'linear', factor: -1 } }, 'factor is -1'],
    ['scaling that is no object', { rope_scaling: 'linear' }, 'rope_scaling is "linear"'],
    ['yarn with mscale', { rope_scaling: { type: 'yarn', factor: 2, mscale: 1 } }, 'yarn with mscale'],
    [
      'llama3 without a ramp',
      { rope_scaling: { type: 'llama3', factor: 2, low_freq_factor: 4, high_freq_factor: 4 } },
      'more than 4',
    ],
    [
      'a share of a layer with full attention',
      { model_type: 'qwen2', use_sliding_window: true, sliding_window: 16, max_window_layers: 1.5 },
      'max_window_layers is 1.5',
    ],
    ['a window that is missing', { layer_types: Array(4).fill('sliding_attention') }, 'sliding_window is missing'],
    ['other layer types', { layer_types: Array(4).fill('linear_attention') }, 'layer type "linear_attention"'],
    [
      'too few signs of RoPE',
      { model_type: 'smollm3', no_rope_layers: [0, 1] },
      'wanted a 0 or 1 for each of 4 layers',
    ],
    ['other signs of RoPE', { model_type: 'smollm3', no_rope_layers: [0, 1, 2, 0] }, 'no_rope_layers is a list of 4'],
    ['too few layer types', { layer_types: ['full_attention'] }, 'layer_types is a list of 1'],
    ['layer types that are no list', { layer_types: 'full_attention' }, 'layer_types is "full'],
    ['a window without size', { model_type: 'mistral', sliding_window: 0 }, 'slidingWindow is 0'],
    [
      'a local window as large as its chunk',
      { dual_chunk_attention_config: { chunk_size: 10, local_size: 10 } },
      'local_size below chunk_size',
    ],
  ])('refuses %s', (_what, changes, message) => {
    expect(() => read(changes)).toThrow(message);
  });
});
