/** Pages go out of one engine and into another, which then answers as the first one does, to the bit. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { randomTokens, tinyEngine } from '../../test/tinyModel.ts';
import { hasWebGpu, sharedWebGpu } from '../../test/webgpu.ts';
import type { Backend } from '../backends/backend.ts';
import { openReference } from '../backends/reference.ts';
import { openWasm } from '../backends/wasm.ts';
import { selfExtend } from '../byDistance.ts';
import { dualChunk } from '../dualChunk.ts';
import { UnsupportedError } from '../errors.ts';
import { PAGE_LEN } from '../kvTypes.ts';
import { nodeMachine } from '../platform/nodeMachine.ts';
import type { Engine } from './engine.ts';

const BACKENDS = [
  { name: 'reference', openBackend: openReference },
  ...(['f32', 'bf16', 'q8_0'] as const).map((kvType) => ({
    name: `wasm, ${kvType}`,
    openBackend: () => openWasm(nodeMachine, { threads: 2, kvType }),
  })),
  ...(hasWebGpu ? [{ name: 'webgpu', openBackend: sharedWebGpu }] : []),
];
const DCA = dualChunk({ chunkLen: 40, maxDistance: 59, parts: 'full', scale: 'logn', trainedLen: 60 });
const TWO_FORMS = { ...selfExtend(4, 60), attentionScale: () => 1 };
const TEXT = randomTokens(2 * PAGE_LEN + 50);

/** An engine that counts the rows it reads. */
function open(openBackend: () => Backend, placement = DCA, sequences = 2) {
  const backend = openBackend();
  const counts = { rows: 0, written: 0 };
  const counted: Backend = {
    ...backend,
    append(kv, keys, v, slices) {
      counts.rows += v.rows;
      backend.append(kv, keys, v, slices);
    },
    writePage(layers, page, bytes) {
      counts.written++;
      return backend.writePage(layers, page, bytes);
    },
  };
  const sizes = { context: 400, blockLen: 64, maxLogitRows: 16, sequences };
  const { engine } = tinyEngine({ backend: counted, placement, ...sizes });
  onTestFinished(() => engine.dispose());
  return { engine, counts };
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}
const answer = (engine: Engine) => collect(engine.generate([...TEXT, 3, 1, 4], { maxTokens: 6, logprobs: 2 }));
const bring = (pages: readonly Uint8Array[]) => async (nth: number) => pages[nth];

describe.each(BACKENDS)('$name', ({ openBackend }) => {
  it.each([
    ['dual chunks', DCA],
    ['two forms of keys', TWO_FORMS],
  ])('what was read in one engine goes on in another as if it were there: %s', async (_, placement) => {
    const [here, there] = [open(openBackend, placement), open(openBackend, placement)];
    const pages = await collect(here.engine.pages(TEXT, 0));
    expect(pages).toHaveLength(3);
    const expected = await answer(here.engine);
    await there.engine.adopt(TEXT, bring(pages));
    expect(there.counts).toEqual({ rows: 0, written: 3 });
    expect(await answer(there.engine)).toEqual(expected);
    expect(there.counts.rows).toBe(2 * (3 + 5)); // in two layers: the question, and all of the answer but its last token
  });
});

describe('moving', () => {
  it('reads only what the cache has not got, and gives pages from the one that is asked for', async () => {
    const { engine, counts } = open(openReference);
    const all = await collect(engine.pages(TEXT, 0));
    const read = counts.rows;
    const progress: number[][] = [];
    const last = await collect(engine.pages(TEXT, 2, { onProgress: (done, total) => progress.push([done, total]) }));
    expect(counts.rows).toBe(read);
    expect(progress).toEqual([[0, 0]]);
    expect(last).toEqual(all.slice(2));
    expect(await collect(engine.pages(TEXT, 3))).toEqual([]);
  });

  it('brings only what the cache has not got', async () => {
    const [here, there] = [open(openReference), open(openReference)];
    const pages = await collect(here.engine.pages(TEXT, 0));
    await collect(there.engine.generate(TEXT.slice(0, PAGE_LEN + 10), { maxTokens: 1 }));
    const asked: number[] = [];
    await there.engine.adopt(TEXT, async (nth) => {
      asked.push(nth);
      return pages[nth];
    });
    expect(asked).toEqual([1, 2]);
    expect(await answer(there.engine)).toEqual(await answer(here.engine));
  });

  it('goes on with other texts meanwhile, who may take its place', async () => {
    const [here, there] = [open(openReference), open(openReference, DCA, 1)];
    const pages = await collect(here.engine.pages(TEXT, 0));
    const slow = there.engine.adopt(TEXT, async (nth) => {
      await new Promise((resolve) => setTimeout(resolve, 1200)); // longer than a text may keep others waiting
      return pages[nth];
    });
    const other = await collect(there.engine.generate(randomTokens(390, 'other'), { maxTokens: 5 }));
    expect(other).toHaveLength(5);
    await slow;
    expect(await answer(there.engine)).toEqual(await answer(here.engine));
  });

  it('ends with what goes wrong, and the engine goes on', async () => {
    const [here, there] = [open(openReference), open(openReference)];
    const pages = await collect(here.engine.pages(TEXT, 0));
    const damaged = new Error('damaged');
    const failing = there.engine.adopt(TEXT, async (nth) => {
      if (nth === 1) throw damaged;
      return pages[nth];
    });
    await expect(failing).rejects.toBe(damaged);
    const stopped = new AbortController();
    const stopping = there.engine.adopt(
      TEXT,
      async (nth) => {
        stopped.abort();
        return pages[nth];
      },
      { signal: stopped.signal },
    );
    await expect(stopping).rejects.toThrow('aborted');
    expect(await answer(there.engine)).toEqual(await answer(here.engine));
    await expect(collect(there.engine.pages(randomTokens(401), 0))).rejects.toThrow(UnsupportedError);
    await there.engine.dispose();
    await expect(there.engine.adopt(TEXT, bring(pages))).rejects.toThrow('disposed');
  });
});
