/** Work that a regular expression of a file may make endless, with an end to it. */
import { UnsupportedError } from '../errors.ts';

/** Absent in browsers, which ask the user about a page that does not answer. */
const vm = globalThis.process?.getBuiltinModule?.('node:vm');

/** A timeout of node:vm ends all that is called from within a script, even in the middle of a regular expression. */
const runner = vm && { script: new vm.Script('work()'), context: vm.createContext({ work: undefined }) };

let isRunning = false;

/**
 * Calls `work` and returns its result. On Node it is interrupted after `milliseconds`, and by Ctrl-C.
 *
 * @param what For the message: what takes so long.
 * @throws UnsupportedError when the time is up.
 */
export function bounded<T>(work: () => T, milliseconds: number, what: string): T {
  if (!runner || isRunning) return work();
  isRunning = true;
  runner.context.work = work;
  try {
    return runner.script.runInContext(runner.context, { timeout: Math.ceil(milliseconds), breakOnSigint: true }) as T;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // The signal went to the script alone: the process is to get it too.
    if (code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED') process.kill(process.pid, 'SIGINT');
    else if (code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
    throw new UnsupportedError(
      `${what} took more than ${(milliseconds / 1000).toFixed(1)} seconds or was interrupted`,
      {
        cause: error,
      },
    );
  } finally {
    isRunning = false;
    runner.context.work = undefined;
  }
}
