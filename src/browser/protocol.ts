/**
 * What a page and the worker that runs its models say to each other. The table names what of each object can be reached; the types
 * on the page's side follow from it and from the API's own. Objects stay in the worker and have numbers; what is named a field goes
 * along when they are first spoken of.
 *
 *     page to worker:  call, next and leave for streams, abort, release
 *     worker to page:  progress, item, end, error; each names its call
 */
import type { Model } from '../model.ts';
import type { ModelFile, Models } from '../modelFile.ts';
import type { SessionFile } from '../session/file.ts';
import type { Session } from '../session/session.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Storage } from './storage.ts';

/** Each kind of object as the worker has it. The first is what a page starts from. */
export interface Apis {
  root: Models & { readonly storage: Storage };
  storage: Storage;
  modelFile: ModelFile;
  model: Model;
  tokenizer: Tokenizer;
  session: Session;
  sessionFile: SessionFile;
}
export type Kind = keyof Apis;

interface Shape {
  /** They are copied, without the functions in them. */
  readonly fields?: readonly string[];
  /** Objects that belong to it. */
  readonly parts?: Readonly<Record<string, Kind>>;
  /** A call gives data, or an object of a kind. */
  readonly calls?: Readonly<Record<string, Kind | 'data'>>;
  readonly streams?: Readonly<Record<string, 'generator' | 'bytes'>>;
  /** Calls whose first argument may be an address, which is relative to the page and not to the worker's script. */
  readonly addressed?: readonly string[];
}

export const SHAPES = {
  root: {
    parts: { storage: 'storage' },
    calls: { openModel: 'modelFile', loadModel: 'model', openSession: 'sessionFile', backendName: 'data' },
    addressed: ['openModel', 'loadModel', 'openSession'],
  },
  storage: {
    calls: { list: 'data', room: 'data', download: 'data', keep: 'data', open: 'data', remove: 'data' },
    addressed: ['download'],
  },
  modelFile: {
    fields: ['name', 'format', 'config', 'sampling', 'tensorTypes'],
    parts: { tokenizer: 'tokenizer' },
    calls: { memoryPlan: 'data', load: 'model', close: 'data' },
  },
  model: {
    fields: ['config', 'sampling', 'method', 'backendName', 'context'],
    parts: { tokenizer: 'tokenizer' },
    calls: { encode: 'data', read: 'session', loadSession: 'session', dispose: 'data' },
    streams: { generate: 'generator', score: 'generator' },
    addressed: ['loadSession'],
  },
  tokenizer: {
    fields: ['vocabSize', 'bosToken', 'eosTokens', 'chatTemplate'],
    calls: {
      ...{ encode: 'data', encodePrefix: 'data', asLiteral: 'data', decode: 'data' },
      ...{ applyChatTemplate: 'data', encodeChat: 'data' },
    },
  },
  session: { fields: ['tokens', 'about'], streams: { stream: 'bytes' } },
  sessionFile: { fields: ['name', 'head', 'tokens'], calls: { close: 'data' } },
} as const satisfies Record<Kind, Shape>;

export const shapeOf = (kind: Kind): Shape => SHAPES[kind];

type Named<K extends Kind, Part extends keyof Shape> = (typeof SHAPES)[K] extends { readonly [P in Part]: infer T }
  ? T
  : never;
type KeysOf<T> = [T] extends [never] ? never : keyof T;
type ItemsOf<T> = [T] extends [never] ? never : T extends readonly (infer F)[] ? F : never;
type FieldsOf<K extends Kind> = ItemsOf<Named<K, 'fields'>> & keyof Apis[K];
type CallsOf<K extends Kind> = KeysOf<Named<K, 'calls'>> & keyof Apis[K];
type StreamsOf<K extends Kind> = KeysOf<Named<K, 'streams'>> & keyof Apis[K];
type PartsOf<K extends Kind> = KeysOf<Named<K, 'parts'>>;

/** Objects of the worker are given to its calls as the page has them. */
type Sent<T> = T extends Session ? RemoteSession : T extends SessionFile ? RemoteSessionFile : T;
type SentAll<A> = A extends readonly unknown[] ? { [N in keyof A]: Sent<A[N]> } : never;
type ArgumentsOf<F> = F extends (...args: infer A) => unknown ? SentAll<A> : never;
type Given<Of, F> = Of extends Kind ? Remote<Of> : F extends (...args: never[]) => infer R ? Awaited<R> : never;

/** An object of the worker as a page has it: the API's own type, in which every call takes its time. */
export type Remote<K extends Kind> = Readonly<Pick<Apis[K], FieldsOf<K>>> & {
  readonly [P in PartsOf<K>]: Named<K, 'parts'>[P] extends Kind ? Remote<Named<K, 'parts'>[P]> : never;
} & {
  [C in CallsOf<K>]: (...args: ArgumentsOf<Apis[K][C]>) => Promise<Given<Named<K, 'calls'>[C], Apis[K][C]>>;
} & { [S in StreamsOf<K>]: Apis[K][S] };

// Interfaces, so that messages of the compiler and editors name them.
export interface RemoteStorage extends Remote<'storage'> {}
export interface RemoteModelFile extends Remote<'modelFile'> {}
export interface RemoteModel extends Remote<'model'> {}
export interface RemoteTokenizer extends Remote<'tokenizer'> {}
export interface RemoteSession extends Remote<'session'> {}
export interface RemoteSessionFile extends Remote<'sessionFile'> {}

/** Stands for an object of the worker. */
export interface Reference {
  readonly ref: number;
}

/** The page is told this of an object when it is first spoken of. */
export interface Introduced extends Reference {
  readonly kind: Kind;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly parts: Readonly<Record<string, Introduced>>;
}

/** An argument: `value` as it is, an object of the worker, or options of which two cannot be copied. */
export type Argument =
  | { readonly value: unknown }
  | Reference
  | { readonly options: Readonly<Record<string, unknown>>; readonly hasSignal: boolean; readonly hasProgress: boolean };

export type ToWorker =
  | {
      readonly type: 'call';
      readonly id: number;
      readonly ref: number;
      readonly name: string;
      readonly args: Argument[];
    }
  | { readonly type: 'next' | 'leave' | 'abort'; readonly id: number }
  | { readonly type: 'release'; readonly ref: number };

export type ToPage = { readonly id: number } & (
  | { readonly type: 'progress'; readonly done: number; readonly total: number }
  | { readonly type: 'item'; readonly value: unknown }
  | { readonly type: 'end'; readonly value?: unknown; readonly object?: Introduced }
  | { readonly type: 'error'; readonly name: string; readonly message: string }
);

/** Either end of a channel: a worker as its page has it, a worker's own scope, a port. */
export interface Channel {
  postMessage(message: unknown): void;
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void;
}
