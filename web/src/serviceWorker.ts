/**
 * Keeps the page's files, so that it opens without a network, and adds the headers that threads need where a host does not send
 * them. Models are not its business: they are kept as files.
 */

/** The build puts in the names of all files, and a version that changes with them. */
declare const __FILES__: readonly string[];
declare const __VERSION__: string;
/** What of a service worker's scope is used; the compiler's library has it not beside a page's. */
interface Scope {
  readonly registration: { readonly scope: string };
  addEventListener(
    type: 'install' | 'activate',
    listener: (event: { waitUntil(done: Promise<unknown>): void }) => void,
  ): void;
  addEventListener(type: 'fetch', listener: (event: FetchEvent) => void): void;
  skipWaiting(): Promise<void>;
  readonly clients: { claim(): Promise<void> };
}
interface FetchEvent {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}

const scope = globalThis as unknown as Scope;
const PREFIX = 'dualchunk-page-';
const CACHE = PREFIX + __VERSION__;
const HEADERS = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };

scope.addEventListener('install', (event) => {
  const requests = __FILES__.map((file) => new Request(file, { cache: 'reload' }));
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(requests))
      .then(() => scope.skipWaiting()),
  );
});

scope.addEventListener('activate', (event) => {
  const isOld = (name: string) => name.startsWith(PREFIX) && name !== CACHE;
  const removed = caches.keys().then((names) => Promise.all(names.filter(isOld).map((name) => caches.delete(name))));
  event.waitUntil(removed.then(() => scope.clients.claim()));
});

scope.addEventListener('fetch', (event) => {
  const { request } = event;
  const isOwn = request.url.startsWith(scope.registration.scope);
  // Parts of a model, and what is asked of a server that also answers questions, go by.
  const isFile = request.method === 'GET' && !request.headers.has('range') && !request.url.endsWith('.gguf');
  if (isOwn && isFile) event.respondWith(answer(request));
});

async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const isPage = request.mode === 'navigate';
  const found = await cache.match(request, { ignoreSearch: isPage });
  const response = found ?? (await fetch(request));
  if (!found && response.ok && /\/(assets\/[^/]+|[^/]+\.txt)$/.test(new URL(request.url).pathname)) {
    await cache.put(request, response.clone());
  }
  const isWanted = !(isPage && new URL(request.url).searchParams.get('isolated') === 'no');
  return isWanted && response.status === 200 ? isolated(response) : response;
}

function isolated(response: Response): Response {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
