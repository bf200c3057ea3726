/**
 * Threads that run programs. All walk the same program in shared memory, take runs of a command's items until none are
 * left, and wait for the others before the next. Nothing is posted while a program runs, and the calling thread stays free.
 */
import { LostError, UnsupportedError } from '../errors.ts';
import type { Machine } from '../platform/machine.ts';
import { DISPOSED } from './backend.ts';
import { type Kernels, makeWalk, nextTurn, openProgram, type Program, type Runner } from './wasmProgram.ts';

/** What a thread starts with; it is posted nothing else. */
interface Start {
  program: Program;
  /** i32: program number, threads arrived at barriers, programs finished, failed. */
  control: Int32Array;
  thread: number;
  nThreads: number;
}

const [PROGRAM, ARRIVED, FINISHED, FAILED] = [0, 1, 2, 3];

/** What a thread does. It is started from the source text of this function, which may use nothing from this module. */
function work({ program, control, thread, nThreads }: Start, makeWalkOf: typeof makeWalk): void {
  const [PROGRAM, ARRIVED, FINISHED, FAILED] = [0, 1, 2, 3];
  const SPINS = 4000; // about 20 microseconds, longer than most waits and cheaper than a sleep
  const waitUntil = (word: number, isReached: (value: number) => boolean) => {
    for (let spins = 0; ; spins++) {
      const value = Atomics.load(control, word);
      if (isReached(value) || Atomics.load(control, FAILED)) return;
      if (spins >= SPINS) Atomics.wait(control, word, value);
    }
  };
  let arrivals = 0;
  const barrier = () => {
    arrivals = (arrivals + nThreads) | 0;
    const target = arrivals;
    if (((Atomics.add(control, ARRIVED, 1) + 1) | 0) === target) Atomics.notify(control, ARRIVED);
    else waitUntil(ARRIVED, (value) => ((value - target) | 0) >= 0);
  };
  const walk = makeWalkOf(program, thread, barrier);
  for (let number = 1; ; number++) {
    waitUntil(PROGRAM, (value) => value === number);
    if (Atomics.load(control, FAILED)) return;
    try {
      for (const _ of walk());
    } catch (error) {
      Atomics.store(control, FAILED, 1);
      for (const word of [ARRIVED, FINISHED]) Atomics.notify(control, word);
      throw error;
    }
    if (thread === 0) {
      Atomics.store(control, FINISHED, number);
      Atomics.notify(control, FINISHED);
    }
  }
}

/** Starts `nThreads` threads. */
export function startThreads(
  kernels: Kernels,
  nThreads: number,
  startThread: NonNullable<Machine['startThread']>,
): Runner {
  const control = new Int32Array(new SharedArrayBuffer(64));
  const { program, write } = openProgram(kernels, SharedArrayBuffer);
  /** Why the threads run nothing more: the first that failed or went, or `stop`. */
  let end: Error | undefined;
  let tell: () => void;
  /** Resolves when there is an `end`, which is some time after a failing thread has set FAILED. */
  const ended = new Promise<void>((resolve) => {
    tell = resolve;
  });
  function fail(error: Error): void {
    end ??= error;
    Atomics.store(control, FAILED, 1);
    for (const word of [PROGRAM, ARRIVED, FINISHED]) Atomics.notify(control, word); // nobody waits for those who are gone
    tell();
  }
  function onExit(code: number): void {
    if (code === 0 && Atomics.load(control, FAILED)) return; // it left since another failed, whose error comes
    fail(new LostError(`a thread of the wasm backend ended (exit code ${code}); open the model again`));
  }
  // Bundlers that keep function names wrap inner functions in a helper of this name.
  const source = `(start) => { const __name = (f) => f; (${work})(start, ${makeWalk}); }`;
  const threads = Array.from({ length: nThreads }, (_, thread) => {
    const start: Start = { program, control, thread, nThreads };
    const started = startThread(source, start, { onError: fail, onExit });
    started.unref?.();
    return started;
  });

  let number = 0;
  /** Runs the program that was written. */
  async function runProgram(): Promise<void> {
    number++;
    Atomics.store(control, PROGRAM, number);
    Atomics.notify(control, PROGRAM);
    for (;;) {
      const finished = Atomics.load(control, FINISHED);
      if (Atomics.load(control, FAILED)) {
        await ended;
        throw end;
      }
      if (finished === number) return;
      // Browsers of before 2026 may not have it.
      await (Atomics.waitAsync ? Atomics.waitAsync(control, FINISHED, finished).value : nextTurn());
    }
  }

  return {
    async run(commands, scratch) {
      if (end) throw end;
      for (const thread of threads) thread.ref?.(); // the process stays alive while a program runs, and only then
      try {
        for (let done = 0; done < commands.length; ) {
          done += write(commands, done, scratch);
          await runProgram();
        }
      } finally {
        if (!end) for (const thread of threads) thread.unref?.(); // threads that end are waited for
      }
    },
    async stop() {
      fail(new UnsupportedError(DISPOSED));
      await Promise.all(threads.map((thread) => thread.terminate()));
    },
  };
}
