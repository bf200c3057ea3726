/**
 * An OpenAI-compatible server is reached with the key that is meant for it, with no redirect, and with answers that
 * end.
 */
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { reasonOf } from '../eval/readers.ts';
import { UnsupportedError } from '../node.ts';
import { size } from './terminal.ts';

interface ServerLimits {
  /** A server that sends more bytes for an answer of some hundred tokens is broken. */
  answer: number;
  /** A list of models may take so many milliseconds. */
  listing: number;
  /** An answer, for which a long text is read on a slow machine, may take so many milliseconds. */
  answering: number;
}
const LIMITS: ServerLimits = { answer: 16 * 2 ** 20, listing: 30_000, answering: 30 * 60_000 };

/** Names have so many characters at most: paths are names too, and a longer one would be repeated in every sample. */
const LONGEST_NAME = 1000;

/** @throws UnsupportedError when there is no server, or it has no models. */
export async function openServer(baseURL: string, model: string | undefined, limits = LIMITS) {
  checkAddress(baseURL);
  const { default: OpenAI } = await import('openai');
  const key = apiKeyFor(baseURL);
  const client = new OpenAI({
    ...{ baseURL, apiKey: 'none', timeout: limits.answering, logLevel: 'off' },
    fetch: (url, init = {}) => exchange(`${url}`, init, key, limits.answer),
  });
  if (model !== undefined) return { client, model };
  const remedy = 'name one with --endpoint-model';
  let listed: { data?: unknown } | null;
  try {
    listed = await client.get('/models', { timeout: limits.listing });
  } catch (error) {
    throw new UnsupportedError(
      `${baseURL} does not list its models (${reasonOf(error)}); start the server, or ${remedy}`,
    );
  }
  if (!Array.isArray(listed?.data)) {
    throw new UnsupportedError(`${baseURL} does not list its models as {"data": [{"id"}]}; ${remedy}`);
  }
  const names: unknown[] = listed.data.map((one) => one?.id);
  const first = names.find((id) => typeof id === 'string' && id.trim() !== '' && id.length <= LONGEST_NAME);
  if (first === undefined) throw new UnsupportedError(`${baseURL} lists no models; ${remedy}`);
  return { client, model: first as string };
}

/** @throws UnsupportedError where a key would end up in the report, which names the server. */
function checkAddress(baseURL: string): void {
  const url = URL.canParse(baseURL) ? new URL(baseURL) : undefined;
  if (!url || !/^https?:$/.test(url.protocol)) {
    throw new UnsupportedError(`--endpoint ${baseURL}: no address; wanted one such as http://127.0.0.1:8080/v1`);
  }
  if (url.username || url.password || /[?#]/.test(baseURL)) {
    throw new UnsupportedError(
      '--endpoint: more than an address; leave out user and password and what begins with ? or #, ' +
        'and put a key into the environment variable DUALCHUNK_API_KEY',
    );
  }
}

/** Gives the key that the user has named for this server; OpenAI's own goes to nobody else. */
function apiKeyFor(baseURL: string): string | undefined {
  const isOpenAi = new URL(baseURL).origin === 'https://api.openai.com';
  const named = process.env.DUALCHUNK_API_KEY || (isOpenAi ? process.env.OPENAI_API_KEY : undefined);
  return named?.trim(); // one that comes out of a file often ends a line
}

/**
 * This is the client's `fetch`. It sends no headers that the client takes from the environment, and has the patience of
 * the signal, where the `fetch` of Node gives up after five silent minutes.
 */
function exchange(url: string, { method, body, signal }: RequestInit, key: string | undefined, maxBytes: number) {
  const headers = {
    ...{ accept: 'application/json', 'accept-encoding': 'identity', 'content-type': 'application/json' },
    'user-agent': 'dualchunk',
    ...(key && { authorization: `Bearer ${key}` }),
  };
  return new Promise<Response>((resolve, reject) => {
    const { request } = url.startsWith('https:') ? https : http;
    // What ran out of time would do so again.
    const fail = (error: Error) => (signal?.aborted ? resolve(refusal('it takes too long')) : reject(error));
    request(url, { method, headers, signal: signal ?? undefined }, (response) => {
      responseOf(response, maxBytes).then(resolve, fail);
    })
      .on('error', fail)
      .end(body);
  });
}

/** The client does not try again what is refused so. */
const refusal = (message: string): Response =>
  Response.json({ error: { message } }, { status: 400, headers: { 'x-should-retry': 'false' } });

/** So many characters of what a server says go into a message. */
const QUOTED = 200;
/** A server may ask for so many seconds before the next try. */
const LONGEST_WAIT = 60;

const KEY_WANTED = '; put the key of this server into DUALCHUNK_API_KEY';
const REMEDIES: Record<number, string> = {
  401: KEY_WANTED,
  403: KEY_WANTED,
  404: '; see that the address ends as the server wants, such as /v1, and that it has the model',
  429: '; wait a while',
};

/** Gives an answer that is JSON, or a refusal that says what is wrong with it. */
async function responseOf(response: IncomingMessage, maxBytes: number): Promise<Response> {
  const chunks: Buffer[] = [];
  let nBytes = 0;
  for await (const chunk of response) {
    chunks.push(chunk);
    nBytes += chunk.length;
    if (nBytes > maxBytes) return refusal(`it sends more than ${size(maxBytes)}`);
  }
  const text = Buffer.concat(chunks).toString();
  let json: { error?: { message?: unknown } } | null | undefined;
  try {
    json = JSON.parse(text);
  } catch {}
  const { statusCode: status = 0, headers } = response;
  const isOk = status >= 200 && status < 300;
  if (isOk && json !== undefined) return new Response(text, { headers: { 'content-type': 'application/json' } });
  const told = json?.error?.message;
  const said = (typeof told === 'string' ? told : text).trim().slice(0, QUOTED).replace(/\s+/g, ' ') || 'nothing';
  if (isOk) return refusal(`no JSON, but ${said}`);
  if (status < 400 && headers.location) {
    return refusal(`status ${status}, to ${headers.location}; give that address if you trust it`);
  }
  const message = `status ${status}, ${said}${REMEDIES[status] ?? ''}`;
  const wait = headers['retry-after'];
  const isBusy = status === 429 || (status >= 500 && status < 600);
  if (!isBusy || (wait && !(Number(wait) <= LONGEST_WAIT))) return refusal(message);
  return Response.json({ error: { message } }, { status, headers: wait ? { 'retry-after': wait } : {} });
}
