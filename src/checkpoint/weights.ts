/**
 * Named tensors on disk become the transformer's weights in a backend's memory. One table says which tensors a model
 * has and what their shapes are; the whole checkpoint is held against it before anything is allocated.
 */
import type { Backend, Tensor } from '../backends/backend.ts';
import type { ModelConfig } from '../config.ts';
import { FormatError, UnsupportedError } from '../errors.ts';
import { familyOf } from '../families.ts';
import { dequantizeRow } from '../kernels/dequantize.ts';
import { rowBytes } from '../tensorTypes.ts';
import type { Layer, Linear, WeightBytes, Weights } from '../transformer.ts';
import type { Checkpoint, TensorEntry } from './checkpoint.ts';

export interface ExpectedTensor {
  /** The name is Hugging Face's. */
  readonly name: string;
  /** A vector is `[1, cols]`. */
  readonly rows: number;
  readonly cols: number;
  /** The embedding, the last norm and the head are of no layer. */
  readonly layer?: number;
}

export interface WeightOptions {
  /** Is called with the bytes read so far, and the bytes to read. */
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
  /** Is called with the first bytes of each tensor as they are stored, which tell models of one shape apart. */
  onSample?: (bytes: Uint8Array) => void;
}

/** Bytes of a sample, at most. */
const SAMPLE_BYTES = 64;

/** So many bytes are read at once: enough for the disk, little beside the weights. */
const PIECE_BYTES = 4 * 2 ** 20;

/** A part of a layer is a norm, or a linear map and perhaps its bias. */
interface LayerPart extends ExpectedTensor {
  readonly kind: 'norm' | 'linear';
  readonly needsBias?: boolean;
}

const norm = (name: string, cols: number): LayerPart => ({ kind: 'norm', name, rows: 1, cols });

const linear = (name: string, rows: number, cols: number, needsBias = false): LayerPart => ({
  kind: 'linear',
  name,
  rows,
  cols,
  needsBias,
});

/** The table has the fields of a layer, their names behind `model.layers.N.`, and their shapes. */
function layerParts(config: ModelConfig): Partial<Record<keyof Layer, LayerPart>> {
  const { hiddenSize, intermediateSize, headDim } = config;
  const { qkvBias, qkNorm, norms } = familyOf(config.modelType);
  const qSize = config.numAttentionHeads * headDim;
  const kvSize = config.numKeyValueHeads * headDim;
  return {
    ...(norms !== 'after' && { inputLayernorm: norm('input_layernorm', hiddenSize) }),
    // Where all norms come before, the name of the second tells where it stands, and not what it is of.
    ...(norms === 'before'
      ? { preFeedforwardLayernorm: norm('post_attention_layernorm', hiddenSize) }
      : {
          postAttentionLayernorm: norm('post_attention_layernorm', hiddenSize),
          postFeedforwardLayernorm: norm('post_feedforward_layernorm', hiddenSize),
        }),
    ...(norms === 'both' && { preFeedforwardLayernorm: norm('pre_feedforward_layernorm', hiddenSize) }),
    qProj: linear('self_attn.q_proj', qSize, hiddenSize, qkvBias),
    kProj: linear('self_attn.k_proj', kvSize, hiddenSize, qkvBias),
    vProj: linear('self_attn.v_proj', kvSize, hiddenSize, qkvBias),
    oProj: linear('self_attn.o_proj', hiddenSize, qSize),
    ...(qkNorm && {
      qNorm: norm('self_attn.q_norm', qkNorm === 'all' ? qSize : headDim),
      kNorm: norm('self_attn.k_norm', qkNorm === 'all' ? kvSize : headDim),
    }),
    gateProj: linear('mlp.gate_proj', intermediateSize, hiddenSize),
    upProj: linear('mlp.up_proj', intermediateSize, hiddenSize),
    downProj: linear('mlp.down_proj', hiddenSize, intermediateSize),
  };
}

const layerPrefix = (l: number) => `model.layers.${l}.`;

/**
 * Lists the tensors a checkpoint must have. An optional bias is expected in every layer when the first layer has it. A
 * head of its own is used where the file has one, whatever its config says of tying, as in transformers 5.
 */
export function expectedTensors({ config, tensors }: Pick<Checkpoint, 'config' | 'tensors'>): ExpectedTensor[] {
  const { vocabSize, hiddenSize, numHiddenLayers, tieWordEmbeddings } = config;
  const parts = Object.values(layerParts(config));
  const tensorsOf = (l: number) =>
    parts.flatMap(({ kind, name, rows, cols, needsBias }) => {
      const weight = { name: `${layerPrefix(l)}${name}.weight`, rows, cols, layer: l };
      const hasBias = kind === 'linear' && (needsBias || tensors.has(`${layerPrefix(0)}${name}.bias`));
      return hasBias ? [weight, { name: `${layerPrefix(l)}${name}.bias`, rows: 1, cols: rows, layer: l }] : [weight];
    });
  return [
    { name: 'model.embed_tokens.weight', rows: vocabSize, cols: hiddenSize },
    ...Array.from({ length: numHiddenLayers }, (_, l) => tensorsOf(l)).flat(),
    { name: 'model.norm.weight', rows: 1, cols: hiddenSize },
    ...(tieWordEmbeddings && !tensors.has('lm_head.weight')
      ? []
      : [{ name: 'lm_head.weight', rows: vocabSize, cols: hiddenSize }]),
  ];
}

/** Tells RoPE's frequencies, which files carry and no forward pass needs. */
const isSpare = (name: string) => name.endsWith('rotary_emb.inv_freq') || name === 'rope_freqs.weight';

/**
 * Finds the entries of all expected tensors.
 * @throws FormatError, UnsupportedError when the file's tensors are others.
 */
function checkedEntries({ name: origin, config, tensors }: Checkpoint): (TensorEntry & { layer?: number })[] {
  const expected = expectedTensors({ config, tensors });
  const names = new Set(expected.map(({ name }) => name));
  for (const name of tensors.keys()) {
    if (!names.has(name) && !isSpare(name)) {
      throw new UnsupportedError(
        `${origin}: tensor ${name} is not part of a ${config.modelType} model as this library computes it`,
      );
    }
  }
  return expected.map(({ name, rows, cols, layer }) => {
    const entry = tensors.get(name);
    if (!entry) throw new FormatError(`${origin}: tensor ${name} is missing; the model is incomplete`);
    if (entry.rows !== rows || entry.cols !== cols) {
      throw new FormatError(`${origin}: tensor ${name} is [${entry.rows}, ${entry.cols}]; wanted [${rows}, ${cols}]`);
    }
    return { ...entry, layer };
  });
}

/** Counts the bytes the weights will take in memory. @throws as `loadWeights`. */
export function weightBytes(checkpoint: Checkpoint): WeightBytes {
  const bytes = { layers: Array<number>(checkpoint.config.numHiddenLayers).fill(0), others: 0 };
  for (const { layer, rows, cols, nBytes } of checkedEntries(checkpoint)) {
    const stored = rows === 1 ? 4 * cols : nBytes;
    if (layer === undefined) bytes.others += stored;
    else bytes.layers[layer] += stored;
  }
  return bytes;
}

/**
 * Copies the weights into a backend. Matrices keep their stored type and bytes; vectors become F32.
 *
 * @param stageOf The stage of each layer; what is of no layer goes to stage 0.
 * @throws FormatError, UnsupportedError when tensors are missing, misshapen or unknown; the signal's reason on abort.
 */
export async function loadWeights(
  checkpoint: Checkpoint,
  backend: Backend,
  stageOf: readonly number[],
  { onProgress, signal, onSample }: WeightOptions = {},
): Promise<Weights> {
  const entries = checkedEntries(checkpoint);
  const total = entries.reduce((sum, { nBytes }) => sum + nBytes, 0);
  const loaded = new Map<string, Tensor>();
  let done = 0;
  signal?.throwIfAborted();
  for (const entry of entries) {
    const load = entry.rows === 1 ? loadVector : loadMatrix;
    const stage = entry.layer === undefined ? 0 : stageOf[entry.layer];
    let isFirst = true;
    const advance = (bytes: Uint8Array) => {
      if (isFirst) onSample?.(bytes.slice(0, SAMPLE_BYTES));
      isFirst = false;
      done += bytes.length;
      onProgress?.(done, total);
      signal?.throwIfAborted();
    };
    loaded.set(entry.name, await load(entry, backend, stage, advance));
  }
  return assemble(checkpoint.config, loaded);
}

type Load = (entry: TensorEntry, b: Backend, stage: number, advance: (bytes: Uint8Array) => void) => Promise<Tensor>;

const loadVector: Load = async (entry, backend, stage, advance) => {
  const { type, cols, source, byteOffset, nBytes, interleavedHeadDim, isAboveOne } = entry;
  const stored = await source.read(byteOffset, nBytes);
  const values = new Float64Array(cols);
  dequantizeRow(type, new DataView(stored.buffer, stored.byteOffset), 0, values);
  if (isAboveOne) for (let c = 0; c < cols; c++) values[c] += 1;
  const tensor = backend.alloc('F32', 1, cols, stage);
  backend.write(tensor, interleavedHeadDim ? values.map((_, i) => values[fileRow(i, interleavedHeadDim)]) : values);
  advance(stored);
  return tensor;
};

const loadMatrix: Load = async (entry, backend, stage, advance) => {
  const { type, rows, cols, source, byteOffset, interleavedHeadDim } = entry;
  const tensor = backend.alloc(type, rows, cols, stage);
  const bytesOfRow = rowBytes(type, cols);
  // A piece has whole rows, and whole heads where the rows of a head change places.
  const unit = interleavedHeadDim ?? 1;
  const pieceRows = Math.max(unit, Math.floor(PIECE_BYTES / (bytesOfRow * unit)) * unit);
  for (let row = 0; row < rows; row += pieceRows) {
    const start = row * bytesOfRow;
    const stored = await source.read(byteOffset + start, Math.min(pieceRows, rows - row) * bytesOfRow);
    const bytes = interleavedHeadDim ? deinterleaved(stored, bytesOfRow, interleavedHeadDim) : stored;
    backend.load(tensor, bytes, start);
    advance(bytes);
  }
  return tensor;
};

/** Tells where a file with interleaved heads keeps row `row`; see `TensorEntry.interleavedHeadDim`. */
function fileRow(row: number, headDim: number): number {
  const withinHead = row % headDim;
  const half = headDim / 2;
  return row - withinHead + 2 * (withinHead % half) + Math.floor(withinHead / half);
}

function deinterleaved(stored: Uint8Array, bytesOfRow: number, headDim: number): Uint8Array {
  const bytes = new Uint8Array(stored.length);
  for (let row = 0; row * bytesOfRow < bytes.length; row++) {
    const from = fileRow(row, headDim) * bytesOfRow;
    bytes.set(stored.subarray(from, from + bytesOfRow), row * bytesOfRow);
  }
  return bytes;
}

function assemble(config: ModelConfig, loaded: ReadonlyMap<string, Tensor>): Weights {
  const weight = (name: string) => loaded.get(`${name}.weight`) as Tensor;
  const linear = (name: string): Linear => ({ weight: weight(name), bias: loaded.get(`${name}.bias`) });
  const parts = Object.entries(layerParts(config));
  const layer = (l: number) =>
    Object.fromEntries(
      parts.map(([field, { kind, name }]) => [field, (kind === 'linear' ? linear : weight)(layerPrefix(l) + name)]),
    ) as unknown as Layer;
  const embedTokens = weight('model.embed_tokens');
  return {
    embedTokens,
    layers: Array.from({ length: config.numHiddenLayers }, (_, l) => layer(l)),
    norm: weight('model.norm'),
    lmHead: loaded.has('lm_head.weight') ? linear('lm_head') : { weight: embedTokens },
  };
}
