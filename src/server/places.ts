/** Who is answered, and who may wait for it: a place for each answer, counted before anything is done for it. */
import { RequestError } from './errors.ts';

/** What a request holds until it is answered. */
export interface Held {
  /** It is aborted when the client leaves, and by whoever wants an end. */
  readonly abort: AbortController;
  release(): void;
}

export interface Places {
  /** Answers that are wanted now. */
  active(): number;
  /** @throws RequestError when the server ends, or there is no room for so many answers. */
  check(nAnswers: number): void;
  /** @throws RequestError as `check`. */
  take(nAnswers: number, client: AbortSignal): Held;
  /** Gives no more places, and waits until all are free; those that are not by then are aborted. */
  close(milliseconds: number): Promise<void>;
}

const shuttingDown = () => new RequestError(503, 'the server is shutting down');

export function makePlaces(capacity: number): Places {
  const holders = new Set<AbortController>();
  let active = 0;
  let isClosing = false;
  let onIdle = () => {};
  function check(nAnswers: number): void {
    if (isClosing) throw shuttingDown();
    if (active + nAnswers <= capacity) return;
    const headers = { 'retry-after': '1' };
    throw new RequestError(429, `${active} answers are waited for, and there is room for ${capacity}`, { headers });
  }
  return {
    active: () => active,
    check,
    take(nAnswers, client) {
      check(nAnswers);
      const abort = new AbortController();
      const leave = () => abort.abort();
      client.addEventListener('abort', leave);
      if (client.aborted) leave();
      active += nAnswers;
      holders.add(abort);
      return {
        abort,
        release() {
          if (!holders.delete(abort)) return;
          client.removeEventListener('abort', leave);
          active -= nAnswers;
          if (holders.size === 0) onIdle();
        },
      };
    },
    async close(milliseconds) {
      isClosing = true;
      if (holders.size === 0) return;
      const idle = new Promise<void>((resolve) => {
        onIdle = resolve;
      });
      const timer = setTimeout(() => {
        for (const holder of holders) holder.abort(shuttingDown());
      }, milliseconds);
      await idle;
      clearTimeout(timer);
    },
  };
}
