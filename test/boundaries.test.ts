/** Who may import whom: the arrows of the architecture as a table, held against the import lines of `src`. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const SRC = join(import.meta.dirname, '../src');
const MODULES = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((file) => /\.ts$/.test(file) && !/\.test\.ts$/.test(file))
  .map((file) => file.replace(/\.ts$/, ''))
  .sort();
const LIBRARY = MODULES.filter((module) => !module.startsWith('cli/'));
const NODE = 'node:*';

/** Modules, what they may import, and what else for its types alone. The first row that names a module counts. */
const MAY_IMPORT: [modules: string, imports: readonly string[], types?: readonly string[]][] = [
  ['placement', []],
  ['dualChunk', ['placement']],
  ['byDistance', ['placement']],
  ['errors', []],
  ['bytes', []],
  ['streams', []],
  ['tensorTypes', ['kernels/abi']],
  ['kvTypes', ['kernels/abi']],
  ['bundled', [NODE]],
  ['config', ['errors'], ['families', 'kernels/elementwise']],
  ['families', [], ['kernels/elementwise']],
  ['options', ['backends/wasmScratch', 'errors', 'kvTypes', 'sampler']],
  ['sampler', ['errors', 'kernels/draw']],
  ['rope', [], ['config']],
  ['method', ['config', 'byDistance', 'dualChunk', 'errors', 'placement']],
  ['attention', ['dualChunk', 'rope'], ['config', 'placement']],

  ['kernels/abi', []],
  ['kernels/*.wasm', ['kernels/*.wasm', 'kernels/abi']],
  ['kernels/*.wgsl', ['kernels/wgsl', 'kernels/*.wgsl', 'kernels/elementwise', 'kvTypes', 'tensorTypes']],
  ['kernels/*', ['kvTypes', 'placement'], ['tensorTypes']],
  [
    'backends/wasm*',
    ['backends/*', 'kernels/*', 'bytes', 'tensorTypes', 'kvTypes', 'errors'],
    ['placement', 'platform/machine'],
  ],
  ['backends/open', ['backends/*', 'errors'], ['platform/machine']],
  ['backends/webgpuDevice', ['errors', 'webgpu']],
  ['backends/*', ['backends/*', 'kernels/*', 'bytes', 'tensorTypes', 'kvTypes', 'errors'], ['placement']],

  ['kvCache', ['kvTypes'], ['attention', 'backends/backend', 'config']],
  ['transformer', ['placement'], ['attention', 'backends/backend', 'config', 'kvCache']],
  ['memoryPlan', ['errors', 'kvCache', 'transformer'], ['config', 'kvTypes']],
  ['runtime/pages', ['kvTypes']],
  ['runtime/scheduler', []],
  ['runtime/sequence', [], ['runtime/pages']],
  ['runtime/texts', ['runtime/sequence', 'sampler'], ['kernels/draw']],
  ['runtime/moving', ['runtime/sequence']],
  [
    'runtime/step',
    ['runtime/texts', 'sampler'],
    ['backends/backend', 'kvCache', 'placement', 'runtime/*', 'transformer'],
  ],
  ['runtime/engine', ['runtime/*', 'errors', 'kvCache', 'kvTypes'], ['backends/backend']],

  ['grammar/mask', ['grammar/*', 'errors'], ['runtime/texts']],
  ['grammar/structuredOutput', ['grammar/*'], ['runtime/texts', 'tokenizer/tokenizer']],
  ['grammar/*', ['grammar/*', 'errors']],

  ['tokenizer/*', ['tokenizer/*', 'errors', '@huggingface/tokenizers']],
  ['checkpoint/source', ['errors']],
  ['checkpoint/open', ['checkpoint/*', 'errors', 'tokenizer/ggufTokenizer'], ['config', 'platform/platform']],
  ['checkpoint/sampling', ['checkpoint/record', 'sampler']],
  [
    'checkpoint/*',
    ['checkpoint/*', 'config', 'errors', 'families', 'kernels/dequantize', 'tensorTypes'],
    ['backends/backend', 'kernels/elementwise', 'sampler', 'transformer'],
  ],

  ['platform/machine', []],
  ['platform/platform', [], ['checkpoint/source', 'platform/machine', 'session/kept']],
  ['platform/node*', ['platform/*', 'checkpoint/source', 'errors', NODE]],
  ['platform/*', ['platform/*', 'checkpoint/source', 'errors']],

  ['eval/results', [], ['eval/records']],
  ['eval/report*', ['errors', 'eval/chartLibrary', 'eval/report/*', 'eval/results', 'eval/limit'], ['eval/records']],
  ['eval/methods', ['eval/*', 'method'], ['model', 'modelFile', 'openai', 'tokenizer/tokenizer']],
  ['eval/*', ['eval/*', 'errors', 'stemmer'], ['model', 'openai', 'tokenizer/tokenizer']],
  ['session/identity', ['bytes', 'errors'], ['config']],
  ['session/file', ['session/identity', 'bytes', 'errors', 'kvTypes'], ['checkpoint/source']],
  ['session/kept', ['session/identity', 'bytes', 'kvTypes'], ['runtime/engine']],
  ['session/session', ['session/file', 'errors', 'kvCache', 'streams'], ['runtime/engine', 'runtime/texts']],
  [
    'model',
    ['errors', 'grammar/structuredOutput', 'kvCache', 'kvTypes', 'options', 'runtime/texts', 'sampler', 'session/*'],
    ['backends/backend', 'config', 'method', 'platform/platform', 'runtime/engine', 'tokenizer/tokenizer'],
  ],
  ['conversation', ['errors', 'runtime/texts'], ['model', 'tokenizer/tokenizer']],
  [
    'browser/protocol',
    [],
    ['browser/storage', 'model', 'modelFile', 'session/file', 'session/session', 'tokenizer/tokenizer'],
  ],
  ['browser/main', ['browser/*', 'modelFile', 'platform/web']],
  ['browser/storage', ['browser/download', 'bytes', 'errors', 'streams', '@noble/hashes*'], ['session/session']],
  ['browser/*', ['browser/*', 'bytes', 'errors', 'streams']],
  [
    'modelFile',
    LIBRARY.filter((module) => !/^(platform|browser)|^(node|web|conversation)$/.test(module)),
    ['platform/*'],
  ],
  ['index', LIBRARY, ['platform/platform']],
  ['node', ['index', 'modelFile', 'platform/node']],
  ['web', ['index', 'modelFile', 'platform/web']],
  ['server/aiSdk', ['server/app', '@ai-sdk/openai-compatible']],
  [
    'server/*',
    ['server/*', 'config', 'errors', 'model', 'sampler', 'hono*', 'prom-client', 'zod'],
    ['model', 'runtime/texts', 'tokenizer/tokenizer'],
  ],
  ['cli/pageHeaders', []],
  ['cli/read', ['cli/*', 'conversation', 'node', 'commander', NODE]],
  ['cli/page', ['cli/*', 'node', 'bundled', 'commander', 'hono', '@hono/node-server*', NODE]],
  ['cli/serve', ['cli/*', 'server/app', 'node', 'bundled', 'commander', '@hono/node-server', NODE]],
  ['cli/*', ['cli/*', 'eval/*', 'node', 'options', 'bundled', 'errors', 'commander', 'cli-progress', 'openai', NODE]],
];

/** `*` stands for anything. */
const matches = (pattern: string, name: string) =>
  new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('*', '.*')}$`).test(name);

const STATEMENT =
  /^(?:import|export) (type )?(?:\*|\w|\{)[^'();]* from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm;

/** Modules as in MAY_IMPORT, packages and `node:` as they are written. */
const importsOf = (module: string) =>
  [...readFileSync(join(SRC, `${module}.ts`), 'utf8').matchAll(STATEMENT)].map(([, type, ...names]) => {
    const name = names.find((found) => found) as string;
    const imported = name.startsWith('.') ? join(module, '..', name).replace(/\.ts$/, '') : name;
    return { imported, isType: type !== undefined };
  });

it.each(MODULES)('%s imports what it may', (module) => {
  const [, values, types = []] = MAY_IMPORT.find(([pattern]) => matches(pattern, module)) ?? ['', []];
  const forbidden = importsOf(module).filter(
    ({ imported, isType }) => ![...values, ...(isType ? types : [])].some((pattern) => matches(pattern, imported)),
  );
  expect(forbidden).toEqual([]);
});

it('evaluation as a library runs wherever text and a model are: nothing that it runs imports node:', () => {
  const reached = new Set<string>();
  const visit = (module: string): void => {
    if (reached.has(module)) return;
    reached.add(module);
    for (const { imported, isType } of MODULES.includes(module) ? importsOf(module) : []) if (!isType) visit(imported);
  };
  visit('eval/index');
  expect(reached).toContain('eval/report');
  expect([...reached].filter((module) => module.startsWith('node:'))).toEqual([]);
});

it('nothing imports in a circle', () => {
  const done = new Set<string>();
  const visit = (module: string, path: readonly string[]): void => {
    expect(path, 'a circle').not.toContain(module);
    if (done.has(module)) return;
    for (const { imported } of importsOf(module)) if (MODULES.includes(imported)) visit(imported, [...path, module]);
    done.add(module);
  };
  for (const module of MODULES) visit(module, []);
});

it('a browser reaches nothing of Node', () => {
  const reached = new Set<string>();
  const visit = (module: string): void => {
    if (reached.has(module)) return;
    reached.add(module);
    for (const { imported, isType } of importsOf(module)) {
      if (!isType && imported.startsWith('node:')) fromNode.push(`${module} imports ${imported}`);
      if (MODULES.includes(imported)) visit(imported);
    }
  };
  const fromNode: string[] = [];
  visit('web');
  expect(reached).toContain('checkpoint/open');
  expect(fromNode).toEqual([]);
});

it('the types of the package compile in a strict project of any kind', { timeout: 60_000 }, () => {
  const strict = '--ignoreConfig --noEmit --strict --skipLibCheck false --allowImportingTsExtensions --types node';
  for (const module of [
    '--module nodenext',
    '--module nodenext --lib es2022',
    '--module esnext --moduleResolution bundler',
  ]) {
    const args =
      `${strict} ${module} --target es2022 dist/node.d.ts dist/web.d.ts dist/eval/index.d.ts dist/server/app.d.ts`.split(
        ' ',
      );
    const { stdout, status } = spawnSync('node_modules/.bin/tsc', args, { encoding: 'utf8' });
    expect({ stdout, status }).toEqual({ stdout: '', status: 0 });
  }
});
