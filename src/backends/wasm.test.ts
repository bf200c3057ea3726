import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UnsupportedError } from '../errors.ts';
import { CASES } from '../kernels/cases.ts';
import type { Backend, Tensor } from './backend.ts';
import { expectRight, runContract } from './contract.case.ts';
import { openWasm } from './wasm.ts';

for (const relaxed of [true, false]) {
  for (const threads of [1, 2, 3]) {
    runContract({
      name: `wasm, ${relaxed ? 'relaxed' : 'plain'} SIMD, ${threads} threads`,
      open: () => openWasm({ threads, relaxed }),
      threads,
    });
  }
}

describe('openWasm', () => {
  it.each([0, 1.5, -1, 257, NaN])('refuses %s threads', (threads) => {
    expect(() => openWasm({ threads })).toThrow(UnsupportedError);
  });

  it.each([
    [{ threads: 1, relaxed: false }, 'wasm (SIMD, 1 thread)'],
    [{ threads: 2, relaxed: true }, 'wasm (relaxed SIMD, 2 threads)'],
  ])('names what it runs on: %o', async (options, name) => {
    const backend = openWasm(options);
    expect(backend.name).toBe(name);
    await backend.dispose();
  });
});

describe('one wasm memory', () => {
  let b: Backend;
  beforeEach(() => {
    b = openWasm({ threads: 2 });
  });
  afterEach(() => b.dispose());

  const ones = () => {
    const tensor = b.alloc('F32', 1, 4);
    b.write(tensor, [1, 1, 1, 1]);
    return tensor;
  };
  const expectWorking = async (x: Tensor) => {
    b.add(x, ones());
    expect(Array.from(await b.read(x))).toEqual([2, 2, 2, 2]);
  };

  it.each([
    ['a tensor', () => b.alloc('F32', 2 ** 20, 2 ** 10)],
    ['a cache', () => b.allocKv(2 ** 20, 8, 128)],
    ['tensors that fit one by one', () => Array.from({ length: 5 }, () => b.alloc('F32', 2 ** 18, 2 ** 10))],
  ])('refuses %s beyond 4 GiB and stays usable', async (_, allocate) => {
    const x = ones();
    expect(allocate).toThrow(UnsupportedError);
    await expectWorking(x);
  });

  it('computes the same above 2 GiB, where addresses are negative as signed numbers', async () => {
    b.alloc('F32', 2 ** 19 - 1, 2 ** 10); // memory that is never touched takes no room
    const oneOfEach = new Map(CASES.map((kernelCase) => [kernelCase.name.split(':')[0], kernelCase]));
    for (const kernelCase of oneOfEach.values()) await expectRight(b, kernelCase);
  });

  it('runs programs longer than the commands its threads hold at once', async () => {
    const [x, one] = [b.alloc('F32', 1, 4), ones()];
    const nCalls = 2 ** 14 + 3;
    for (let n = 0; n < nCalls; n++) b.add(x, one);
    expect(Array.from(await b.read(x))).toEqual(Array(4).fill(nCalls));
  });

  it('rejects when a thread fails, then and from then on', async () => {
    const x = ones();
    b.add(x, b.view(x, 1, 4, 2 ** 29)); // past the end of memory
    await expect(b.submit()).rejects.toThrow('memory access out of bounds');
    b.add(x, x);
    await expect(b.read(x)).rejects.toThrow('memory access out of bounds');
  });
});
