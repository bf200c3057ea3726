/** All tasks that are generated and want an answer are found by name. */
import { UnsupportedError } from '../errors.ts';
import { kvRetrieval } from './kvRetrieval.ts';
import { needle } from './needle.ts';
import { passkey } from './passkey.ts';
import { RULER } from './ruler.ts';
import type { Task } from './task.ts';

export { RULER };

export const TASKS: Readonly<Record<string, Task>> = Object.fromEntries(
  [passkey, needle, ...RULER, kvRetrieval].map((task) => [task.name, task]),
);

/** @throws UnsupportedError when there is none of that name. */
export function taskNamed(name: string): Task {
  if (Object.hasOwn(TASKS, name)) return TASKS[name];
  throw new UnsupportedError(`unknown task "${name}"; wanted ${Object.keys(TASKS).join(', ')}`);
}
