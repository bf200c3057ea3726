import { expect, it } from 'vitest';
import type { Backend } from '../src/backends/backend.ts';
import { openReference } from '../src/backends/reference.ts';
import { judge } from './judge.ts';
import { add, matmul, oneOfEach } from './kernelCases.ts';
import { openNaive } from './naive.ts';

const product = matmul({ type: 'F32', n: 3, N: 5, K: 40 });

it('finds nothing wrong with what sets the bounds', async () => {
  for (const kernelCase of oneOfEach()) {
    for (const backend of [openReference(), openNaive()]) {
      expect(await judge(kernelCase, backend), `${kernelCase.name}, ${backend.name}`).toBeUndefined();
    }
  }
});

it('tells a wrong result, one that is missing, and one that is too large', async () => {
  const right = openReference();
  const twice: Backend = {
    ...right,
    add(x, y) {
      right.add(x, y);
      right.add(x, y);
    },
  };
  expect(await judge(add({ n: 3, cols: 5 }), twice)).toMatch(/^it is off by \d.* of \d.*, where 0.00000\d+ is allowed/);
  expect(await judge(product, { ...right, matmul() {} })).toMatch(/^it is off by NaN/);
  const shifted: Backend = { ...right, view: (tensor, rows, cols) => right.view(tensor, rows, cols) };
  expect(await judge(product, shifted)).toBe('it writes outside its output');
});

it('allows the errors of halves where a backend says that it has them, or a test does', async () => {
  const halves = openNaive(['matmul']);
  expect(await judge(product, halves)).toMatch(/^it is off by/);
  expect(await judge(product, { ...halves, name: 'webgpu (tensor cores, f16 cache)' })).toBeUndefined();
  expect(await judge(product, { ...halves, name: 'wasm (bf16 cache)' })).toMatch(/^it is off by/);
  expect(await judge(product, halves, { matmul: 1e-2 })).toBeUndefined();
});
