/** A file is written beside its place first, under a name that tells by whom, so that what a killed process leaves is known as such. */

/** The name of what this process writes for `path`. */
export const partialOf = (path: string): string => `${path}.${process.pid}.${Date.now().toString(36)}.partial`;

/** The name of the file that a process which is gone was writing; undefined where `name` is nothing of that kind. */
export function leftoverOf(name: string): string | undefined {
  const [, file, pid] = /^(.*)\.(\d+)\.[0-9a-z]+\.partial$/.exec(name) ?? [];
  return file === undefined || isRunning(Number(pid)) ? undefined : file;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
