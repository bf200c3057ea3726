/** How an action is done: in the worker, with a way to stop it, and with what goes wrong said in words. */
import { LostError } from 'dualchunk';
import { startWorker, type WorkerModels } from 'dualchunk/browser';
import * as state from './state.ts';

export let models: WorkerModels = startWorker();

let abort = new AbortController();
/** Stops what goes on. */
export const stop = (): void => abort.abort();
/** A signal for what begins now. */
export function begun(): AbortSignal {
  abort = new AbortController();
  return abort.signal;
}

let openAgain = async () => {};
/** Says how what was open is opened in another worker. */
export function whenLost(open: () => Promise<void>): void {
  openAgain = open;
}

/** Runs something with a bar and a way to stop it. */
export async function running<T>(
  what: string,
  run: (options: { signal: AbortSignal; onProgress: (done: number, total: number) => void }) => Promise<T>,
  after?: () => Promise<void>,
): Promise<T> {
  const signal = begun();
  const onProgress = (done: number, total: number) => {
    state.task.value = { what, done, total, stop };
  };
  onProgress(0, 0);
  try {
    return await run({ signal, onProgress });
  } finally {
    state.task.value = undefined;
    await after?.();
  }
}

/** Runs what nothing else may be begun beside. */
export async function guarded(action: () => Promise<void>): Promise<void> {
  state.acting.value++;
  try {
    await reported(action);
  } finally {
    state.acting.value--;
  }
}

/** Shows what went wrong. Where threads, worker or GPU are gone, the model is opened again in a new worker. */
export async function reported(action: () => Promise<void>): Promise<void> {
  state.fault.value = undefined;
  try {
    await action();
  } catch (error) {
    const { name, message } = error as Error;
    if (name === 'AbortError') return;
    const isLost = error instanceof LostError;
    if (isLost) {
      models.terminate();
      models = startWorker();
      await openAgain();
    }
    state.fault.value = { message, isLost };
  }
}
