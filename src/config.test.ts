import { describe, expect, it } from 'vitest';
import { type ModelConfig, type RopeScaling, trainedWindow, validateConfig } from './config.ts';
import { FormatError } from './errors.ts';

const modelOf = (more: Partial<ModelConfig> = {}): ModelConfig => ({
  modelType: 'llama',
  vocabSize: 100,
  hiddenSize: 32,
  intermediateSize: 64,
  numHiddenLayers: 1,
  numAttentionHeads: 2,
  numKeyValueHeads: 2,
  headDim: 16,
  rmsNormEps: 1e-6,
  ropeTheta: 10000,
  maxPositionEmbeddings: 4096,
  tieWordEmbeddings: true,
  ...more,
});

const yarn = { ropeType: 'yarn', factor: 4, originalMaxPositionEmbeddings: 4096 } as const;
const llama3 = { ropeType: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4 } as const;

describe('trainedWindow', () => {
  it.each<[string, Partial<ModelConfig>, number]>([
    ['is that of the config', {}, 4096],
    ['grows with PI, as Vicuna 16k was fine-tuned', { ropeScaling: { ropeType: 'linear', factor: 4 } }, 16384],
    ['grows with YaRN', { ropeScaling: yarn }, 16384],
    ['counts YaRN once', { ropeScaling: yarn, maxPositionEmbeddings: 16384 }, 16384],
    ['does not grow with what is used without training', { ropeScaling: { ropeType: 'dynamic', factor: 4 } }, 4096],
    [
      'does not grow with llama3, whose config has the longer one',
      { ropeScaling: { ...llama3, originalMaxPositionEmbeddings: 512 } },
      4096,
    ],
    [
      'is that before dual chunks',
      { dualChunkAttentionConfig: { chunkSize: 100, localSize: 10, originalMaxPositionEmbeddings: 200 } },
      200,
    ],
  ])('%s', (_what, more, window) => expect(trainedWindow(modelOf(more))).toBe(window));
});

describe('validateConfig', () => {
  const scaled = (more: object) => ({ ropeScaling: { ...yarn, ...more } as RopeScaling });

  it.each<[Partial<ModelConfig>, string]>([
    [scaled({ factor: 1e308 }), 'ropeScaling.factor is 1e+308'],
    [scaled({ factor: Number.NaN }), 'ropeScaling.factor is NaN'],
    [scaled({ factor: 2 ** 18 }), 'the trained window is 1073741824 tokens'],
    [scaled({ originalMaxPositionEmbeddings: 1e300 }), 'ropeScaling.originalMaxPositionEmbeddings is 1e+300'],
    [scaled({ attentionFactor: 1e300 }), 'ropeScaling.attentionFactor is 1e+300'],
    [scaled({ betaFast: 1e-300 }), 'ropeScaling.betaFast is 1e-300'],
    [scaled({ betaSlow: Infinity }), 'ropeScaling.betaSlow is Infinity'],
    [{ ropeScaling: { ropeType: 'linear', factor: 1e-300 } }, 'ropeScaling.factor is 1e-300'],
    [{ ropeScaling: { ropeType: 'factors', factors: [1, 1e-300] } }, 'ropeScaling.factors is 1e-300'],
    [{ ropeTheta: 1e-300 }, 'ropeTheta is 1e-300'],
    [{ ropeTheta: 1e300 }, 'ropeTheta is 1e+300'],
    [{ rmsNormEps: 1e-300 }, 'rmsNormEps is 1e-300'],
    [{ rmsNormEps: 0 }, 'rmsNormEps is 0'],
  ])('refuses %j', (more, message) => {
    expect(() => validateConfig(modelOf(more), 'config.json')).toThrow(FormatError);
    expect(() => validateConfig(modelOf(more), 'config.json')).toThrow(message);
  });

  it('takes what published models have', () => {
    for (const more of [{}, scaled({ attentionFactor: undefined }), { ropeTheta: 4.6e10 }, { rmsNormEps: 1e-12 }]) {
      expect(validateConfig(modelOf(more), 'config.json')).toEqual(modelOf(more));
    }
  });
});
