/**
 * An HTTP server of a model, as a function of a request: routes, limits and errors. It opens no port. Protocols are in files
 * of their own; what they share, a stream of events, is made in `generation.ts`.
 */
import { type Context, Hono } from 'hono';
import { trainedWindow } from '../config.ts';
import { isRecord, LostError } from '../errors.ts';
import { type Access, guard, HEALTH } from './access.ts';
import { chat } from './chat.ts';
import { completions } from './completions.ts';
import { RequestError } from './errors.ts';
import { type Exchange, type Protocol, seconds } from './exchange.ts';
import { answers, collect, type Numbered, type ServedModel, type Usage } from './generation.ts';
import { countTokens, errorBody, messages } from './messages.ts';
import { type Metrics, makeMetrics, sumOf } from './metrics.ts';
import { makePlaces, type Places } from './places.ts';
import { responses } from './responses.ts';
import { restore, type SessionRoute, type SessionShelf, save } from './sessions.ts';
import { eventStream } from './sse.ts';
import { detokenize, tokenize } from './tokens.ts';

export type { ServedModel, SessionShelf };

export interface ServerOptions extends Access {
  /** The model's name, as clients see it. */
  name: string;
  /** Texts that the model was loaded to read and write at once. Default 1. */
  sequences?: number;
  /** Where `/sessions/save` and `/sessions/restore` keep texts; without it there are no such routes. */
  sessions?: SessionShelf;
  /** Answers that may wait beyond that; further requests get 429. Default 64. */
  queue?: number;
  /** Default: half a MiB and 32 bytes for each token of the context. */
  maxBodyBytes?: number;
  /** A stream says something after so much silence. Default 5000. */
  keepAliveMs?: number;
  /** A client that reads nothing of its stream for so long loses its place. Default 60,000. */
  stallMs?: number;
  /** Is told of each request when it has been answered. */
  onRequest?: (request: RequestRecord) => void;
  /** Is told of errors that should not be. */
  onFault?: (error: unknown) => void;
}

/** What is said of a request afterwards: nothing of its text. */
export interface RequestRecord {
  method: string;
  path: string;
  status: number;
  milliseconds: number;
  /** Absent where no answer was complete. */
  usage?: Usage;
}

export interface Server {
  fetch(request: Request): Promise<Response>;
  /** Stands in for the global `fetch` in a client, which so asks the model without a port. */
  clientFetch(input: Request | string | URL, init?: RequestInit): Promise<Response>;
  /** Takes no further requests, lets those at hand end for so long, then ends them with an error. */
  close(milliseconds: number): Promise<void>;
}

/** Usage is of answers that are complete; a stream tells by itself when it has ended. */
type Env = { Variables: { usage?: Usage; isStream?: boolean; done: () => void } };
type Handler = (c: Context<Env>, model: ServedModel) => Response | Promise<Response>;
/** A path with its method and what it does. */
type Routes = Readonly<Record<string, readonly ['GET' | 'POST', Handler]>>;

const METRICS = '/metrics';

/** What all requests share. */
interface Parts {
  readonly options: ServerOptions;
  readonly places: Places;
  readonly metrics: Metrics;
  /** @throws RequestError until the model is there, and when what it computes on is gone. */
  loaded(): ServedModel;
  /** Errors that are none of ours are faults; what they say may hold text of a prompt, and is told to nobody. */
  known(error: unknown): RequestError;
}

/** @param loading The server answers 503 until the model is there. */
export function makeServer(loading: ServedModel | Promise<ServedModel>, options: ServerOptions): Server {
  const { sequences = 1, queue = 64, onFault } = options;
  let model = loading instanceof Promise ? undefined : loading;
  let lost: LostError | undefined;
  void Promise.resolve(loading).then(
    (loaded) => {
      model = loaded;
    },
    () => {}, // whoever loads it tells of it
  );
  const places = makePlaces(sequences + queue);
  const app = appOf({
    options,
    places,
    metrics: makeMetrics(places.active),
    loaded() {
      places.check(0);
      if (lost) throw new RequestError(503, lost.message);
      if (model) return model;
      throw new RequestError(503, 'Loading model', { code: 503 });
    },
    known(error) {
      if (error instanceof RequestError) return error;
      if (error instanceof LostError) {
        lost = error;
        return new RequestError(503, error.message);
      }
      const hasLeft = error instanceof DOMException && error.name === 'AbortError';
      if (hasLeft) return new RequestError(499, 'the client has left');
      onFault?.(error);
      return new RequestError(500, 'the server met an unexpected fault');
    },
  });
  return {
    fetch: async (request) => app.fetch(request),
    clientFetch: async (input, init) => app.fetch(new Request(input, init)),
    close: places.close,
  };
}

// --- internal ---

function appOf(parts: Parts): Hono<Env> {
  const { options, metrics, loaded, known } = parts;
  const routes = routesOf(parts);
  const paths = [...Object.keys(routes), HEALTH, METRICS];
  const app = new Hono<Env>();
  app.use(async (c, next) => {
    const begun = performance.now();
    const { method, path } = c.req;
    c.set('done', () => {
      const usage = c.get('usage');
      const { status } = c.res;
      metrics.request(paths.includes(path) ? path : 'other', status);
      const milliseconds = Math.round(performance.now() - begun);
      options.onRequest?.({ method, path: path.slice(0, 100), status, milliseconds, ...(usage && { usage }) });
    });
    await next();
    if (!c.get('isStream')) c.get('done')();
  });
  for (const handler of guard(options)) app.use(handler);
  app.get(HEALTH, (c) => {
    loaded();
    return c.json({ status: 'ok' });
  });
  app.get(METRICS, async (c) => c.body(await metrics.text(), 200, { 'content-type': metrics.contentType }));
  for (const [path, [method, handler]] of Object.entries(routes)) {
    app.on(method, path, (c) => handler(c, loaded()));
    app.all(path, () => {
      throw new RequestError(405, `this route takes ${method}`, { headers: { allow: method } });
    });
  }
  app.notFound(() => {
    throw new RequestError(404, 'there is no such route');
  });
  app.onError((thrown, c) => {
    const error = known(thrown);
    const body = c.req.path.startsWith('/v1/messages') ? errorBody(error) : error.body();
    return new Response(JSON.stringify(body), {
      status: error.status,
      headers: { 'content-type': 'application/json', ...error.headers },
    });
  });
  return app;
}

function routesOf(parts: Parts): Routes {
  const { options, places } = parts;
  const { name, maxBodyBytes } = options;
  const created = seconds();
  const read = (c: Context<Env>, { context }: ServedModel) => bodyOf(c.req.raw, maxBodyBytes ?? 2 ** 19 + 32 * context);
  const exchange =
    (protocol: Protocol): Handler =>
    async (c, model) => {
      places.check(1); // nothing is read for those who would be refused anyway
      return run(c, protocol(model, await read(c, model), name), model, parts);
    };
  const answered =
    (answer: (model: ServedModel, body: unknown) => object): Handler =>
    async (c, model) =>
      c.json(answer(model, await read(c, model)));
  const shelved =
    (route: SessionRoute, shelf: SessionShelf): Handler =>
    async (c, model) => {
      const body = await read(c, model);
      const { abort, release } = places.take(1, c.req.raw.signal);
      try {
        return c.json(await route(shelf, model, body, abort.signal));
      } finally {
        release();
      }
    };
  const { sessions } = options;
  const models: Handler = (c, { context, config }) => {
    const meta = { n_ctx: context, n_ctx_train: trainedWindow(config), n_vocab: config.vocabSize };
    return c.json({ object: 'list', data: [{ id: name, object: 'model', created, owned_by: 'dualchunk', meta }] });
  };
  const embeddings: Handler = () => {
    throw new RequestError(501, 'embeddings are not supported: this server runs models that write text');
  };
  return {
    '/v1/models': ['GET', models],
    '/models': ['GET', models],
    '/v1/chat/completions': ['POST', exchange(chat)],
    '/v1/completions': ['POST', exchange(completions)],
    '/v1/responses': ['POST', exchange(responses)],
    '/v1/messages': ['POST', exchange(messages)],
    '/v1/messages/count_tokens': ['POST', answered(countTokens)],
    '/v1/embeddings': ['POST', embeddings],
    '/tokenize': ['POST', answered(tokenize)],
    '/detokenize': ['POST', answered(detokenize)],
    ...(sessions && {
      '/sessions/save': ['POST', shelved(save, sessions)],
      '/sessions/restore': ['POST', shelved(restore, sessions)],
    }),
  };
}

/** Runs an exchange, which holds its places until its end. */
async function run(
  c: Context<Env>,
  { tasks, isStream, stream, whole, failed }: Exchange,
  model: ServedModel,
  { options, places, metrics, known }: Parts,
): Promise<Response> {
  const { keepAliveMs = 5000, stallMs = 60_000 } = options;
  const { abort, release } = places.take(tasks.length, c.req.raw.signal);
  const usages: Usage[] = [];
  async function* events(): AsyncGenerator<Numbered> {
    for await (const numbered of metrics.counted(answers(model, tasks, abort.signal), tasks.length)) {
      if (numbered.event.type === 'end') usages.push(numbered.event.usage);
      yield numbered;
    }
  }
  const ended = () => {
    if (usages.length > 0) c.set('usage', sumOf(usages));
    if (isStream) c.get('done')();
    release();
  };
  c.set('isStream', isStream);
  if (isStream) {
    return eventStream(stream(events()), {
      keepAliveMs,
      stallMs,
      failed: (error) => failed(known(error)),
      abort,
      ended,
    });
  }
  try {
    return c.json(whole(await collect(events(), tasks.length)));
  } finally {
    ended();
  }
}

/** Reads a body of JSON. @throws RequestError when it is none, or is longer than the limit. */
async function bodyOf(request: Request, limit: number): Promise<unknown> {
  const tooLong = new RequestError(413, `the body is longer than ${limit} bytes`);
  if (Number(request.headers.get('content-length') ?? 0) > limit) throw tooLong;
  const decoder = new TextDecoder();
  let text = '';
  let nBytes = 0;
  for await (const bytes of request.body ?? []) {
    nBytes += bytes.length;
    if (nBytes > limit) throw tooLong;
    text += decoder.decode(bytes, { stream: true });
  }
  try {
    const body: unknown = JSON.parse(text + decoder.decode());
    if (isRecord(body)) return body;
  } catch {} // what the parser says quotes the text
  throw new RequestError(400, 'the body is not a JSON object');
}
