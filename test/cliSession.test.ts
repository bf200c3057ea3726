/** `dualchunk read` writes down what `run` and `chat` go on from, with the answers that they give without it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';

const MODEL = 'test/golden/llama/model.gguf';
const folder = mkdtempSync(join(tmpdir(), 'cli-session-'));
const [text, session] = [join(folder, 'text.txt'), join(folder, 'text.kv')];
const dualchunk = (args: readonly string[], input = '') =>
  spawnSync('node', ['dist/cli/main.js', ...args], { encoding: 'utf8', input, timeout: 60_000 });
const FLAGS = ['--system', 'Be brief.', '--method', 'dca:40/59', '--kv-type', 'q8_0', '--context', '1000'];
const ASK = ['-p', 'And then?', '-n', '12', '--temperature', '0', '--json'];

beforeAll(() => {
  writeFileSync(text, readFileSync('test/golden/text.txt', 'utf8').slice(0, 600));
});

describe('read', () => {
  it('writes a session down, and run and chat answer from it as they do from the text', () => {
    const read = dualchunk(['read', MODEL, '-f', text, '-o', session, '--json', ...FLAGS]);
    expect(read.stderr).toContain(`written to ${session}`);
    const figures = JSON.parse(read.stdout);
    expect(figures).toMatchObject({ session, method: 'dca:40/59:logn' });
    const [from, without] = [
      ['--session', session],
      ['-f', text, ...FLAGS],
    ].map((more) => {
      const { stdout, stderr, status } = dualchunk(['run', MODEL, ...more, ...ASK]);
      expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
      return { ...JSON.parse(stdout), stderr };
    });
    const { text: answer, promptTokens, method } = without;
    expect(from).toMatchObject({ text: answer, promptTokens, method });
    expect(from.stderr).toContain(`\n${promptTokens - figures.tokens} tokens read at`);
    const chats = [
      ['--session', session],
      ['-f', text, ...FLAGS],
    ].map((more) => dualchunk(['chat', MODEL, ...more, '-n', '12', '--temperature', '0'], 'And then?\nAnd now?\n'));
    expect(chats[0].stdout).toBe(chats[1].stdout);
    expect(chats[0].stdout).not.toBe('');
  });

  it.each([
    [
      'a text beside it',
      () => ['run', MODEL, '--session', session, '-f', text, ...ASK],
      /-f was settled when .* was read; leave it out/,
    ],
    [
      'another method',
      () => ['run', MODEL, '--session', session, '--method', 'none', ...ASK],
      /another method \(dca:40\/59:logn; this is none\)/,
    ],
    [
      'another cache',
      () => ['run', MODEL, '--session', session, '--kv-type', 'f32', ...ASK],
      /another type of cache \(wasm q8_0; this is wasm f32\)/,
    ],
    ['another model', () => ['run', 'test/golden/qwen2/model.gguf', '--session', session, ...ASK], /another model/],
    ['no session', () => ['run', MODEL, '--session', text, ...ASK], /not a session; wanted a file that dualchunk read/],
    [
      'nowhere to write',
      () => ['read', MODEL, '-f', text, '-o', join(folder, 'no/where.kv')],
      /cannot be written \(ENOENT\)/,
    ],
  ])('refuses %s in one line', (_what, args, message) => {
    const { status, stderr, stdout } = dualchunk(args());
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n {4}at /);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  });
});
