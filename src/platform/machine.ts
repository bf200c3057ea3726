/** What computing asks of the place it runs in: how large the machine is, and threads. */

/** A thread that runs; those of Node and of browsers are as they come. */
export interface Thread {
  terminate(): unknown;
  /** Lets the process live on while the thread does, and no longer; where there is a process that could end. */
  ref?(): void;
  unref?(): void;
}

/** How a thread goes by itself. */
export interface ThreadEnd {
  onError(error: Error): void;
  onExit(code: number): void;
}

export interface Machine {
  readonly cores: number;
  /** Bytes; Infinity where nobody tells. */
  availableMemory(): number;
  /** Major version of the engine where it is V8, as far as it is known to be an old one. */
  readonly v8Version?: number;
  /** Whether the system shows a graphics device; absent where nobody tells. Asking a driver in vain is slow, and some complain. */
  mayHaveGpu?(): boolean;
  /** Turns on relaxed SIMD where the engine has it behind a flag. */
  allowRelaxedSimd?(): void;
  /**
   * Calls a function, given as its source text, on a new thread with a copy of `data`, of which shared memory stays shared.
   * Absent where threads cannot share memory.
   */
  readonly startThread?: (source: string, data: unknown, end: ThreadEnd) => Thread;
}
