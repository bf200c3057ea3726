/**
 * GGUF is put in Hugging Face's terms: keys of llama.cpp become a config, its tensor names those of a Hugging Face
 * folder.
 */
import { layersOf, type ModelConfig, type RopeScaling, slidingFields, validateConfig } from '../config.ts';
import { FormatError, UnsupportedError } from '../errors.ts';
import { embeddingFactor, everyNth, type Family, familyOf, MODEL_TYPES, type ModelType } from '../families.ts';
import { dequantizeRow } from '../kernels/dequantize.ts';
import type { TensorEntry } from './checkpoint.ts';
import type { Gguf } from './gguf.ts';
import { describe, type Fields, fieldsOf, isList } from './record.ts';
import type { Source } from './source.ts';

/** This tensor has one divisor for each RoPE frequency, F32 `[headDim / 2]`. */
const ROPE_FACTORS = 'rope_freqs.weight';

/** Reads a config. @throws FormatError, UnsupportedError */
export async function ggufConfig(gguf: Gguf, source: Source): Promise<ModelConfig> {
  const origin = source.name;
  const fields = fieldsOf(gguf.metadata, origin);
  const modelType = modelTypeOf(fields, origin);
  const family = familyOf(modelType);
  const { architecture, noRopeEvery, activation, ropeLocalTheta, widerScaleAt } = family;
  const key = (name: string) => `${architecture}.${name}`;
  refuseVariants(fields, key, origin);

  const hiddenSize = fields.number(key('embedding_length'));
  const numAttentionHeads = sameInAllLayers(fields, key('attention.head_count'), origin);
  const headDim = headDimOf(fields, key, origin, hiddenSize / numAttentionHeads);
  const maxPositionEmbeddings = fields.number(key('context_length'));
  const numHiddenLayers = fields.number(key('block_count'));
  const layers = layersOf(numHiddenLayers, origin);
  const slidingWindow = fields.number(key('attention.sliding_window'), 0);
  const sliding = slidingWindow === 0 ? [] : slidingLayersOf(fields, key, family, layers);
  const config: ModelConfig = {
    modelType,
    vocabSize: vocabSizeOf(gguf, origin),
    hiddenSize,
    intermediateSize: sameInAllLayers(fields, key('feed_forward_length'), origin),
    numHiddenLayers,
    numAttentionHeads,
    numKeyValueHeads: sameInAllLayers(fields, key('attention.head_count_kv'), origin, numAttentionHeads),
    headDim,
    rmsNormEps: fields.number(key('attention.layer_norm_rms_epsilon')),
    hiddenAct: activation ?? 'silu',
    embeddingFactor: embeddingFactor(family, hiddenSize),
    queryPreAttnScalar: numHiddenLayers === widerScaleAt ? hiddenSize / numAttentionHeads : undefined,
    ropeTheta: fields.number(key('rope.freq_base'), 10_000),
    ropeScaling: await ropeScalingOf(gguf, source, fields, key, maxPositionEmbeddings),
    maxPositionEmbeddings,
    layersWithoutRope: noRopeEvery === undefined ? undefined : everyNth(noRopeEvery, layers),
    ...slidingFields(sliding, numHiddenLayers, () => slidingWindow),
    ropeLocalTheta: fields.optional(key('rope.freq_base_swa')) ?? ropeLocalTheta,
    tieWordEmbeddings: !gguf.tensors.some(({ name }) => name === 'output.weight'),
  };
  checkFactors(config, origin);
  return validateConfig(config, origin);
}

type Key = (name: string) => string;

/** Finds the first family of the architecture, as `llama` is Mistral's too. */
function modelTypeOf(fields: Fields, origin: string): ModelType {
  const name = fields.string('general.architecture');
  const modelType = MODEL_TYPES.find((type) => familyOf(type).architecture === name);
  if (modelType) return modelType;
  const supported = new Set(MODEL_TYPES.map((type) => familyOf(type).architecture));
  throw new UnsupportedError(`${origin}: architecture ${describe(name)}; supported: ${[...supported].join(', ')}`);
}

/** Refuses what llama.cpp can express and this forward pass does not compute. */
function refuseVariants(fields: Fields, key: Key, origin: string): void {
  const nExperts = fields.number(key('expert_count'), 0);
  if (nExperts !== 0)
    throw new UnsupportedError(`${origin}: a mixture of ${nExperts} experts; supported: dense models`);
  for (const name of ['final_logit_softcapping', 'attn_logit_softcapping'].map(key)) {
    const cap = fields.get(name);
    if (cap !== undefined) throw new UnsupportedError(`${origin}: ${name} ${describe(cap)}; supported: none`);
  }
}

/**
 * Gives the layers that have the window. They are listed one by one, or are all but every so many-th; where neither is
 * said, as in the family.
 */
function slidingLayersOf(fields: Fields, key: Key, { fullEvery = 0 }: Family, layers: readonly number[]): number[] {
  const name = key('attention.sliding_window_pattern');
  const pattern = fields.get(name) ?? fullEvery;
  const signs = isList(pattern) ? Array.from(pattern) : [];
  if (signs.length === layers.length && signs.every((sign) => sign === 0 || sign === 1)) {
    return layers.filter((layer) => signs[layer] === 1);
  }
  if (typeof pattern !== 'number' || !Number.isInteger(pattern) || pattern < 0) {
    throw fields.fault(name, `a whole number, or a 0 or 1 for each of ${layers.length} layers`);
  }
  const full = new Set(everyNth(pattern, layers));
  return layers.filter((layer) => !full.has(layer));
}

/** Reads a number that may also be listed layer by layer, if all layers agree. */
function sameInAllLayers(fields: Fields, key: string, origin: string, fallback?: number): number {
  const value = fields.get(key);
  if (!isList(value)) return fields.number(key, fallback);
  const [first, ...others] = new Set(Array.from(value));
  if (typeof first !== 'number') throw fields.fault(key, 'a number, or one for each layer');
  if (others.length > 0) {
    throw new UnsupportedError(`${origin}: ${key} differs from layer to layer; wanted all layers alike`);
  }
  return first;
}

function headDimOf(fields: Fields, key: Key, origin: string, fallback: number): number {
  const headDim = fields.number(key('attention.key_length'), fallback);
  const valueDim = fields.number(key('attention.value_length'), headDim);
  const rotated = fields.number(key('rope.dimension_count'), headDim);
  if (valueDim !== headDim) {
    throw new UnsupportedError(`${origin}: keys have ${headDim} numbers and values ${valueDim}; wanted the same`);
  }
  if (rotated !== headDim) {
    throw new UnsupportedError(
      `${origin}: partial rotary embedding, ${rotated} of ${headDim} dimensions; wanted all (rope.dimension_count)`,
    );
  }
  return headDim;
}

/** Counts the rows of the embedding, since padded vocabularies have more rows than tokens. */
function vocabSizeOf({ metadata, tensors }: Gguf, origin: string): number {
  const tokens = metadata['tokenizer.ggml.tokens'];
  const nTokens = isList(tokens) ? tokens.length : 0;
  const nRows = tensors.find(({ name }) => name === 'token_embd.weight')?.rows ?? nTokens;
  if (nTokens <= nRows) return nRows;
  throw new FormatError(`${origin}: the vocabulary has ${nTokens} tokens, but token_embd.weight only ${nRows} rows`);
}

async function ropeScalingOf(
  gguf: Gguf,
  source: Source,
  fields: Fields,
  key: Key,
  maxPositionEmbeddings: number,
): Promise<RopeScaling | undefined> {
  const scaling = namedScalingOf(fields, key, source.name, maxPositionEmbeddings);
  const factors = gguf.tensors.find(({ name }) => name === ROPE_FACTORS);
  if (!factors) return scaling;
  if (scaling) throw new UnsupportedError(`${source.name}: both ${ROPE_FACTORS} and rope.scaling; wanted one of them`);
  const { type, rows, cols, byteOffset, nBytes } = factors;
  if (rows * cols > 1024)
    throw new FormatError(`${source.name}: ${ROPE_FACTORS} has ${rows * cols} numbers; wanted few`);
  const bytes = await source.read(byteOffset, nBytes);
  const values = new Float64Array(rows * cols);
  dequantizeRow(type, new DataView(bytes.buffer, bytes.byteOffset), 0, values);
  return { ropeType: 'factors', factors: Array.from(values) };
}

function namedScalingOf(
  fields: Fields,
  key: Key,
  origin: string,
  maxPositionEmbeddings: number,
): RopeScaling | undefined {
  const olderFactor = fields.positive(key('rope.scale_linear'), 1);
  const ropeType = fields.string(key('rope.scaling.type'), olderFactor === 1 ? 'none' : 'linear');
  if (ropeType === 'none') return undefined;
  if (ropeType !== 'linear' && ropeType !== 'yarn') {
    throw new UnsupportedError(`${origin}: rope.scaling.type ${describe(ropeType)}; supported: none, linear, yarn`);
  }
  const factor = fields.positive(key('rope.scaling.factor'), olderFactor);
  if (ropeType === 'linear') return { ropeType, factor };
  return {
    ropeType,
    factor,
    originalMaxPositionEmbeddings: fields.positive(key('rope.scaling.original_context_length'), maxPositionEmbeddings),
    ...yarnOptions(fields, key, factor),
  };
}

/**
 * Reads keys as llama.cpp's converter writes them; `attn_factor` multiplies YaRN's own length, the other replaces it.
 */
function yarnOptions(fields: Fields, key: Key, factor: number) {
  const option = (name: string) => fields.optional(key(name));
  const multiplier = option('rope.scaling.attn_factor');
  return {
    attentionFactor:
      multiplier === undefined
        ? option('rope.scaling.yarn_attn_factor')
        : multiplier * (factor > 1 ? 0.1 * Math.log(factor) + 1 : 1),
    betaFast: option('rope.scaling.yarn_beta_fast'),
    betaSlow: option('rope.scaling.yarn_beta_slow'),
  };
}

function checkFactors({ ropeScaling, headDim }: ModelConfig, origin: string): void {
  if (ropeScaling?.ropeType !== 'factors') return;
  const { factors } = ropeScaling;
  if (factors.length !== headDim / 2) {
    throw new FormatError(`${origin}: ${ROPE_FACTORS} has ${factors.length} numbers; wanted ${headDim / 2}`);
  }
}

/** Parts of tensor names are llama.cpp's on the left and Hugging Face's on the right. */
const MODEL_NAMES = new Map([
  ['token_embd', 'model.embed_tokens'],
  ['output_norm', 'model.norm'],
  ['output', 'lm_head'],
]);

const LAYER_NAMES = new Map([
  ['attn_norm', 'input_layernorm'],
  ['attn_q', 'self_attn.q_proj'],
  ['attn_k', 'self_attn.k_proj'],
  ['attn_v', 'self_attn.v_proj'],
  ['attn_output', 'self_attn.o_proj'],
  ['attn_q_norm', 'self_attn.q_norm'],
  ['attn_k_norm', 'self_attn.k_norm'],
  ['post_attention_norm', 'post_attention_layernorm'],
  ['post_ffw_norm', 'post_feedforward_layernorm'],
  ['ffn_norm', 'post_attention_layernorm'],
  ['ffn_gate', 'mlp.gate_proj'],
  ['ffn_up', 'mlp.up_proj'],
  ['ffn_down', 'mlp.down_proj'],
]);

/**
 * Turns `blk.3.attn_q.weight` into `model.layers.3.self_attn.q_proj.weight`; a name that no part knows stays as it is.
 */
export function huggingFaceName(name: string, { norms }: Family): string {
  const [, layer, part, kind] = /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/.exec(name) ?? [];
  const names = layer === undefined ? MODEL_NAMES : LAYER_NAMES;
  const known = part === 'ffn_norm' && norms === 'both' ? 'pre_feedforward_layernorm' : names.get(part);
  if (known === undefined) return name;
  return layer === undefined ? `${known}.${kind}` : `model.layers.${layer}.${known}.${kind}`;
}

/** Gives the file's tensors by their Hugging Face names. */
export function ggufTensors({ tensors }: Gguf, { modelType, headDim }: ModelConfig, source: Source) {
  const family = familyOf(modelType);
  const entries = new Map<string, TensorEntry>();
  for (const tensor of tensors) {
    const name = huggingFaceName(tensor.name, family);
    if (entries.has(name)) throw new FormatError(`${source.name}: tensors ${tensor.name} and ${name} are the same one`);
    const isInterleaved = family.interleaves === true && /\.self_attn\.[qk]_proj\./.test(name);
    entries.set(name, { ...tensor, name, source, ...(isInterleaved && { interleavedHeadDim: headDim }) });
  }
  return entries;
}
