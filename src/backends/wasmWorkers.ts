/**
 * Threads that run programs of kernel calls. A program is a list of commands in shared memory; every thread walks it,
 * takes runs of a command's items until none are left, and waits for the others before the next. Nothing is posted
 * while a program runs, and the calling thread stays free.
 */
import { type MessagePort, Worker } from 'node:worker_threads';
import { UnsupportedError } from '../errors.ts';
import { DISPOSED } from './backend.ts';

/** One kernel call: `kernel(scratch, begin, end, ...args)`. Addresses are of its command's stage. */
export interface Call {
  readonly kernel: string;
  readonly args: readonly number[];
}

/**
 * Kernel calls over the same items `0..nItems`, taken `grain` at a time: a thread runs all calls on what it took before it
 * takes more. One kernel is the threads' own, as none of the module sees two memories: `copy(out, x, x's stage, cols)`.
 */
export interface Command {
  readonly stage: number;
  readonly nItems: number;
  readonly grain: number;
  /** Whether it needs what commands before it write; else it may begin while they still run. */
  readonly waits: boolean;
  readonly calls: Call[];
}

/** Scratch memory in one stage: `at` is the first thread's, the next begins `nBytes` on. */
export interface Scratch {
  readonly at: number;
  readonly nBytes: number;
}

export interface Workers {
  /** Hands every thread the memory of the next stage. */
  addStage(memory: WebAssembly.Memory): void;
  /** Runs commands in order. `scratch` is by stage. */
  run(commands: readonly Command[], scratch: readonly Scratch[]): Promise<void>;
  stop(): Promise<void>;
}

interface Shared {
  module: WebAssembly.Module;
  /** i32: program number, threads arrived at barriers, programs finished, failed. */
  control: Int32Array;
  /** i32, one a command: the next item to take. */
  claims: Int32Array;
  /**
   * f64: number of commands; then for each stage, scratch, scratchBytes, nItems, grain, waits and number of calls; then for
   * each of these kernel, number of args, args…
   */
  words: Float64Array;
  thread: number;
  nThreads: number;
  /** Of a command. */
  maxCalls: number;
}

/** Of a command. */
export const MAX_CALLS = 8;
const MAX_COMMANDS = 1 << 14;
const MAX_WORDS = 1 << 18; // 2 MiB
const [PROGRAM, ARRIVED, FINISHED, FAILED] = [0, 1, 2, 3];

/** Runs on a thread of its own, started from its source text: it may use nothing from this module. */
function work({ workerData, parentPort, receiveMessageOnPort }: typeof import('node:worker_threads')): void {
  const { module, control, claims, words, thread, nThreads, maxCalls }: Shared = workerData;
  const [PROGRAM, ARRIVED, FINISHED, FAILED] = [0, 1, 2, 3];
  const SPINS = 4000; // about 20 microseconds, longer than most waits and cheaper than a sleep
  const stages: { memory: WebAssembly.Memory; kernels: CallableFunction[] }[] = [];
  /** Memories were posted before the program that names them: they are there to be received. */
  const stageAt = (index: number) => {
    while (stages.length <= index) {
      const memory: WebAssembly.Memory = receiveMessageOnPort(parentPort as MessagePort)?.message;
      const { exports } = new WebAssembly.Instance(module, { env: { memory } });
      const kernels = WebAssembly.Module.exports(module).map(({ name }) => exports[name] as CallableFunction);
      const rows = ({ buffer }: WebAssembly.Memory, at: number, begin: number, end: number, cols: number) =>
        new Float32Array(buffer, at + 4 * begin * cols, (end - begin) * cols);
      const copy = (_: number, begin: number, end: number, out: number, x: number, from: number, cols: number) =>
        rows(memory, out, begin, end, cols).set(rows(stageAt(from).memory, x, begin, end, cols));
      stages.push({ memory, kernels: [...kernels, copy] });
    }
    return stages[index];
  };
  const waitUntil = (word: number, isReached: (value: number) => boolean) => {
    for (let spins = 0; ; spins++) {
      const value = Atomics.load(control, word);
      if (isReached(value) || Atomics.load(control, FAILED)) return;
      if (spins >= SPINS) Atomics.wait(control, word, value);
    }
  };
  // the calls of the command at hand; kept, so that walking a program allocates next to nothing
  const kernelOf: CallableFunction[] = [];
  const argsOf: number[][] = Array.from({ length: maxCalls }, () => []);
  let arrivals = 0;
  const barrier = () => {
    arrivals = (arrivals + nThreads) | 0;
    const target = arrivals;
    if (((Atomics.add(control, ARRIVED, 1) + 1) | 0) === target) Atomics.notify(control, ARRIVED);
    else waitUntil(ARRIVED, (value) => ((value - target) | 0) >= 0);
  };
  for (let program = 1; ; program++) {
    waitUntil(PROGRAM, (value) => value === program);
    if (Atomics.load(control, FAILED)) return;
    const nCommands = words[0];
    try {
      for (let c = 0, at = 1; c < nCommands; c++) {
        const { kernels } = stageAt(words[at]);
        const scratch = words[at + 1] + thread * words[at + 2];
        const [nItems, grain, waits, nCalls] = [words[at + 3], words[at + 4], words[at + 5], words[at + 6]];
        at += 7;
        for (let n = 0; n < nCalls; n++) {
          const args = argsOf[n];
          kernelOf[n] = kernels[words[at]];
          args.length = words[at + 1];
          for (let a = 0; a < args.length; a++) args[a] = words[at + 2 + a];
          at += 2 + args.length;
        }
        if (waits) barrier();
        for (;;) {
          const begin = Atomics.add(claims, c, grain);
          if (begin >= nItems) break;
          const end = Math.min(begin + grain, nItems);
          for (let n = 0; n < nCalls; n++) kernelOf[n](scratch, begin, end, ...argsOf[n]);
        }
      }
      barrier();
    } catch (error) {
      Atomics.store(control, FAILED, 1);
      for (const word of [ARRIVED, FINISHED]) Atomics.notify(control, word);
      throw error;
    }
    if (thread === 0) {
      Atomics.store(control, FINISHED, program);
      Atomics.notify(control, FINISHED);
    }
  }
}

/** Starts `nThreads` threads over one compiled module. */
export function startWorkers(module: WebAssembly.Module, nThreads: number): Workers {
  const shared = (bytes: number) => new SharedArrayBuffer(bytes);
  const control = new Int32Array(shared(64));
  const claims = new Int32Array(shared(4 * MAX_COMMANDS));
  const words = new Float64Array(shared(8 * MAX_WORDS));
  const names = [...WebAssembly.Module.exports(module).map(({ name }) => name), 'copy'];
  const kernelIndex = new Map(names.map((name, index) => [name, index]));

  // Bundlers that keep function names wrap inner functions in a helper of this name.
  const workerSource = `const __name = (f) => f; (${work})(require('node:worker_threads'))`;
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
  const threads = Array.from({ length: nThreads }, (_, thread) => {
    const workerData: Shared = { module, control, claims, words, thread, nThreads, maxCalls: MAX_CALLS };
    const worker = new Worker(workerSource, { eval: true, workerData });
    worker.on('error', fail);
    worker.on('exit', (code) => {
      if (code === 0 && Atomics.load(control, FAILED)) return; // it left since another failed, whose error comes
      fail(new UnsupportedError(`a thread of the wasm backend ended (exit code ${code}); open the model again`));
    });
    worker.unref();
    return worker;
  });

  let program = 0;
  /** Runs as many commands as one program holds; returns how many. */
  async function runSome(commands: readonly Command[], first: number, scratch: readonly Scratch[]) {
    let at = 1;
    let count = 0;
    for (let c = first; c < commands.length && count < MAX_COMMANDS; c++, count++) {
      const { stage, nItems, grain, waits, calls } = commands[c];
      const head = [stage, scratch[stage].at, scratch[stage].nBytes, nItems, grain, Number(waits), calls.length];
      const tail = calls.flatMap(({ kernel, args }) => [kernelIndex.get(kernel) as number, args.length, ...args]);
      if (at + head.length + tail.length > MAX_WORDS) {
        if (count > 0) break;
        throw new Error(`a command of ${calls.length} calls does not fit a program`);
      }
      words.set(head, at);
      words.set(tail, at + head.length);
      at += head.length + tail.length;
    }
    words[0] = count;
    claims.fill(0, 0, count);
    program++;
    Atomics.store(control, PROGRAM, program);
    Atomics.notify(control, PROGRAM);
    for (;;) {
      const finished = Atomics.load(control, FINISHED);
      if (Atomics.load(control, FAILED)) {
        await ended;
        throw end;
      }
      if (finished === program) return count;
      await Atomics.waitAsync(control, FINISHED, finished).value;
    }
  }

  return {
    addStage(memory) {
      for (const thread of threads) thread.postMessage(memory);
    },
    async run(commands, scratch) {
      if (end) throw end;
      for (const thread of threads) thread.ref(); // the process stays alive while a program runs, and only then
      try {
        for (let done = 0; done < commands.length; ) done += await runSome(commands, done, scratch);
      } finally {
        if (!end) for (const thread of threads) thread.unref(); // threads that end are waited for
      }
    },
    async stop() {
      fail(new UnsupportedError(DISPOSED));
      await Promise.all(threads.map((thread) => thread.terminate()));
    },
  };
}
