/** How the command line ends: by signals, by what reads its output, and with the terminal as it was found. */
import { spawn, spawnSync } from 'node:child_process';
import { describe, expect, it, vi } from 'vitest';

const MODEL = 'test/golden/llama/model.gguf';
const TEXT = 'test/golden/text.txt';
const MAIN = 'dist/cli/main.js';
const LONG = [MAIN, 'run', MODEL, '-f', TEXT, '-n', '100000', '--context', '200k', '--temperature', '0'];

const shell = (script: string) =>
  spawnSync('bash', ['-c', `dualchunk() { node ${MAIN} "$@"; }; ${script}`], { encoding: 'utf8', timeout: 60_000 });

/** Once the output of a command holds a text, a signal it is sent or what is typed; where Ctrl-Z stops it, it goes on. */
type Step = [mark: string, act: 'SIGINT' | 'SIGQUIT' | 'SIGTERM' | 'SIGHUP' | { typed: string }];

/** Runs a command in a terminal of its own. Returns what the terminal was sent, and the exit code. */
const inTerminal = (args: readonly string[], steps: readonly Step[]) => {
  const script = `
import json, os, pty, signal, sys
steps, *args = sys.argv[1:]
steps = json.loads(steps)
pid, fd = pty.fork()
if pid == 0: os.execvp('node', ['node', *args])
out, seen = b'', 0
while True:
  try: more = os.read(fd, 65536)
  except OSError: break
  if not more: break
  out += more
  while steps and steps[0][0].encode() in out[seen:]:
    (mark, act), seen = steps.pop(0), len(out)
    if isinstance(act, str): os.kill(pid, getattr(signal, act))
    else: os.write(fd, act['typed'].encode())
    if act == { 'typed': chr(26) } and os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1]): os.kill(pid, signal.SIGCONT)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.buffer.write(out)
sys.exit(status if status >= 0 else 64)
`;
  const { stdout, status } = spawnSync('python3', ['-c', script, JSON.stringify(steps), ...args], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { stdout, status };
};

const expectWhole = (stdout: string) => {
  for (const mode of ['7', '25']) {
    expect(stdout).toContain(`${ESC}[?${mode}l`);
    expect(stdout.lastIndexOf(`${ESC}[?${mode}h`)).toBeGreaterThan(stdout.lastIndexOf(`${ESC}[?${mode}l`));
  }
};
const ESC = '\u001b';

describe('signals', { timeout: 60_000 }, () => {
  it.each([
    ['SIGINT', 130],
    ['SIGQUIT', 131],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('%s ends an answer with exit code %d', async (signal, code) => {
    const child = spawn('node', LONG, { stdio: ['ignore', 'pipe', 'ignore'] });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    child.kill(signal);
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(code);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGQUIT', 131],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('%s while a bar is drawn leaves line wrap and cursor on', (signal, code) => {
    const { stdout, status } = inTerminal([...LONG, '--take', '40k'], [['reading', signal]]);
    expect(status).toBe(code);
    expectWhole(stdout);
  });

  it('a terminal that moves no cursor is sent lines', () => {
    vi.stubEnv('TERM', 'dumb');
    const { stdout, status } = inTerminal([MAIN, 'run', MODEL, '-p', 'Hello', '-n', '2', '--temperature', '0'], []);
    vi.unstubAllEnvs();
    expect(status).toBe(0);
    expect(stdout).toMatch(/loading =+ 100%/);
    expect(stdout).not.toContain(ESC);
  });

  it('Ctrl-Z while a bar is drawn leaves line wrap and cursor on, and the work goes on afterwards', () => {
    const { stdout, status } = inTerminal(
      [...LONG, '--take', '40k'],
      [
        ['reading', { typed: '\u001a' }],
        ['reading', 'SIGTERM'],
      ],
    );
    expect(status).toBe(143);
    expect(stdout.split(`${ESC}[?7h${ESC}[?25h`)).toHaveLength(3); // once for the shell, once at the end
  });

  it('Ctrl-C while a question is read ends the bar and keeps the chat', () => {
    const chat = [MAIN, 'chat', 'test/golden/qwen2', '-f', TEXT, '-c', '200k', '-n', '100000'];
    const { stdout, status } = inTerminal(chat, [
      ['/exit', { typed: 'Who?\n' }],
      ['reading', { typed: '\u0003' }],
      ['(stopped; this turn is forgotten)', { typed: '/exit\n' }],
    ]);
    expect(status).toBe(0);
    expect(stdout.split('(stopped;')[1]).not.toContain('reading');
    expectWhole(stdout);
  });

  it('ends at once while nothing but a pipe is waited for', async () => {
    const child = spawn('node', [MAIN, 'run', MODEL, '-f', '-'], { stdio: ['pipe', 'ignore', 'pipe'] });
    await new Promise((resolve) => child.stderr.once('data', resolve)); // waiting for standard input
    child.kill('SIGINT');
    expect(await new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code)))).toBe(
      'SIGINT',
    );
  });
});

describe('a terminal is sent no control characters of a file', { timeout: 60_000 }, () => {
  it('in an error, nor in a word of the command line that it quotes', () => {
    const { stderr } = spawnSync('node', [MAIN, 'run', `${ESC}]0;x\u0007\u009b31m`, '-p', 'x'], { encoding: 'utf8' });
    expect(stderr).toContain('no such file or folder: \\u001b]0;x\\u0007\\u009b31m');
    const { stderr: usage } = spawnSync('node', [MAIN, 'run', '--take', `${ESC}[2J`], { encoding: 'utf8' });
    expect(usage).toContain("argument '\\u001b[2J' is invalid");
  });

  it('nor by a line break in a name, which could pose as a line of its own', () => {
    const { stderr } = spawnSync('node', [MAIN, 'run', 'a\ndualchunk: fine', '-p', 'x'], { encoding: 'utf8' });
    expect(stderr).toMatch(/^dualchunk: no such file or folder: a\\(?:n|u000a)dualchunk: fine.*\n$/);
  });
});

describe('standard output', { timeout: 60_000 }, () => {
  it.each(['inspect', 'run --help', '--help', '--version'])('that is full is told, with exit code 1: %s', (args) => {
    const { status, stderr } = shell(`dualchunk ${args} > /dev/full`);
    expect(stderr).toContain('dualchunk: cannot write to standard output (ENOSPC)\n');
    expect(status).toBe(1);
  });

  it('that a reader closed ends the command in silence', () => {
    const { stdout, stderr } = shell(`dualchunk inspect | head -1; echo "\${PIPESTATUS[0]}"`);
    expect(stdout).toMatch(/books-16m.*\n0\n$/);
    expect(stderr).toBe('');
  });

  it.each([' >(true)', ' /dev/full', '&-'])('gets the answer though the notes have no place: 2>%s', (place) => {
    const { stdout, status } = shell(`dualchunk run ${MODEL} -p Hello -n 4 2>${place}`);
    expect(stdout.trim()).not.toBe('');
    expect(status).toBe(0);
  });
});

it('threads start whatever options the process has', () => {
  const script = `
    import { loadModel } from './dist/node.js';
    const model = await loadModel('${MODEL}', { threads: 2, backend: 'wasm', context: 64 });
    for await (const { tokens } of model.generate([1, 2, 3], { maxTokens: 2, stopTokens: [] })) process.stdout.write('.'.repeat(tokens.length));
    await model.dispose();`;
  const { stdout, stderr, status } = spawnSync('node', ['--input-type=module', '-e', script], { encoding: 'utf8' });
  expect({ stdout, stderr, status }).toEqual({ stdout: '..', stderr: '', status: 0 });
});
