/**
 * `config.json` of a Hugging Face folder becomes a config. What would change the computation unseen is refused by name.
 */
import { type ModelConfig, type RopeScaling, validateConfig } from '../config.ts';
import { FormatError, isRecord, UnsupportedError } from '../errors.ts';
import { everyNth, type Family, familyOf, MODEL_TYPES, type ModelType } from '../families.ts';
import { describe, type Fields, fieldsOf, type JsonRecord } from './record.ts';

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
  const rope = ropeFieldsOf(fields, origin);
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
    ropeTheta: rope.number('rope_theta', fields.number('rope_theta', 10_000)),
    ropeScaling: ropeScalingOf(rope, origin, maxPositionEmbeddings),
    maxPositionEmbeddings,
    layersWithoutRope: layersWithoutRope(fields, family, numHiddenLayers),
    slidingWindow: slidingWindowOf(fields, origin, family, numHiddenLayers),
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
  const act = fields.string('hidden_act', 'silu');
  if (act !== 'silu') throw new UnsupportedError(`${origin}: hidden_act ${act}; supported: silu`);
}

/** Finds the record that says how RoPE is scaled: `rope_parameters` since transformers 5, `rope_scaling` before. */
function ropeFieldsOf(fields: Fields, origin: string): Fields {
  const key = fields.get('rope_parameters') === undefined ? 'rope_scaling' : 'rope_parameters';
  const record = fields.get(key) ?? {};
  if (!isRecord(record)) throw fields.fault(key, 'an object');
  const byLayerType = Object.keys(record).find((name) => isRecord(record[name]));
  if (byLayerType) {
    throw new UnsupportedError(`${origin}: ${key} of its own for ${byLayerType}; wanted one for all layers`);
  }
  const rope = fieldsOf(record, `${origin}: ${key}`);
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
  const option = (key: string) => (rope.get(key) === undefined ? undefined : rope.positive(key));
  const original = rope.positive('original_max_position_embeddings', maxPositionEmbeddings);
  return {
    ropeType: 'yarn',
    factor: rope.positive('factor', maxPositionEmbeddings / original),
    originalMaxPositionEmbeddings: original,
    attentionFactor: option('attention_factor'),
    betaFast: option('beta_fast'),
    betaSlow: option('beta_slow'),
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
function layersWithoutRope(fields: Fields, { noRopeEvery }: Family, nLayers: number): number[] | undefined {
  if (noRopeEvery === undefined) return undefined;
  const listed = fields.get('no_rope_layers');
  if (listed === undefined) return everyNth(fields.number('no_rope_layer_interval', noRopeEvery), nLayers);
  const isListed = Array.isArray(listed) && listed.length === nLayers && listed.every((one) => one === 0 || one === 1);
  if (!isListed) throw fields.fault('no_rope_layers', `a 0 or 1 for each of ${nLayers} layers`);
  return listed.flatMap((hasRope, layer) => (hasRope === 0 ? [layer] : []));
}

function slidingWindowOf(fields: Fields, origin: string, family: Family, nLayers: number): number | undefined {
  const nFull = fullLayers(fields, origin, family, nLayers);
  if (nFull >= nLayers) return undefined;
  if (nFull === 0) return fields.number('sliding_window');
  throw new UnsupportedError(
    `${origin}: ${nFull} of ${nLayers} layers have full attention and the others a sliding window; wanted all alike`,
  );
}

/** Counts the layers whose attention has no window. Before `layer_types`, each model type had its own way to say it. */
function fullLayers(fields: Fields, origin: string, family: Family, nLayers: number): number {
  const layerTypes = fields.get('layer_types');
  if (layerTypes !== undefined) {
    if (!Array.isArray(layerTypes)) throw fields.fault('layer_types', 'a list');
    const other = layerTypes.find((type) => type !== 'full_attention' && type !== 'sliding_attention');
    if (other !== undefined) {
      throw new UnsupportedError(
        `${origin}: layer type ${describe(other)}; supported: full_attention, sliding_attention`,
      );
    }
    if (layerTypes.length !== nLayers) throw fields.fault('layer_types', `one for each of ${nLayers} layers`);
    return layerTypes.filter((type) => type === 'full_attention').length;
  }
  if (family.window === 'length') return fields.get('sliding_window') === undefined ? nLayers : 0;
  if (family.window === undefined || !fields.boolean('use_sliding_window', false)) return nLayers;
  return fields.number('max_window_layers');
}

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
