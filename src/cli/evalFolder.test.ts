import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
    (facts) => {
      write('facts.json', facts);
      const { append, finish } = openFolder(folder);
      append(SAMPLE);
      finish(FACTS);
      expect(JSON.parse(read('facts.json'))).toEqual(FACTS);
    },
  );

  it('leaves what was there where a file cannot be written, and nothing beside it', () => {
    const { append, finish } = openFolder(folder);
    append(SAMPLE);
    finish(FACTS);
    const before = read('report.html');
    const cyclic: Record<string, unknown> = {};
    cyclic.self = cyclic;
    expect(() => finish({ ...FACTS, methods: cyclic as Record<string, string> })).toThrow();
    expect(read('report.html')).toBe(before);
    rmSync(join(folder, 'results.csv'));
    const blocked = openFolder(folder);
    rmSync(folder, { recursive: true });
    expect(() => blocked.finish(FACTS)).toThrow(UnsupportedError);
    expect(() => blocked.append(SAMPLE)).toThrow(UnsupportedError);
    expect(blocked.records).toEqual([SAMPLE]);
  });

  it('is one run at a time, and outlives a run that died', () => {
    write('lock', `${process.ppid}\n`);
    expect(() => openFolder(folder)).toThrow(`process ${process.ppid} writes there`);
    write('lock', '2147483646\n');
    openFolder(folder);
    expect(read('lock')).toBe(`${process.pid}\n`);
    expect(readdirSync(folder)).toEqual(['lock']);
  });
});
