/**
 * Programs of kernel calls: how recorded commands are written into memory, and how they are walked there, by threads of
 * their own (`wasmThreads.ts`) or by the calling thread.
 */
import { UnsupportedError } from '../errors.ts';
import { DISPOSED } from './backend.ts';

/** One kernel call: `kernel(scratch, begin, end, ...args)`. Addresses are of its command's stage. */
export interface Call {
  readonly kernel: string;
  readonly args: readonly number[];
}

/**
 * Kernel calls over the same items `0..nItems`, taken `grain` at a time: a thread runs all calls on what it took before it
 * takes more. One kernel is the walker's own, as none of the module sees two memories: `copy(out, x, x's stage, cols)`.
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

/** What runs programs, one at a time. */
export interface Runner {
  /** Runs commands in order. `scratch` is by stage. */
  run(commands: readonly Command[], scratch: readonly Scratch[]): Promise<void>;
  /** Ends what runs and refuses what comes. */
  stop(): Promise<void>;
}

/** What kernels are compiled to, and the memories they run over, by stage. */
export interface Kernels {
  readonly module: WebAssembly.Module;
  readonly memories: readonly WebAssembly.Memory[];
}

/** A program as it lies in memory, and what a thread walks it with. */
export interface Program extends Kernels {
  /** i32, one a command: the next item to take. */
  readonly claims: Int32Array;
  /**
   * f64: number of commands; then for each stage, scratch, scratchBytes, nItems, grain, waits and number of calls; then for
   * each of these kernel, number of args, args…
   */
  readonly words: Float64Array;
}

/** Of a command. */
export const MAX_CALLS = 8;
const MAX_COMMANDS = 1 << 14;
const MAX_WORDS = 1 << 18; // 2 MiB
/** Milliseconds that the calling thread computes before it lets the event loop run. */
const TURN = 50;

/** Room for a program in memory that is shared or not, and what writes it there: `write` returns how many commands fit. */
export function openProgram(kernels: Kernels, Memory: ArrayBufferConstructor | SharedArrayBufferConstructor) {
  const claims = new Int32Array(new Memory(4 * MAX_COMMANDS));
  const words = new Float64Array(new Memory(8 * MAX_WORDS));
  const names = [...WebAssembly.Module.exports(kernels.module).map(({ name }) => name), 'copy'];
  const kernelIndex = new Map(names.map((name, index) => [name, index]));
  const program: Program = { ...kernels, claims, words };

  function write(commands: readonly Command[], first: number, scratch: readonly Scratch[]): number {
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
    return count;
  }
  return { program, write };
}

/**
 * Makes what walks the program as thread number `thread`. It pauses behind every run of items, where the calling thread may
 * turn to something else; `barrier` returns when all threads are there. Threads are started from the source text of this
 * function: it may use nothing from this module.
 */
export function makeWalk({ module, memories, claims, words }: Program, thread: number, barrier: () => void) {
  const kernelsOf = (memory: WebAssembly.Memory): CallableFunction[] => {
    const { exports } = new WebAssembly.Instance(module, { env: { memory } });
    const rows = ({ buffer }: WebAssembly.Memory, at: number, begin: number, end: number, cols: number) =>
      new Float32Array(buffer, at + 4 * begin * cols, (end - begin) * cols);
    const copy = (_: number, begin: number, end: number, out: number, x: number, from: number, cols: number) =>
      rows(memory, out, begin, end, cols).set(rows(memories[from], x, begin, end, cols));
    return [...WebAssembly.Module.exports(module).map(({ name }) => exports[name] as CallableFunction), copy];
  };
  const stages = memories.map(kernelsOf);
  // the calls of the command at hand; kept, so that walking a program allocates next to nothing
  const kernelOf: CallableFunction[] = [];
  const argsOf: number[][] = [];
  return function* walk(): Generator<undefined, void> {
    const nCommands = words[0];
    for (let c = 0, at = 1; c < nCommands; c++) {
      const kernels = stages[words[at]];
      const scratch = words[at + 1] + thread * words[at + 2];
      const [nItems, grain, waits, nCalls] = [words[at + 3], words[at + 4], words[at + 5], words[at + 6]];
      at += 7;
      for (let n = 0; n < nCalls; n++) {
        argsOf[n] ??= [];
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
        yield;
      }
    }
    barrier();
  };
}

/** Lets the event loop run once: unlike a timer, a message is not held back in a page that is out of sight. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}

/** Runs programs on the calling thread. */
export function runHere(kernels: Kernels): Runner {
  const { program, write } = openProgram(kernels, ArrayBuffer);
  const walk = makeWalk(program, 0, () => {});
  /** Why nothing more is run: a kernel failed, or `stop`. */
  let end: unknown;
  return {
    async run(commands, scratch) {
      if (end) throw end;
      let turnEnd = performance.now() + TURN;
      try {
        for (let done = 0; done < commands.length; ) {
          done += write(commands, done, scratch);
          for (const _ of walk()) {
            if (performance.now() < turnEnd) continue;
            await nextTurn();
            if (end) throw end;
            turnEnd = performance.now() + TURN;
          }
        }
      } catch (error) {
        end ??= error;
        throw error;
      }
    },
    async stop() {
      end ??= new UnsupportedError(DISPOSED);
    },
  };
}
