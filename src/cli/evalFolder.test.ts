import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FormatError, UnsupportedError } from '../errors.ts';
import type { SampleRecord } from '../eval/records.ts';
import { fileNameOf, openFolder } from './evalFolder.ts';

const SAMPLE: SampleRecord = {
  ...{ task: 'passkey', model: 'm', method: 'dca', length: 1024, depth: 0.5, sample: '0', seed: 0, setup: 's' },
  ...{ scores: { accuracy: 1 }, answer: '5', seconds: 1 },
};
const FACTS = {
  ...{ dualchunk: '0', date: 'd', hardware: 'h', runtime: 'r', seed: 0 },
  ...{ models: { m: { layers: 2 } }, methods: { dca: 'what it does' }, tasks: { passkey: { samples: 1 } } },
};

describe('fileNameOf', () => {
  it('keeps names that are names', () => {
    for (const name of ['SmolLM2-135M.Q4_1.gguf', 'модель 7', '模型']) expect(fileNameOf(name)).toBe(name);
  });

  it('leads nowhere, and keeps apart what differs', () => {
    const names = ['../../x', '..', '.', '', '/etc/passwd', 'a\\b', 'C:x', 'nul', 'CON.txt', '.hidden', 'x\n', 'x '];
    const made = [...names, 'x'.repeat(400), 'x'.repeat(401)].map(fileNameOf);
    for (const name of made) expect(name).toMatch(/^_[^/\\:\n]{0,48}-[0-9a-f]{8}$/);
    expect(new Set(made).size).toBe(made.length);
  });
});

describe('a folder', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'evalFolder-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
  const read = (name: string) => readFileSync(join(folder, name), 'utf8');

  it('keeps whole lines and drops one whose writing was interrupted', () => {
    openFolder(folder).append(SAMPLE);
    write('samples.jsonl', `${read('samples.jsonl')}{"task":"pa`);
    expect(openFolder(folder).records).toEqual([SAMPLE]);
    expect(read('samples.jsonl')).toBe(`${JSON.stringify(SAMPLE)}\n`);
  });

  it.each([
    ['scores', null],
    ['scores', { accuracy: 'all' }],
    ['scores', { nll: 3 }],
    ['scores', [1]],
    ['buckets', 5],
    ['buckets', [[0, 1, 2]]],
    ['length', -1],
    ['length', '1k'],
    ['model', { html: '<b>' }],
    ['depth', {}],
    ['answer', 5],
    ['seconds', undefined],
  ])('refuses a line whose %s is %j, in one line', (field, value) => {
    write('samples.jsonl', `${JSON.stringify(SAMPLE)}\n${JSON.stringify({ ...SAMPLE, [field]: value })}\n`);
    expect(() => openFolder(folder)).toThrow(FormatError);
    expect(() => openFolder(folder)).toThrow(
      new RegExp(`samples.jsonl:2: ${field} is not .*; mend or delete the line`),
    );
  });

  it.each(['null', '5', '[]', '"x"', 'not JSON'])('refuses the line %s', (line) => {
    write('samples.jsonl', `${line}\n`);
    expect(() => openFolder(folder)).toThrow(/samples.jsonl:1: .*mend or delete the line/);
  });

  it.each(['', '{"models":', '{}', '{"models":{"m":{"x":{"html":"<script>"}}},"methods":{},"tasks":{}}'])(
    'writes facts anew where they are %j',
    async (facts) => {
      write('facts.json', facts);
      const { append, finish } = openFolder(folder);
      append(SAMPLE);
      await finish(FACTS);
      expect(JSON.parse(read('facts.json'))).toEqual(FACTS);
    },
  );

  it('leaves what was there where a file cannot be written, and nothing beside it', async () => {
    const { append, finish } = openFolder(folder);
    append(SAMPLE);
    await finish(FACTS);
    const before = read('report.html');
    const cyclic: Record<string, unknown> = {};
    cyclic.self = cyclic;
    await expect(finish({ ...FACTS, methods: cyclic as Record<string, string> })).rejects.toThrow('circular');
    expect(read('report.html')).toBe(before);
    rmSync(join(folder, 'results.csv'));
    const blocked = openFolder(folder);
    rmSync(folder, { recursive: true });
    await expect(blocked.finish(FACTS)).rejects.toThrow(UnsupportedError);
    expect(() => blocked.append(SAMPLE)).toThrow(UnsupportedError);
    expect(blocked.records).toEqual([SAMPLE]);
  });

  it.each([
    ['a whole line without its end', JSON.stringify(SAMPLE), 2],
    ['a line of which bytes are damaged', `${JSON.stringify({ ...SAMPLE, answer: '#' })}\n{"task":"pa`, 2],
    ['half a line', '{"ta', 1],
  ])('loses nothing good behind %s', (_, rest, n) => {
    const damaged = Buffer.from(`${JSON.stringify(SAMPLE)}\n${rest}`).map((byte) => (byte === 35 ? 0xff : byte));
    writeFileSync(join(folder, 'samples.jsonl'), damaged);
    const { records, append } = openFolder(folder);
    expect(records).toHaveLength(n);
    append(SAMPLE);
    expect(openFolder(folder).records).toHaveLength(n + 1);
  });

  it('leaves a file alone that it did not write', () => {
    write('samples.jsonl', 'notes of mine');
    expect(() => openFolder(folder)).toThrow(/samples.jsonl:1: not JSON; mend or delete the line/);
    expect(read('samples.jsonl')).toBe('notes of mine');
  });

  describe.each(['samples.jsonl', 'facts.json', 'results.json', 'results.csv', 'report.html', 'lock'])('%s', (name) => {
    it.each<[what: string, make: (path: string) => void, message: RegExp]>([
      ['a folder', (path) => mkdirSync(path), /a folder; move it elsewhere, or give another --out/],
      ['a pipe that nobody writes', (path) => execFileSync('mkfifo', [path]), /no plain file; move it elsewhere/],
      [
        'a link to itself',
        (path) => symlinkSync(path, path),
        /cannot be read \(ELOOP.*mend that, or give another --out/,
      ],
    ])('that is %s is told before anything is measured', (_, make, message) => {
      make(join(folder, name));
      expect(() => openFolder(folder)).toThrow(UnsupportedError);
      expect(() => openFolder(folder)).toThrow(message);
    });
  });

  it.runIf(existsSync('/proc'))('is told where the system makes no folder, at once', () => {
    expect(() => openFolder('/proc/dualchunk/x')).toThrow(/cannot be written \(ENOENT.*or give another --out/);
  });

  it('is told where it is a file, lies in one, or links lead nowhere', () => {
    write('file', '');
    symlinkSync(join(folder, 'none/samples'), join(folder, 'samples.jsonl'));
    for (const path of [join(folder, 'file'), join(folder, 'file/x'), folder]) {
      expect(() => openFolder(path)).toThrow(UnsupportedError);
      expect(() => openFolder(path)).toThrow(/cannot be written \((EEXIST|ENOTDIR|ENOENT).*or give another --out/);
    }
  });

  it('is one run at a time, and outlives a run that died', () => {
    write('lock', `${process.ppid}\n`);
    expect(() => openFolder(folder)).toThrow(`process ${process.ppid} writes there`);
    for (const ended of ['2147483646\n', `2147483646\n${hostname()}\n5\n`, '']) {
      write('lock', ended);
      openFolder(folder);
      expect(read('lock')).toMatch(`${process.pid}\n${hostname()}\n`);
    }
    expect(readdirSync(folder)).toEqual(['lock', 'samples.jsonl']);
  });

  it.runIf(existsSync('/proc/self/stat'))('knows a process from another of the same number', () => {
    write('lock', `${process.ppid}\n${hostname()}\n5\n`);
    openFolder(folder);
    expect(read('lock')).toMatch(`${process.pid}\n`);
  });

  it('waits for a process of another machine, and takes no file for a lock that is none', () => {
    const locks = {
      '2147483646\nelsewhere\n5\n': 'process 2147483646 on elsewhere writes there',
      mine: 'not the lock of',
    };
    for (const [lock, message] of Object.entries(locks)) {
      write('lock', lock);
      expect(() => openFolder(folder)).toThrow(message);
      expect(read('lock')).toBe(lock);
    }
  });

  it('is taken by one of several processes that find the lock of a dead one', { timeout: 30_000 }, async () => {
    const program = `
      import { createInterface } from 'node:readline';
      import { openFolder } from '${import.meta.dirname}/evalFolder.ts';
      console.log('ready');
      for await (const folder of createInterface(process.stdin)) {
        try {
          openFolder(folder);
          console.log('in');
        } catch ({ message }) {
          console.log(message);
        }
      }`;
    const children = Array.from({ length: 3 }, () =>
      spawn('node', ['--import', 'tsx', '--input-type=module', '-e', program], { stdio: ['pipe', 'pipe', 'inherit'] }),
    );
    try {
      const lines = children.map(({ stdout }) => createInterface(stdout)[Symbol.asyncIterator]());
      const said = () => Promise.all(lines.map(async (line) => (await line.next()).value as string));
      expect(await said()).toEqual(['ready', 'ready', 'ready']);
      for (let round = 0; round < 100; round++) {
        const path = join(folder, `${round}`);
        mkdirSync(path);
        writeFileSync(join(path, 'lock'), '2147483646\n');
        for (const { stdin } of children) stdin.write(`${path}\n`);
        const answers = await said();
        expect(answers.filter((answer) => answer === 'in')).toHaveLength(1);
        expect(answers.filter((answer) => /writes there|begins there now/.test(answer))).toHaveLength(2);
      }
      expect(() => openFolder(join(folder, '0'))).toThrow('writes there');
    } finally {
      await Promise.all(children.map((child) => child.kill('SIGKILL') && once(child, 'close')));
    }
    expect(openFolder(join(folder, '0')).records).toEqual([]);
  });
});
