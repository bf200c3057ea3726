/** The command line as a user meets it: the built program, real files, and everything that can be wrong with them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { BUNDLED_MODEL } from '../src/bundled.ts';
import { parseSize } from '../src/cli/options.ts';
import { openModel } from '../src/node.ts';

const MODEL = 'test/golden/llama/model.gguf';
const TEXT = 'test/golden/text.txt';
const GREEDY = ['--temperature', '0'];
const folder = mkdtempSync(join(tmpdir(), 'dualchunk-'));
afterAll(() => rmSync(folder, { recursive: true }));

const dualchunk = (args: string[], input = '') =>
  spawnSync('node', ['dist/cli/main.js', ...args], { encoding: 'utf8', input, timeout: 60_000 });

/** A file in the test's folder, made of `bytes`. */
function file(name: string, bytes: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

function truncated(path: string, nBytes: number): string {
  const copy = file(`cut-${nBytes}.gguf`, readFileSync(path));
  truncateSync(copy, nBytes);
  return copy;
}

describe('sizes', () => {
  it.each([
    ['7', 7],
    ['16k', 16384],
    ['1.5k', 1536],
    ['1M', 1048576],
  ])('%s is %d', (text, value) => expect(parseSize(text)).toBe(value));
  it.each(['', '0', '-1', 'k', '1.3', '16kb', '1e3'])('"%s" is refused', (text) =>
    expect(() => parseSize(text)).toThrow(/whole number/),
  );
});

describe('demo', { timeout: 60_000 }, () => {
  it('the bundled model reads four windows with DCA, and falls apart without', () => {
    const { status, stdout, stderr } = dualchunk(['demo', '--quick', '--json']);
    expect(stderr).not.toContain('fault');
    const { ok, context, stretches, passKeys } = JSON.parse(stdout);
    expect({ status, ok, context }).toEqual({ status: 0, ok: true, context: 4096 });
    const [inside, last] = [stretches[0], stretches.at(-1)];
    expect(inside.dca).toBeCloseTo(inside.plain, 0); // nearly one chunk
    expect(last.plain).toBeGreaterThan(3 * last.dca);
    expect(passKeys.filter(({ key, dca }: Record<string, string>) => dca === key).length).toBeGreaterThanOrEqual(4);
  });

  it('prints a table, and how to go on', () => {
    const { stdout } = dualchunk(['demo', '--quick']);
    expect(stdout).toMatch(/tokens 2,048 to 4,096 +\d+\.\d +\d+\.\d\n/);
    expect(stdout).toMatch(/✓ \d{5}\n/);
    expect(stdout).toContain('npx dualchunk run model.gguf -f book.txt');
  });

  it('says what it wants of a context too short or too long', () => {
    expect(dualchunk(['demo', '--context', '1k']).stderr).toContain('wanted at least 2088');
    expect(dualchunk(['demo', '--context', '1m']).stderr).toContain('the bundled book has');
  });
});

describe('the bundled model', { timeout: 60_000 }, () => {
  it('is what run takes where none is named', () => {
    const { stdout, status } = dualchunk(['run', '-p', 'It was a dark night, and the', '-n', '8', '--json']);
    expect(status).toBe(0);
    expect(JSON.parse(stdout).text.length).toBeGreaterThan(8);
  });

  it('is described in its file, and splits texts as its tokenizer was trained to', async () => {
    const file = await openModel(BUNDLED_MODEL);
    expect(file.config).toMatchObject({ maxPositionEmbeddings: 1024, numHiddenLayers: 8, vocabSize: 8192 });
    const golden: Record<string, number[]> = JSON.parse(readFileSync('test/golden/tokenizers/books-16m.json', 'utf8'));
    for (const [text, ids] of Object.entries(golden)) {
      expect(file.tokenizer.encode(text)).toEqual(ids);
      expect(file.tokenizer.decode(ids)).toBe(text);
    }
    await file.close();
  });
});

describe('run', { timeout: 60_000 }, () => {
  it('reads beyond the trained window by DCA and prints one JSON line', () => {
    const args = ['run', MODEL, '-f', TEXT, '--take', '200', '-p', 'Who?', '--raw', '-n', '8', '--seed', '1', '--json'];
    const { status, stdout } = dualchunk(args);
    expect(status).toBe(0);
    expect(stdout.trim().split('\n')).toHaveLength(1);
    const figures = JSON.parse(stdout);
    const told = { generatedTokens: 8, finishReason: 'length', method: 'dca:paper:logn' };
    expect(figures).toMatchObject({ text: expect.any(String), ...told });
    expect(figures.promptTokens).toBeGreaterThan(200);
    for (const key of ['prefillTokensPerSecond', 'decodeTokensPerSecond', 'peakMemoryBytes']) {
      expect(figures[key]).toBeGreaterThan(0);
    }
  });

  it('gives the same text from the GGUF, the folder, and the float64 backend', () => {
    const gguf = 'test/golden/qwen3/model.gguf';
    const exact = ['--precision', 'f32', '--kv-type', 'f32'];
    const texts = [
      [gguf, ...exact],
      ['test/golden/qwen3', ...exact],
      [gguf, '--backend', 'reference'],
    ].map((model) => dualchunk(['run', ...model, '-f', TEXT, '--take', '80', '-n', '12', '--raw', ...GREEDY]).stdout);
    expect(texts[0].length).toBeGreaterThan(5);
    expect(new Set(texts).size).toBe(1);
  });

  // 10m tokens take 5 GiB of addresses, of which this text touches little; where they are not free, that must be said.
  it('gives the same text where a model takes two memories, or says what is missing', () => {
    const args = ['run', MODEL, '-f', TEXT, '--take', '300', '-n', '12', '--raw', ...GREEDY, '--context'];
    const [one, two] = ['2k', '10m'].map((context) => dualchunk([...args, context]));
    expect(one.stdout.length).toBeGreaterThan(5);
    if (process.availableMemory() < 6 * 2 ** 30) expect(two.stderr).toMatch(/needs 5\.\d+ GiB .* a context of up to/);
    else expect(two.stdout).toBe(one.stdout);
    const { stdout } = dualchunk(['inspect', MODEL, '--context', '10m']);
    expect(stdout).toMatch(/memory 1 of 2 +2\.5\d GiB, 1 of 2 layers\n +memory 2 of 2 .*, 1 of 2 layers/);
  });

  it('text on stdout, all else on stderr', () => {
    const { stdout, stderr, status } = dualchunk([
      'run',
      MODEL,
      '-p',
      'It was a bright cold day.',
      '-n',
      '4',
      '--seed',
      '1',
    ]);
    expect(status).toBe(0);
    expect(stdout.trim()).not.toBe('');
    expect(stdout).not.toMatch(/tokens/);
    expect(stderr).toMatch(/ tokens read at .* 4 generated at .* peak memory/);
  });

  it('counts the tokens it read, and has no speed of decoding where the one token came with the prompt', () => {
    const args = ['run', MODEL, '-p', 'Hello', '-n', '1'];
    expect(JSON.parse(dualchunk([...args, '--json']).stdout)).not.toHaveProperty('decodeTokensPerSecond');
    expect(dualchunk(args).stderr).toMatch(/ tokens read at [\d.]+ tokens\/s, 1 generated \(cut: -n gives more\);/);
  });

  it('draws a seed, which gives the same text again, and tells how it chose', () => {
    const read = (...args: string[]) => dualchunk(['run', '-p', 'It was', '-n', '24', ...args]);
    const [drawn, other] = [read('--json'), read('--json')].map(({ stdout }) => JSON.parse(stdout));
    expect(other.seed).not.toBe(drawn.seed);
    expect(other.text).not.toBe(drawn.text);
    const sampling = { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05, repetitionPenalty: 1 };
    expect(drawn).toMatchObject({ ...sampling, finishReason: 'length' });
    const again = read('--seed', String(drawn.seed));
    expect(again.stdout).toBe(`${drawn.text}\n`);
    expect(again.stderr).toContain(`temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, seed ${drawn.seed},`);
    expect(read('--temperature', '0').stderr).not.toMatch(/temperature|seed/);
  });

  it('ends at a line break with --stop "\\n"', () => {
    const args = ['run', '-p', 'It was a dark night,', '-n', '60', ...GREEDY, '--json'];
    const [whole, first] = [[], ['--stop', '\\n']].map((more) => JSON.parse(dualchunk([...args, ...more]).stdout));
    expect(whole.text).toContain('\n');
    expect(first).toMatchObject({ text: whole.text.split('\n')[0], finishReason: 'stop' });
  });

  it('answers in JSON with --json-schema, typed or from a file', () => {
    const schema = '{"type":"array","items":{"enum":["owl","cat"]},"minItems":2,"maxItems":2}';
    const read = (given: string) => dualchunk(['run', '-p', 'It was', '--seed', '3', '--json-schema', given]);
    const { stdout } = read(schema);
    expect(stdout).toMatch(/^ ?\["(owl|cat)", ?"(owl|cat)"\]\n$/);
    expect(read(file('schema.json', schema)).stdout).toBe(stdout);
    const { text, finishReason } = JSON.parse(dualchunk(['run', '-p', 'x', '--json', '--json-schema', schema]).stdout);
    expect([JSON.parse(text).length, finishReason]).toEqual([2, 'stop']);
  });

  it('other methods read differently', () => {
    const read = (...method: string[]) =>
      dualchunk(['run', MODEL, '-f', TEXT, '--take', '300', '-n', '12', ...GREEDY, ...method]);
    const texts = [['--method', 'none'], [], ['--scale', 'none'], ['--method', 'dca:6/9:intra']].map(
      (method) => read(...method).stdout,
    );
    expect(new Set(texts).size).toBe(4);
  });
});

describe('what is wrong is said in one line, with exit code 1 and nothing on stdout', { timeout: 60_000 }, () => {
  const cases: [what: string, args: () => string[], message: RegExp][] = [
    ['no such model', () => ['run', 'nowhere.gguf', '-p', 'x'], /no such file or folder: nowhere\.gguf; give the path/],
    ['no such text', () => ['run', MODEL, '-f', 'nowhere.txt'], /no such file: nowhere\.txt/],
    ['a folder as text', () => ['run', MODEL, '-f', 'src'], /src: a folder; give a text file/],
    ['a text file as model', () => ['run', TEXT, '-p', 'x'], /not a GGUF file; give a \.gguf file/],
    ['truncated header', () => ['run', truncated(MODEL, 5000), '-p', 'x'], /truncated, download it again/],
    ['truncated weights', () => ['inspect', truncated(MODEL, 300_000)], /ends at byte .* truncated or corrupt/],
    [
      'not UTF-8',
      () => ['run', MODEL, '-f', file('latin1.txt', Buffer.from('Le gar\xe7on est l\xe0.', 'latin1'))],
      /not valid UTF-8; if .* iconv -f windows-1252/,
    ],
    [
      'nothing to read',
      () => ['run', MODEL],
      /nothing to read; give a prompt with -p or a text with -f, or pipe one in/,
    ],
    [
      'a text that does not fit',
      () => ['run', MODEL, '-f', TEXT, '--context', '1k'],
      /the prompt has [\d,]+ tokens, but the context holds 1,024; read only the first part with --take/,
    ],
    [
      'a context too large for memory',
      () => ['run', MODEL, '-p', 'x', '--context', '100m'],
      /needs [\d.]+ GiB .* a context of up to \d+ tokens fits/,
    ],
    [
      'an unknown method',
      () => ['run', MODEL, '-p', 'x', '--method', 'magic'],
      /unknown method "magic"; wanted none, window/,
    ],
    ['impossible chunks', () => ['run', MODEL, '-p', 'x', '--method', 'dca:9/6'], /chunkLen 9 with maxDistance 6/],
    [
      'a sampling option out of range',
      () => ['run', MODEL, '-p', 'x', '--top-p', '2'],
      /Wanted a number from 0 to 1\./,
    ],
    ['a seed that is not whole', () => ['run', MODEL, '-p', 'x', '--seed', '0.5'], /Wanted a whole number from -?\d/],
    ['no threads', () => ['run', MODEL, '--threads', '0'], /'0' is invalid\. Wanted a whole number from 1 to \d+\.\n/],
    ['a variable without a value', () => ['run', MODEL, '--template-var', 'x'], /Wanted NAME=VALUE, such as/],
    ['a variable without a template', () => ['run', '-p', 'x', '--template-var', 'x=1'], /--template-var goes into/],
    ['a system message without a template', () => ['run', '-p', 'x', '--system', 'x'], /--system goes into a chat/],
    ['a schema that is no JSON', () => ['run', '-p', 'x', '--json-schema', '{"a'], /--json-schema: no JSON: /],
    [
      'a schema that is none',
      () => ['run', '-p', 'x', '--json-schema', file('list.json', '[]')],
      /wanted a JSON Schema/,
    ],
    ['a keyword that is not enforced', () => ['run', '-p', 'x', '--json-schema', '{"not":{}}'], /\/not: not cannot be/],
    ['an empty stop text', () => ['run', MODEL, '-p', 'x', '--stop', ''], /Wanted a text of at least one character/],
    ['a command that is none', () => ['help', 'frobnicate'], /unknown command 'frobnicate'/],
    ['a size that is none', () => ['run', MODEL, '-p', 'x', '--take', 'many'], /Wanted a whole number above 0/],
    ['an unknown option', () => ['run', MODEL, '--speed'], /unknown option '--speed'/],
    ['an option like no other', () => ['run', '--kelp'], /^error: unknown option '--kelp'\n\(--help shows/],
    ['a misspelt option', () => ['run', '--temprature=1'], /'--temprature=1'\n\(Did you mean --temperature\?\)/],
    ["llama.cpp's name", () => ['run', '--temp', '0'], /'--temp'\n\(Did you mean --temperature\?\)\n\(--help/],
    ["Python's name", () => ['chat', MODEL, '--max_new_tokens', '5'], /\(Did you mean --max-tokens\?\)/],
    [
      'a prompt without quotes',
      () => ['run', MODEL, 'Who', 'is', 'it?'],
      /\(the prompt goes behind -p, in quotes, and/,
    ],
    ['texts of one -f', () => ['chat', MODEL, '-f', TEXT, TEXT], /\(every text behind a -f of its own\)/],
    [
      'a choice that is none',
      () => ['run', MODEL, '--backend', 'abacus'],
      /Allowed choices are auto, wasm, webgpu, reference/,
    ],
  ];
  it.each(cases)('%s', (_what, args, message) => {
    const { status, stdout, stderr } = dualchunk(args());
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n {4}at /);
    expect(stdout).toBe('');
    expect(status).toBe(1);
  });
});

describe('inspect and help', { timeout: 60_000 }, () => {
  it('prints the plan and the bytes', () => {
    const { stdout, status } = dualchunk(['inspect', MODEL, '--context', '1k', '--json']);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      trainedWindow: 32,
      plan: { method: 'dca:paper:logn', chunkLen: 24, maxDistance: 31, chunks: 43 },
      memory: { kvCache: 2 * 2 * 1024 * 4 * 16 * 2 },
    });
    const rows = dualchunk(['inspect', 'test/golden/mistral', '--context', '64']).stdout;
    expect(rows).toMatch(/^reading 64 tokens \(trained window \d+\)\n {2}backend +wasm\n {2}method/m);
    expect(rows).toMatch(/^ {2}KV cache +[\d.]+ KiB \([\d.]+ KiB a token\)$/m);
  });

  it.each([[[]], [['run']], [['chat']], [['read']], [['inspect']]])(
    '--help of %j shows what is possible',
    (command: string[]) => {
      const { stdout, status } = dualchunk([...command, '--help']);
      expect(status).toBe(0);
      const [name] = command;
      // Every example of a command is one of it, and every option that an example uses is told above.
      const examples = [...stdout.matchAll(/^ {2}\$ .*dualchunk (\w+)(.*)$/gm)];
      expect(examples.length).toBeGreaterThan(1);
      for (const [, of, args] of examples) {
        if (name) expect(of).toBe(name);
        else expect(stdout).toMatch(new RegExp(`^ {2}${of} .*\\w`, 'm'));
        const usage = stdout.split('Examples:')[0];
        if (name) for (const [option] of args.matchAll(/--[a-z-]+/g)) expect(usage).toContain(`${option} `);
      }
    },
  );
});
