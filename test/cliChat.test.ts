/** A conversation on the command line: what each line does, what a full context costs, and what ends it. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../src/node.ts';

const MODEL = 'test/golden/qwen2';
const folder = mkdtempSync(join(tmpdir(), 'dualchunk-chat-'));
afterAll(() => rmSync(folder, { recursive: true }));

const CHAT = ['dist/cli/main.js', 'chat', MODEL, '--temperature', '0'];
const chat = (args: string[], input: string) =>
  spawnSync('node', [...CHAT, ...args], { encoding: 'utf8', input, timeout: 60_000 });
/** What was read of each question, cached tokens left out. */
const readings = (stderr: string) =>
  [...stderr.matchAll(/100% +(\d+) of \1 tokens/g)].map(([, tokens]) => Number(tokens));

describe('chat', { timeout: 60_000 }, () => {
  it('answers each line knowing those before it, forgets on /clear, leaves on /exit', () => {
    const { status, stdout, stderr } = chat(
      ['-n', '6', '--context', '2k', '--kv-type', 'f32', '--precision', 'f32'],
      'Hello\nHello\n/clear\nHello\n/exit\nnever read\n',
    );
    expect(status).toBe(0);
    expect(readings(stderr)).toHaveLength(3);
    const answers = stdout.split('\n').filter((line) => line !== '');
    expect(answers).toHaveLength(3);
    expect(answers[1]).not.toBe(answers[0]);
    expect(answers[2]).toBe(answers[0]);
  });

  it('leaves on /quit and /exit with spaces behind, says what it knows, and names what it does not', () => {
    const { stdout, stderr, status } = chat(['-n', '2', '-c', '512'], '/help\n/bye \n/exit  \nnever read\n');
    expect(stderr).toMatch(/\/clear forgets the conversation, \/exit, \/quit or end of input leaves/);
    expect(stderr).toMatch(/unknown command \/bye; \/help says which there are/);
    expect({ stdout, status }).toEqual({ stdout: '', status: 0 });
    expect(chat(['-n', '2', '-c', '512'], '/quit\nnever read\n').stdout).toBe('');
  });

  it('leaves on /exit with spaces before, and behind a byte order mark', () => {
    expect(chat(['-n', '2', '-c', '512'], '\ufeff  /exit\nnever read\n')).toMatchObject({ stdout: '', status: 0 });
  });

  it('is asked in UTF-16, as a Windows shell pipes', () => {
    const greedy = ['-n', '6', '-c', '512', '--kv-type', 'f32', '--precision', 'f32'];
    const lines = '\ufeffHello there\n/exit\n';
    const input = Buffer.from(lines, 'utf16le');
    const { stdout, stderr } = spawnSync('node', [...CHAT, ...greedy], { encoding: 'utf8', input, timeout: 60_000 });
    expect(readings(stderr)).toHaveLength(1);
    expect(stdout).toBe(chat(greedy, lines).stdout);
  });

  it('reads a line that only begins with a slash', () =>
    expect(readings(chat(['-n', '2', '-c', '512'], '/etc/hosts is a file\n').stderr)).toHaveLength(1));

  it('goes on past its context without the oldest turns, and marks answers that were cut', () => {
    const questions = Array.from({ length: 12 }, (_, n) => `Question number ${n}, please?`);
    const { stderr, status } = chat(['-n', '9', '--context', '200'], questions.join('\n'));
    expect(status).toBe(0);
    expect(readings(stderr)).toHaveLength(12);
    expect(stderr).toMatch(/\(the oldest turn no longer fits and is left out; a larger --context keeps more\)/);
    expect(stderr).toMatch(/\[cut: 9 tokens, -n gives more\]/);
    expect(stderr).not.toMatch(/context holds/);
  });

  it('says so where an answer fills the context', () => {
    const { stderr } = chat(['-n', '500', '--context', '64'], 'Hello there\n');
    expect(stderr).toMatch(/\[cut: the context of 64 tokens is full\]/);
  });

  it('refuses a question that does not fit, and goes on', () => {
    const { stderr, status } = chat(['-n', '4', '--context', '64'], `${'word '.repeat(90)}\nHello\n`);
    expect(stderr).toMatch(/the question has \d+ tokens .* the context holds 64; ask a shorter one/);
    expect(readings(stderr)).toHaveLength(1);
    expect(status).toBe(0);
  });

  it('keeps the attached text in every turn', async () => {
    const text = join(folder, 'text.txt');
    writeFileSync(text, 'The blue box holds the letters. '.repeat(4));
    const { tokenizer, close } = await openModel(MODEL);
    await close();
    const nText = tokenizer.encode('The blue box holds the letters. '.repeat(4)).length;
    const { stderr } = chat(['-f', text, '-n', '9', '-c', String(nText + 70)], 'Where is it?\n'.repeat(6));
    expect(readings(stderr)).toHaveLength(6);
    expect(stderr).toMatch(/left out/);
    // Without its oldest turn a conversation is read again from there, text and all.
    expect(Math.max(...readings(stderr).slice(1))).toBeLessThan(nText + 70);
  });

  it('refuses at once where the text comes on standard input and nobody can type questions', async () => {
    const child = spawn('node', [...CHAT, '-f', '-'], { detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (bytes) => {
      stderr += bytes;
    });
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(1);
    expect(stderr).toMatch(/there is no terminal to ask questions from; give the text as a file, chat -f FILE/);
  });

  it('Ctrl-C stops an answer and keeps the chat; at the prompt it leaves', async () => {
    const child = spawn('node', [...CHAT, '-n', '100000', '-c', '200k'], { stdio: ['pipe', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (bytes) => {
      stdout += bytes;
    });
    child.stderr.on('data', (bytes) => {
      stderr += bytes;
    });
    const until = async (isThere: () => boolean) => {
      while (!isThere()) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    child.stdin.write('Hello\n');
    await until(() => stdout.length > 20);
    child.kill('SIGINT');
    await until(() => stderr.includes('(stopped; this turn is forgotten)'));
    child.stdin.write('/help\n');
    await until(() => stderr.includes('/clear forgets'));
    child.kill('SIGINT');
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(130);
  });
});
