/** Several texts at once: each gets what it would get alone, whatever the others do. */
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { randomTokens, type TinyOptions, tinyConfig, tinyEngine } from '../../test/tinyModel.ts';
import type { Backend, Tensor } from '../backends/backend.ts';
import { deferred, openEager, openReference } from '../backends/reference.ts';
import { openWasm } from '../backends/wasm.ts';
import { dualChunk } from '../dualChunk.ts';
import { seededRandom } from '../eval/random.ts';
import { draw } from '../kernels/draw.ts';
import { PAGE_LEN } from '../kvTypes.ts';
import type { Slice } from '../placement.ts';
import { nodeMachine } from '../platform/nodeMachine.ts';
import type { Engine } from './engine.ts';
import type { GeneratedToken, GenerateOptions } from './texts.ts';

const DCA = dualChunk({ chunkLen: 40, maxDistance: 59, parts: 'full', scale: 'logn', trainedLen: 60 });
const CONTEXT = 400;

/** The reference backend with a `draw`, as a GPU has. */
function openDrawing(): Backend {
  const eager = openEager();
  const numbersOf = (tensor: Tensor) => (tensor as Tensor & { numbers: Float64Array }).numbers;
  return deferred({
    ...eager,
    draw: (token, logits, choice) => eager.write(token, [draw(numbersOf(logits), choice)]),
  });
}

const BACKENDS = [
  { name: 'sampled here', open: openReference, bound: 1e-9 },
  { name: 'drawn by the backend', open: openDrawing, bound: 1e-9 },
  { name: 'wasm', open: () => openWasm(nodeMachine, { threads: 2, precision: 'f32', kvType: 'f32' }), bound: 1e-4 },
];

/** An engine with blocks of 64 rows, and what it was asked to append, a list of slices a forward. */
function open(openBackend: () => Backend, options: Partial<TinyOptions> = {}) {
  const backend = openBackend();
  const forwards: (readonly Slice[])[] = [];
  const faults: { next?: Error } = {};
  const fail = () => {
    const { next } = faults;
    faults.next = undefined;
    if (next) throw next;
  };
  const watched: Backend = {
    ...backend,
    append(kv, keys, v, slices) {
      if (forwards.at(-1) !== slices) forwards.push(slices);
      backend.append(kv, keys, v, slices);
    },
    async submit() {
      fail();
      return backend.submit();
    },
    async read(tensor) {
      fail();
      return backend.read(tensor);
    },
  };
  const sizes = { context: CONTEXT, blockLen: 64, maxLogitRows: 16 };
  const parts = tinyEngine({ backend: watched, placement: DCA, ...sizes, ...options });
  onTestFinished(() => parts.engine.dispose());
  return { ...parts, forwards, faults };
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}
const generate = (engine: Engine, prompt: readonly number[], options: GenerateOptions = {}) =>
  collect(engine.generate(prompt, { maxTokens: 12, ...options }));

function expectSame(actual: readonly GeneratedToken[], expected: readonly GeneratedToken[], bound: number) {
  expect(actual.map(({ token }) => token)).toEqual(expected.map(({ token }) => token));
  actual.forEach(({ logprob = 0 }, n) => {
    expect(Math.abs(logprob - (expected[n].logprob ?? 0))).toBeLessThan(bound);
  });
}

const PROMPTS = [1, 7, 64, 65, 130, 300].map((length, n) => randomTokens(length, `prompt ${n}`));

describe.each(BACKENDS)('texts at once, $name', { timeout: 240_000 }, ({ name, open: openBackend, bound }) => {
  it.each<GenerateOptions>([{}, { logprobs: 2 }, { temperature: 1.5, topK: 20, seed: 3 }, { temperature: 1, seed: 4 }])(
    'each is what it is alone: %o',
    async (options) => {
      const { engine, forwards } = open(openBackend, { sequences: PROMPTS.length });
      const more = { maxTokens: 80, ...options };
      const texts = await Promise.all(PROMPTS.map((prompt) => generate(engine, prompt, more)));
      expect(Math.max(...forwards.map((slices) => slices.length))).toBeGreaterThan(3);
      const alone = open(openBackend).engine;
      for (const [n, prompt] of PROMPTS.entries()) expectSame(texts[n], await generate(alone, prompt, more), bound);
    },
  );

  it('a score beside them is what it is alone', async () => {
    const { engine } = open(openBackend, { sequences: 3 });
    const [first, losses, second] = await Promise.all([
      generate(engine, PROMPTS[2]),
      collect(engine.score(PROMPTS[5])),
      generate(engine, PROMPTS[3]),
    ]);
    const alone = open(openBackend).engine;
    expectSame(first, await generate(alone, PROMPTS[2]), bound);
    expectSame(second, await generate(alone, PROMPTS[3]), bound);
    const wanted = (await collect(alone.score(PROMPTS[5]))).flatMap((block) => [...block]);
    const found = losses.flatMap((block) => [...block]);
    expect(found).toHaveLength(wanted.length);
    for (const [n, loss] of found.entries()) expect(Math.abs(loss - wanted[n])).toBeLessThan(bound);
  });

  it('one that is written does not wait for a long prompt beside it', async () => {
    const { engine, forwards } = open(openBackend, { sequences: 2 });
    const written = engine.generate(PROMPTS[1], { maxTokens: 300 });
    await written.next();
    forwards.length = 0;
    let isRead = false;
    const long = generate(engine, PROMPTS[5], { maxTokens: 1 }).then(() => {
      isRead = true;
    });
    while (!isRead) await written.next();
    await long;
    // The prompt of 300 tokens was read in halves of a block, with a row of the other text, which went on alone in between.
    const reading = forwards.filter((slices) => slices.some(({ nRows }) => nRows > 1));
    expect(reading.length).toBeGreaterThan(8);
    expect(reading.filter((slices) => slices.length === 2).length).toBeGreaterThan(reading.length - 3);
    expect(forwards.length).toBeGreaterThan(reading.length);
    await written.return(undefined);
  });

  it('what two of them begin with is read once and lies in the same pages', async () => {
    const context = 4200;
    const common = randomTokens(4000, 'common');
    const { engine, forwards } = open(openBackend, { context, blockLen: 512, sequences: 2 });
    const prompts = [1, 2].map((n) => [...common, ...randomTokens(30, `end ${n}`)]);
    const texts = await Promise.all(prompts.map((prompt) => generate(engine, prompt, { maxTokens: 6, logprobs: 1 })));
    const pages =
      forwards
        .filter((slices) => slices.length === 2)
        .at(-1)
        ?.map((slice) => slice.pages) ?? [];
    const nCommon = Math.floor(common.length / PAGE_LEN);
    expect(pages[0].slice(0, nCommon)).toEqual(pages[1].slice(0, nCommon));
    expect(new Set(pages.flat()).size).toBe(nCommon + 2);
    const nRead = forwards.flat().reduce((sum, { nRows }) => sum + nRows, 0);
    expect(nRead).toBeLessThan(common.length + 2 * (PAGE_LEN + 40));
    if (name === 'wasm') return; // the others are the yardstick, and slow
    const alone = open(openBackend, { context, blockLen: 512 }).engine;
    expectSame(texts[1], await generate(alone, prompts[1], { maxTokens: 6, logprobs: 1 }), bound);
  });

  it('a fault ends no text but one that has it alone', async () => {
    const { engine, faults } = open(openBackend, { sequences: 3 });
    const texts = PROMPTS.slice(2, 5).map((prompt) => engine.generate(prompt, { maxTokens: 12 }));
    const given = await Promise.all(texts.map(async (text) => (await text.next()).value as GeneratedToken));
    faults.next = new Error('the GPU was lost for a moment');
    const rest = await Promise.all(texts.map(collect));
    const alone = open(openBackend).engine;
    for (const [n, tokens] of rest.entries()) {
      expectSame([given[n], ...tokens], await generate(alone, PROMPTS[2 + n]), bound);
    }
  });

  it('after forks, trims and evictions the logits are those of a fresh reading', async () => {
    const random = seededRandom(`forks ${name}`);
    const { engine } = open(openBackend, { sequences: 2 });
    const fresh = open(openBackend).engine;
    let texts = [randomTokens(350, 'root')];
    for (let n = 0; n < (name === 'wasm' ? 40 : 12); n++) {
      const fork = () => {
        const text = random.pick(texts);
        const kept = text.slice(0, random.integer(1, text.length));
        const end = random.pick([0, 1, random.integer(1, 200)]);
        return [...kept, ...randomTokens(end, `fork ${n} ${random.uniform()}`)].slice(0, CONTEXT - 4);
      };
      const pair = [fork(), fork()].slice(0, random.integer(1, 2));
      const options = { maxTokens: 2, logprobs: 2 };
      const found = await Promise.all(pair.map((prompt) => generate(engine, prompt, options)));
      for (const [at, prompt] of pair.entries()) {
        await collect(fresh.score(randomTokens(CONTEXT, 'something else'))); // leaves nothing of use behind
        expectSame(found[at], await generate(fresh, prompt, options), bound);
      }
      texts = [...texts, ...pair].slice(-6);
    }
  });
});

describe.each(BACKENDS.slice(0, 2))(
  '500 lives of three texts, $name',
  { timeout: 300_000 },
  ({ open: openBackend }) => {
    beforeEach(() => {
      vi.useFakeTimers();
    });
    afterEach(() => {
      vi.useRealTimers();
    });

    it('end with right logits or an error by name', async () => {
      const beginning = randomTokens(200, 'beginning');
      const fresh = open(openBackend, { context: 260 }).engine;
      const answers = new Map<string, Promise<GeneratedToken[]>>();
      const answer = (prompt: readonly number[], options: GenerateOptions) => {
        const key = JSON.stringify([prompt, options]);
        const known = answers.get(key) ?? generate(fresh, prompt, { ...options, maxTokens: 6 });
        answers.set(key, known);
        return known;
      };
      const losses = new Map<number, Promise<number[]>>();
      const lossesOf = (length: number) => {
        const known =
          losses.get(length) ?? collect(fresh.score(beginning.slice(0, length))).then((b) => b.flatMap((x) => [...x]));
        losses.set(length, known);
        return known;
      };
      const count = { texts: 0, scores: 0, named: 0 };
      for (let life = 0; life < 500; life++) {
        const random = seededRandom(`life ${life}`);
        const { engine, faults } = open(openBackend, { context: 260, sequences: 3 });
        const isNamed = (error: unknown, signal: AbortSignal) =>
          signal.aborted || /^(fault|the model was disposed)/.test((error as Error).message);
        /** Trims the beginning to one of a few lengths, and goes on in one of two ways. */
        const prompt = () => [
          ...beginning.slice(0, random.pick([1, 60, 127, 128, 129, 190])),
          ...random.pick([[], [5], [7, 7]]),
        ];
        const calls = Array.from({ length: random.integer(2, 6) }, async (_, n) => {
          const abort = new AbortController();
          const dice = random.uniform();
          const text = prompt();
          const length = random.pick([1, 64, 65, 150]);
          const [pauseAt, leaveAt] = [random.integer(1, 12), random.integer(1, 12)];
          const options = random.pick<GenerateOptions>([{}, { logprobs: 1 }, { temperature: 2, topK: 9, seed: 1 }]);
          if (random.uniform() < 0.2) setTimeout(() => abort.abort(), random.integer(0, 1500));
          await new Promise((resolve) => setTimeout(resolve, random.integer(0, 3)));
          const { signal } = abort;
          const given: GeneratedToken[] = [];
          try {
            if (dice < 0.25) {
              const found = (await collect(engine.score(beginning.slice(0, length), { signal }))).flatMap((x) => [
                ...x,
              ]);
              const wanted = await lossesOf(length);
              expect(found.map((x) => x.toFixed(8))).toEqual(wanted.map((x) => x.toFixed(8)));
              count.scores++;
              return;
            }
            for await (const token of engine.generate(text, { ...options, maxTokens: 6, signal })) {
              given.push(token);
              if (given.length === leaveAt) break;
              if (given.length === pauseAt) await new Promise((resolve) => setTimeout(resolve, random.pick([1, 1100])));
            }
          } catch (error) {
            if (!isNamed(error, signal)) throw error;
            count.named++;
          }
          expectSame(given, (await answer(text, options)).slice(0, given.length), 1e-9);
          count.texts++;
          if (n === 0 && random.uniform() < 0.1) faults.next = new Error('fault');
        });
        if (random.uniform() < 0.3) setTimeout(() => void engine.dispose(), random.integer(0, 40));
        if (random.uniform() < 0.2)
          setTimeout(() => Object.assign(faults, { next: new Error('fault') }), random.integer(0, 10));
        let isSettled = false;
        const settled = Promise.all(calls).finally(() => {
          isSettled = true;
        });
        settled.catch(() => {});
        for (let n = 0; n < 60 && !isSettled; n++) await vi.advanceTimersByTimeAsync(n < 40 ? 2 : 1000);
        expect(isSettled, `life ${life} hangs`).toBe(true);
        await settled;
        await engine.dispose();
      }
      expect(count.texts).toBeGreaterThan(1000);
      expect(count.scores).toBeGreaterThan(200);
      expect(count.named).toBeGreaterThan(100);
    });
  },
);

it('asks for room for so many texts', () => {
  const { cache } = open(openReference, { sequences: 3, config: tinyConfig() });
  expect(cache.nPages).toBe(3 * Math.ceil(CONTEXT / PAGE_LEN));
});
