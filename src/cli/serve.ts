/** `dualchunk serve` answers over HTTP, in the protocols of OpenAI and Anthropic. Only this file opens a port. */

import { mkdir } from 'node:fs/promises';
import type { Server as HttpServer } from 'node:http';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { serve as listen } from '@hono/node-server';
import { Command } from 'commander';
import { type Model, openModel, trainedWindow, UnsupportedError } from '../node.ts';
import { makeServer, type RequestRecord, type SessionShelf } from '../server/app.ts';
import {
  addModelFlags,
  collect,
  loadOptionsOf,
  type ModelFlags,
  OPTIONAL_MODEL_ARGUMENT,
  wholeFrom,
} from './options.ts';
import { pageFetch } from './page.ts';
import { type SessionFlags, sessionOption, settledBySession } from './read.ts';
import { guardTerminal, loadingBar, note } from './terminal.ts';

interface ServeFlags extends ModelFlags, SessionFlags {
  port: number;
  host: string;
  parallel: number;
  queue: number;
  sessionDir?: string;
  apiKey?: string[];
  cors?: string[];
}

/** Answers may go on for so long once the server is asked to end. */
const GRACE_MS = 5000;
/** The last of what was answered may take so long to arrive. */
const FLUSH_MS = 1000;

export const serveCommand = (): Command =>
  addModelFlags(new Command('serve').addArgument(OPTIONAL_MODEL_ARGUMENT))
    .description('Answers over HTTP, as OpenAI and Anthropic do.')
    .option('--port <n>', 'where to listen; 0 takes any that is free', wholeFrom(0, 65535), 8080)
    .option('--host <address>', 'address to listen on; others than this machine reach it only by another', '127.0.0.1')
    .option(
      '--parallel <n>',
      'answers that are read and written at once, each with a whole context',
      wholeFrom(1, 256),
      4,
    )
    .option('--queue <n>', 'answers that may wait for their turn beyond those', wholeFrom(0, 100_000), 64)
    .addOption(sessionOption())
    .option('--session-dir <folder>', 'clients may save what they had read there, and restore it')
    .option('--api-key <key>', 'who asks must have it, or DUALCHUNK_API_KEY; may be given several times', collect)
    .option('--cors <origin>', 'pages of this origin may ask, * stands for all; may be given several times', collect)
    .addHelpText(
      'after',
      `
Routes: /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages, /v1/messages/count_tokens, /v1/models, /tokenize,
/detokenize, /health, /metrics; with --session-dir also /sessions/save and /sessions/restore. At / is a page that reads books with a
model in the browser, and asks nothing of this server but its files.

Examples:
  $ dualchunk serve model.gguf --context 32k
  $ dualchunk serve model.gguf --session book.kv --session-dir sessions     # book.kv is read already
  $ curl http://127.0.0.1:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hello!"}]}'`,
    )
    .action(serve);

async function serve(path: string, flags: ServeFlags): Promise<void> {
  const { port, host, parallel: sequences, queue, cors } = flags;
  const fromEnvironment = process.env.DUALCHUNK_API_KEY;
  const apiKeys = [...(flags.apiKey ?? []), ...(fromEnvironment ? [fromEnvironment] : [])];
  if (apiKeys.includes('')) throw new UnsupportedError('an API key is empty; wanted a text');
  const isLoopback = ['127.0.0.1', 'localhost', '::1'].includes(host);
  const stop = new AbortController();
  const loading = load(path, flags, stop.signal);
  const server = makeServer(loading, {
    ...{ name: basename(path), sequences, queue, apiKeys, cors, isLoopback },
    sessions: flags.sessionDir === undefined ? undefined : shelfIn(flags.sessionDir, loading),
    onRequest: log,
    onFault,
  });
  guardTerminal();
  const ended = new Promise<void>((resolve) => {
    let isAsked = false;
    const end = () => {
      if (isAsked) process.exit(130); // a second Ctrl-C waits for nobody
      isAsked = true;
      resolve();
    };
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.removeAllListeners(signal).on(signal, end);
  });
  const page = pageFetch();
  const fetch = async (request: Request) => (await page(request)) ?? server.fetch(request);
  const http = listen({ fetch, port, hostname: host }) as HttpServer;
  const failed = new Promise<never>((_, reject) => {
    http.on('error', ({ message }: Error) =>
      reject(new UnsupportedError(`cannot listen on ${host}:${port}: ${message}`)),
    );
  });
  try {
    await Promise.race([ready(loading, http), ended, failed]);
    await Promise.race([ended, failed]);
    note('shutting down');
    const closed = new Promise((resolve) => {
      http.close(resolve);
    });
    await server.close(GRACE_MS);
    // The last of what was answered is still on its way; connections that are kept open are not waited for.
    const idle = setInterval(() => http.closeIdleConnections(), 20);
    await Promise.race([closed, sleep(FLUSH_MS)]);
    clearInterval(idle);
  } finally {
    stop.abort();
    http.close();
    http.closeAllConnections();
    await loading.then((model) => model.dispose()).catch(() => {});
  }

  /** Says where the server listens, once it can answer. */
  async function ready(loading: Promise<Model>, http: HttpServer): Promise<void> {
    const { backendName, method, context } = await loading;
    const address = http.address();
    const at = typeof address === 'object' && address ? address.port : port;
    const shownHost = host.includes(':') ? `[${host}]` : host;
    note(
      `listening on http://${shownHost}:${at}, ${backendName}, method ${method.name}, context ${context}, ${sequences} at once; a page for browsers is at /` +
        (isLoopback || apiKeys.length > 0
          ? ''
          : '; whoever reaches this address may ask, --api-key would keep them out'),
    );
  }
}

async function load(path: string, typed: ServeFlags, signal: AbortSignal): Promise<Model> {
  const { flags, bring } = await settledBySession(typed);
  const file = await openModel(path);
  try {
    const context = flags.context ?? Math.min(trainedWindow(file.config), 8192);
    const options = { ...loadOptionsOf(flags, context), sequences: flags.parallel, signal };
    const model = await file.load({ ...options, onProgress: loadingBar() });
    await bring(model, signal);
    return model;
  } finally {
    await file.close();
  }
}

/** Sessions as files of a folder. */
function shelfIn(folder: string, loading: Promise<Model>): SessionShelf {
  const pathOf = (name: string) => join(folder, `${name}.kv`);
  return {
    async save(name, tokens, signal) {
      await mkdir(folder, { recursive: true });
      const session = await (await loading).read(tokens, { signal });
      await session.save(pathOf(name), { signal });
      return session.tokens.length;
    },
    async restore(name, signal) {
      const session = await (await loading).loadSession(pathOf(name), { signal });
      return session.tokens.length;
    },
  };
}

function log({ method, path, status, milliseconds, usage }: RequestRecord): void {
  const tokens = usage
    ? `, ${usage.promptTokens - usage.cachedTokens} tokens read, ${usage.cachedTokens} cached, ${usage.completionTokens} written`
    : '';
  note(`${method} ${path} ${status} ${milliseconds} ms${tokens}`);
}

/** Says where a fault was met; its message may quote a request. */
function onFault(error: unknown): void {
  const { name, stack = '' } = error instanceof Error ? error : new Error('not an error');
  note(
    `unexpected fault, ${name}\n${stack
      .split('\n')
      .filter((line) => /^\s+at /.test(line))
      .join('\n')}`,
  );
}
