/**
 * Builds the page into `dist/web`, which `dualchunk serve` serves and `dualchunk page` copies. The service worker is a script of its
 * own that knows the names of all files.
 */
import { createHash } from 'node:crypto';
import { defineConfig, type Plugin } from 'vite';
import { CONTENT_SECURITY_POLICY } from '../src/cli/pageHeaders.ts';

/** What is large and not wanted by most comes when it is asked for, and is kept from then on. */
const LATER = /^(assets\/(pdf|reference)|index\.html$)/; // the page itself is `./`

const policy: Plugin = {
  name: 'policy',
  apply: 'build',
  transformIndexHtml: () => [
    {
      tag: 'meta',
      attrs: { 'http-equiv': 'Content-Security-Policy', content: CONTENT_SECURITY_POLICY },
      injectTo: 'head-prepend',
    },
  ],
};

const files: Plugin = {
  name: 'files',
  enforce: 'post',
  generateBundle(_options, bundle) {
    const worker = bundle['serviceWorker.js'];
    if (worker?.type !== 'chunk') throw new Error('serviceWorker.js is not in the build');
    const names = Object.keys(bundle).filter((name) => name !== worker.fileName && !LATER.test(name));
    const hash = createHash('sha256').update(names.join());
    for (const name of names) {
      const file = bundle[name];
      hash.update(file.type === 'chunk' ? file.code : file.source);
    }
    worker.code = worker.code
      .replace('__FILES__', JSON.stringify(['./', 'icon.svg', 'manifest.webmanifest', ...names]))
      .replace('__VERSION__', JSON.stringify(hash.digest('hex').slice(0, 16)));
  },
};

export default defineConfig({
  root: import.meta.dirname,
  base: './', // a static host may keep the page in a folder
  plugins: [policy, files],
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  worker: { format: 'es' },
  build: {
    ...{ outDir: '../dist/web', emptyOutDir: true, target: 'es2023', modulePreload: { polyfill: false } },
    chunkSizeWarningLimit: 1500, // the PDF parser
    rollupOptions: {
      input: {
        index: `${import.meta.dirname}/index.html`,
        serviceWorker: `${import.meta.dirname}/src/serviceWorker.ts`,
      },
      output: {
        entryFileNames: ({ name }) => (name === 'serviceWorker' ? '[name].js' : 'assets/[name]-[hash].js'),
      },
    },
  },
});
