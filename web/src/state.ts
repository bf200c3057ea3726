/** What the page knows. Components show it, `actions.ts` changes it. */
import { computed, signal } from '@preact/signals';
import type { Conversation, MemoryPlan, SessionHead } from 'dualchunk';
import type { RemoteModel, RemoteModelFile, RemoteSession, StoredFile } from 'dualchunk/browser';
import type { PassKey } from './passKeys.ts';

/** Where a model is from, so that it can be found again. */
export interface Origin {
  readonly kind: 'bundled' | 'file' | 'kept';
  /** Its name in words, or the one that it is kept by. */
  readonly name: string;
}

export interface Opened {
  readonly origin: Origin;
  /** Its file, which outlives the worker that has opened it. */
  readonly source: string | File;
  readonly file: RemoteModelFile;
  /** Tokens that the model was trained to read. */
  readonly window: number;
  readonly isChat: boolean;
}

export interface Text {
  readonly title: string;
  /** What is read: as much as the context holds, with the keys in it. */
  readonly text: string;
  /** The whole of it, as it was given; absent where it came with a session. */
  readonly whole?: string;
  /** Pass keys that are hidden in it. */
  readonly keys: readonly PassKey[];
  /** Whether the rest was cut off, as the context does not hold it. */
  readonly isCut: boolean;
}

export type ReadingState = 'reading' | 'stopped' | 'read';

export interface Reading {
  readonly state: ReadingState;
  readonly done: number;
  readonly total: number;
  /** Tokens a second, of what was read since it was begun or gone on with. */
  readonly speed: number;
}

/** A question with what became of it. */
export interface Exchange {
  readonly question: string;
  readonly answer: string;
  /** What the same model says without DCA, where that is asked for. */
  readonly plain?: string;
  /** What would be right, where that is known. */
  readonly expected?: string;
  readonly state: 'answering' | 'comparing' | 'done' | 'stopped';
  readonly speed: number;
}

/** Something that takes its time. */
export interface Task {
  readonly what: string;
  readonly done: number;
  readonly total: number;
  readonly stop?: () => void;
}

export interface Fault {
  readonly message: string;
  /** Whether what computes is gone, so that the model must be loaded again. */
  readonly isLost: boolean;
}

/** What is known of a kept session without opening it. */
export interface AboutSession {
  readonly title: string;
  readonly origin: Origin;
  readonly nTokens: number;
}
/** What a session holds besides its tokens. */
export interface SessionText extends Omit<AboutSession, 'nTokens'> {
  readonly text: string;
  readonly keys: readonly PassKey[];
}

export type Method = 'auto' | 'none' | 'dca';

/** How many actions have begun and not ended. */
export const acting = signal(0);
/** What computes, and why it is that. */
export const place = signal<{ name: string; why: string } | undefined>(undefined);
/** Whether a file is held over the page. */
export const isDropping = signal(false);
export const task = signal<Task | undefined>(undefined);
export const fault = signal<Fault | undefined>(undefined);
export const kept = signal<readonly StoredFile[]>([]);
/** Bytes that the browser keeps for this page, and would. */
export const room = signal<{ used: number; quota: number } | undefined>(undefined);

export const opened = signal<Opened | undefined>(undefined);
export const context = signal(8192);
export const method = signal<Method>('auto');
export const plan = signal<MemoryPlan | undefined>(undefined);
export const model = signal<RemoteModel | undefined>(undefined);
/** What `model` was loaded from; `opened` may be another by now. */
export const loaded = signal<Opened | undefined>(undefined);

export const text = signal<Text | undefined>(undefined);
export const reading = signal<Reading | undefined>(undefined);
export const conversation = signal<Conversation<RemoteSession> | undefined>(undefined);
export const exchanges = signal<readonly Exchange[]>([]);
/** Whether questions are put to the model without DCA too. */
export const isCompared = signal(false);

/** Whether something goes on that nothing else may be begun beside. */
export const isBusy = computed(() => acting.value > 0);
export const keptModels = computed(() => kept.value.filter(({ kind }) => kind === 'model'));
export const keptSessions = computed(() => kept.value.filter(({ kind, isWhole }) => kind === 'session' && isWhole));

/** A session's head, as far as this page has written it. */
export const sessionText = (head: SessionHead): SessionText | undefined => {
  const about = head.about as Partial<SessionText> | undefined;
  return typeof about?.text === 'string' && about.origin ? (about as SessionText) : undefined;
};
