/** Who may ask: callers with a key, of this machine's own names where nobody else is meant, from pages that are allowed. */
import type { MiddlewareHandler } from 'hono';
import { cors } from 'hono/cors';
import { RequestError } from './errors.ts';

export interface Access {
  /** Whoever has one of these may ask; with none, everybody. */
  apiKeys?: readonly string[];
  /** Pages of these origins may ask; `*` stands for all. */
  cors?: readonly string[];
  /** Only the names of the machine itself are answered to, so that no page can reach it by a name of its own. */
  isLoopback?: boolean;
}

/** It says how the server is, and needs no key. */
export const HEALTH = '/health';

const LOOPBACK = /^(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?$/i;

/** Refuses whoever may not ask. @throws RequestError */
export function guard({ apiKeys = [], isLoopback = false, ...access }: Access): MiddlewareHandler[] {
  const origins = access.cors ?? [];
  const isAllowed = (origin: string) => origins.includes('*') || origins.includes(origin);
  const hashes = Promise.all(apiKeys.map(hashOf));
  const names: MiddlewareHandler = async (c, next) => {
    const host = c.req.header('host') ?? new URL(c.req.url).host;
    if (isLoopback && !LOOPBACK.test(host)) {
      throw new RequestError(403, 'the Host header names another machine; wanted localhost or 127.0.0.1');
    }
    const origin = c.req.header('origin');
    // Elsewhere a page may have brought its own name to this address.
    const isOwn = isLoopback && (origin === `http://${host}` || origin === `https://${host}`);
    if (origin !== undefined && !isOwn && !isAllowed(origin)) {
      throw new RequestError(403, 'pages of this origin may not ask; --cors ORIGIN allows it');
    }
    await next();
  };
  const keys: MiddlewareHandler = async (c, next) => {
    if (apiKeys.length > 0 && c.req.path !== HEALTH && c.req.method !== 'OPTIONS') {
      const given = /^bearer +(.+)$/i.exec(c.req.header('authorization') ?? '')?.[1] ?? c.req.header('x-api-key') ?? '';
      const hash = await hashOf(given);
      // All are compared to their ends, so that time tells nothing.
      const isKnown = (await hashes).map((known) => isSame(known, hash)).includes(true);
      if (!isKnown) throw new RequestError(401, 'the API key is missing or wrong', { code: 'invalid_api_key' });
    }
    await next();
  };
  const opened = cors({ origin: (origin) => (isAllowed(origin) ? origin : null), maxAge: 600 });
  return origins.length > 0 ? [names, opened, keys] : [names, keys];
}

const hashOf = async (text: string) =>
  new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));

const isSame = (a: Uint8Array, b: Uint8Array): boolean =>
  a.reduce((differ, byte, at) => differ | (byte ^ b[at]), 0) === 0;
