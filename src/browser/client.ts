/**
 * The page's side: `startWorker` gives the API's objects, which run in a worker, so that a page never waits. Calls end in the order in
 * which the worker is done with them; all that go on when it ends are refused.
 */
import { FormatError, LostError, UnsupportedError } from '../errors.ts';
import { streamOf } from '../streams.ts';
import {
  type Argument,
  type Introduced,
  type Kind,
  type Remote,
  shapeOf,
  type ToPage,
  type ToWorker,
} from './protocol.ts';

/** `loadModel`, `openModel`, `openSession`, `backendName` and `storage`, in a worker. */
export interface WorkerModels extends Remote<'root'> {
  /** Ends the worker with all that it holds; calls that go on reject. */
  terminate(): void;
}

/** A page needs this of a worker; a port has it too. */
export interface WorkerLike {
  postMessage(message: unknown): void;
  addEventListener(type: string, listener: (event: Event & { data?: unknown; message?: string }) => void): void;
  terminate?(): void;
}

/**
 * Starts a worker that runs models, with the same calls as in this thread, each of which takes its time. Values are copied, so a page
 * can hand over a `File` of any size. `signal` and `onProgress` work as they do without a worker.
 *
 * @param worker Default: a module worker with the script beside this one, which Vite, webpack and browsers find by themselves. Elsewhere
 *   give one that was started with `dualchunk/browser/worker`.
 * @throws (from its calls) as the API; LostError when the worker has ended by itself.
 */
export function startWorker(worker: WorkerLike = newWorker()): WorkerModels {
  const { root, fail } = connect(worker);
  worker.addEventListener('error', ({ message }) => {
    const why = message || 'its script did not load';
    fail(new LostError(`the worker has failed (${why}); start another and open the model again`));
  });
  worker.addEventListener('messageerror', () => {
    fail(new LostError('a message of the worker could not be read; start another and open the model again'));
  });
  return Object.assign(root, {
    terminate() {
      fail(new UnsupportedError('the worker was ended; start another'));
      worker.terminate?.();
    },
  });
}

// --- internal ---

const newWorker = (): Worker =>
  new Worker(new URL('./main.js', import.meta.url), { type: 'module', name: 'dualchunk' });

/** A call that waits for messages. */
interface Waiting {
  readonly onProgress?: (done: number, total: number) => void;
  readonly resolve: (message: Extract<ToPage, { type: 'item' | 'end' }>) => void;
  readonly reject: (error: unknown) => void;
}

/** Options of which two stay here. */
interface Watched {
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

function connect(worker: WorkerLike) {
  const waiting = new Map<number, Waiting>();
  const refs = new WeakMap<object, number>();
  const collected = new FinalizationRegistry((ref: number) => tell({ type: 'release', ref }));
  let nextId = 1;
  let end: Error | undefined;
  const tell = (message: ToWorker) => worker.postMessage(message);

  function fail(error: Error): void {
    end ??= error;
    for (const { reject } of waiting.values()) reject(end);
    waiting.clear();
  }

  worker.addEventListener('message', ({ data }) => {
    const message = data as ToPage;
    const one = waiting.get(message.id);
    if (message.type === 'progress') return one?.onProgress?.(message.done, message.total);
    waiting.delete(message.id);
    if (message.type === 'error') one?.reject(errorOf(message.name, message.message));
    else one?.resolve(message);
  });

  /** Posts what asks for an answer, and waits for it. */
  function ask(message: Extract<ToWorker, { id: number }>, { signal, onProgress }: Watched) {
    return new Promise<Extract<ToPage, { type: 'item' | 'end' }>>((resolve, reject) => {
      if (end) throw end;
      signal?.throwIfAborted();
      const { id } = message;
      const abort = () => tell({ type: 'abort', id });
      const settled = () => signal?.removeEventListener('abort', abort);
      waiting.set(id, {
        onProgress(done, total) {
          try {
            onProgress?.(done, total);
          } catch (error) {
            abort();
            reject(error); // as it would be without a worker
          }
        },
        resolve(answer) {
          settled();
          resolve(answer);
        },
        reject(error) {
          settled();
          reject(signal?.aborted ? signal.reason : error);
        },
      });
      signal?.addEventListener('abort', abort);
      try {
        tell(message);
      } catch (error) {
        waiting.delete(id);
        settled();
        throw new UnsupportedError(`an argument cannot be given to a worker: ${(error as Error).message}`);
      }
    });
  }

  function argument(value: unknown): Argument {
    if (typeof value !== 'object' || value === null) return { value };
    const ref = refs.get(value);
    if (ref !== undefined) return { ref };
    if (value instanceof URL) return { value: value.href };
    const { signal, onProgress, ...options } = value as Watched & Record<string, unknown>;
    if (signal === undefined && onProgress === undefined) return { value };
    return { options, hasSignal: signal !== undefined, hasProgress: onProgress !== undefined };
  }

  /** The call as a message, and what stays here of its options. */
  function callOf(kind: Kind, ref: number, name: string, args: readonly unknown[]) {
    const isAddressed = shapeOf(kind).addressed?.includes(name);
    const [first, ...others] = args;
    const sent = isAddressed && typeof first === 'string' ? [absolute(first), ...others] : args;
    const watched = (args.find((arg) => isWatched(arg)) ?? {}) as Watched;
    const message: ToWorker = { type: 'call', id: nextId++, ref, name, args: sent.map(argument) };
    return { message, watched };
  }

  async function* items(kind: Kind, ref: number, name: string, args: readonly unknown[]): AsyncGenerator<unknown> {
    const { message, watched } = callOf(kind, ref, name, args);
    const { id } = message;
    let isEnded = false;
    try {
      for (let asked: Extract<ToWorker, { id: number }> = message; ; asked = { type: 'next', id }) {
        const answer = await ask(asked, watched);
        isEnded = answer.type === 'end';
        if (answer.type === 'end') return;
        yield answer.value;
      }
    } finally {
      if (!isEnded && !end) tell({ type: 'leave', id }); // one that failed has been left by both
    }
  }

  function remote({ ref, kind, fields, parts }: Introduced): object {
    const { calls = {}, streams = {} } = shapeOf(kind);
    const object: Record<string, unknown> = { ...fields };
    for (const [name, part] of Object.entries(parts)) object[name] = remote(part);
    for (const [name, result] of Object.entries(calls)) {
      object[name] = async (...args: unknown[]) => {
        const { message, watched } = callOf(kind, ref, name, args);
        const answer = await ask(message, watched);
        if (answer.type !== 'end') throw new UnsupportedError(`the worker answered ${name} with a stream`);
        return result === 'data' ? answer.value : remote(answer.object as Introduced);
      };
    }
    for (const [name, form] of Object.entries(streams)) {
      const stream = (...args: unknown[]) => items(kind, ref, name, args);
      object[name] = form === 'bytes' ? (...args: unknown[]) => streamOf(stream(...args)) : stream;
    }
    refs.set(object, ref);
    if (ref > 0) collected.register(object, ref);
    return object;
  }

  const storage: Introduced = { ref: 1, kind: 'storage', fields: {}, parts: {} };
  const root = remote({ ref: 0, kind: 'root', fields: {}, parts: { storage } }) as Remote<'root'>;
  return { root, fail };
}

const isWatched = (value: unknown): value is Watched =>
  typeof value === 'object' && value !== null && ('signal' in value || 'onProgress' in value);

/** A page names what is beside it, and the worker's script is somewhere else. The worker refuses what is no address. */
const absolute = (address: string): string => {
  const base = globalThis.document?.baseURI ?? globalThis.location?.href;
  return address !== '' && URL.canParse(address, base) ? new URL(address, base).href : address;
};

/** An error as it was in the worker. */
function errorOf(name: string, message: string): Error {
  const made = { FormatError, UnsupportedError, LostError }[name];
  if (made) return new made(message);
  return /^(Error|TypeError|RangeError)$/.test(name) ? new Error(message) : new DOMException(message, name);
}
