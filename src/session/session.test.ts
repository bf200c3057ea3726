/** What was read is written down, opened again, and answers as before, or is refused by the name of what differs. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { seededRandom } from '../eval/random.ts';
import {
  FormatError,
  type LoadOptions,
  loadModel,
  type Model,
  openSession,
  type SessionSource,
  UnsupportedError,
} from '../node.ts';

const MODEL = 'test/golden/llama/model.gguf';
const OPTIONS: LoadOptions = { context: 1024, backend: 'wasm', threads: 2, method: 'dca:40/59' };
const TEXT = readFileSync('test/golden/text.txt', 'utf8').slice(0, 700);
const folder = mkdtempSync(join(tmpdir(), 'session-'));

async function load(options: LoadOptions = {}, path = MODEL): Promise<Model> {
  const model = await loadModel(path, { ...OPTIONS, ...options });
  onTestFinished(() => model.dispose());
  return model;
}

/** Tokens and log-probabilities of an answer, and how many tokens of the prompt were read for it. */
async function answer(model: Model, tokens: readonly number[]) {
  let read = -1;
  const options = {
    maxTokens: 8,
    temperature: 0,
    logprobs: 3,
    stopTokens: [],
    onProgress: (_: number, n: number) => (read = n),
  };
  const given = [];
  for await (const piece of model.generate([...tokens, 5, 6, 7], options)) given.push(...piece.tokens);
  return { given, read };
}

async function readAll(source: SessionSource): Promise<number> {
  const file = await openSession(source);
  try {
    for (let nth = 0; nth < Math.ceil(file.tokens.length / 128); nth++) await file.pageAt(nth);
    return file.tokens.length;
  } finally {
    await file.close();
  }
}

describe('a session', () => {
  it.each([
    {},
    { kvType: 'q8_0' as const },
    { kvType: 'f32' as const },
    { backend: 'reference' as const, threads: undefined },
  ])('is the same to the bit when it is opened again: %o', async (options) => {
    const [here, there] = [await load(options), await load(options)];
    const session = await here.read(TEXT, { about: { title: 'A text' } });
    const path = join(folder, 'same.kv');
    const progress: number[][] = [];
    await session.save(path, { onProgress: (...counts) => progress.push(counts) });
    const nPages = Math.ceil(session.tokens.length / 128);
    expect(progress).toEqual(Array.from({ length: nPages + 1 }, (_, done) => [done, nPages]));
    const opened = await there.loadSession(path);
    expect(opened.tokens).toEqual(session.tokens);
    expect(opened.about).toEqual({ title: 'A text' });
    expect(await answer(there, opened.tokens)).toEqual({ ...(await answer(here, session.tokens)), read: 3 });
  });

  it('goes by streams and Blobs too', async () => {
    const [here, there] = [await load(), await load()];
    const session = await here.read(TEXT);
    const blob = await new Response(session.stream()).blob();
    const opened = await there.loadSession(blob);
    const again = await new Response(opened.stream()).blob();
    expect(Buffer.from(await again.arrayBuffer()).equals(Buffer.from(await blob.arrayBuffer()))).toBe(true);
    expect(await answer(there, opened.tokens)).toEqual(await answer(here, session.tokens));
    // What was written behind the text, to the same page, is nobody's business.
    const afterwards = await new Response(session.stream()).blob();
    expect(Buffer.from(await afterwards.arrayBuffer()).equals(Buffer.from(await blob.arrayBuffer()))).toBe(true);
  });

  it('says what it wants before a model is loaded', async () => {
    const session = await (await load()).read(TEXT, { about: 7 });
    const path = join(folder, 'head.kv');
    await session.save(path);
    const file = await openSession(path);
    onTestFinished(() => file.close());
    expect(file.head).toMatchObject({ method: 'dca:40/59:logn', cache: 'wasm bf16', context: 1024, about: 7 });
    expect(file.tokens).toEqual(session.tokens);
  });

  it('reads again what the cache has lost, when it is saved', async () => {
    const model = await load();
    const session = await model.read(TEXT);
    const before = Buffer.from(await new Response(session.stream()).arrayBuffer());
    for (let nth = 0; nth < 3; nth++) await model.read(Array.from({ length: 1000 }, (_, at) => (at * (nth + 3)) % 90));
    expect(Buffer.from(await new Response(session.stream()).arrayBuffer()).length).toBe(before.length);
  });
});

describe('what does not fit is refused by name', () => {
  let path: string;
  beforeAll(async () => {
    path = join(folder, 'refused.kv');
    const model = await loadModel(MODEL, OPTIONS);
    await (await model.read(TEXT)).save(path);
    await model.dispose();
  });

  it.each<[string, LoadOptions, RegExp]>([
    [
      'method',
      { method: 'dca:40/59:none' },
      /another method \(dca:40\/59:logn; this is dca:40\/59:none\); load the model with method/,
    ],
    ['cache', { kvType: 'q8_0' }, /another type of cache \(wasm bf16; this is wasm q8_0\)/],
    ['backend', { backend: 'reference', threads: undefined }, /another type of cache/],
    ['context', { context: 256 }, /tokens, but the context holds 256/],
  ])('%s', async (_what, options, message) => {
    const opening = (await load(options)).loadSession(path);
    await expect(opening).rejects.toThrow(message);
    await expect(opening).rejects.toThrow(UnsupportedError);
  });

  it('model: another one, and one of the same shape with other weights', async () => {
    await expect((await load({}, 'test/golden/mistral/model.gguf')).loadSession(path)).rejects.toThrow(/another model/);
    const bytes = readFileSync('test/golden/llama/model.safetensors');
    const files = Object.fromEntries(
      ['config.json', 'tokenizer.json', 'tokenizer_config.json'].map((name) => [
        name,
        new Blob([readFileSync(`test/golden/llama/${name}`)]),
      ]),
    );
    const weights = (change: number) => {
      const changed = Uint8Array.from(bytes);
      const first = 8 + Number(bytes.readBigUInt64LE(0)); // of the tensors
      changed[first] ^= change;
      return loadModel({ ...files, 'model.safetensors': new Blob([changed]) }, OPTIONS);
    };
    const [same, other, again] = [await weights(0), await weights(1), await weights(0)];
    onTestFinished(async () => {
      for (const model of [same, other, again]) await model.dispose();
    });
    const blob = await new Response((await same.read(TEXT)).stream()).blob();
    await again.loadSession(blob);
    await expect(other.loadSession(blob)).rejects.toThrow(/another model/);
  });

  it('a file that is damaged anywhere, or cut off', async () => {
    const model = await load();
    const whole = readFileSync(path);
    const random = seededRandom('damage');
    const places = [
      ...Array.from({ length: 20 }, (_, at) => at),
      ...Array.from({ length: 60 }, () => random.integer(20, whole.length - 1)),
    ];
    for (const at of places) {
      const bytes = Uint8Array.from(whole);
      bytes[at] ^= 1 << random.integer(0, 7);
      await expect(readAll(new Blob([bytes])), `byte ${at}`).rejects.toThrow(/damaged|not a session|version/);
    }
    for (const length of [0, 7, 16, 100, whole.length - 1]) {
      await expect(model.loadSession(new Blob([whole.subarray(0, length)]))).rejects.toThrow(FormatError);
    }
    await expect(model.loadSession(join(folder, 'nowhere.kv'))).rejects.toThrow(FormatError);
    await expect(model.loadSession(folder)).rejects.toThrow('a folder');
    const bytes = Uint8Array.from(whole);
    bytes[whole.length - 1] ^= 1;
    await expect(model.loadSession(new Blob([bytes]))).rejects.toThrow('the checksum of page 4 of 4 is wrong');
    await model.loadSession(path);
  });
});

describe('whatever happens while it is written, the file is whole', () => {
  const script = (path: string, more = '') => `
    import { loadModel } from './dist/node.js';
    const model = await loadModel('${MODEL}', ${JSON.stringify(OPTIONS)});
    const sessions = [await model.read('One.'.repeat(90)), await model.read('Two.'.repeat(140))];
    console.log('ready');
    for (let n = 0; ; n++) { await sessions[n % 2].save('${path}'); ${more} }`;
  const run = (path: string, more?: string) => ['--input-type=module', '-e', script(path, more)];

  it('where the process is killed', { timeout: 120_000 }, async () => {
    const random = seededRandom('kill');
    const path = join(folder, 'killed.kv');
    const lengths = new Set<number>();
    for (let time = 0; time < Number(process.env.KILLS ?? 12); time++) {
      const child = spawn('node', run(path), { stdio: ['ignore', 'pipe', 'inherit'] });
      await new Promise((resolve) => child.stdout.once('data', resolve));
      await new Promise((resolve) => setTimeout(resolve, 15 + 60 * random.uniform()));
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('exit', resolve));
      lengths.add(await readAll(path));
    }
    expect(lengths.size).toBe(2);
    spawnSync('node', run(path, 'if (n === 1) process.exit();'));
    expect(readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual([]);
  });

  it('where there is no room', () => {
    const path = join(folder, 'full.kv');
    writeFileSync(path, 'as it was');
    const command = `ulimit -f 100; node --input-type=module -e "$0"`; // files of at most 100 KiB
    const { stderr } = spawnSync('bash', ['-c', command, script(path)], { encoding: 'utf8' });
    expect(stderr).toContain(`${path}: cannot be written (EFBIG); what was there before is unchanged`);
    expect(readFileSync(path, 'utf8')).toBe('as it was');
    expect(readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual([]);
  });
});
