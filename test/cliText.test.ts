/** Texts as they reach the command line: files, pipes, standard input, and what only looks like a text. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { BUNDLED_BOOK, BUNDLED_MODEL } from '../src/bundled.ts';
import { openModel } from '../src/node.ts';

const folder = mkdtempSync(join(tmpdir(), 'dualchunk-text-'));
afterAll(() => rmSync(folder, { recursive: true }));

const at = (name: string) => join(folder, name);
const file = (name: string, bytes: Uint8Array | string): string => {
  writeFileSync(at(name), bytes);
  return at(name);
};

const NOTE = 'The blue box in the library holds the letters.';
const note = file('note.txt', NOTE);
const RUN = ['dist/cli/main.js', 'run', '-n', '2', '--json', '--temperature', '0'];
const run = (args: string[], input = '') =>
  spawnSync('node', [...RUN, ...args], { encoding: 'utf8', input, timeout: 60_000 });
/** In a shell, where `dualchunk` is the command. */
const shell = (script: string) => {
  const command = `dualchunk() { node ${RUN.join(' ')} "$@"; }; ${script}`;
  return spawnSync('bash', ['-c', command], { encoding: 'utf8', timeout: 60_000 });
};
const read = ({ stdout, stderr }: { stdout: string; stderr: string }) => {
  expect(stdout, stderr).not.toBe('');
  return JSON.parse(stdout).promptTokens as number;
};

const model = await openModel(BUNDLED_MODEL);
await model.close();
/** Tokens of a prompt, as the bundled model, which has no chat template, reads it. */
const tokensOf = (text: string) => model.tokenizer.encode(text).length;
const ASKED = tokensOf(`${NOTE}\n\nWhere?`);

describe('a text is read', { timeout: 60_000 }, () => {
  it('from a file, and from a link to one', () => {
    symlinkSync(note, at('link.txt'));
    expect(read(run(['-f', note, '-p', 'Where?']))).toBe(ASKED);
    expect(read(run(['-f', at('link.txt'), '-p', 'Where?']))).toBe(ASKED);
  });

  it.each(['-f - ', '-f /dev/stdin', '-f /dev/fd/0', ''])('from a pipe, named "%s"', (named) =>
    expect(read(shell(`cat ${note} | dualchunk ${named} -p 'Where?'`))).toBe(ASKED),
  );

  it('from a pipe that nobody named, where it is all there is', () => expect(read(run([], NOTE))).toBe(tokensOf(NOTE)));

  it('from <(a command), and from a named pipe', () => {
    expect(read(shell(`dualchunk -f <(cat ${note}) -p 'Where?'`))).toBe(ASKED);
    execFileSync('mkfifo', [at('pipe')]);
    expect(read(shell(`(sleep 0.3; cat ${note} > ${at('pipe')}) & dualchunk -f ${at('pipe')} -p 'Where?'`))).toBe(
      ASKED,
    );
  });

  it('from files and a pipe, in this order', () =>
    expect(read(run(['-f', note, '-p', 'Where?'], 'And there.'))).toBe(tokensOf(`${NOTE}\n\nAnd there.\n\nWhere?`)));

  it('in UTF-16, as from a Windows editor', () => {
    const bytes = Buffer.from(`\ufeff${NOTE}`, 'utf16le');
    expect(read(run(['-f', file('utf16.txt', bytes), '-p', 'Where?']))).toBe(ASKED);
  });

  it('but for a last character that is cut in two, with a word about it', () => {
    const cut = run(['-f', file('cut.txt', Buffer.from(`${NOTE}é`).subarray(0, -1)), '-p', 'Where?']);
    expect(read(cut)).toBe(ASKED);
    expect(cut.stderr.match(/cut\.txt: ends within a character, which is left out/g)).toHaveLength(1);
  });

  it('without waiting for a pipe that stays open and silent, which is told', async () => {
    const child = spawn('node', [...RUN, '-p', 'Where?'], { stdio: ['pipe', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (bytes) => {
      stdout += bytes;
    });
    child.stderr.on('data', (bytes) => {
      stderr += bytes;
    });
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
    expect(stderr).toMatch(/standard input is open but gives nothing, so it is not read; -f - waits for it/);
    expect(read({ stdout, stderr })).toBe(tokensOf('Where?'));
  });
});

describe('what is not a text is refused', { timeout: 60_000 }, () => {
  mkdirSync(at('folder'));
  it.each<[string, string[], RegExp]>([
    ['an empty file', ['-f', file('empty.txt', ''), '-p', 'x'], /empty\.txt: empty; there is nothing to read/],
    ['an empty pipe', ['-f', '-', '-p', 'x'], /standard input: empty; there is nothing to read/],
    ['white space only', ['-f', file('blank.txt', ' \n\t\n'), '-p', 'x'], /blank\.txt: nothing but white space/],
    ['the same with --take', ['-f', at('blank.txt'), '--take', '5', '-p', 'x'], /blank\.txt: nothing but white space/],
    ['a prompt of white space', ['-p', ' '], /nothing to read; give a prompt/],
    ['a folder', ['-f', at('folder'), '-p', 'x'], /folder: a folder; give a text file/],
    ['a path through a file', ['-f', `${note}/x`, '-p', 'x'], /no such file: .*note\.txt\/x/],
    ['an endless device', ['-f', '/dev/zero', '-p', 'x'], /\/dev\/zero: a device; give a text file/],
    ['standard input twice', ['-f', '-', '-f', '/dev/stdin', '-p', 'x'], /names standard input twice.*; leave one out/],
    ['a model', ['-f', BUNDLED_MODEL, '-p', 'x'], /a model \(GGUF\); give it as the model/],
  ])('%s', (_what, args, message) => {
    const { status, stdout, stderr } = run(args);
    expect(stderr).toMatch(message);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  });

  it('an endless pipe, as soon as it is known to be no text', () => {
    const { status, stderr } = shell("dualchunk -f - -p 'x' < /dev/zero");
    expect(stderr).toMatch(/standard input: binary data, not a text/);
    expect(status).toBe(1);
  });
});

it('what is too long is cut with --take only where that makes it fit', { timeout: 60_000 }, () => {
  const long = file('words.txt', 'word '.repeat(300));
  const refusal = (...args: string[]) => run(args).stderr;
  expect(refusal('-f', long, '-c', '40')).toMatch(
    'read only the first part with --take 20, or give a larger --context',
  );
  expect(run(['-f', long, '-c', '40', '--take', '20']).status).toBe(0);
  const asked = refusal('-f', note, '-c', '40', '-p', 'word '.repeat(300));
  expect(asked).toMatch(/the context holds 40; give a larger --context/);
  expect(refusal('-f', long, '--take', '1', '-c', '1')).toMatch(/the context holds 1; give a larger --context/);
  expect(refusal('-c', '40', '-p', 'word '.repeat(300))).toMatch(/the context holds 40; give a larger --context/);
});

describe('a long text', { timeout: 60_000 }, () => {
  const book = execFileSync(
    'cat',
    Array.from({ length: 120 }, () => BUNDLED_BOOK),
    { maxBuffer: 2 ** 30 },
  );
  const long = file('long.txt', book);

  it.each<[string, string[], RegExp]>([
    [
      'than the memory',
      ['--kv-type', 'f32'],
      /about [\d,]{9,} tokens \([\d.]+ MiB\), but .* GiB at least; read only the first part with --take 1024\n/,
    ],
    [
      'than the context',
      ['-c', '8k'],
      /about [\d,]{9,} tokens .* the context holds 8,192; read only the first part with --take 4096\n/,
    ],
  ])('is refused by its length where it is longer %s', (_than, args, message) => {
    const startedAt = performance.now();
    const { status, stderr } = run([BUNDLED_MODEL, '-f', long, '-p', 'x', ...args]);
    expect(stderr).toMatch(message);
    expect(status).toBe(1);
    // Tokenising it takes minutes.
    expect(performance.now() - startedAt).toBeLessThan(10_000);
  });

  it('costs with --take what is taken, also in texts without spaces, and from a pipe without end', () => {
    const chinese = file('chinese.txt', '里面有一封信，写着花园的门在哪里。'.repeat(1_000_000));
    for (const path of [long, chinese]) {
      const startedAt = performance.now();
      const tokens = read(run(['-f', path, '--take', '300', '-p', 'x', '-c', '2k']));
      expect(tokens).toBeGreaterThan(300);
      expect(tokens).toBeLessThan(310);
      expect(performance.now() - startedAt).toBeLessThan(10_000);
    }
    const endless = shell(`yes 'The door is open.' | dualchunk --take 300 -p x -c 2k`);
    expect(read(endless)).toBeLessThan(310);
  });

  it('is taken over the borders of files', () => {
    const two = `${NOTE}\n\n${NOTE}`;
    const n = tokensOf(NOTE) + 6;
    const wanted = model.tokenizer.decode(model.tokenizer.encodePrefix(two, n, { addSpecialTokens: false }).ids);
    expect(read(run(['-f', note, '-f', note, '-f', long, '--take', String(n), '-p', 'x']))).toBe(
      tokensOf(`${wanted}\n\nx`),
    );
  });
});
