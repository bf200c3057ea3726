/** A model of random weights, small enough for the float64 backend, with attention sharp enough that positions matter. */
import { attentionOf } from '../src/attention.ts';
import type { Backend } from '../src/backends/backend.ts';
import type { ModelConfig } from '../src/config.ts';
import { PLAIN } from '../src/dualChunk.ts';
import { seededRandom } from '../src/eval/random.ts';
import { familyOf } from '../src/families.ts';
import { allocKvCache, pagesFor } from '../src/kvCache.ts';
import type { Placement } from '../src/placement.ts';
import { Engine } from '../src/runtime/engine.ts';
import type { EngineParts } from '../src/runtime/step.ts';
import { type Layer, type Linear, makeTransformer, type Weights } from '../src/transformer.ts';

export const tinyConfig = (more: Partial<ModelConfig> = {}): ModelConfig => ({
  modelType: 'llama',
  vocabSize: 50,
  hiddenSize: 32,
  intermediateSize: 48,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  headDim: 8,
  rmsNormEps: 1e-5,
  ropeTheta: 100,
  maxPositionEmbeddings: 32,
  tieWordEmbeddings: true,
  ...more,
});

/** Weights of any config, F32, with what its family has. */
export function randomWeights(backend: Backend, config: ModelConfig, seed = 'tiny'): Weights {
  const { vocabSize, hiddenSize, intermediateSize, headDim } = config;
  const { qkvBias, qkNorm, norms } = familyOf(config.modelType);
  const random = seededRandom(seed);
  const filled = (rows: number, cols: number, values: Float32Array) => {
    const tensor = backend.alloc('F32', rows, cols);
    backend.write(tensor, values);
    return tensor;
  };
  const matrix = (rows: number, cols: number, gain = 1) =>
    filled(rows, cols, random.normals(rows * cols, gain / Math.sqrt(cols)));
  const norm = (cols: number) =>
    filled(
      1,
      cols,
      random.normals(cols, 0.2).map((deviation) => 1 + deviation),
    );
  const linear = (rows: number, cols: number, gain?: number): Linear => ({ weight: matrix(rows, cols, gain) });
  const attentionInput = (nHeads: number, gain?: number): Linear => ({
    ...linear(nHeads * headDim, hiddenSize, gain),
    ...(qkvBias && { bias: filled(1, nHeads * headDim, random.normals(nHeads * headDim)) }),
  });
  const layer = (): Layer => ({
    ...(norms !== 'after' && { inputLayernorm: norm(hiddenSize) }),
    qProj: attentionInput(config.numAttentionHeads, 2),
    kProj: attentionInput(config.numKeyValueHeads, 2),
    vProj: attentionInput(config.numKeyValueHeads),
    oProj: linear(hiddenSize, config.numAttentionHeads * headDim),
    ...(qkNorm && {
      qNorm: norm(qkNorm === 'all' ? config.numAttentionHeads * headDim : headDim),
      kNorm: norm(qkNorm === 'all' ? config.numKeyValueHeads * headDim : headDim),
    }),
    ...(norms !== 'after' && { preFeedforwardLayernorm: norm(hiddenSize) }),
    ...(norms !== 'before' && { postAttentionLayernorm: norm(hiddenSize), postFeedforwardLayernorm: norm(hiddenSize) }),
    gateProj: linear(intermediateSize, hiddenSize),
    upProj: linear(intermediateSize, hiddenSize),
    downProj: linear(hiddenSize, intermediateSize),
  });
  const embedTokens = matrix(vocabSize, hiddenSize, 4);
  return {
    embedTokens,
    layers: Array.from({ length: config.numHiddenLayers }, layer),
    norm: norm(hiddenSize),
    lmHead: config.tieWordEmbeddings ? { weight: embedTokens } : linear(vocabSize, hiddenSize),
  };
}

export interface TinyOptions {
  backend: Backend;
  config?: ModelConfig;
  placement?: Placement;
  /** Tokens. */
  context?: number;
  sequences?: number;
  blockLen?: number;
  maxLogitRows?: number;
}

/** The parts of an engine over random weights, and the engine. */
export function tinyEngine({
  backend,
  config = tinyConfig(),
  placement = PLAIN,
  context = 64,
  sequences = 1,
  blockLen = context,
  maxLogitRows = blockLen,
}: TinyOptions): EngineParts & { engine: Engine } {
  const attention = attentionOf(config, placement, context);
  const weights = randomWeights(backend, config);
  const sizes = { blockLen, maxLogitRows, nPages: sequences * pagesFor(context) };
  const transformer = makeTransformer(backend, config, weights, attention, sizes);
  const cache = allocKvCache(backend, config, attention, sizes.nPages, Array(config.numHiddenLayers).fill(0));
  const parts = { backend, transformer, cache, context, sequences, ...sizes, vocabSize: config.vocabSize };
  return { ...parts, engine: new Engine(parts) };
}

/** `n` random tokens of the tiny vocabulary. */
export const randomTokens = (n: number, seed = 'tokens'): number[] => {
  const random = seededRandom(seed);
  return Array.from({ length: n }, () => random.integer(0, tinyConfig().vocabSize - 1));
};
