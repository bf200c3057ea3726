/** The same model by all that can be given for one, with the entries of both platforms. */
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { blobSource } from '../checkpoint/source.ts';
import { FormatError, UnsupportedError } from '../errors.ts';
import * as onNode from '../node.ts';
import * as onWeb from '../web.ts';
import type { ModelSource } from './platform.ts';

const FOLDER = join(import.meta.dirname, '../../test/golden/llama');
const GGUF = join(FOLDER, 'model.gguf');
const NAMES = readdirSync(FOLDER).filter((name) => ['.json', '.jinja', '.safetensors'].includes(extname(name)));
const blobOf = (path: string) => new Blob([readFileSync(path)]);
const handleOf = (path: string) => ({ getFile: async () => new File([readFileSync(path)], 'model.gguf') });
const files = (fileOf = blobOf) => NAMES.map((name) => [name, fileOf(join(FOLDER, name))] as const);

/** Serves the folder with ranges. */
const server = createServer(({ url = '', headers }, response) => {
  const { pathname, searchParams } = new URL(url, 'http://host');
  const name = pathname.slice('/llama/'.length);
  if (pathname.startsWith('/login/')) return response.writeHead(200).end('<!doctype html><p>Sign in');
  if (searchParams.get('key') !== '1' || !(NAMES.includes(name) || name === 'model.gguf')) {
    return response.writeHead(404).end();
  }
  const bytes = readFileSync(join(FOLDER, name));
  const [start, last] = (/\d+-\d+/.exec(headers.range ?? '')?.[0] ?? '').split('-').map(Number);
  const part = bytes.subarray(start, last + 1);
  response.writeHead(206, { 'content-range': `bytes ${start}-${start + part.length - 1}/${bytes.length}` }).end(part);
});
let origin = '';
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

/** What a model says, with float64 so that nothing rounds. */
async function answerOf({ loadModel }: Pick<typeof onNode, 'loadModel'>, source: ModelSource) {
  const model = await loadModel(source, { context: 32, backend: 'reference' });
  try {
    const pieces: string[] = [];
    for await (const { text } of model.generate([1, 2, 3], { maxTokens: 8, temperature: 0 })) pieces.push(text);
    return pieces.join('');
  } finally {
    await model.dispose();
  }
}

const everywhere: [string, () => ModelSource][] = [
  ['the address of a GGUF file', () => `${origin}/llama/model.gguf?key=1`],
  ['a URL of a GGUF file', () => new URL(`${origin}/llama/model.gguf?key=1`)],
  ['the address of a folder', () => `${origin}/llama/?key=1`],
  ['a Blob', () => blobOf(GGUF)],
  ['a file handle', () => handleOf(GGUF)],
  ['a source', () => blobSource(blobOf(GGUF), 'model')],
  ['a map of Blobs', () => new Map(files())],
  ['a record of Blobs', () => Object.fromEntries(files())],
  ['a map with a GGUF file', () => new Map([['model.gguf', handleOf(GGUF)]])],
];
const onlyInNode: [string, () => ModelSource][] = [
  ['the path of a folder', () => FOLDER],
  ['the file: URL of a folder', () => pathToFileURL(FOLDER)],
  ['the file: address of a GGUF file', () => pathToFileURL(GGUF).href],
];

describe('a model', () => {
  const expected = answerOf(onNode, GGUF);

  it('says something', async () => {
    expect((await expected).length).toBeGreaterThan(8);
  });

  it.each([...everywhere, ...onlyInNode])('is opened by %s in Node', async (_what, source) => {
    expect(await answerOf(onNode, source())).toBe(await expected);
  });
  it.each(everywhere)('is opened by %s on the web', async (_what, source) => {
    expect(await answerOf(onWeb, source())).toBe(await expected);
  });
});

const refused = async (source: unknown, { openModel }: Pick<typeof onWeb, 'openModel'> = onWeb): Promise<Error> =>
  openModel(source as ModelSource).then(
    () => expect.unreachable('it was opened'),
    (error) => error,
  );

it('names what was given where that is no model', async () => {
  for (const [source, told] of [
    [undefined, 'undefined'],
    [7, '7'],
    ['', '""'],
    ['model.gguf', '"model.gguf", which is no address'],
    [[blobOf(GGUF)], 'a list'],
    [new ArrayBuffer(8), 'an object (ArrayBuffer)'],
    [{}, 'an object (Object)'],
    [new Map(), 'an object (Map)'],
  ] as const) {
    const error = await refused(source);
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error.message).toMatch(`the model is ${told}`);
    expect(error.message).toMatch('; wanted the address');
  }
  expect((await refused('file:///model.gguf')).message).toMatch(
    'the model is at a file: address; wanted http: or https:',
  );
  expect((await refused(new URL('ftp://host/model.gguf'), onNode)).message).toMatch('is at a ftp: address');
  expect((await refused('file://host/model.gguf', onNode)).message).toMatch(
    'file://host/model.gguf, which is no path here',
  );
  expect((await refused({ 'config.json': 'text' })).message).toBe(
    'the model has "text" as file "config.json"; wanted a Blob or a file handle',
  );
});

it('names the file that is missing or another', async () => {
  const gone = await refused(`${origin}/llama/model.gguf`);
  expect(gone).toBeInstanceOf(FormatError);
  expect(gone.message).toMatch(`${origin}/llama/model.gguf: there is no such file (404); wanted the address`);
  expect((await refused(`${origin}/nothing/`)).message).toBe(
    `${origin}/nothing/: has no model.safetensors and no model.safetensors.index.json; give a .gguf file or a Hugging Face folder`,
  );
  for (const [address, file] of [
    ['/login/model.gguf', 'model.gguf'],
    ['/login/', 'model.safetensors.index.json'],
  ]) {
    expect((await refused(origin + address)).message).toMatch(
      `${origin}/login/${file}: an HTML page: the download asked`,
    );
  }
  const { 'tokenizer.json': _, ...others } = Object.fromEntries(files());
  expect((await refused(others)).message).toMatch('the given files: tokenizer.json is missing');
  expect((await refused({ ...others, 'tokenizer.json': new Blob(['<!doctype html>']) })).message).toMatch(
    'tokenizer.json: an HTML page',
  );
  expect((await refused(new Blob(['<html>']))).message).toMatch('the given file: an HTML page');
  expect((await refused(new File(['GGUF'], 'short.gguf'))).message).toMatch('short.gguf: has 4 bytes');
  const lost = { getFile: () => Promise.reject(new DOMException('it was moved', 'NotFoundError')) };
  expect((await refused({ 'config.json': lost, 'model.safetensors': lost })).message).toBe(
    'model.safetensors: cannot be read (it was moved); choose it again',
  );
});

it('resolves what is beside a page', async () => {
  Object.defineProperty(globalThis, 'location', { value: { href: `${origin}/page.html` }, configurable: true });
  onTestFinished(() => void Reflect.deleteProperty(globalThis, 'location'));
  const file = await onWeb.openModel('llama/model.gguf?key=1');
  expect(file.name).toBe(`${origin}/llama/model.gguf`);
  await file.close();
});

it('has the same API everywhere', () => {
  const typed: typeof onNode = onWeb;
  expect(Object.keys(typed).sort()).toEqual(Object.keys(onNode).sort());
  expect(Object.keys(onWeb)).toEqual(expect.arrayContaining(['backendName', 'loadModel', 'openModel', 'FormatError']));
});
