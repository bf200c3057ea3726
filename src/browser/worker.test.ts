/** Both sides of a worker's channel, over a port in one process, with a real model and with objects that fail on purpose. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { FormatError, LostError, UnsupportedError } from '../errors.ts';
import { loadModel, type Model, openModel, openSession } from '../node.ts';
import { startWorker, type WorkerLike, type WorkerModels } from './client.ts';
import { hostModels } from './host.ts';
import type { Channel } from './protocol.ts';

const GGUF = join(import.meta.dirname, '../../test/golden/llama/model.gguf');
const OPTIONS = { context: 64, backend: 'reference' } as const;

const ends: (() => void)[] = [];
afterAll(() => {
  for (const end of ends) end();
});

/** A worker that offers these objects, and a way to let it fail. */
function workerOf(root: object) {
  const { port1, port2 } = new MessageChannel();
  const listeners = new Map<string, (event: Event & { message?: string }) => void>();
  hostModels(port2 as unknown as Channel, { storage: {}, ...root });
  for (const port of [port1, port2]) port.start();
  const worker: WorkerLike = {
    postMessage: (message) => port1.postMessage(message),
    addEventListener(type, listener) {
      if (type === 'message') port1.addEventListener(type, listener as (event: Event) => void);
      else listeners.set(type, listener);
    },
    terminate: () => port1.close(),
  };
  ends.push(() => port1.close());
  const fail = (message?: string) => listeners.get('error')?.(Object.assign(new Event('error'), { message }));
  return { models: startWorker(worker), fail };
}
const real = () => workerOf({ loadModel, openModel, openSession }).models;

/** A worker with a model of which some calls are these. */
async function withModel(calls: Record<string, unknown>) {
  const tokenizer = { vocabSize: 1 };
  const made = workerOf({ loadModel: async () => ({ context: 7, tokenizer, ...calls }) });
  return { ...made, model: await made.models.loadModel('any') };
}

async function textOf(model: Pick<Model, 'generate'>, options = {}): Promise<string> {
  let text = '';
  const pieces = model.generate([1, 2, 3], { maxTokens: 8, temperature: 0, ...options });
  for await (const piece of pieces) text += piece.text;
  return text;
}

describe('a model in a worker', () => {
  it('says what it says without one', async () => {
    const file = new Blob([readFileSync(GGUF)]);
    const [here, there] = [await loadModel(file, OPTIONS), await real().loadModel(file, OPTIONS)];
    expect(await textOf(there)).toBe(await textOf(here));
    expect((await textOf(there)).length).toBeGreaterThan(8);
    expect([there.context, there.backendName, there.config]).toEqual([64, here.backendName, here.config]);
    expect(there.method.name).toBe(here.method.name);
    expect(await there.encode('a b')).toEqual(here.encode('a b'));
    expect(await there.tokenizer.decode([5, 6])).toBe(here.tokenizer.decode([5, 6]));
    expect(there.tokenizer.eosTokens).toEqual(here.tokenizer.eosTokens);
    const losses = async (model: { score: Model['score'] }) => {
      const all: number[] = [];
      for await (const block of model.score([1, 2, 3, 4])) all.push(...block);
      return all;
    };
    expect(await losses(there)).toEqual(await losses(here));
    await there.dispose();
    await expect(textOf(there)).rejects.toThrow(UnsupportedError);
    await here.dispose();
  });

  it('reads, saves and restores sessions, told by where they are or by themselves', async () => {
    const models = real();
    const path = new Blob([readFileSync(GGUF)]);
    const model = await models.loadModel(path, OPTIONS);
    const done: number[] = [];
    const ids = Array.from({ length: 20 }, (_, at) => at + 1);
    const session = await model.read(ids, { about: { title: 'numbers' }, onProgress: (n) => done.push(n) });
    expect(done.at(-1)).toBe(20);
    expect([session.tokens, session.about]).toEqual([ids, { title: 'numbers' }]);
    const bytes = await new Response(session.stream()).blob();
    const other = await models.loadModel(path, OPTIONS);
    const file = await models.openSession(bytes);
    expect(file.head.nTokens).toBe(20);
    expect((await other.loadSession(file)).tokens).toEqual(ids);
    let nRead = -1;
    for await (const _ of other.generate([...ids, 3], {
      maxTokens: 1,
      onProgress: (_, n) => {
        nRead = n;
      },
    }));
    expect(nRead).toBe(1);
  });

  it('gives a plan before it is loaded', async () => {
    const file = await real().openModel(new Blob([readFileSync(GGUF)]));
    const here = await openModel(GGUF);
    expect(await file.memoryPlan(64)).toEqual(here.memoryPlan(64));
    expect(file.tensorTypes).toEqual(here.tensorTypes);
    await expect(file.memoryPlan(-1)).rejects.toThrow(/context is -1/);
    await here.close();
    await file.close();
  });
});

describe('calls of a worker', () => {
  it('fail with the errors of the API', async () => {
    const errors = [new FormatError('a'), new UnsupportedError('b'), new LostError('c'), new RangeError('d')];
    for (const error of [...errors, new DOMException('e', 'QuotaExceededError')]) {
      const { model } = await withModel({ encode: async () => Promise.reject(error) });
      const thrown = await model.encode('x').catch((caught: Error) => caught);
      expect(thrown).toMatchObject({ message: error.message });
      if (!(error instanceof RangeError)) expect(thrown).toMatchObject({ name: error.name });
      if (errors.indexOf(error) < 3) expect(thrown).toBeInstanceOf(error.constructor);
    }
  });

  it('are aborted with the reason of their signal, within a stream too', async () => {
    let isAborted = false;
    async function* generate(_: unknown, { signal }: { signal: AbortSignal }) {
      yield { text: 'a' };
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    }
    const read = (_: unknown, { signal }: { signal: AbortSignal }) =>
      new Promise((_, reject) =>
        signal.addEventListener('abort', () => {
          isAborted = true;
          reject(signal.reason);
        }),
      );
    const { model } = await withModel({ generate, read });
    const reason = new Error('enough');
    const abort = new AbortController();
    const pieces = model.generate('x', { signal: abort.signal });
    expect((await pieces.next()).value).toEqual({ text: 'a' });
    const [next, reading] = [pieces.next(), model.read('x', { signal: abort.signal })];
    setTimeout(() => abort.abort(reason), 20);
    await expect(next).rejects.toBe(reason);
    await expect(reading).rejects.toBe(reason);
    expect(isAborted).toBe(true);
    await expect(model.read('x', { signal: abort.signal })).rejects.toBe(reason);
    await expect(model.generate('x', { signal: abort.signal }).next()).rejects.toBe(reason);
  });

  it('give a stream as it is asked for, and leave it when its reader does', async () => {
    let [made, isLeft] = [0, false];
    async function* generate() {
      try {
        for (;;) yield { text: `${made++}` };
      } finally {
        isLeft = true;
      }
    }
    const { model } = await withModel({ generate });
    for await (const { text } of model.generate('x')) if (text === '2') break;
    await expect.poll(() => isLeft).toBe(true);
    expect(made).toBe(3);
  });

  it('end with what a progress callback throws', async () => {
    const read = async (
      _: unknown,
      { onProgress, signal }: { onProgress: (n: number) => void; signal?: AbortSignal },
    ) => {
      onProgress(1);
      await new Promise((resolve) => setTimeout(resolve, 20));
      return { tokens: [], signal };
    };
    const { model } = await withModel({ read });
    const onProgress = () => {
      throw new Error('mine');
    };
    await expect(model.read('x', { onProgress })).rejects.toThrow('mine');
  });

  it('refuse what cannot be copied, and unknown calls and objects', async () => {
    const { model } = await withModel({ encode: async () => [] });
    await expect(model.encode('x', { templateVariables: { a: () => 1 } })).rejects.toThrow(
      /cannot be given to a worker.*could not be cloned/,
    );
    const { port1, port2 } = new MessageChannel();
    ends.push(() => port1.close());
    hostModels(port2 as unknown as Channel, { storage: {} });
    port2.start();
    const answers: unknown[] = [];
    port1.onmessage = ({ data }) => answers.push(data);
    port1.postMessage({ type: 'call', id: 1, ref: 0, name: 'constructor', args: [] });
    port1.postMessage({ type: 'call', id: 2, ref: 99, name: 'encode', args: [] });
    await expect
      .poll(() => answers)
      .toEqual([
        { id: 1, type: 'error', name: 'UnsupportedError', message: 'the worker knows no call "constructor" of a root' },
        { id: 2, type: 'error', name: 'UnsupportedError', message: expect.stringMatching(/no such object/) },
      ]);
  });

  it('reject when the worker is ended, or ends by itself', async () => {
    const forever = () => new Promise(() => {});
    const { models, model } = await withModel({ encode: forever });
    const encoding = model.encode('x');
    models.terminate();
    await expect(encoding).rejects.toThrow('the worker was ended');
    await expect(model.encode('x')).rejects.toThrow('the worker was ended');

    const lost = await withModel({
      encode: forever,
      generate: async function* () {
        yield await forever();
      },
    });
    const [waiting, streaming] = [lost.model.encode('x'), lost.model.generate('x').next()];
    lost.fail('out of memory');
    await expect(waiting).rejects.toThrow(LostError);
    await expect(streaming).rejects.toThrow(/the worker has failed \(out of memory\)/);
    const never: WorkerModels = workerOf({}).models;
    expect(never.storage).toBeDefined();
  });
});
