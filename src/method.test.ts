import { describe, expect, it } from 'vitest';
import type { ModelConfig } from './config.ts';
import { PLAIN } from './dualChunk.ts';
import { UnsupportedError } from './errors.ts';
import { METHOD_HELP, type Method, resolveMethod } from './method.ts';
import type { Scale } from './placement.ts';

const modelOf = (maxPositionEmbeddings: number, more: Partial<ModelConfig> = {}): ModelConfig => ({
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
  maxPositionEmbeddings,
  tieWordEmbeddings: true,
  ...more,
});

const dualChunkConfig = (originalMaxPositionEmbeddings: number) => ({
  dualChunkAttentionConfig: { chunkSize: 262144, localSize: 8192, originalMaxPositionEmbeddings },
});
const [LLAMA, QWEN_1M] = [modelOf(8192), modelOf(1010000, dualChunkConfig(262144))];
const MISTRAL = modelOf(32768, { slidingWindow: 4096 });
const YARN = modelOf(8192, { ropeScaling: { ropeType: 'yarn', factor: 4, originalMaxPositionEmbeddings: 8192 } });

/** All that a method says of a few positions, and of angles. */
function positionsOf({ placement, dca, ropeScaling, longest, description }: Method) {
  const at = [0, 1, 100, 767, 3000, 5461, 16383].map((i) => ({
    ...{ spans: placement.spans(i), scale: placement.attentionScale(i) },
    keys: placement.keyPositions.map((at) => at(i)),
  }));
  return { at, dca, ropeScaling, longest, description };
}

describe('presets', () => {
  it.each([
    ['dca:paper', 32, 24, 31],
    ['dca:paper', 1000, 750, 999],
    ['dca:paper', 4096, 3072, 4095],
    ['dca:paper', 8192, 6144, 8191],
    ['dca:paper', 2, 1, 1],
    ['dca:chunkllama', 32, 20, 24],
    ['dca:chunkllama', 1000, 625, 750],
    ['dca:chunkllama', 4096, 2560, 3072],
    ['dca:chunkllama', 8192, 5120, 6144],
    ['dca:100/150', 8192, 100, 150],
  ])('%s for a window of %i: %i/%i', (spec, trainedLen, chunkLen, maxDistance) => {
    const { dca } = resolveMethod(spec, undefined, modelOf(trainedLen), 1e6);
    expect(dca).toEqual({ chunkLen, maxDistance, parts: 'full', scale: 'logn', trainedLen });
  });

  it('config: of Qwen2.5-1M, with its scale', () => {
    const { dca } = resolveMethod('dca:config', undefined, QWEN_1M, 1e6);
    expect(dca).toEqual({ chunkLen: 253952, maxDistance: 262144, parts: 'full', scale: 'yarn', trainedLen: 262144 });
  });

  it('config: without an original window there is no scale', () => {
    const { dca } = resolveMethod('dca:config', undefined, modelOf(262144, dualChunkConfig(0)), 1e6);
    expect(dca).toMatchObject({ chunkLen: 253952, maxDistance: 262144, scale: 'none' });
  });

  it('count the longer window of a model with YaRN', () => {
    const { dca } = resolveMethod('dca:paper', undefined, YARN, 1e6);
    expect(dca).toMatchObject({ chunkLen: 24576, maxDistance: 32767, trainedLen: 32768 });
  });
});

describe('defaults', () => {
  it.each<[string, ModelConfig, number, string]>([
    ['within the trained window', LLAMA, 8192, 'none'],
    ['beyond it', LLAMA, 8193, 'dca:paper:logn'],
    ['within the window that YaRN gives', YARN, 32768, 'none'],
    ['beyond the window that YaRN gives', YARN, 32769, 'dca:paper:logn'],
    ['with its own dual chunk config, within', QWEN_1M, 262144, 'none'],
    ['with its own dual chunk config, beyond', QWEN_1M, 262145, 'dca:config:yarn'],
    ['with a sliding window', MISTRAL, 1e6, 'none'],
  ])('%s', (_, config, context, name) => {
    const method = resolveMethod(undefined, undefined, config, context);
    expect(method.name).toBe(name);
    if (name === 'none') expect(method.placement).toBe(PLAIN);
  });
});

describe('settings', () => {
  it.each([
    ['dca:chunkllama:intra:logn', { chunkLen: 5120, maxDistance: 6144, parts: 'intra', scale: 'logn' }],
    ['dca:logn:intra:chunkllama', { chunkLen: 5120, maxDistance: 6144, parts: 'intra', scale: 'logn' }],
    ['dca:intra+inter:640/700', { chunkLen: 640, maxDistance: 700, parts: 'intra+inter', scale: 'logn' }],
    ['dca', { chunkLen: 6144, maxDistance: 8191, parts: 'full', scale: 'logn' }],
    ['dca:none', { chunkLen: 6144, maxDistance: 8191, parts: 'full', scale: 'none' }],
  ])('%s, in any order', (spec, expected) => {
    expect(resolveMethod(spec, undefined, LLAMA, 1e6).dca).toEqual({ ...expected, trainedLen: 8192 });
  });

  it.each<[string | undefined, Scale | undefined, Scale]>([
    ['dca:config', 'logn', 'logn'],
    ['dca:config:none', undefined, 'none'],
    ['dca:config:none', 'logn', 'logn'],
    [undefined, 'logn', 'logn'],
    ['dca:paper', undefined, 'logn'], // Qwen's scale belongs to Qwen's chunks
    ['dca:1000/2000', undefined, 'logn'],
  ])('the scale of %s with option %s is %s', (spec, option, expected) => {
    expect(resolveMethod(spec, option, QWEN_1M, 1e6).dca?.scale).toBe(expected);
  });

  it.each<[string, number, Method['ropeScaling'], string]>([
    ['pi', 32768, { ropeType: 'linear', factor: 4 }, 'pi:4'],
    ['ntk', 4096, { ropeType: 'ntk', factor: 1 }, 'ntk:1'], // nothing to stretch
    ['ntk:2.5', 1e6, { ropeType: 'ntk', factor: 2.5 }, 'ntk:2.5'],
    ['dynamic', 16384, { ropeType: 'ntk', factor: 2 }, 'dynamic:2'],
    ['yarn', 16384, { ropeType: 'yarn', factor: 2, originalMaxPositionEmbeddings: 8192 }, 'yarn:2'],
  ])('%s stretches RoPE as far as %d tokens need, or as told', (spec, context, ropeScaling, name) => {
    expect(resolveMethod(spec, undefined, LLAMA, context)).toMatchObject({
      ...{ name, ropeScaling, placement: PLAIN, longest: context },
    });
  });

  it.each([
    ['ntk:0.5', LLAMA, 'method ntk:0.5: wanted a factor of at least 1, such as ntk:8'],
    ['pi:x', LLAMA, 'method pi:x: wanted a factor of at least 1, such as pi:8'],
    ['ntk', YARN, 'method ntk: this model has a RoPE rule of its own (yarn)'],
  ])('%s is refused where it makes no sense', (spec, config, message) => {
    expect(() => resolveMethod(spec, undefined, config, 1e6)).toThrow(message);
  });

  it('a scale is nothing to plain attention by default, and wrong with method none', () => {
    expect(resolveMethod(undefined, 'logn', LLAMA, 8192).name).toBe('none');
    expect(() => resolveMethod('none', 'logn', LLAMA, 8192)).toThrow(
      'scale logn needs method dca or one that parts keys by distance; got none',
    );
  });

  it('a name gives the same method again', () => {
    for (const chunks of ['', ':paper', ':chunkllama', ':config', ':900/1000']) {
      for (const parts of ['', ':full', ':intra+inter', ':intra']) {
        for (const scale of [undefined, 'none', 'yarn', 'logn'] as const) {
          const method = resolveMethod(`dca${chunks}${parts}`, scale, QWEN_1M, 1e6);
          const { name, dca } = resolveMethod(method.name, undefined, QWEN_1M, 1e6);
          expect({ name, dca }).toEqual({ name: method.name, dca: method.dca });
        }
      }
    }
    expect(resolveMethod('none', undefined, QWEN_1M, 1e6).name).toBe('none');
  });

  it('a name with a factor or numbers gives the same placement and angles again', () => {
    const window = modelOf(3000);
    const rules = ['', ':3', ':2.5', ':5.123456789', ':1e21'].flatMap((factor) =>
      ['pi', 'ntk', 'yarn', 'dynamic'].flatMap((rule) => [`${rule}${factor}`, `dca@${rule}${factor}`]),
    );
    const stacked = ['dca:chunkllama:intra:none@ntk:1.23456789', 'dca:900/1000:yarn@yarn:1.1'];
    const kinds = ['window', 'streaming', 'rerope', 'selfextend', 'string'];
    const parted = [...kinds, 'string:7/5', 'selfextend:07/0512:yarn', 'rerope:999999999999999'];
    for (const spec of ['none', ...rules, ...stacked, ...parted, undefined]) {
      const first = resolveMethod(spec, undefined, window, 16384);
      const again = resolveMethod(first.name, undefined, window, 16384);
      expect(positionsOf(again)).toEqual(positionsOf(first));
      expect(again.name).toBe(first.name);
    }
  });

  it('a factor keeps all its digits', () => {
    expect(resolveMethod('pi', undefined, modelOf(3000), 16384).name).toBe('pi:5.461333333333333');
    expect(resolveMethod('dca@ntk:5.461333333333333', undefined, LLAMA, 1e6).name).toContain('@ntk:5.461333333333333');
  });

  it.each(['dca:1e3/1e3', 'dca:1000000000000000000000/1000000000000000000000', 'window:1000000000000000000000'])(
    '%s is refused, as no name would give it again',
    (spec) => {
      expect(() => resolveMethod(spec, undefined, LLAMA, 1e6)).toThrow('unknown setting');
    },
  );
});

describe('keys parted by distance', () => {
  it.each([
    ['window', 'window:8192:none'],
    ['window:500', 'window:500:none'],
    ['streaming', 'streaming:4/8188:none'],
    ['rerope', 'rerope:4096:logn'],
    ['rerope:none:100', 'rerope:100:none'],
    ['selfextend', 'selfextend:9/2048:none'], // 2/3 * 8192 > 2048 + (32768 - 2048) / 9
    ['selfextend:4/512:logn', 'selfextend:4/512:logn'],
    ['string', 'string:10922/128:none'],
  ])('%s is %s', (spec, name) => {
    const method = resolveMethod(spec, undefined, LLAMA, 32768);
    expect(method.name).toBe(name);
    expect(resolveMethod(name, undefined, LLAMA, 32768).description).toBe(method.description);
  });

  it.each([
    ['window:0', 'method window:0: wanted whole numbers of at least 1'],
    ['window:3/4', 'unknown setting "3/4" in method "window:3/4"'],
    ['streaming:8', 'unknown setting "8" in method "streaming:8"'],
    ['window@ntk', 'unknown method "window@ntk"'],
  ])('%s is refused', (spec, message) => {
    expect(() => resolveMethod(spec, undefined, LLAMA, 32768)).toThrow(message);
  });

  it('is nothing to a model that looks back a window only', () => {
    expect(() => resolveMethod('streaming', undefined, MISTRAL, 1e6)).toThrow('so streaming has nothing to add');
  });
});

describe('a model with a window in some layers', () => {
  const config = modelOf(8192, { numHiddenLayers: 6, slidingWindow: 512, slidingLayers: [0, 1, 2, 3, 4] });
  const layers = 'in 1 of 6 layers, as the others look back 512 tokens';

  it('is read by a method, which says in which layers', () => {
    expect(resolveMethod(undefined, undefined, config, 1e6)).toMatchObject({
      name: 'dca:paper:logn',
      description: `Dual Chunk Attention, chunks of 6144, distances at most 8191, scale logn; ${layers}`,
    });
    expect(resolveMethod('window', undefined, config, 1e6).description).toMatch(layers);
    expect(resolveMethod('none', undefined, config, 1e6).description).toBe('plain RoPE');
  });
});

describe('DCA on a RoPE rule', () => {
  it('counts as trained with the window that the rule stretches', () => {
    const { name, dca, ropeScaling } = resolveMethod('dca:none@ntk:4', undefined, LLAMA, 1e6);
    expect(name).toBe('dca:paper:none@ntk:4');
    expect(dca).toMatchObject({ chunkLen: 24576, maxDistance: 32767, trainedLen: 8192 });
    expect(ropeScaling).toEqual({ ropeType: 'ntk', factor: 4 });
    expect(resolveMethod('dca@pi', undefined, LLAMA, 1e6).name).toBe('dca:paper:logn@pi:2');
  });

  it.each([
    ['dca@rope', 'unknown RoPE rule "rope" in method "dca@rope"; wanted pi|ntk|yarn|dynamic[:FACTOR]'],
    ['dca@ntk:0', 'method ntk:0: wanted a factor of at least 1'],
    ['dca@ntk@pi', 'unknown method "dca@ntk@pi"'],
  ])('%s is refused', (spec, message) => {
    expect(() => resolveMethod(spec, undefined, LLAMA, 1e6)).toThrow(message);
  });
});

describe('errors', () => {
  const form = `wanted ${METHOD_HELP}`;
  const range = 'wanted 1 <= chunkLen <= maxDistance <= 2 * chunkLen';

  it.each([
    ['rope', LLAMA, `unknown method "rope"; ${form}`],
    ['', LLAMA, `unknown method ""; ${form}`],
    ['none:logn', LLAMA, `unknown method "none:logn"; ${form}`],
    ['dca:long', LLAMA, `unknown setting "long" in method "dca:long"; ${form}`],
    ['dca:', LLAMA, `unknown setting "" in method "dca:"; ${form}`],
    ['dca:toString', LLAMA, `unknown setting "toString" in method "dca:toString"; ${form}`],
    ['dca:__proto__', LLAMA, `unknown setting "__proto__" in method "dca:__proto__"; ${form}`],
    ['dca:-5/10', LLAMA, `unknown setting "-5/10" in method "dca:-5/10"; ${form}`],
    ['dca:config', LLAMA, 'method dca:config: this model has no dual_chunk_attention_config'],
    ['dca:0/0', LLAMA, `chunkLen 0 with maxDistance 0 does not work; ${range}`],
    ['dca:100/99', LLAMA, `chunkLen 100 with maxDistance 99 does not work; ${range}`],
    ['dca:100/201', LLAMA, `chunkLen 100 with maxDistance 201 does not work; ${range}`],
    [
      'dca',
      MISTRAL,
      'this model looks back 4096 tokens only (sliding_window), so dca has nothing to add; use method none',
    ],
  ])('%s', (spec, config, message) => {
    expect(() => resolveMethod(spec, undefined, config, 1e6)).toThrow(new UnsupportedError(message));
  });

  it('a method or a context of another type', () => {
    const resolve = resolveMethod as (...given: unknown[]) => Method;
    expect(() => resolve(5, undefined, LLAMA, 64)).toThrow('method is 5; wanted a text such as "dca"');
    for (const context of [Number.NaN, '64', 0, undefined]) {
      expect(() => resolve('dca', undefined, LLAMA, context)).toThrow(/^context is .*; wanted a whole number/);
    }
  });

  it.each(['dca', 'none', undefined])('an unknown scale with method %s', (spec) => {
    const resolve = () => resolveMethod(spec, 'flat' as Scale, LLAMA, 1e6);
    expect(resolve).toThrow(new UnsupportedError('unknown scale "flat"; wanted none, yarn, logn'));
  });
});
