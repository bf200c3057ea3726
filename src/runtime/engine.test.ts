import { describe, expect, it, onTestFinished } from 'vitest';
import { slice } from '../../test/stretches.ts';
import { randomTokens, type TinyOptions, tinyConfig, tinyEngine } from '../../test/tinyModel.ts';
import { hasWebGpu, sharedWebGpu } from '../../test/webgpu.ts';
import type { Backend, Tensor } from '../backends/backend.ts';
import { deferred, openEager, openReference } from '../backends/reference.ts';
import { openWasm } from '../backends/wasm.ts';
import { reRope, selfExtend, shifted, streaming, windowed } from '../byDistance.ts';
import type { ModelConfig } from '../config.ts';
import { type DualChunk, dualChunk, PLAIN } from '../dualChunk.ts';
import { UnsupportedError } from '../errors.ts';
import { seededRandom } from '../eval/random.ts';
import { familyOf, MODEL_TYPES } from '../families.ts';
import { draw } from '../kernels/draw.ts';
import type { Placement } from '../placement.ts';
import { nodeMachine } from '../platform/nodeMachine.ts';
import { logSumExp } from '../sampler.ts';
import { Engine } from './engine.ts';
import type { GeneratedToken, GenerateOptions } from './texts.ts';

const BACKENDS = [
  { backend: 'reference', open: openReference, bound: 1e-11 },
  // logits are of the size of 10; the order of float32 sums depends on how many rows there are
  { backend: 'wasm', open: () => openWasm(nodeMachine, { threads: 2, precision: 'f32', kvType: 'f32' }), bound: 1e-4 },
];

const SETTINGS: DualChunk = { chunkLen: 12, maxDistance: 17, parts: 'full', scale: 'none', trainedLen: 18 };
const DCA = dualChunk(SETTINGS);
const unscaled = (positions: Omit<Placement, 'attentionScale'>): Placement => ({
  ...positions,
  attentionScale: () => 1,
});
/** All read their first 12 tokens as plain attention does, and no token behind. */
const METHODS: { name: string; placement: Placement; windows?: Partial<ModelConfig> }[] = [
  { name: 'dca', placement: DCA },
  { name: 'intra+inter', placement: dualChunk({ ...SETTINGS, parts: 'intra+inter' }) },
  { name: 'intra', placement: dualChunk({ ...SETTINGS, parts: 'intra' }) },
  { name: 'dca with logn', placement: dualChunk({ ...SETTINGS, scale: 'logn' }) },
  { name: 'dca with yarn', placement: dualChunk({ ...SETTINGS, scale: 'yarn' }) },
  { name: 'window', placement: unscaled(windowed(12)) },
  { name: 'streaming', placement: unscaled(streaming(3, 9)) },
  { name: 'ReRoPE', placement: unscaled(reRope(11)) },
  { name: 'Self-Extend', placement: unscaled(selfExtend(5, 11)) },
  { name: 'STRING', placement: unscaled(shifted(12, 7)) },
];
const PLAIN_METHODS: typeof METHODS = [
  { name: 'plain', placement: PLAIN },
  { name: 'plain with a window', placement: PLAIN, windows: { slidingWindow: 7 } },
  {
    name: 'dca in one layer, a window in the other',
    placement: DCA,
    windows: { slidingWindow: 7, slidingLayers: [0], ropeLocalTheta: 10 },
  },
];

const TOKENS = randomTokens(50); // four chunks of 12 and two tokens

/** An engine over random weights that is freed with the test; on the reference backend unless told. */
function open({ backend = openReference(), ...options }: Partial<TinyOptions> = {}) {
  onTestFinished(() => backend.dispose());
  return tinyEngine({ backend, ...options });
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

const generate = (engine: Engine, prompt: readonly number[], options: GenerateOptions = {}) =>
  collect(engine.generate(prompt, { maxTokens: 8, logprobs: 3, ...options }));

/** Logits of every token, `[tokens, vocabSize]`, read in blocks that begin at `starts`. */
async function logitsByBlocks({ transformer, cache, backend }: ReturnType<typeof open>, starts: readonly number[]) {
  const rows: number[] = [];
  for (const [at, start] of starts.entries()) {
    const block = TOKENS.slice(start, starts[at + 1]);
    transformer.forward(block, [slice(block.length, start)], cache);
    rows.push(...(await backend.read(transformer.logits(0, block.length))));
  }
  return rows;
}

function expectNear(actual: ArrayLike<number>, expected: ArrayLike<number>, bound: number): void {
  expect(actual.length).toBe(expected.length);
  const errors = Array.from(actual, (value, i) => Math.abs(value - expected[i]));
  expect(Math.max(...errors)).toBeLessThan(bound);
}

/** Log-probabilities that two ways of generating the same text gave. */
const expectSameText = (actual: GeneratedToken[], expected: GeneratedToken[]) => {
  expect(actual.map(({ token }) => token)).toEqual(expected.map(({ token }) => token));
  const logprobs = (tokens: GeneratedToken[]) =>
    tokens.flatMap(({ topLogprobs = [] }) => topLogprobs.map(({ logprob }) => logprob));
  expectNear(logprobs(actual), logprobs(expected), 1e-11);
};

describe.each(BACKENDS)('blocks, $backend', ({ open: openBackend, bound }) => {
  const starts = (seed: string) => {
    const random = seededRandom(seed);
    return [0, ...TOKENS.keys()].filter((at, nth) => nth === 0 || (at > 0 && random.uniform() < 0.15));
  };
  const SPLITS = [
    ['one token at a time', [...TOKENS.keys()]],
    ['at chunk borders', [0, 12, 24, 36, 48]],
    ...[1, 2, 3].map((seed) => [`at random, seed ${seed}`, starts(`split ${seed}`)]),
  ] as [string, number[]][];

  it.each([...PLAIN_METHODS, ...METHODS])('any split gives the same logits: $name', async ({ placement, windows }) => {
    const config = tinyConfig(windows);
    const opened = () => open({ backend: openBackend(), config, placement });
    const whole = await logitsByBlocks(opened(), [0]);
    for (const [, split] of SPLITS) expectNear(await logitsByBlocks(opened(), split), whole, bound);
  });
});

describe('models', () => {
  it.each(MODEL_TYPES)('%s: wasm computes what reference computes', async (modelType) => {
    const { activation, noRopeEvery, fullEvery, ropeLocalTheta } = familyOf(modelType);
    const config = tinyConfig({
      modelType,
      tieWordEmbeddings: modelType === 'llama',
      layersWithoutRope: noRopeEvery ? [1] : undefined,
      hiddenAct: activation,
      ...(fullEvery && { slidingWindow: 7, slidingLayers: [0], ropeLocalTheta, embeddingFactor: 5.6875 }),
    });
    const [wasm, reference] = await Promise.all(
      BACKENDS.map(({ open: openBackend }) =>
        logitsByBlocks(open({ backend: openBackend(), config, placement: DCA }), [0]),
      ),
    );
    expectNear(wasm, reference, 1e-4);
  });

  it('scale queries by what the config says', async () => {
    const halved = { ...PLAIN, attentionScale: () => 0.5 };
    const [byConfig, byPlacement, plain] = await Promise.all([
      logitsByBlocks(open({ config: tinyConfig({ queryPreAttnScalar: 4 * tinyConfig().headDim }) }), [0]),
      logitsByBlocks(open({ placement: halved }), [0]),
      logitsByBlocks(open(), [0]),
    ]);
    expect(byConfig).toEqual(byPlacement);
    expect(byConfig).not.toEqual(plain);
  });

  it('methods differ beyond the first chunk, and only there', async () => {
    const { vocabSize } = tinyConfig();
    const plain = await logitsByBlocks(open(), [0]);
    for (const { name, placement } of METHODS) {
      const logits = await logitsByBlocks(open({ placement }), [0]);
      const firstChunk = SETTINGS.chunkLen * vocabSize;
      expect(logits.slice(0, firstChunk), name).toEqual(plain.slice(0, firstChunk));
      for (let row = SETTINGS.chunkLen; row < TOKENS.length; row++) {
        const isSame = logits
          .slice(row * vocabSize, (row + 1) * vocabSize)
          .every((x, i) => x === plain[row * vocabSize + i]);
        expect(isSame, `${name}, token ${row}`).toBe(false);
      }
    }
  });
});

describe('prompts that begin alike', () => {
  const other = randomTokens(20, 'other');
  it.each([
    ['a longer one', TOKENS.slice(0, 30), TOKENS, 20],
    ['a shorter one', TOKENS, TOKENS.slice(0, 30), 1],
    ['the same', TOKENS, TOKENS, 1],
    ['another end', TOKENS, [...TOKENS.slice(0, 17), ...other], 20],
    ['another beginning', TOKENS, [...other, ...TOKENS.slice(0, 10)], 30],
  ])('%s is read from where it differs, to the same result', async (_, first, second, unread) => {
    const fresh = await generate(open({ placement: DCA }).engine, second);
    const { engine } = open({ placement: DCA });
    await generate(engine, first, { maxTokens: 1 });
    const totals: number[] = [];
    expectSameText(await generate(engine, second, { onProgress: (__, total) => totals.push(total) }), fresh);
    expect(totals[0]).toBe(unread);
  });

  it('the answer counts as read: a conversation goes on from it', async () => {
    const { engine } = open({ placement: DCA });
    const prompt = TOKENS.slice(0, 20);
    const answer = (await generate(engine, prompt)).map(({ token }) => token);
    const longer = [...prompt, ...answer, ...other];
    const totals: number[] = [];
    const again = await generate(engine, longer, { onProgress: (_, total) => totals.push(total) });
    expect(totals[0]).toBe(other.length + 1); // the last token of an answer has been given, but not read
    expectSameText(again, await generate(open({ placement: DCA }).engine, longer));
  });
});

describe('generate', () => {
  it('is greedy by default, and repeatable by seed', async () => {
    const { engine } = open();
    const greedy = await generate(engine, TOKENS);
    for (const { token, topLogprobs } of greedy) expect(topLogprobs?.[0].token).toBe(token);
    const sampled = (seed: number) => generate(engine, TOKENS, { temperature: 2, seed });
    expectSameText(await sampled(5), await sampled(5));
    expect(await sampled(6)).not.toEqual(await sampled(5));
  });

  it('gives as many tokens as asked for, or as the context holds', async () => {
    const { engine } = open({ context: 53 });
    expect(engine.context).toBe(53);
    const room = engine.context - TOKENS.length;
    expect(await generate(engine, TOKENS, { maxTokens: 0 })).toEqual([]);
    expect(await generate(engine, TOKENS, { maxTokens: 2 })).toHaveLength(2);
    expect(await generate(engine, TOKENS, { maxTokens: 99 })).toHaveLength(room + 1); // the last one need not be read
    expect(await generate(engine, Array(engine.context).fill(1), { maxTokens: 99 })).toHaveLength(1);
  });

  it('ends before a stop token', async () => {
    const { engine } = open();
    const tokens = (await generate(engine, TOKENS)).map(({ token }) => token);
    const stopToken = tokens[5];
    const stopped = await generate(engine, TOKENS, { stopTokens: new Set([stopToken]) });
    expect(stopped.map(({ token }) => token)).toEqual(tokens.slice(0, tokens.indexOf(stopToken)));
  });

  it('reports log-probabilities of the model, whatever the sampler does', async () => {
    const { engine, transformer, backend } = open();
    const [first] = await generate(engine, TOKENS, { logprobs: 50, repetitionPenalty: 5, maxTokens: 1 });
    const logits = await backend.read(transformer.logits(TOKENS.length - 1, 1));
    const total = logSumExp(logits);
    const all = first.topLogprobs ?? [];
    expect(all.map(({ token }) => token).toSorted((a, b) => a - b)).toEqual([...logits.keys()]);
    expectNear(
      all.map(({ logprob }) => logprob),
      all.map(({ token }) => logits[token] - total),
      1e-12,
    );
    expect(all.every(({ logprob }, n) => n === 0 || logprob <= all[n - 1].logprob)).toBe(true);
    expect(all.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 12);
    expect(first.logprob).toBe(all.find(({ token }) => token === first.token)?.logprob);
  });

  it('gives as many log-probabilities as asked for', async () => {
    const { engine } = open();
    const [none] = await collect(engine.generate(TOKENS, { maxTokens: 1 }));
    expect(Object.keys(none)).toEqual(['token']);
    for (const logprobs of [0, 1, 7]) {
      const [token] = await generate(engine, TOKENS, { logprobs });
      expect(token.topLogprobs).toHaveLength(logprobs);
      expect(token.logprob).toBeLessThan(0);
    }
  });

  it.each<[string, number[], string]>([
    ['an empty prompt', [], 'the prompt is empty'],
    ['a prompt beyond the context', Array(65).fill(1), 'the prompt has 65 tokens, but the context holds 64'],
    ['a token beyond the vocabulary', [1, 1e6], 'token 1000000 is not in the vocabulary; wanted 0 to'],
    ['a token that is none', [1, 0.5], 'token 0.5 is not in the vocabulary'],
  ])('refuses %s', async (_, prompt, message) => {
    const { engine } = open();
    for (const read of [() => engine.generate(prompt), () => engine.score(prompt)]) {
      const reading = collect<unknown>(read());
      await expect(reading).rejects.toThrow(message);
      await expect(reading).rejects.toThrow(UnsupportedError);
    }
  });
});

describe('reading', () => {
  const blockLen = 16;
  const read = [
    ['generate', (engine: Engine, options: object) => generate(engine, TOKENS, options)],
    ['score', (engine: Engine, options: object) => collect(engine.score(TOKENS, options))],
  ] as const;

  it.each(read)('%s reports progress before and after each block', async (_, start) => {
    const calls: number[][] = [];
    await start(open({ blockLen }).engine, { onProgress: (done: number, total: number) => calls.push([done, total]) });
    expect(calls).toEqual([
      [0, 50],
      [16, 50],
      [32, 50],
      [48, 50],
      [50, 50],
    ]);
  });

  it.each(read)('%s stops between blocks when aborted, and may be repeated', async (_, start) => {
    const { engine } = open({ blockLen });
    const [abort, reason] = [new AbortController(), new Error('enough')];
    const onProgress = (done: number) => done === 2 * blockLen && abort.abort(reason);
    await expect(start(engine, { signal: abort.signal, onProgress })).rejects.toBe(reason);
    const totals: number[] = [];
    const again = await generate(engine, TOKENS, { onProgress: (__, total) => totals.push(total) });
    expect(totals[0]).toBe(TOKENS.length - 2 * blockLen);
    expectSameText(again, await generate(open({ blockLen }).engine, TOKENS));
  });

  it('stops between tokens when aborted', async () => {
    const { engine } = open();
    const abort = new AbortController();
    const tokens = engine.generate(TOKENS, { signal: abort.signal });
    await tokens.next();
    abort.abort();
    await expect(tokens.next()).rejects.toThrow('aborted');
    expect(await generate(engine, TOKENS)).toHaveLength(8);
  });
});

/** The float64 backend with a `draw`; as on a GPU, what is read takes a while. */
function openDrawing(): Backend {
  const eager = openEager();
  const numbersOf = (tensor: Tensor) => (tensor as Tensor & { numbers: Float64Array }).numbers;
  const backend = deferred({
    ...eager,
    draw: (token, logits, choice) => eager.write(token, [draw(numbersOf(logits), choice)]),
  });
  return {
    ...backend,
    async read(tensor) {
      const numbers = backend.read(tensor); // runs at once what was recorded
      await new Promise((resolve) => setTimeout(resolve, 2));
      return numbers;
    },
  };
}

/** A backend that writes down what the engine asks of it, in `log`. */
function watched(backend: Backend) {
  const log: string[] = [];
  const watching: Backend = {
    ...backend,
    gatherRows(out, table, ids, factor) {
      log.push(`forward ${'length' in ids ? ids.length : 'drawn'}`);
      backend.gatherRows(out, table, ids, factor);
    },
    draw(...operands) {
      log.push('draw');
      backend.draw?.(...operands);
    },
    async read(tensor) {
      log.push(`read ${tensor.rows * tensor.cols}`);
      const numbers = await backend.read(tensor);
      log.push('known');
      return numbers;
    },
  };
  return { backend: watching, log };
}

describe.each([
  { backend: 'float64', openBackend: openDrawing },
  { backend: 'webgpu', openBackend: sharedWebGpu },
])('a backend that draws, $backend', { timeout: 60_000 }, ({ backend: name, openBackend }) => {
  const test = it.skipIf(name === 'webgpu' && !hasWebGpu);
  const prompt = TOKENS.slice(0, 20);
  const other = randomTokens(20, 'other');
  const draws = (engine: Engine, tokens: readonly number[], options: GenerateOptions = {}) =>
    collect(engine.generate(tokens, { maxTokens: 10, ...options }));
  const opened = () => open({ backend: openBackend(), placement: DCA });
  /** What a fresh engine that samples on the host goes on with. */
  const sampled = async (tokens: readonly number[], options: GenerateOptions = {}) =>
    draws(open({ backend: { ...openBackend(), draw: undefined }, placement: DCA }).engine, tokens, options);

  /** The cache holds `prompt` and what was generated but for `nUnread` tokens, and the text can be read on from there. */
  async function expectKept({ engine }: ReturnType<typeof open>, generated: GeneratedToken[], nUnread: number) {
    const longer = [...prompt, ...generated.map(({ token }) => token), ...other];
    const totals: number[] = [];
    const text = await draws(engine, longer, { onProgress: (_, total) => totals.push(total) });
    expect(totals[0]).toBe(other.length + nUnread);
    expect(text).toEqual(await sampled(longer));
  }

  test.each<GenerateOptions>([
    {},
    { temperature: 1, topK: 1 },
    { temperature: 1, topK: 5, seed: 3 },
    { temperature: 3, topK: 256, topP: 0.9, minP: 0.01, seed: 4 },
  ])('gives the text that the host samples, and never reads logits: %o', async (options) => {
    const { backend, log } = watched(openBackend());
    const text = await draws(open({ backend, placement: DCA }).engine, prompt, options);
    expect(text).toEqual(await sampled(prompt, options));
    expect(new Set(log)).toEqual(new Set(['forward 20', 'forward drawn', 'draw', 'read 1', 'known']));
  });

  test.each<GenerateOptions>([
    { logprobs: 0 },
    { repetitionPenalty: 1.3 },
    { temperature: 1, seed: 1 },
    { temperature: 1, topK: 257, seed: 1 },
  ])('leaves what it cannot to the host: %o', async (options) => {
    const { backend, log } = watched(openBackend());
    const text = await draws(open({ backend, placement: DCA }).engine, prompt, options);
    expect(text).toEqual(await sampled(prompt, options));
    expect(new Set(log)).toEqual(new Set(['forward 20', 'forward 1', `read ${tinyConfig().vocabSize}`, 'known']));
  });

  test('reads nothing behind the last token, and as much as the context holds', async () => {
    const { backend, log } = watched(openBackend());
    const parts = open({ backend, placement: DCA, context: 25 });
    for (const [maxTokens, nTokens] of [
      [1, 1],
      [2, 2],
      [5, 5],
      [99, 6], // the last one need not be read
    ]) {
      log.length = 0;
      const text = await draws(parts.engine, prompt, { maxTokens });
      expect(text).toHaveLength(nTokens);
      expect(log.filter((call) => call === 'forward drawn')).toHaveLength(nTokens - 1);
      // All that was read is found again.
      const longer = [...prompt, ...text.map(({ token }) => token)].slice(0, 25);
      const totals: number[] = [];
      await draws(parts.engine, longer, { maxTokens: 1, onProgress: (_, total) => totals.push(total) });
      expect(totals[0]).toBe(1);
    }
  });

  test('forgets what was read behind a stop token', async () => {
    const varied: GenerateOptions = { temperature: 3, topK: 40, seed: 1 };
    const tokens = (await sampled(prompt, varied)).map(({ token }) => token);
    const at = tokens.findIndex((token, n) => n > 3 && tokens.indexOf(token) === n);
    const parts = opened();
    const stopped = await draws(parts.engine, prompt, { ...varied, stopTokens: new Set([tokens[at]]) });
    expect(stopped.map(({ token }) => token)).toEqual(tokens.slice(0, at));
    await expectKept(parts, stopped, 0);
  });

  test('keeps what the cache holds behind `maxTokens`', async () => {
    const parts = opened();
    await expectKept(parts, await draws(parts.engine, prompt, { maxTokens: 4 }), 1);
  });

  test('forgets what was read ahead when the text is left', async () => {
    const parts = opened();
    const left: GeneratedToken[] = [];
    for await (const token of parts.engine.generate(prompt)) if (left.push(token) === 3) break;
    await expectKept(parts, left, 1);
  });

  test('forgets what was read ahead when aborted', async () => {
    const parts = opened();
    const abort = new AbortController();
    const text = parts.engine.generate(prompt, { signal: abort.signal });
    const given: GeneratedToken[] = [(await text.next()).value, (await text.next()).value];
    abort.abort();
    await expect(text.next()).rejects.toThrow('aborted');
    await expectKept(parts, given, 1);
  });

  test('throws where a logit is not a number, and may be used again', async () => {
    const parts = opened();
    const { backend, transformer } = parts;
    const nan = backend.alloc('F32', 1, 1);
    backend.write(nan, [NaN]);
    let nLogits = 0;
    const faulty: typeof transformer = {
      ...transformer,
      logits(row, nRows) {
        const logits = transformer.logits(row, nRows);
        if (++nLogits === 3) backend.copy(backend.view(logits, 1, 1, 7), nan);
        return logits;
      },
    };
    const engine = new Engine({ ...parts, transformer: faulty });
    const given: GeneratedToken[] = [];
    const text = async () => {
      for await (const token of engine.generate(prompt)) given.push(token);
    };
    await expect(text()).rejects.toThrow('the model computed a logit that is not a number');
    expect(given).toEqual((await sampled(prompt)).slice(0, 2));
    await expectKept({ ...parts, engine }, given, prompt.length + given.length); // nothing of such a reading is built upon
  });
});

describe('a backend that draws', () => {
  it('is told to read on before a token is known here', async () => {
    const { backend, log } = watched(openDrawing());
    for await (const _ of open({ backend }).engine.generate([1, 2], { maxTokens: 4 })) log.push('given');
    expect(log).toEqual([
      ...['forward 2', 'draw', 'read 1'],
      ...['forward drawn', 'draw', 'read 1', 'known', 'given'],
      ...['forward drawn', 'draw', 'read 1', 'known', 'given'],
      ...['forward drawn', 'draw', 'read 1', 'known', 'given'],
      ...['known', 'given'],
    ]);
  });

  it('may fail with a token that nobody waits for yet', async () => {
    const backend = openDrawing();
    let nReads = 0;
    const failing: Backend = {
      ...backend,
      read: (tensor) => (++nReads === 3 ? Promise.reject(new Error('the GPU was lost')) : backend.read(tensor)),
    };
    const text = open({ backend: failing }).engine.generate(TOKENS);
    await text.next();
    await text.next();
    await new Promise((resolve) => setTimeout(resolve, 10)); // an error that nobody took would end the process
    await expect(text.next()).rejects.toThrow('the GPU was lost');
  });
});

describe('score', () => {
  it.each(BACKENDS)(
    'is what every token costs given those before it, $backend',
    async ({ open: openBackend, bound }) => {
      const { vocabSize } = tinyConfig();
      const rows = await logitsByBlocks(open({ backend: openBackend(), placement: DCA }), [...TOKENS.keys()]);
      const expected = TOKENS.slice(1).map((token, at) => {
        const logits = Float64Array.from(rows.slice(at * vocabSize, (at + 1) * vocabSize));
        return logSumExp(logits) - logits[token];
      });
      for (const [blockLen, maxLogitRows] of [
        [50, 50],
        [16, 5],
        [49, 49],
        [7, 7],
        [1, 1],
      ]) {
        const { engine } = open({ backend: openBackend(), placement: DCA, blockLen, maxLogitRows });
        const losses = await collect(engine.score(TOKENS));
        expect(losses).toHaveLength(Math.ceil(TOKENS.length / blockLen));
        expectNear(
          losses.flatMap((block) => [...block]),
          expected,
          bound,
        );
      }
    },
  );

  it('reads its text from the beginning, whatever was read before', async () => {
    const { engine } = open({ placement: DCA });
    const [first, again] = [await collect(engine.score(TOKENS)), await collect(engine.score(TOKENS))];
    expect(again).toEqual(first);
    expect(await collect(engine.score([7]))).toEqual([new Float64Array()]);
  });
});
