/**
 * `config.json` of a Hugging Face folder becomes a config. What would change the computation unseen is refused by name.
 */
import { layersOf, type ModelConfig, type RopeScaling, slidingFields, validateConfig } from '../config.ts';
import { FormatError, isRecord, UnsupportedError } from '../errors.ts';
import { embeddingFactor, everyNth, type Family, familyOf, MODEL_TYPES, type ModelType } from '../families.ts';
import type { Activation } from '../kernels/elementwise.ts';
import { describe, type Fields, fieldsOf, type JsonRecord } from './record.ts';

const [FULL, SLIDING] = ['full_attention', 'sliding_attention'];
const LAYER_TYPES = [FULL, SLIDING];
const ACTIVATIONS = new Map<unknown, Activation>([
  ['silu', 'silu'],
  ['gelu_pytorch_tanh', 'gelu'],
]);
const ROPE_TYPES = 'default, linear, dynamic, yarn, llama3';

/** Reads a config. @param origin The path of the file, for messages. @throws FormatError, UnsupportedError */
export function hfConfig(json: JsonRecord, origin: string): ModelConfig {
  const fields = fieldsOf(json, origin);
  const modelType = modelTypeOf(fields, origin);
  const family = familyOf(modelType);
  refuseVariants(fields, origin);

  const hiddenSize = fields.number('hidden_size');
  const numAttentionHeads = fields.number('num_attention_heads');
  const numHiddenLayers = fields.number('num_hidden_layers');
  const maxPositionEmbeddings = fields.number('max_position_embeddings');
  const layers = layersOf(numHiddenLayers, origin);
  const withoutRope = layersWithoutRope(fields, family, layers);
  const sliding = slidingLayersOf(fields, origin, family, layers, withoutRope);
  const { rope, localTheta } = ropeFieldsOf(fields, origin);
  const config: ModelConfig = {
    modelType,
    vocabSize: fields.number('vocab_size'),
    hiddenSize,
    intermediateSize: fields.number('intermediate_size'),
    numHiddenLayers,
    numAttentionHeads,
    numKeyValueHeads: fields.number('num_key_value_heads', numAttentionHeads),
    headDim: fields.number('head_dim', family.headDim ?? hiddenSize / numAttentionHeads),
    rmsNormEps: fields.number('rms_norm_eps', 1e-6),
    hiddenAct: activationOf(fields, origin, family),
    embeddingFactor: embeddingFactor(family, hiddenSize),
    queryPreAttnScalar: fields.optional('query_pre_attn_scalar'),
    ropeTheta: rope.number('rope_theta', fields.number('rope_theta', 10_000)),
    ropeScaling: ropeScalingOf(rope, origin, maxPositionEmbeddings),
    maxPositionEmbeddings,
    layersWithoutRope: withoutRope,
    ...slidingFields(sliding, numHiddenLayers, () => fields.number('sliding_window')),
    ropeLocalTheta: localTheta ?? fields.optional('rope_local_base_freq') ?? family.ropeLocalTheta,
    tieWordEmbeddings: fields.boolean('tie_word_embeddings', family.tiesEmbeddings === true),
    dualChunkAttentionConfig: dualChunkOf(fields, origin),
  };
  return validateConfig(config, origin);
}

function modelTypeOf(fields: Fields, origin: string): ModelType {
  const name = fields.string('model_type');
  const modelType = MODEL_TYPES.find((supported) => supported === name);
  if (modelType) return modelType;
  throw new UnsupportedError(`${origin}: model_type ${name}; supported: ${MODEL_TYPES.join(', ')}`);
}

function refuseVariants(fields: Fields, origin: string): void {
  const quantization = fields.get('quantization_config');
  if (quantization !== undefined) {
    const method = isRecord(quantization) ? describe(quantization.quant_method) : describe(quantization);
    throw new UnsupportedError(`${origin}: quantization_config ${method}; use a GGUF file of this model instead`);
  }
  for (const key of ['final_logit_softcapping', 'attn_logit_softcapping']) {
    const cap = fields.get(key);
    if (cap !== undefined) throw new UnsupportedError(`${origin}: ${key} ${describe(cap)}; supported: none`);
  }
  if (fields.boolean('use_bidirectional_attention', false)) {
    throw new UnsupportedError(`${origin}: use_bidirectional_attention; supported: models that read left to right`);
  }
}

function activationOf(fields: Fields, origin: string, family: Family): Activation {
  const name = fields.get('hidden_activation') ?? fields.get('hidden_act');
  const activation = name === undefined ? (family.activation ?? 'silu') : ACTIVATIONS.get(name);
  if (activation) return activation;
  const supported = [...ACTIVATIONS.keys()].join(', ');
  throw new UnsupportedError(`${origin}: hidden_act ${describe(name)}; supported: ${supported}`);
}

/**
 * Finds the record that says how RoPE is scaled: `rope_parameters` since transformers 5, `rope_scaling` before. Where each
 * type of layer has one of its own, it is that of layers with full attention, besides the base of the others.
 */
function ropeFieldsOf(fields: Fields, origin: string): { rope: Fields; localTheta?: number } {
  const key = fields.get('rope_parameters') === undefined ? 'rope_scaling' : 'rope_parameters';
  const record = fields.get(key) ?? {};
  if (!isRecord(record)) throw fields.fault(key, 'an object');
  if (!Object.values(record).some(isRecord)) return { rope: plainRopeOf(record, `${origin}: ${key}`, fields) };
  const byType = fieldsOf(record, `${origin}: ${key}`);
  const ofType = (type: string) => {
    const own = byType.get(type);
    if (!isRecord(own)) throw byType.fault(type, 'an object, as other types of layers have');
    return plainRopeOf(own, `${origin}: ${key}.${type}`, fields);
  };
  const other = Object.keys(record).find((type) => !LAYER_TYPES.includes(type));
  if (other !== undefined) throw otherLayerType(other, `${origin}: ${key}`);
  const local = ofType(SLIDING);
  const localType = local.string('rope_type', 'default');
  if (localType !== 'default') {
    throw new UnsupportedError(`${origin}: rope type ${localType} in layers with a window; supported: default`);
  }
  return { rope: ofType(FULL), localTheta: local.positive('rope_theta') };
}

function plainRopeOf(record: JsonRecord, origin: string, fields: Fields): Fields {
  const rope = fieldsOf(record, origin);
  const rotated = rope.number('partial_rotary_factor', fields.number('partial_rotary_factor', 1));
  if (rotated !== 1) throw new UnsupportedError(`${origin}: partial_rotary_factor ${rotated}; supported: 1`);
  if (rope.get('mrope_section') !== undefined) {
    throw new UnsupportedError(`${origin}: multimodal RoPE (mrope_section); supported: ${ROPE_TYPES}`);
  }
  return rope;
}

function ropeScalingOf(rope: Fields, origin: string, maxPositionEmbeddings: number): RopeScaling | undefined {
  const ropeType = rope.string('rope_type', rope.string('type', 'default'));
  switch (ropeType) {
    case 'default':
      return undefined;
    case 'linear':
    case 'dynamic':
      return { ropeType, factor: rope.positive('factor') };
    case 'yarn':
      return yarnOf(rope, origin, maxPositionEmbeddings);
    case 'llama3':
      return llama3Of(rope);
    default:
      throw new UnsupportedError(`${origin}: rope type ${ropeType}; supported: ${ROPE_TYPES}`);
  }
}

function yarnOf(rope: Fields, origin: string, maxPositionEmbeddings: number): RopeScaling {
  for (const variant of ['mscale', 'mscale_all_dim']) {
    if (rope.get(variant) !== undefined) {
      throw new UnsupportedError(`${origin}: yarn with ${variant}; supported: yarn with attention_factor`);
    }
  }
  if (!rope.boolean('truncate', true)) throw new UnsupportedError(`${origin}: yarn without truncate; supported: with`);
  const original = rope.positive('original_max_position_embeddings', maxPositionEmbeddings);
  return {
    ropeType: 'yarn',
    factor: rope.positive('factor', maxPositionEmbeddings / original),
    originalMaxPositionEmbeddings: original,
    attentionFactor: rope.optional('attention_factor'),
    betaFast: rope.optional('beta_fast'),
    betaSlow: rope.optional('beta_slow'),
  };
}

function llama3Of(rope: Fields): RopeScaling {
  const lowFreqFactor = rope.positive('low_freq_factor');
  const highFreqFactor = rope.positive('high_freq_factor');
  if (highFreqFactor <= lowFreqFactor) throw rope.fault('high_freq_factor', `more than ${lowFreqFactor}`);
  return {
    ropeType: 'llama3',
    factor: rope.positive('factor'),
    lowFreqFactor,
    highFreqFactor,
    originalMaxPositionEmbeddings: rope.positive('original_max_position_embeddings'),
  };
}

/** `no_rope_layers` has a 0 for each of them; where it is missing, every so many-th is one. */
function layersWithoutRope(fields: Fields, { noRopeEvery }: Family, layers: number[]): number[] | undefined {
  const nLayers = layers.length;
  if (noRopeEvery === undefined) return undefined;
  const listed = fields.get('no_rope_layers');
  if (listed === undefined) return everyNth(fields.number('no_rope_layer_interval', noRopeEvery), layers);
  const isListed = Array.isArray(listed) && listed.length === nLayers && listed.every((one) => one === 0 || one === 1);
  if (!isListed) throw fields.fault('no_rope_layers', `a 0 or 1 for each of ${nLayers} layers`);
  return listed.flatMap((hasRope, layer) => (hasRope === 0 ? [layer] : []));
}

/** Gives the layers whose attention has a window. Before `layer_types`, each model type had its own way to say it. */
function slidingLayersOf(
  fields: Fields,
  origin: string,
  family: Family,
  layers: readonly number[],
  withoutRope: readonly number[] | undefined,
): readonly number[] {
  const layerTypes = fields.get('layer_types');
  if (layerTypes !== undefined) {
    if (!Array.isArray(layerTypes)) throw fields.fault('layer_types', 'a list');
    const other = layerTypes.find((type) => !LAYER_TYPES.includes(type));
    if (other !== undefined) throw otherLayerType(other, origin);
    if (layerTypes.length !== layers.length)
      throw fields.fault('layer_types', `one for each of ${layers.length} layers`);
    return layers.filter((layer) => layerTypes[layer] === SLIDING);
  }
  if (family.fullEvery !== undefined) {
    const pattern = fields.number('sliding_window_pattern', family.fullEvery);
    if (!Number.isInteger(pattern) || pattern < 1)
      throw fields.fault('sliding_window_pattern', 'a whole number above 0');
    const full = new Set(everyNth(pattern, layers));
    return layers.filter((layer) => !full.has(layer));
  }
  if (family.window === 'length') return fields.get('sliding_window') === undefined ? [] : layers;
  if (family.window === undefined || !fields.boolean('use_sliding_window', false)) return [];
  if (withoutRope) return withoutRope; // as in SmolLM3
  const nFull = fields.number('max_window_layers');
  if (!Number.isInteger(nFull) || nFull < 0) throw fields.fault('max_window_layers', 'a whole number');
  return layers.slice(nFull);
}

const otherLayerType = (type: unknown, origin: string) =>
  new UnsupportedError(`${origin}: layer type ${describe(type)}; supported: ${LAYER_TYPES.join(', ')}`);

function dualChunkOf(fields: Fields, origin: string): ModelConfig['dualChunkAttentionConfig'] {
  const record = fields.get('dual_chunk_attention_config');
  if (record === undefined) return undefined;
  if (!isRecord(record)) throw fields.fault('dual_chunk_attention_config', 'an object');
  const where = `${origin}: dual_chunk_attention_config`;
  const dualChunk = fieldsOf(record, where);
  const chunkSize = dualChunk.number('chunk_size');
  const localSize = dualChunk.number('local_size');
  const originalMaxPositionEmbeddings = dualChunk.number('original_max_position_embeddings', 0);
  const isWhole = [chunkSize, localSize, originalMaxPositionEmbeddings].every(
    (n) => Number.isInteger(n) && n >= 0 && n < 2 ** 29,
  );
  if (isWhole && localSize < chunkSize) return { chunkSize, localSize, originalMaxPositionEmbeddings };
  throw new FormatError(
    `${where}: chunk_size ${chunkSize}, local_size ${localSize}, original_max_position_embeddings ` +
      `${originalMaxPositionEmbeddings}; wanted whole numbers and local_size below chunk_size`,
  );
}
