/** What a file behind an address is read by, and what every kind of wrong answer becomes. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { FormatError, UnsupportedError } from '../errors.ts';
import { openHttp } from './http.ts';

const MIB = 2 ** 20;
/** Bytes of the file. */
const SIZE = 6 * MIB + 5;
const byteAt = (n: number) => (n * 7 + (n >> 8)) & 0xff;
const FILE = Uint8Array.from({ length: SIZE }, (_, n) => byteAt(n));

/** `toEqual` takes long for many or large parts. */
const isPart = (bytes: Uint8Array, start: number, length: number) =>
  Buffer.compare(bytes, FILE.subarray(start, start + length)) === 0;

type Answer = (response: ServerResponse, start: number, end: number, request: IncomingMessage) => void;

/** Answers as a server should: the part that is asked for, of a file of a version. */
const part: Answer = (response, start, end) => partOf(response, start, end);
const partOf = (response: ServerResponse, start: number, end: number, headers: Record<string, string> = {}) => {
  const last = Math.min(end, SIZE - 1);
  response.writeHead(206, { 'content-range': `bytes ${start}-${last}/${SIZE}`, etag: '"1"', ...headers });
  response.end(FILE.subarray(start, last + 1));
};

/** Ranges asked for, as first and last byte. */
let asked: [start: number, last: number][] = [];
let answer: Answer = part;
let origin = '';
const server = createServer((request, response) => {
  const [, start, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')?.map(Number) ?? [];
  asked.push([start, last]);
  answer(response, start, last, request);
});

beforeEach(async () => {
  asked = [];
  answer = part;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

/** Milliseconds that no answer here takes. */
const LONG = 20_000;
const open = async (patience = LONG) => {
  const file = await openHttp(new URL(`${origin}/model.gguf?secret`), patience);
  if (!file) throw new Error('there is no such file');
  return file;
};

it('reads small ranges out of blocks and large ones at once', async () => {
  const file = await open();
  expect(file).toMatchObject({ name: `${origin}/model.gguf`, size: SIZE });
  for (let at = 0; at + 100 <= 2 * MIB; at += 100) {
    if (!isPart(await file.read(at, 100), at, 100)) throw new Error(`other bytes from ${at} on`);
  }
  expect(asked).toEqual([
    [0, MIB - 1],
    [MIB, 2 * MIB - 1],
  ]);
  expect(isPart(await file.read(100, 3 * MIB), 100, 3 * MIB)).toBe(true);
  expect(await file.read(SIZE - 3, 3)).toEqual(FILE.slice(-3));
  expect(await file.read(SIZE, 0)).toEqual(new Uint8Array());
  expect(asked.slice(2)).toEqual([
    [100, 3 * MIB + 99],
    [6 * MIB, SIZE - 1],
  ]);
  await file.close();
});

it('keeps the four blocks that were read last, and asks once for one that is wanted twice', async () => {
  const file = await open();
  const blocksAsked = () => asked.map(([start]) => start / MIB);
  for (const block of [1, 2, 3, 0, 4]) await file.read(block * MIB, 1);
  expect(blocksAsked()).toEqual([0, 1, 2, 3, 4]);
  for (const block of [0, 2, 3, 4, 1]) await file.read(block * MIB, 1);
  expect(blocksAsked()).toEqual([0, 1, 2, 3, 4, 1]);
  await Promise.all([file.read(5 * MIB, 1), file.read(5 * MIB + 1, 1)]);
  expect(blocksAsked()).toEqual([0, 1, 2, 3, 4, 1, 5]);
  await file.close();
});

it('takes a part that failed from the server again', async () => {
  const file = await open();
  answer = (response) => response.writeHead(503).end();
  await expect(file.read(MIB, 1)).rejects.toThrow('the server answers 503');
  answer = part;
  expect(await file.read(MIB, 1)).toEqual(FILE.slice(MIB, MIB + 1));
  await file.close();
});

it('reads no further than the file has bytes', async () => {
  const file = await open();
  for (const [offset, length] of [
    [SIZE - 1, 2],
    [-1, 1],
    [0, 2 * SIZE],
  ]) {
    await expect(file.read(offset, length)).rejects.toThrow(`but the file has ${SIZE}; it is truncated or corrupt`);
  }
  expect(asked).toHaveLength(1);
  await file.close();
});

it('holds a file whole where it is small, with ranges or without', async () => {
  const small = FILE.subarray(0, 1000);
  for (const headers of [{ 'content-length': '1000' }, {}]) {
    answer = (response) => response.writeHead(200, headers).end(small);
    const file = await open();
    expect(file.size).toBe(1000);
    expect(await file.read(10, 20)).toEqual(FILE.slice(10, 30));
    await expect(file.read(990, 20)).rejects.toThrow('but the file has 1000');
  }
  answer = (response) => response.writeHead(206, { 'content-range': 'bytes 0-999/1000' }).end(small);
  expect(await (await open()).read(10, 20)).toEqual(FILE.slice(10, 30));
  expect(asked).toHaveLength(3);
});

it('follows a redirect, and no circle of them', async () => {
  answer = (response, start, last, { url }) => {
    if (url === '/elsewhere') return partOf(response, start, last);
    response.writeHead(302, { location: '/elsewhere' }).end();
  };
  const file = await open();
  expect(await file.read(MIB, 3)).toEqual(FILE.slice(MIB, MIB + 3));
  await file.close();
  answer = (response) => response.writeHead(302, { location: '/model.gguf' }).end();
  await expect(open()).rejects.toThrow(/cannot be fetched \(.*redirect.*\); check the address/);
});

it('says that there is no file', async () => {
  for (const status of [404, 410]) {
    answer = (response) => response.writeHead(status).end();
    expect(await openHttp(new URL(`${origin}/model.gguf`))).toBeUndefined();
  }
  answer = part;
  const file = await open();
  answer = (response) => response.writeHead(404).end();
  await expect(file.read(MIB, 1)).rejects.toThrow('is no longer there (404); open the model again');
  await file.close();
});

const WITHOUT_RANGES = 'the server sends the whole file (200) where a part was asked for (206)';

it('never holds a large file whole', async () => {
  answer = (response) => response.writeHead(200, { 'content-length': `${64 * MIB + 1}` }).write('GGUF');
  await expect(open()).rejects.toThrow(WITHOUT_RANGES);
  let sent = 0;
  answer = (response) => {
    response.writeHead(200);
    const send = () => {
      do sent += SIZE;
      while (!response.destroyed && response.write(FILE));
    };
    response.on('drain', send);
    send();
  };
  const opening = open();
  await expect(opening).rejects.toThrow(UnsupportedError);
  await expect(opening).rejects.toThrow(WITHOUT_RANGES);
  expect(sent).toBeGreaterThan(64 * MIB - SIZE);
});

const range = (value: string, bytes = FILE.subarray(0, MIB)): Answer => {
  return (response) => response.writeHead(206, { 'content-range': value }).end(bytes);
};

it.each<[string, Answer, string]>([
  ['no login', (response) => response.writeHead(401).end(), 'the server refuses access (401); download the file'],
  ['no access', (response) => response.writeHead(403).end(), 'the server refuses access (403); download the file'],
  [
    'a failure',
    (response) => response.writeHead(500).end(),
    'the server answers 500 to a request for bytes 0 to 1048575',
  ],
  ['an empty file', (response) => response.writeHead(416).end(), 'the server answers 416 to a request for bytes'],
  [
    'no Content-Range',
    (response) => response.writeHead(206).end(FILE.subarray(0, MIB)),
    'a part without Content-Range; wanted bytes 0 to 1048575; a server of another origin must send Access-Control',
  ],
  ['no size', range('bytes 0-1048575/*'), "does not tell the file's size (bytes 0-1048575/*); take another server"],
  ['another unit', range('pages 0-1/2'), 'the server sends "pages 0-1/2"; wanted bytes 0-1048575'],
  ['another beginning', range(`bytes 1-1048576/${SIZE}`), `"bytes 1-1048576/${SIZE}"; wanted bytes 0-1048575`],
  ['another end', range(`bytes 0-9/${SIZE}`, FILE.subarray(0, 10)), `"bytes 0-9/${SIZE}"; wanted bytes 0-1048575`],
  ['an end beyond the file', range('bytes 0-1048575/10'), 'wanted bytes 0-9'],
  ['fewer bytes', range(`bytes 0-1048575/${SIZE}`, FILE.subarray(0, 10)), 'sent 10 of 1048576 bytes from byte 0 on'],
  ['more bytes', range('bytes 0-9/10', FILE.subarray(0, 11)), 'sent more than 10 bytes'],
  [
    'a connection that breaks',
    (response) => {
      const headers = { 'content-range': `bytes 0-1048575/${SIZE}`, 'content-length': `${MIB}` };
      response.writeHead(206, headers).write('GGUF', () => response.destroy());
    },
    'cannot be fetched (terminated',
  ],
  ['no answer', (response) => response.destroy(), 'cannot be fetched (fetch failed'],
])('refuses %s', async (_what, wrong, message) => {
  answer = wrong;
  const opening = open();
  await expect(opening).rejects.toThrow(message);
  await expect(opening).rejects.toThrow(FormatError);
  await expect(opening).rejects.toThrow(`${origin}/model.gguf: `);
  await expect(opening).rejects.not.toThrow('secret');
});

it.each<[string, Answer, string]>([
  [
    'another ETag',
    (response, start, last) => partOf(response, start, last, { etag: '"2"' }),
    '"1"; now 6291461 bytes, "2"',
  ],
  [
    'another size',
    (response, start, last) => partOf(response, start, last, { 'content-range': `bytes ${start}-${last}/${SIZE + 1}` }),
    '6291461 bytes, "1"; now 6291462 bytes, "1"',
  ],
  ['the whole file', (response) => response.writeHead(200).end('GGUF'), WITHOUT_RANGES],
])('refuses %s while it reads', async (_what, wrong, message) => {
  const file = await open();
  answer = wrong;
  for (const length of [1, 2 * MIB]) await expect(file.read(MIB, length)).rejects.toThrow(message);
  await file.close();
});

it('gives up a server that sends nothing for long, and none that is slow', async () => {
  const stalled = 'the server sent nothing for 0.2 s; check the connection and try again';
  answer = () => {};
  await expect(open(200)).rejects.toThrow(stalled);
  answer = (response) => {
    response.writeHead(206, { 'content-range': `bytes 0-${MIB - 1}/${SIZE}` }).write('GGUF');
  };
  await expect(open(200)).rejects.toThrow(stalled);
  answer = (response) => {
    response.writeHead(206, { 'content-range': 'bytes 0-7/8' });
    let sent = 0;
    const timer = setInterval(() => {
      response.write(FILE.subarray(sent, sent + 1));
      if (++sent < 8) return;
      clearInterval(timer);
      response.end();
    }, 50);
  };
  const startedAt = performance.now();
  expect((await open(200)).size).toBe(8);
  expect(performance.now() - startedAt).toBeGreaterThan(200);
});

it('ends reads when it is closed', async () => {
  const file = await open();
  const whenAsked = new Promise<void>((resolve) => {
    answer = () => resolve();
  });
  const reading = file.read(MIB, 1);
  reading.catch(() => {});
  await whenAsked;
  await file.close();
  await expect(reading).rejects.toThrow('model.gguf: was closed while being read');
  await expect(file.read(0, 1)).rejects.toThrow('model.gguf: was closed');
});

it('refuses an address with a password, and does not repeat it', async () => {
  const opening = openHttp(new URL('http://user:word@host/model.gguf'));
  await expect(opening).rejects.toThrow('http://host/model.gguf: the address has a user name or password');
});
