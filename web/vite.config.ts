/** Builds the page into `dist/web`, which `dualchunk serve` serves and `dualchunk page` copies. */
import { defineConfig } from 'vite';

export default defineConfig({
  root: import.meta.dirname,
  base: './', // a static host may keep the page in a folder
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  worker: { format: 'es' },
  build: { outDir: '../dist/web', emptyOutDir: true, target: 'es2023', modulePreload: { polyfill: false } },
});
