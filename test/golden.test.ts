/** Whole models against transformers and a literal Dual Chunk Attention in float64; see golden/README.md. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { attentionOf } from '../src/attention.ts';
import type { Backend } from '../src/backends/backend.ts';
import { openReference } from '../src/backends/reference.ts';
import { openWasm } from '../src/backends/wasm.ts';
import type { Checkpoint } from '../src/checkpoint/checkpoint.ts';
import { openCheckpoint } from '../src/checkpoint/open.ts';
import { loadWeights, weightBytes } from '../src/checkpoint/weights.ts';
import type { ModelConfig, RopeScaling } from '../src/config.ts';
import { type DualChunk, dualChunk, PLAIN } from '../src/dualChunk.ts';
import { MODEL_TYPES } from '../src/families.ts';
import { allocKvCache, pagesFor } from '../src/kvCache.ts';
import { memoryPlan } from '../src/memoryPlan.ts';
import { resolveMethod } from '../src/method.ts';
import type { Placement } from '../src/placement.ts';
import { node } from '../src/platform/node.ts';
import { nodeMachine } from '../src/platform/nodeMachine.ts';
import { Engine } from '../src/runtime/engine.ts';
import { type Message, makeTokenizer, type Tokenizer } from '../src/tokenizer/tokenizer.ts';
import { makeTransformer, type Weights } from '../src/transformer.ts';
import { slice } from './stretches.ts';
import { hasWebGpu, sharedWebGpu } from './webgpu.ts';

interface Case {
  name: string;
  method: DualChunk | null;
  ropeScaling: RopeScaling | null;
  slidingWindow?: number;
  longest: number;
  tokens: number[];
  rows: number[];
  /** Base64 of float32 `[rows.length, vocabSize]`. */
  logits: string;
}

interface Expected {
  plain: Case[];
  dca: Case[];
  greedy: { prompt: number[]; continuation: number[] };
  nll: { tokens: number[]; plain: number; dcaPaper: number };
  tokenizer: { text: string; ids: number[]; idsWithSpecial: number[] }[];
  chat: { messages: Message[]; rendered: string; ids: number[] }[];
  quantised?: (Case & { file: string })[];
}

const pathOf = (name: string) => fileURLToPath(new URL(`golden/${name}`, import.meta.url));

const MODELS = MODEL_TYPES.map((model) => {
  const expected: Expected = JSON.parse(readFileSync(pathOf(`${model}/expected.json`), 'utf8'));
  return { model, expected };
});

/** Every file that holds a model, with its cases. The HF folder and model.gguf hold the same numbers. */
const FILES = MODELS.flatMap(({ model, expected }) => {
  const cases = (kind: 'plain' | 'dca') => expected[kind].map((one) => ({ ...one, name: `${kind}: ${one.name}` }));
  const same = { expected, cases: [...cases('plain'), ...cases('dca')] };
  return [
    { path: model, ...same },
    { path: `${model}/model.gguf`, ...same },
  ];
});

const QUANTISED = MODELS.flatMap(({ expected }) => expected.quantised ?? []);

/**
 * Largest error of a logit, relative to the distance between the largest and the smallest. Reference: the fixture is
 * rounded to float32, 6e-8 of a logit. wasm: half of what transformers is off by when it computes in float32, 1e-4 of
 * about 15. 16-bit integers and a bfloat16 cache: 0.13 of 15 at worst, on weights made to be sensitive; attention in 8 bits
 * four times that. A distance that is off by one moves logits by 1 and more.
 */
const BACKENDS = [
  { backend: 'reference', open: openReference, bound: 1e-7 },
  {
    backend: 'wasm, f32',
    open: (stages: number) => openWasm(nodeMachine, { stages, threads: 2, precision: 'f32', kvType: 'f32' }),
    bound: 3e-6,
  },
  {
    backend: 'wasm, int16, bf16 cache',
    open: (stages: number) => openWasm(nodeMachine, { stages, threads: 2, precision: 'int16' }),
    bound: 1.5e-2,
  },
  {
    backend: 'wasm, int8, bf16 cache',
    open: (stages: number) => openWasm(nodeMachine, { stages, threads: 2 }),
    bound: 6e-2,
  },
];

/** On a software driver every kernel costs seconds to compile: one file of each model, and one memory, which is all a GPU has. */
const WEBGPU = hasWebGpu ? [{ backend: 'webgpu', open: sharedWebGpu, bound: 3e-6 }] : [];

interface Opened {
  checkpoint: Checkpoint;
  backend: Backend;
  weights: Weights;
  stageOf: readonly number[];
}

type Open = (stages: number) => Backend;

async function openFile(path: string, open: Open, stageLimit?: number): Promise<Opened> {
  const checkpoint = await openCheckpoint(pathOf(path), node);
  const { stageOf } = memoryPlan(checkpoint.config, weightBytes(checkpoint), CONTEXT, { kvType: 'f32', stageLimit });
  const backend = open(1 + Math.max(...stageOf));
  return { checkpoint, backend, stageOf, weights: await loadWeights(checkpoint, backend, stageOf) };
}

async function close({ checkpoint, backend }: Opened): Promise<void> {
  await checkpoint.close();
  await backend.dispose();
}

/** Tokens for which memory is planned; what is read is shorter. */
const CONTEXT = 512;

/** Tokens. With the chunks of 24 of most cases, the second block begins one token before a border. */
const BLOCK_LEN = 47;

/** The forward pass for texts of up to `context` tokens, and its cache. */
function bind(
  { backend, weights, stageOf }: Opened,
  config: ModelConfig,
  placement: Placement,
  longest: number,
  context: number,
) {
  const attention = attentionOf(config, placement, longest);
  const sizes = { blockLen: BLOCK_LEN, maxLogitRows: BLOCK_LEN, nPages: pagesFor(context) };
  const transformer = makeTransformer(backend, config, weights, attention, sizes);
  const cache = allocKvCache(backend, config, attention, sizes.nPages, stageOf);
  return { backend, transformer, cache, context, sequences: 1, ...sizes, vocabSize: config.vocabSize };
}

async function expectCase(opened: Opened, one: Case, bound: number): Promise<void> {
  const { method, ropeScaling, slidingWindow, longest, tokens, rows } = one;
  const own = opened.checkpoint.config;
  const config = { ...own, ...(ropeScaling && { ropeScaling }), ...(slidingWindow && { slidingWindow }) };
  const { transformer, cache, backend } = bind(
    opened,
    config,
    method ? dualChunk(method) : PLAIN,
    longest,
    tokens.length,
  );
  const actual: number[] = [];
  for (let start = 0; start < tokens.length; start += BLOCK_LEN) {
    const block = tokens.slice(start, start + BLOCK_LEN);
    transformer.forward(block, [slice(block.length, start)], cache);
    await backend.submit();
    for (const row of rows.filter((r) => r >= start && r < start + block.length)) {
      actual.push(...(await backend.read(transformer.logits(row - start, 1))));
    }
  }
  const expected = new Float32Array(new Uint8Array(Buffer.from(one.logits, 'base64')).buffer);
  expect(actual).toHaveLength(expected.length);
  const errors = actual.map((value, i) => Math.abs(value - expected[i]));
  expect(Math.max(...errors)).toBeLessThan(bound * (Math.max(...expected) - Math.min(...expected)));
}

describe.each(FILES)('$path', ({ path, cases, expected: { greedy, nll, tokenizer: texts, chat } }) => {
  const backends = path.endsWith('.gguf') ? [...BACKENDS, ...WEBGPU] : BACKENDS;
  describe.each(backends)('$backend', { timeout: 60_000 }, ({ open, bound }) => {
    let opened: Opened;
    beforeAll(async () => {
      opened = await openFile(path, open);
    });
    afterAll(() => close(opened));

    it.each(cases)('$name', (one) => expectCase(opened, one, bound));

    it('greedy continuation', async () => {
      const { prompt, continuation } = greedy;
      const context = prompt.length + continuation.length;
      const engine = new Engine(bind(opened, opened.checkpoint.config, PLAIN, context, context));
      const tokens: number[] = [];
      for await (const { token } of engine.generate(prompt, { maxTokens: continuation.length })) tokens.push(token);
      expect(tokens).toEqual(continuation);
    });

    it.each([
      ['none', nll.plain],
      ['dca:paper:none', nll.dcaPaper],
    ])('mean negative log-likelihood, %s', async (spec, mean) => {
      const { config } = opened.checkpoint;
      const { placement } = resolveMethod(spec, undefined, config, nll.tokens.length);
      const engine = new Engine(bind(opened, config, placement, nll.tokens.length, nll.tokens.length));
      let sum = 0;
      for await (const losses of engine.score(nll.tokens)) sum = losses.reduce((a, b) => a + b, sum);
      expect(Math.abs(sum / (nll.tokens.length - 1) - mean)).toBeLessThan(bound);
    });
  });

  describe('tokenizer', () => {
    let tokenizer: Tokenizer;
    beforeAll(async () => {
      const { tokenizerJson, tokenizerConfig, close } = await openCheckpoint(pathOf(path), node);
      tokenizer = makeTokenizer(tokenizerJson, tokenizerConfig, path);
      await close();
    });

    it.each(texts)('$text', ({ text, ids, idsWithSpecial }) => {
      expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(ids);
      expect(tokenizer.encode(text)).toEqual(idsWithSpecial);
    });

    it.each(chat)('chat: $rendered', ({ messages, rendered, ids }) => {
      expect(tokenizer.applyChatTemplate(messages)).toBe(rendered);
      expect(tokenizer.encode(rendered, { addSpecialTokens: false })).toEqual(ids);
    });
  });
});

describe.each([...BACKENDS, ...WEBGPU])('quantised, $backend', { timeout: 60_000 }, ({ open, bound }) => {
  it.each(QUANTISED)('$file: $name', async (one) => {
    const opened = await openFile(`llama/${one.file}`, open);
    onTestFinished(() => close(opened));
    await expectCase(opened, one, bound);
  });
});

describe.each(MODELS)('$model over several memories', ({ model, expected }) => {
  const path = `${model}/model.gguf`;
  const { tokens, method, longest } = expected.dca[0];

  /** Logits of every token: five blocks, then one token at a time; and how many stages they came through. */
  async function allLogits(open: Open, stageLimit?: number) {
    const opened = await openFile(path, open, stageLimit);
    onTestFinished(() => close(opened));
    const { config } = opened.checkpoint;
    const { transformer, cache, backend } = bind(
      opened,
      config,
      method ? dualChunk(method) : PLAIN,
      longest,
      tokens.length,
    );
    const logits: number[] = [];
    for (let start = 0; start < tokens.length; ) {
      const block = tokens.slice(start, start < 150 ? Math.min(150, start + 37) : start + 1);
      transformer.forward(block, [slice(block.length, start)], cache);
      start += block.length;
      logits.push(...(await backend.read(transformer.logits(0, block.length))));
    }
    return { logits, nStages: new Set([0, ...opened.stageOf]).size };
  }

  describe.each(BACKENDS)('$backend', ({ open }) => {
    it('computes the very same', async () => {
      const whole = await allLogits(open);
      const checkpoint = await openCheckpoint(pathOf(path), node);
      const { total } = memoryPlan(checkpoint.config, weightBytes(checkpoint), CONTEXT, { kvType: 'f32' });
      await checkpoint.close();
      const [two, most] = [await allLogits(open, total - 1), await allLogits(open, 0)];
      expect([whole, two, most].map(({ nStages }) => nStages)).toEqual([1, 2, 1 + checkpoint.config.numHiddenLayers]);
      for (const { logits } of [two, most]) {
        expect(logits).toHaveLength(whole.logits.length);
        expect(
          logits.findIndex((value, i) => value !== whole.logits[i]),
          'first difference',
        ).toBe(-1);
      }
    });
  });
});
