import {
  createServer,
  type IncomingHttpHeaders,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { UnsupportedError } from '../errors.ts';
import { serverReader } from '../eval/readers.ts';
import type { Sample } from '../eval/task.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { openServer } from './endpoint.ts';

const LIMITS = { answer: 2 ** 20, listing: 300, answering: 300 };
const SAMPLE: Sample = { id: '0', length: 8, ids: [1, 2], maxTokens: 4, answers: ['5'] };
const words = { decode: () => 'a text' } as unknown as Tokenizer;

const servers: Server[] = [];
afterEach(() => void vi.unstubAllEnvs());
afterAll(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

/** The address of a server that does this, whatever it is asked. */
async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

const send = (response: ServerResponse, body: unknown, status = 200) =>
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
const HTML = '<!doctype html>\n<html><title>Bad Gateway</title></html>';
const sendPage = (response: ServerResponse, status: number) =>
  response.writeHead(status, { 'content-type': 'text/html' }).end(HTML);

const list = async (baseURL: string) => (await openServer(baseURL, undefined, LIMITS)).model;
const ask = async (baseURL: string, form: 'raw' | 'chat' = 'chat') => {
  const { client, model } = await openServer(baseURL, 'm', LIMITS);
  return serverReader(client, model, words, form).answer(SAMPLE, () => {});
};

/** Both, the list and the answer, fail in words for a user. */
async function expectRefusals(baseURL: string, message: RegExp) {
  const failures = await Promise.allSettled([list(baseURL), ask(baseURL), ask(baseURL, 'raw')]);
  for (const { reason } of failures as PromiseRejectedResult[]) {
    expect(reason).toBeInstanceOf(UnsupportedError);
    expect(reason.message).toMatch(message);
    expect(reason.message).toMatch(/name one with --endpoint-model$|the same evaluation goes on from it$/);
    expect(reason.message.length).toBeLessThan(600);
  }
}

describe('a key', () => {
  /** A server is sent these when it is asked for its models and for an answer. */
  const sentTo = async (environment: Record<string, string>) => {
    for (const name of ['DUALCHUNK_API_KEY', 'OPENAI_API_KEY']) vi.stubEnv(name, undefined);
    for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
    const sent: IncomingHttpHeaders[] = [];
    const baseURL = await serve(({ headers, url }, response) => {
      sent.push(headers);
      send(response, url === '/v1/models' ? { data: [{ id: 'm' }] } : { choices: [{ message: { content: '5' } }] });
    });
    expect([await list(baseURL), await ask(baseURL)]).toEqual(['m', '5']);
    // without a word on it a server may compress
    expect(sent.map((headers) => headers['accept-encoding'])).toEqual(['identity', 'identity']);
    return sent;
  };

  it('goes to the server it is named for', async () => {
    for (const { authorization } of await sentTo({ DUALCHUNK_API_KEY: 'mine\n' }))
      expect(authorization).toBe('Bearer mine');
  });

  it('of OpenAI goes to no other server, nor does anything that its client takes from the environment', async () => {
    const sent = await sentTo({
      ...{ DUALCHUNK_API_KEY: '', OPENAI_API_KEY: 'secret', OPENAI_ADMIN_KEY: 'secret', OPENAI_ORG_ID: 'secret' },
      ...{ OPENAI_PROJECT_ID: 'secret', OPENAI_CUSTOM_HEADERS: 'api-key: secret\nauthorization: Bearer secret' },
    });
    expect(JSON.stringify(sent)).not.toMatch(/secret|authorization/);
  });

  it('that no header takes is told without being shown', async () => {
    vi.stubEnv('DUALCHUNK_API_KEY', 'sec\nret');
    await expectRefusals(
      'http://127.0.0.1:9/v1',
      /^(?!.*(sec|ret)\b).*Invalid character in header content \["authorization"\]/,
    );
  });

  it.each([301, 302, 303, 307, 308])('follows no redirect, status %i, and neither does the text', async (status) => {
    vi.stubEnv('DUALCHUNK_API_KEY', 'mine');
    let isReached = false;
    const other = await serve((_, response) => {
      isReached = true;
      send(response, {});
    });
    const baseURL = await serve((_, response) => void response.writeHead(status, { location: `${other}/x` }).end());
    await expectRefusals(baseURL, new RegExp(`status ${status}, to ${other}/x; give that address if you trust it`));
    expect(isReached).toBe(false);
  });

  it.each([
    'http://user:secret@127.0.0.1:9/v1',
    'http://127.0.0.1:9/v1?key=secret',
    'http://127.0.0.1:9/v1?',
    'http://127.0.0.1:9/v1#secret',
  ])('is not taken from an address, which reports show: %s', async (address) => {
    const failure = await list(address).catch((error) => error);
    expect(failure).toBeInstanceOf(UnsupportedError);
    expect(failure.message).toMatch(/^--endpoint: .*DUALCHUNK_API_KEY$/);
    expect(failure.message).not.toContain('secret');
  });

  it.each(['', 'localhost:8080', 'file:///v1', 'x'])('goes nowhere for "%s", which is no address', async (address) => {
    await expect(list(address)).rejects.toThrow('no address; wanted one such as http://127.0.0.1:8080/v1');
    await expect(ask(address)).rejects.toThrow(UnsupportedError);
  });
});

describe.concurrent('a server that', () => {
  it.each<[string, RequestListener, RegExp]>([
    ['never answers', () => {}, /it takes too long/],
    ['stalls behind its headers', (_, response) => response.writeHead(200).flushHeaders(), /it takes too long/],
    ['stalls in the middle', (_, response) => void response.write('{"data": ['), /it takes too long/],
    ['hangs up', ({ socket }) => socket.destroy(), /socket hang up/],
    [
      'hangs up in the middle',
      (_, response) => void response.writeHead(200, { 'content-length': 99 }).write('{', () => response.destroy()),
      /aborted/,
    ],
    ['talks no HTTP', ({ socket }) => void socket.end('SSH-2.0-OpenSSH_9.6\r\n'), /Parse Error/],
    ['has no end', (_, response) => void response.end(Buffer.alloc(2 ** 20 + 1, 'x')), /it sends more than 1.0 MiB/],
    ['sends a page', (_, response) => sendPage(response, 200), /no JSON, but <!doctype html> <html><title>Bad Gate/],
    ['sends nothing', (_, response) => void response.end(), /no JSON, but nothing/],
    ['has no content', (_, response) => void response.writeHead(204).end(), /no JSON, but nothing/],
    [
      'wants another key',
      (_, response) => sendPage(response, 401),
      /status 401, <!doc.*; put the key of .* into DUALCHUNK_/,
    ],
    ['is at another path', (_, response) => sendPage(response, 404), /status 404, <!doctype .*such as \/v1/],
    ['is full', (_, response) => sendPage(response, 429), /status 429, <!doctype .*; wait a while/],
    ['fails', (_, response) => sendPage(response, 500), /status 500, <!doctype html> <html><title>Bad Gateway/],
    ['sends nowhere', (_, response) => void response.writeHead(302).end(), /status 302, nothing/],
    ['makes up a status', (_, response) => void response.writeHead(999).end(), /status 999, nothing/],
    ['explains', (_, response) => send(response, { error: { message: 'no such model' } }, 400), /400, no such model/],
    ['explains oddly', (_, response) => send(response, { error: { message: [[1]] } }, 400), /400, \{"error":/],
    [
      'wants an hour',
      (_, response) => void response.writeHead(429, { 'retry-after': '3600' }).end(),
      /429, nothing; wait/,
    ],
  ])('%s is told in words, in bounded time', async (_, listener, message) => {
    await expectRefusals(await serve(listener), message);
  });

  it('is busy for a moment is asked again', async () => {
    let n = 0;
    const baseURL = await serve((_, response) => {
      if (n++ === 0) response.writeHead(503, { 'retry-after': '0.01' }).end();
      else send(response, { choices: [{ message: { content: '5' } }] });
    });
    expect(await ask(baseURL)).toBe('5');
  });

  it('is not there is told', () => expectRefusals('http://127.0.0.1:9/v1', /connect ECONNREFUSED 127.0.0.1:9/));
});

describe('a list of models', () => {
  const listed = async (body: unknown) => list(await serve((_, response) => void send(response, body)));

  it.each([null, 5, [], {}, { data: null }, { data: {} }, { data: 'x' }])('%j is none', async (body) => {
    await expect(listed(body)).rejects.toThrow(/does not list its models as .*; name one with --endpoint-model/);
  });

  it('with no name in it is told', async () => {
    for (const data of [[], [null, 5, {}], [{ id: 5 }, { id: '' }, { id: ' ' }], [{ id: 'x'.repeat(2000) }]]) {
      await expect(listed({ data })).rejects.toThrow(/lists no models; name one with --endpoint-model/);
    }
  });

  it('gives the first name there is, whatever it is', async () => {
    expect(await listed({ data: [null, { id: 3 }, { id: '../../x\u001b[2J' }, { id: 'y' }] })).toBe('../../x\u001b[2J');
    expect(await listed({ data: Array.from({ length: 50_000 }, (_, n) => ({ id: `m${n}` })) })).toBe('m0');
  });
});

describe('an answer', () => {
  const answered = async (body: unknown, form: 'raw' | 'chat') =>
    ask(await serve((_, response) => void send(response, body)), form);

  it('is a text, also one without a character', async () => {
    expect(await answered({ choices: [{ message: { content: '' } }] }, 'chat')).toBe('');
    expect(await answered({ choices: [{ text: ' 5' }] }, 'raw')).toBe(' 5');
  });

  it.each([
    [null, 'undefined'],
    [[], 'undefined'],
    [{}, 'undefined'],
    [{ choices: [] }, 'undefined'],
    [{ choices: [null] }, 'undefined'],
    [{ choices: [{ message: null }] }, 'undefined'],
    [{ choices: [{ message: { content: null }, text: null }] }, 'null'],
    [{ choices: [{ message: { content: 5 }, text: 5 }] }, 'number'],
    [{ choices: [{ message: { content: [{ text: 'x' }] }, text: {} }] }, 'object'],
  ])('that is %j is none', async (body, got) => {
    for (const [form, where] of [
      ['chat', 'choices[0].message.content'],
      ['raw', 'choices[0].text'],
    ] as const) {
      const failure = await answered(body, form).catch((error) => error);
      expect(failure).toBeInstanceOf(UnsupportedError);
      expect(failure.message).toContain(`answered with ${got} in ${where}, where a text is wanted; `);
    }
  });
});
