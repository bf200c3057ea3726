/** `dualchunk eval` as a user meets it: the built program on the bundled model, a server, and everything that can be wrong. */
import { spawn } from 'node:child_process';
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { BUNDLED_BOOK, BUNDLED_MODEL } from '../src/bundled.ts';
import type { Result } from '../src/eval/index.ts';

const folder = mkdtempSync(join(tmpdir(), 'dualchunk-eval-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

const run = (...args: string[]) =>
  new Promise<Ended>((resolve) => {
    const child = spawn('node', args);
    const ended: Ended = { status: null, stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].on('data', (bytes) => {
        ended[name] += bytes;
      });
    }
    child.on('close', (status) => resolve({ ...ended, status }));
  });

const evaluate = (...args: string[]) => run('dist/cli/main.js', 'eval', ...args);

const lastLine = ({ stdout }: Ended) => JSON.parse(stdout.trimEnd().split('\n').at(-1) as string);
const out = (name: string) => ['--out', join(folder, name)];
const read = (...path: string[]) => readFileSync(join(folder, ...path), 'utf8');

function file(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
}

describe('a model here', { timeout: 60_000 }, () => {
  const args = ['perplexity', '--lengths', '512,2k', '--methods', 'none,dca', ...out('perplexity'), '--json'];

  it('gives figures by method and length, files beside them, and goes on where it was interrupted', async () => {
    const first = await evaluate(...args);
    expect(first).toMatchObject({ status: 0 });
    const { task, model, results } = lastLine(first);
    expect({ task, model }).toEqual({ task: 'perplexity', model: 'books-16m.Q8_0.gguf' });
    expect(results.map(({ method, length }: Record<string, unknown>) => [method, length])).toEqual([
      ['none', 512],
      ['none', 2048],
      ['dca:paper:logn', 512],
      ['dca:paper:logn', 2048],
    ]);
    const [, plain, , dca] = results;
    expect(plain.perplexity).toBeGreaterThan(1.2 * dca.perplexity);
    for (const { samples, seconds, standardError } of results) {
      expect(samples).toBeGreaterThan(0);
      expect(seconds).toBeGreaterThan(0);
      expect(standardError).toBeGreaterThan(0);
    }
    expect(read('perplexity', 'report.html')).toMatch(/^<!doctype html>/i);
    expect(read('perplexity', 'results.csv').split('\r\n')).toHaveLength(1 + 4 + 1);
    expect(JSON.parse(read('perplexity', 'results.json'))).toEqual(results);

    // the last sample's writing was cut short
    const samples = join(folder, 'perplexity', 'samples.jsonl');
    const lines = readFileSync(samples, 'utf8').split('\n');
    truncateSync(samples, Buffer.byteLength(lines.slice(0, -2).join('\n')) + 20);
    const again = await evaluate(...args);
    const resumed = readFileSync(samples, 'utf8').split('\n');
    expect(resumed.slice(0, -2)).toEqual(lines.slice(0, -2));
    expect(resumed).toHaveLength(lines.length);
    const figures = ({ results }: { results: { perplexity: number }[] }) => results.map((row) => row.perplexity);
    expect(figures(lastLine(again))).toEqual(figures({ results }));
  });

  it('refuses a line of finished samples that is damaged, and leaves the file as it is', async () => {
    const samples = join(folder, 'perplexity', 'samples.jsonl');
    const before = readFileSync(samples, 'utf8');
    appendFileSync(samples, '{"task": "perplexity"}\n');
    const { status, stderr } = await evaluate(...args);
    expect(status).toBe(1);
    expect(stderr).toContain(`samples.jsonl:${before.split('\n').length}: model is not a text`);
    expect(readFileSync(samples, 'utf8')).toBe(`${before}{"task": "perplexity"}\n`);
    writeFileSync(samples, before);
  });

  it('refuses to mix samples of different texts in one folder', async () => {
    const { status, stderr } = await evaluate(...args, '--text', 'test/golden/text.txt');
    expect(status).toBe(1);
    expect(stderr).toContain('give another --out');
  });

  it('finds pass keys, a row a length and depth', async () => {
    const passkey = ['passkey', '--lengths', '1k,2k', '--depths', '2', '--methods', 'none,dca'];
    const ended = await evaluate(...passkey, ...out('passkey'), '--json');
    const { results } = lastLine(ended);
    expect(results).toHaveLength(2 * 2 * 2);
    const found = (method: string, length: number) =>
      results
        .filter((row: { method: string; length: number }) => row.method.startsWith(method) && row.length === length)
        .map(({ depth, accuracy }: Record<string, number>) => [depth, accuracy]);
    const [all, no] = [1, 0].map((accuracy) => [0.25, 0.75].map((depth) => [depth, accuracy]));
    expect(found('dca', 2048)).toEqual(all);
    expect(found('none', 2048)).toEqual(no);
  });

  it('sweeps over chunks, and says where each method breaks', async () => {
    const sweep = ['sweep', '--chunks', '512,768', '--locals', '128', '--lengths', '2k', ...out('sweep'), '--json'];
    expect(lastLine(await evaluate(...sweep)).results.map(({ method }: { method: string }) => method)).toEqual([
      'dca:512/640:logn',
      'dca:768/896:logn',
    ]);
    const limit = ['limit', '--methods', 'none,dca', '--up-to', '2k', ...out('limit'), '--json'];
    const { stderr } = await evaluate(...limit);
    expect(stderr).toMatch(/none: breaks at 2,048 tokens/);
    expect(stderr).toMatch(/dca: holds at 2,048 tokens, the furthest asked/);
  });
});

it('is a library too: the example of the README gives the figures of the command', { timeout: 60_000 }, async () => {
  const blocks = [...readFileSync('README.md', 'utf8').matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code);
  const example = blocks.filter((code) => code.includes("'dualchunk/eval'"));
  expect(example).toHaveLength(1);
  const shorter = example[0].replace('[1024, 4096]', '[512, 2048]');
  const code = shorter.replace('model.gguf', BUNDLED_MODEL).replaceAll('book.txt', BUNDLED_BOOK);
  const path = 'dist/example.mjs'; // within the package, which imports itself by name
  writeFileSync(path, code);
  onTestFinished(() => rmSync(path));
  const ended = await run(path);
  expect(ended).toMatchObject({ status: 0, stderr: '' });
  const command = ['perplexity', '--lengths', '512,2k', '--methods', 'none,dca', ...out('example'), '--json'];
  const { results } = lastLine(await evaluate(...command));
  expect(results).toHaveLength(4);
  const lines = results.map((row: Result) => `${row.method} ${row.length} ${row.perplexity}\n`);
  expect(ended.stdout).toBe(lines.join(''));
});

describe('a server', { timeout: 60_000 }, () => {
  const asked: { model: string; messages: { content: string }[] }[] = [];
  let failsAt = 0;
  /** Finds what it is asked for, as a model that reads everything would. */
  const server = createServer((request, response) => {
    const send = (body: unknown) => response.setHeader('content-type', 'application/json').end(JSON.stringify(body));
    if (request.url === '/v1/models') return void send({ object: 'list', data: [{ id: 'reader', object: 'model' }] });
    let text = '';
    request.on('data', (bytes) => {
      text += bytes;
    });
    request.on('end', () => {
      const body = JSON.parse(text);
      asked.push(body);
      if (asked.length === failsAt) return void response.writeHead(400).end('<h1>Bad Request</h1>');
      const [{ content }] = body.messages;
      const key = /pass key is (\d+)/i.exec(content)?.[1];
      const answer = key ? `It is ${key}.` : 'Jonathan Harker';
      send({ choices: [{ index: 0, message: { role: 'assistant', content: answer } }] });
    });
  });
  beforeAll(() => new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve)));
  afterAll(() => void server.close());
  const endpoint = () => ['--endpoint', `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`];

  it('is asked for pass keys in the same samples, under its own name', async () => {
    const args = ['passkey', ...endpoint(), '--lengths', '512,1k', '--depths', '2', ...out('served'), '--json'];
    const ended = await evaluate(...args);
    const { model, results } = lastLine(ended);
    expect(model).toBe('reader');
    expect(results.map(({ method, accuracy }: Record<string, unknown>) => [method, accuracy])).toEqual(
      Array(4).fill(['server', 1]),
    );
    expect(asked).toHaveLength(4);
    expect(asked[0]).toMatchObject({ model: 'reader', temperature: 0 });
    await evaluate(...args);
    expect(asked).toHaveLength(4); // finished before
  });

  it('that fails in between is told in a line, and what it answered is kept', async () => {
    const args = ['passkey', ...endpoint(), '--lengths', '512', '--depths', '3', ...out('failing'), '--json'];
    const before = asked.length;
    failsAt = before + 3;
    const { status, stdout, stderr } = await evaluate(...args);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^dualchunk: http.* did not answer \(status 400, <h1>Bad Request.*goes on from it\n$/m);
    const kept = read('failing', 'samples.jsonl');
    expect(kept.match(/\n/g)).toHaveLength(2);
    expect(lastLine(await evaluate(...args)).results).toHaveLength(3);
    expect(asked).toHaveLength(before + 4);
    expect(read('failing', 'samples.jsonl').startsWith(kept)).toBe(true);
  });

  it("answers a user's questions about a user's file", async () => {
    file('book.txt', readFileSync('test/golden/text.txt', 'utf8'));
    const questions = [
      { file: 'book.txt', question: 'Who is it?', answers: ['Mina', 'Jonathan Harker'] },
      { context: 'A short text.', question: 'Who?', answers: ['Harker'] },
    ];
    const path = file('questions.jsonl', questions.map((question) => `${JSON.stringify(question)}\n`).join(''));
    const ended = await evaluate('questions', path, ...endpoint(), '--lengths', '1k', ...out('questions'), '--json');
    const [{ accuracy, samples }] = lastLine(ended).results;
    expect(samples).toBe(2);
    expect(accuracy).toBeCloseTo((1 + 2 / 3) / 2, 6); // F1 of one word of two: 2 * 1/2 * 1 / (1/2 + 1)
  });

  it('is put to all tasks that can be made, and the others are told', async () => {
    const args = ['all', ...endpoint(), '--lengths', '256', '--depths', '1', ...out('all'), '--json'];
    const ended = await evaluate(...args);
    expect(ended.status).toBe(1);
    expect(ended.stderr).toContain('perplexity is left out: a server gives answers, not losses\n');
    expect(ended.stderr).toMatch(/^vt at 256 tokens is left out: vt does not fit into 256 tokens; wanted/m);
    const tasks = lastLine(ended).results.map(({ task }: { task: string }) => task);
    expect(tasks).toEqual(expect.arrayContaining(['passkey', 'needle', 'kv']));
    expect(tasks).not.toContain('cwe');
    expect(Object.keys(JSON.parse(read('all', 'facts.json')).tasks)).toEqual(tasks);

    const { status, stdout, stderr } = await evaluate(...args, '--lengths', '16', ...out('none'));
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/dualchunk: no task can be made; give other --lengths or a longer --text\n$/);
  });

  it('that is not there is said', async () => {
    const { status, stderr } = await evaluate('passkey', '--endpoint', 'http://127.0.0.1:9/v1', ...out('nobody'));
    expect(status).toBe(1);
    expect(stderr).toMatch(/http:\/\/127\.0\.0\.1:9\/v1 does not list its models/);
  });
});

describe('bad input', { timeout: 60_000 }, () => {
  it('a chat template that changes or repeats what the user says', async () => {
    for (const [name, template] of [
      ['upper', '{{ messages[0].content | upper }}'],
      ['twice', '{{ messages[0].content }} {{ messages[0].content }}'],
    ]) {
      const model = join(folder, name);
      cpSync('test/golden/qwen2', model, { recursive: true });
      const config = JSON.parse(read(name, 'tokenizer_config.json'));
      file(join(name, 'tokenizer_config.json'), JSON.stringify({ ...config, chat_template: template }));
      const { status, stderr } = await evaluate(
        'passkey',
        '--model',
        model,
        '--form',
        'chat',
        '--lengths',
        '512',
        ...out('bad'),
      );
      expect(stderr).toMatch(/the chat template changes or repeats what the user says; use form raw\n$/);
      expect(status).toBe(1);
    }
  });

  it.each([
    ['an unknown method', ['perplexity', '--methods', 'none,dcaa'], /unknown method "dcaa"; wanted none/],
    ['an unknown task', ['ruler', '--tasks', 'niah_single_9'], /unknown task "niah_single_9"; wanted passkey/],
    ['a text too short', ['perplexity', '--text', 'test/golden/text.txt', '--lengths', '64k'], /text\.txt/],
    ['a text that is not there', ['perplexity', '--text', 'none.txt'], /none\.txt/],
    ['a length too short for the task', ['passkey', '--lengths', '16'], /does not fit into 16 tokens/],
  ])('%s', async (_, args, message) => {
    const { status, stdout, stderr } = await evaluate(...args, ...out('bad'));
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain('fault');
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  });

  it.each([
    ['not JSON', '{"context": "a"'],
    ['no question', '{"context": "a", "answers": ["b"]}'],
    ['answers that are none', '{"context": "a", "question": "b", "answers": []}'],
  ])('questions: a line with %s is said with file and line', async (_, line) => {
    const good = '{"context": "a", "question": "b", "answers": ["c"]}';
    const path = file('bad.jsonl', `${good}\n${line}\n`);
    const { status, stderr } = await evaluate('questions', path, ...out('bad'));
    expect(status).toBe(1);
    expect(stderr).toContain(`${path}:2`);
  });
});
