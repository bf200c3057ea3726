/** What an engine goes through: texts that take turns, are left, aborted or fail; and its end. */
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { randomTokens, tinyEngine } from '../../test/tinyModel.ts';
import type { Backend, Tensor } from '../backends/backend.ts';
import { deferred, openEager, openReference } from '../backends/reference.ts';
import { UnsupportedError } from '../errors.ts';
import { seededRandom } from '../eval/random.ts';
import { draw } from '../kernels/draw.ts';
import type { Engine } from './engine.ts';
import type { GeneratedToken, GenerateOptions } from './texts.ts';

const TOKENS = randomTokens(50);
const OTHERS = randomTokens(50, 'others');

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
  { path: 'sampled here', open: openReference },
  { path: 'drawn by the backend', open: openDrawing },
];

/** An engine with blocks of 16 tokens. Its backend fails once where `faults.next` is set, and waits for `faults.work`. */
function open(openBackend: () => Backend) {
  const backend = openBackend();
  const faults: { next?: Error; work?: Promise<void> } = {};
  const fail = async () => {
    const { next, work } = faults;
    if (next) {
      faults.next = undefined;
      throw next;
    }
    await work;
  };
  const frail: Backend = {
    ...backend,
    async submit() {
      await fail();
      return backend.submit();
    },
    async read(tensor) {
      if (faults.next || faults.work) await fail();
      return backend.read(tensor);
    },
  };
  const parts = tinyEngine({ backend: frail, blockLen: 16, maxLogitRows: 16 });
  onTestFinished(() => parts.engine.dispose());
  return { ...parts, faults };
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

const generate = (engine: Engine, prompt: readonly number[], options: GenerateOptions = {}) =>
  collect(engine.generate(prompt, { maxTokens: 6, ...options }));

function expectSame(actual: readonly GeneratedToken[], expected: readonly GeneratedToken[]) {
  expect(actual.map(({ token }) => token)).toEqual(expected.map(({ token }) => token));
  actual.forEach(({ logprob = 0 }, n) => {
    expect(logprob).toBeCloseTo(expected[n].logprob ?? 0, 9);
  });
}

describe.each(BACKENDS)('what counts as read, $path', ({ open: openBackend }) => {
  it.each([1, 2, 16, 17, 18, 33])('after a score of %i tokens a text goes on as on a fresh engine', async (length) => {
    const { engine } = open(openBackend);
    await collect(engine.score(TOKENS.slice(0, length)));
    for (const options of [{ logprobs: 3 }, {}]) {
      const prompt = TOKENS.slice(0, length + 3);
      expectSame(await generate(engine, prompt, options), await generate(open(openBackend).engine, prompt, options));
    }
  });

  it.each([1, 2, 3, 4, 5])('after submission %i has failed, a text can be tried again', async (nth) => {
    const { engine, faults } = open(openBackend);
    let n = 0;
    const failing = engine.generate(TOKENS, {
      maxTokens: 6,
      onProgress: () => {
        if (++n === nth) faults.next = new Error('no memory');
      },
    });
    const given: GeneratedToken[] = [];
    const reading = (async () => {
      for await (const token of failing) given.push(token);
    })();
    await expect(reading).rejects.toThrow('no memory');
    const fresh = open(openBackend).engine;
    for (const options of [{ logprobs: 3 }, {}]) {
      expectSame(await generate(engine, TOKENS, options), await generate(fresh, TOKENS, options));
    }
  });

  it('after a submission failed between tokens, a text can be tried again', async () => {
    const { engine, faults } = open(openBackend);
    const tokens = engine.generate(TOKENS);
    for (let n = 0; n < 3; n++) await tokens.next();
    faults.next = new Error('the GPU was lost');
    const rest = collect(tokens);
    await expect(rest).rejects.toThrow('the GPU was lost');
    expectSame(await generate(engine, TOKENS), await generate(open(openBackend).engine, TOKENS));
  });

  it('a score that failed can be tried again', async () => {
    const { engine, faults } = open(openBackend);
    faults.next = new Error('no memory');
    await expect(collect(engine.score(TOKENS))).rejects.toThrow('no memory');
    expect(await collect(engine.score(TOKENS))).toEqual(await collect(open(openBackend).engine.score(TOKENS)));
  });

  it('a progress report that throws ends the text, and no more', async () => {
    const { engine } = open(openBackend);
    for (let nth = 1; nth <= 5; nth++) {
      let n = 0;
      const onProgress = () => {
        if (++n === nth) throw new Error(`report ${nth}`);
      };
      await expect(collect(engine.score(TOKENS, { onProgress }))).rejects.toThrow(`report ${nth}`);
    }
    expectSame(await generate(engine, TOKENS), await generate(open(openBackend).engine, TOKENS));
  });
});

describe.each(BACKENDS)('turns, $path', ({ open: openBackend }) => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('a second text waits for the first, and both are what they would be alone', async () => {
    const { engine } = open(openBackend);
    const order: string[] = [];
    const named = async (name: string, prompt: readonly number[]) => {
      const text = await generate(engine, prompt);
      order.push(name);
      return text;
    };
    const texts = await Promise.all([
      named('first', TOKENS),
      named('second', OTHERS),
      collect(engine.score(TOKENS)).finally(() => order.push('third')),
      named('fourth', TOKENS),
    ]);
    expect(order).toEqual(['first', 'second', 'third', 'fourth']);
    const fresh = () => open(openBackend).engine;
    expectSame(texts[0], await generate(fresh(), TOKENS));
    expectSame(texts[1], await generate(fresh(), OTHERS));
    expect(texts[2]).toEqual(await collect(fresh().score(TOKENS)));
    expectSame(texts[3], await generate(fresh(), TOKENS));
  });

  it('one left lying lets others go first after a second, and goes on where it was', async () => {
    const { engine } = open(openBackend);
    const options = { temperature: 2, topK: 20, seed: 5, maxTokens: 6 };
    const whole = await generate(open(openBackend).engine, TOKENS, options);
    for (let nTokens = 1; nTokens < 6; nTokens++) {
      const left = engine.generate(TOKENS, options);
      const given: GeneratedToken[] = [];
      for (let n = 0; n < nTokens; n++) given.push((await left.next()).value);
      let isDone = false;
      const other = generate(engine, OTHERS).finally(() => {
        isDone = true;
      });
      await vi.advanceTimersByTimeAsync(900);
      expect(isDone).toBe(false);
      await vi.advanceTimersByTimeAsync(200);
      expectSame(await other, await generate(open(openBackend).engine, OTHERS));
      expectSame([...given, ...(await collect(left))], whole);
    }
  });

  it('one left lying claims nothing that others have written since', async () => {
    const { engine } = open(openBackend);
    const left = engine.generate(TOKENS);
    await left.next();
    const other = generate(engine, TOKENS.slice(0, 20));
    await vi.advanceTimersByTimeAsync(1000);
    const written = [...TOKENS.slice(0, 20), ...(await other).map(({ token }) => token)];
    await left.next();
    await left.return(undefined);
    const mixed = [...written.slice(0, 25), ...TOKENS.slice(25)];
    expectSame(
      await generate(engine, mixed, { logprobs: 1 }),
      await generate(open(openBackend).engine, mixed, { logprobs: 1 }),
    );
  });

  it('a score left lying goes on where it was', async () => {
    const { engine } = open(openBackend);
    const left = engine.score(TOKENS);
    const blocks = [(await left.next()).value, (await left.next()).value];
    const other = generate(engine, OTHERS);
    await vi.advanceTimersByTimeAsync(1000);
    await other;
    blocks.push(...(await collect(left)));
    const whole = await collect(open(openBackend).engine.score(TOKENS));
    blocks
      .flatMap((block) => [...block])
      .forEach((loss, n) => {
        expect(loss).toBeCloseTo(whole.flatMap((block) => [...block])[n], 9);
      });
  });

  it('iterators never pulled, dropped or returned stop nobody', async () => {
    const { engine } = open(openBackend);
    engine.generate(TOKENS);
    engine.score(TOKENS);
    const returned = engine.generate(TOKENS);
    await returned.next();
    await returned.return(undefined);
    expect(await generate(engine, TOKENS)).toHaveLength(6);
    await engine.generate(TOKENS).next();
    const waiting = generate(engine, TOKENS);
    await vi.advanceTimersByTimeAsync(1000);
    expect(await waiting).toHaveLength(6);
  });

  it('an abort ends a text that waits, and frees one that rests, at once and with nobody pulling', async () => {
    const { engine } = open(openBackend);
    const [first, second] = [new AbortController(), new AbortController()];
    const holder = engine.generate(TOKENS, { signal: first.signal });
    await holder.next();
    const waiting = generate(engine, OTHERS, { signal: second.signal });
    const third = generate(engine, OTHERS);
    second.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    first.abort();
    expect(await third).toHaveLength(6); // no time has passed
    await expect(holder.next()).rejects.toThrow('aborted');
    expect((await holder.next()).done).toBe(true);
    await expect(generate(engine, TOKENS, { signal: first.signal })).rejects.toThrow('aborted');
  });

  it('an abort settles a call while a block is read; the next text waits for the block', async () => {
    const { engine, faults } = open(openBackend);
    let finish = () => {};
    faults.work = new Promise((resolve) => {
      finish = resolve;
    });
    const abort = new AbortController();
    const reading = generate(engine, TOKENS, { signal: abort.signal });
    reading.catch(() => {});
    await vi.advanceTimersByTimeAsync(10);
    abort.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    let isDone = false;
    const next = generate(engine, OTHERS).finally(() => {
      isDone = true;
    });
    await vi.advanceTimersByTimeAsync(2000);
    expect(isDone).toBe(false);
    faults.work = undefined;
    finish();
    expectSame(await next, await generate(open(openBackend).engine, OTHERS));
  });
});

describe.each(BACKENDS)('the end, $path', ({ open: openBackend }) => {
  it('ends every call: one that reads, one that rests, one that waits, one to come', async () => {
    const { engine, faults } = open(openBackend);
    const resting = engine.generate(TOKENS);
    await resting.next();
    const waiting = [generate(engine, TOKENS), collect(engine.score(TOKENS))];
    const ends = [engine.dispose(), engine.dispose()];
    for (const call of [...waiting, resting.next(), generate(engine, TOKENS), collect(engine.score(TOKENS))]) {
      await expect(call).rejects.toThrow(new UnsupportedError('the model was disposed; load it again'));
    }
    await Promise.all(ends);
    expect(faults).toEqual({});
  });

  it('comes while a block is read that never ends', async () => {
    const { engine, faults } = open(openBackend);
    faults.work = new Promise(() => {});
    const reading = generate(engine, TOKENS);
    reading.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 5));
    await engine.dispose();
    await expect(reading).rejects.toThrow('the model was disposed');
  });
});

describe.each(BACKENDS)('any life, $path', { timeout: 60_000 }, ({ open: openBackend }) => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** Prompts that share beginnings of several lengths. */
  const promptOf = (random: ReturnType<typeof seededRandom>) => {
    const [common, own] = [random.pick([0, 1, 16, 17, 30]), random.integer(1, 20)];
    return [...TOKENS.slice(0, common), ...OTHERS.slice(common, common + own)];
  };

  it.each(Array.from({ length: 8 }, (_, seed) => seed))('gives the texts of a fresh engine, seed %i', async (seed) => {
    const random = seededRandom(`life ${seed}`);
    const { engine, faults } = open(openBackend);
    const { engine: fresh } = open(() => openBackend());
    const answers = new Map<string, readonly GeneratedToken[]>();
    const expected = async (prompt: readonly number[], options: GenerateOptions) => {
      const key = JSON.stringify([prompt, options]);
      const known = answers.get(key) ?? (await generate(fresh, prompt, options));
      answers.set(key, known);
      return known;
    };
    const calls: Promise<void>[] = [];
    const checked = async (prompt: readonly number[], options: GenerateOptions, signal: AbortSignal | undefined) => {
      const given: GeneratedToken[] = [];
      const [leaveAt, pauseAt] = [random.integer(1, 12), random.integer(1, 12)];
      try {
        for await (const token of engine.generate(prompt, { ...options, signal })) {
          given.push(token);
          if (given.length === leaveAt) break;
          if (given.length === pauseAt) await new Promise((resolve) => setTimeout(resolve, 1500));
        }
      } catch (error) {
        if (!signal?.aborted && !/^fault/.test((error as Error).message)) throw error;
      }
      expectSame(given, (await expected(prompt, options)).slice(0, given.length));
    };
    const step: Record<string, () => void> = {
      generate() {
        const options: GenerateOptions = random.pick([
          {},
          { logprobs: 2 },
          { temperature: 2, topK: 20, seed },
          { temperature: 1, repetitionPenalty: 1.2, seed },
        ]);
        const abort = random.pick([undefined, new AbortController()]);
        calls.push(checked(promptOf(random), { maxTokens: random.integer(1, 8), ...options }, abort?.signal));
        if (abort) setTimeout(() => abort.abort(), random.integer(0, 3000));
      },
      score() {
        const prompt = promptOf(random);
        calls.push(
          collect(engine.score(prompt)).then(
            (blocks) => expect(blocks.flatMap((block) => [...block])).toHaveLength(prompt.length - 1),
            (error) => expect(error.message).toMatch(/^fault/),
          ),
        );
      },
      drop: () =>
        void engine
          .generate(promptOf(random))
          .next()
          .catch(() => {}),
      fault() {
        faults.next = new Error(`fault ${calls.length}`);
      },
    };
    for (let n = 0; n < 25; n++) {
      step[random.pick(['generate', 'generate', 'score', 'drop', 'fault'])]();
      await vi.advanceTimersByTimeAsync(random.pick([0, 0, 1, 400, 2000]));
    }
    await vi.advanceTimersByTimeAsync(100_000);
    await Promise.all(calls);
    faults.next = undefined;
    const prompt = promptOf(random);
    const last = generate(engine, prompt);
    await vi.advanceTimersByTimeAsync(2000); // one that was dropped may have its turn
    expectSame(await last, await generate(fresh, prompt));
    const late = generate(engine, prompt);
    const ended = expect(late).rejects.toThrow('disposed');
    await engine.dispose();
    await ended;
    expect(answers.size).toBeGreaterThan(3);
  });
});
