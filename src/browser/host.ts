/** The worker's side: runs the calls that a page asks for, each of which ends with one answer or one error. */
import { UnsupportedError } from '../errors.ts';
import { itemsOf } from '../streams.ts';
import {
  type Argument,
  type Channel,
  type Introduced,
  type Kind,
  shapeOf,
  type ToPage,
  type ToWorker,
} from './protocol.ts';

/** A call or a stream that goes on. */
interface Running {
  readonly abort: AbortController;
  readonly items?: AsyncIterator<unknown>;
}

type Calls = Record<string, (...args: unknown[]) => unknown>;
interface Held {
  readonly kind: Kind;
  readonly object: object;
  /** The page was told of it so many times more than it has let go of it. */
  count: number;
}

/** @param root What a page starts from, which has the number 0. */
export function hostModels(channel: Channel, root: object): void {
  const held = new Map<number, Held>([[0, { kind: 'root', object: root, count: 1 }]]);
  const numbers = new WeakMap<object, number>([[root, 0]]);
  const running = new Map<number, Running>();
  let nextRef = 1;
  const tell = (message: ToPage) => channel.postMessage(message);

  function refOf(kind: Kind, object: object): number {
    const ref = numbers.get(object) ?? nextRef++;
    numbers.set(object, ref);
    held.set(ref, { kind, object, count: (held.get(ref)?.count ?? 0) + 1 });
    return ref;
  }

  function introduced(kind: Kind, object: object): Introduced {
    const { fields = [], parts = {} } = shapeOf(kind);
    const of = object as Record<string, unknown>;
    return {
      ref: refOf(kind, object),
      kind,
      fields: Object.fromEntries(fields.map((name) => [name, plain(of[name])])),
      parts: Object.fromEntries(
        Object.entries(parts).map(([name, part]) => [name, introduced(part, of[name] as object)]),
      ),
    };
  }

  function heldAs(ref: number): Held {
    const found = held.get(ref);
    if (found) return found;
    throw new UnsupportedError('the worker has no such object any more; open the model again');
  }

  function release(ref: number): void {
    const one = held.get(ref);
    if (one && --one.count === 0) held.delete(ref);
  }

  function argument(given: Argument, id: number, { signal }: AbortController): unknown {
    if ('value' in given) return given.value;
    if ('ref' in given) return heldAs(given.ref).object;
    const onProgress = (done: number, total: number) => tell({ id, type: 'progress', done, total });
    return { ...given.options, ...(given.hasSignal && { signal }), ...(given.hasProgress && { onProgress }) };
  }

  /** Ends a call with an error. */
  function fail(id: number, error: unknown): void {
    running.delete(id);
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    tell({ id, type: 'error', name, message });
  }

  async function call({ id, ref, name, args }: Extract<ToWorker, { type: 'call' }>): Promise<void> {
    const abort = new AbortController();
    const { kind, object } = heldAs(ref);
    const { calls = {}, streams = {} } = shapeOf(kind);
    if (!(Object.hasOwn(calls, name) || Object.hasOwn(streams, name))) {
      throw new UnsupportedError(`the worker knows no call "${name}" of a ${kind}`);
    }
    const given = () => (object as Calls)[name](...args.map((arg) => argument(arg, id, abort)));
    if (Object.hasOwn(streams, name)) {
      const stream = given() as AsyncGenerator<unknown> | ReadableStream<unknown>;
      running.set(id, { abort, items: stream instanceof ReadableStream ? itemsOf(stream) : stream });
      return next(id);
    }
    running.set(id, { abort });
    const value = await given();
    running.delete(id);
    const result = calls[name];
    if (result === 'data') tell({ id, type: 'end', value: plain(value) });
    else tell({ id, type: 'end', object: introduced(result, value as object) });
  }

  /** Gives the next item of a stream, which the page asks for one by one. */
  async function next(id: number): Promise<void> {
    const { done, value } = (await running.get(id)?.items?.next()) ?? { done: true };
    if (!done) return tell({ id, type: 'item', value });
    running.delete(id);
    tell({ id, type: 'end' });
  }

  async function leave(id: number): Promise<void> {
    const { items } = running.get(id) ?? {};
    running.delete(id);
    await items?.return?.();
  }

  for (const [name, kind] of Object.entries(shapeOf('root').parts ?? {})) {
    refOf(kind, (root as Record<string, object>)[name]); // the page knows its number: it is the first
  }
  channel.addEventListener('message', ({ data }) => {
    const message = data as ToWorker;
    switch (message.type) {
      case 'release':
        return release(message.ref);
      case 'abort':
        return running.get(message.id)?.abort.abort();
      case 'call':
        return void call(message).catch((error) => fail(message.id, error));
      case 'next':
        return void next(message.id).catch((error) => fail(message.id, error));
      case 'leave':
        return void leave(message.id).catch((error) => fail(message.id, error));
    }
  });
}

// --- internal ---

/** A value without the functions in it, which cannot be copied to a page. */
function plain(value: unknown): unknown {
  if (typeof value === 'function') return undefined;
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => typeof item !== 'function')
      .map(([key, item]) => [key, plain(item)]),
  );
}
