/** The package in bundles for browsers, made as users make them: by its name, without an alias or a stand-in. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync } from 'node:zlib';
import { build } from 'esbuild';
import { afterAll, describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..');
const ENTRY = "export { loadModel, openModel } from 'dualchunk';";
/** Bytes of what a page needs at least, minified. */
const MOST = 330_000;
/** Bytes of what the built page shows at first, compressed; models and readers of documents come later. */
const MOST_AT_FIRST = 50_000;

const folder = mkdtempSync(join(tmpdir(), 'bundle-'));
afterAll(() => rmSync(folder, { recursive: true }));

const IMPORT_OF_NODE = /(\bfrom|\bimport|\brequire)\s*\(?\s*["'`]node:/;

/** Sizes of the files of a bundle by name, and whether any of them asks for Node. */
function bundleIn(outdir: string) {
  const files = readdirSync(outdir, { recursive: true, encoding: 'utf8' }).filter((file) => /\.js$/.test(file));
  const text = files.map((file) => readFileSync(join(outdir, file), 'utf8')).join('\n');
  const sizes = files.map((file) => ({ file, size: statSync(join(outdir, file)).size }));
  return { text, sizes };
}
const sizeOf = (sizes: { file: string; size: number }[], pattern: RegExp) =>
  sizes.filter(({ file }) => pattern.test(file)).reduce((sum, { size }) => sum + size, 0);

describe('a bundle for browsers', { timeout: 120_000 }, () => {
  it('by esbuild has no import of Node, and is small', async () => {
    const outdir = join(folder, 'esbuild');
    const { warnings } = await build({
      stdin: { contents: ENTRY, resolveDir: ROOT, sourcefile: 'main.js' },
      ...{ bundle: true, splitting: true, minify: true, format: 'esm', platform: 'browser', target: 'es2022' },
      ...{ outdir, logLevel: 'silent', chunkNames: '[name]-[hash]' },
    });
    expect(warnings).toEqual([]);
    if (process.env.SIZES) console.log(bundleIn(outdir).sizes);
    const { text, sizes } = bundleIn(outdir);
    expect(IMPORT_OF_NODE.test(text)).toBe(false);
    // Backends, kernels and grammars come when they are asked for; the wasm backend is what every page can run.
    const optional = /^(webgpu|reference|structuredOutput)/;
    const needed = sizes.filter(({ file }) => !optional.test(file)).reduce((sum, { size }) => sum + size, 0);
    expect(sizeOf(sizes, optional)).toBeGreaterThan(10_000);
    expect(sizeOf(sizes, /^wasm/)).toBeGreaterThan(50_000);
    expect(needed).toBeLessThan(MOST);
  });

  it('by Vite has no import of Node', async () => {
    const { build: viteBuild } = await import('vite');
    const [root, outDir] = [join(folder, 'vite-root'), join(folder, 'vite')];
    rmSync(root, { recursive: true, force: true });
    const entry = join(ROOT, 'test', `bundleEntry-${process.pid}.js`);
    writeFileSync(entry, ENTRY);
    try {
      await viteBuild({
        ...{ root: ROOT, configFile: false, logLevel: 'silent', publicDir: false },
        build: { outDir, lib: { entry, formats: ['es'] }, minify: true },
      });
    } finally {
      rmSync(entry);
    }
    const { text } = bundleIn(outDir);
    expect(IMPORT_OF_NODE.test(text)).toBe(false);
    expect(text.length).toBeGreaterThan(100_000);
  });
});

it('the built page is there soon', () => {
  const folder = join(ROOT, 'dist/web');
  const html = readFileSync(join(folder, 'index.html'), 'utf8');
  const named = [...html.matchAll(/(?:src|href)="\.\/([^"]+\.(?:js|css))"/g)].map(([, file]) => file);
  expect(named.map((file) => file.split('.').at(-1)).sort()).toEqual(['css', 'js']);
  const sizes = ['index.html', ...named].map((file) => brotliCompressSync(readFileSync(join(folder, file))).length);
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(MOST_AT_FIRST);
});
