/** What both sides of the border take from one place must be the same to both, and enough. */
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import asc from 'assemblyscript/asc';
import { describe, expect, it } from 'vitest';
import { KV_TYPES } from '../kvTypes.ts';
import { TENSOR_TYPES } from '../tensorTypes.ts';
import * as abi from './abi.ts';
import { calls, RELAXED_SIMD } from './wasmBinary.ts';

it('is the same to AssemblyScript as to TypeScript', { timeout: 60_000 }, async () => {
  const text = readFileSync(new URL('abi.ts', import.meta.url), 'utf8');
  const { binary, error } = await asc.compileString({ 'abi.ts': text }, { runtime: 'stub' });
  expect(error).toBe(null);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(binary ?? [])), {
    env: { abort: () => {} },
  });
  let nCompared = 0;
  for (const [name, ours] of Object.entries(abi)) {
    const theirs = exports[name];
    if (theirs instanceof WebAssembly.Global) expect({ [name]: theirs.value }).toEqual({ [name]: ours });
    else if (typeof theirs === 'function') {
      for (const a of [1, 2, 3, 7, 31, 32, 33, 64, 127, 128, 129, 384, 4095, 28672]) {
        for (const b of [8, 40, 64, 80, 128, 256]) {
          const call = `${name}(${a}, ${b})`;
          expect(`${call} = ${theirs(a, b)}`).toBe(`${call} = ${(ours as typeof abi.partBytes)(a, b)}`);
        }
      }
    } else continue; // a class
    nCompared++;
  }
  expect(nCompared).toBe(Object.keys(abi).length - 2);
});

it('numbers no two types alike', () => {
  for (const types of [TENSOR_TYPES, KV_TYPES]) {
    const numbers = Object.values(types).map(({ number }) => number);
    expect(new Set(numbers).size).toBe(numbers.length);
  }
});

it('gives what a product and attention need, added up by hand', () => {
  // a row, 8 rows and 32 columns of words, three scales of 32 columns, a tile
  expect(abi.matmulScratch(300)).toBe(128 + 4 * (304 + 40 * 300 + 3 * 32 + 6 * 8));
  // three arrays of the queries' size and five numbers a row; keys and values; tiles of scores, weights and scales
  const [rows, headDim] = [36, 80];
  const tiles = 6 * 64 + (4 * 64) / 2 + 4 * 2 + 8 * 2 * 8;
  const keys = (64 + 64 + 1 + 32 + 32 + 2) * headDim;
  expect(abi.attendScratch(rows, headDim)).toBe(128 + 4 * (rows * (3 * headDim + 5) + keys + tiles));
});

it('names every argument of a call', () => {
  expect(calls.add({ cols: 3, y: 2, x: 1 })).toEqual({ kernel: 'add', args: [1, 2, 3] });
  // @ts-expect-error: `cols` is missing
  calls.add({ x: 1, y: 2 });
  // @ts-expect-error: `col` is misspelt
  calls.add({ x: 1, y: 2, col: 3 });
  // @ts-expect-error: `add` takes no `eps`
  calls.add({ x: 1, y: 2, cols: 3, eps: 4 });
});

/** A neighbour's scratch memory begins where a thread's ends, so that writing beyond spoils another's numbers. */
describe('scratch memory suffices', () => {
  const MIB = 2 ** 20;
  const SCRATCH = 24 * MIB;
  const GUARD = 2 ** 16;
  const binary = Buffer.from(RELAXED_SIMD, 'base64');
  if (!WebAssembly.validate(binary)) setFlagsFromString('--experimental-wasm-relaxed-simd'); // Node 20
  const module = new WebAssembly.Module(binary);
  const memory = new WebAssembly.Memory({ initial: 400, maximum: 65536, shared: true });
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });

  /** Whether the kernel leaves the bytes around its scratch memory alone. */
  function isEnough(
    { kernel, args }: { kernel: string; args: number[] },
    nItems: number,
    scratchBytes: number,
  ): boolean {
    const bytes = new Uint8Array(memory.buffer);
    const guards = [SCRATCH - GUARD, SCRATCH + scratchBytes].map((at) => bytes.subarray(at, at + GUARD));
    for (const guard of guards) guard.fill(0x55);
    (exports[kernel] as CallableFunction)(SCRATCH, 0, nItems, ...args);
    return guards.every((guard) => guard.every((byte) => byte === 0x55));
  }

  const addresses = (names: readonly string[]) =>
    Object.fromEntries(names.map((name, i) => [name, (i + 1) * MIB])) as Record<string, number>;

  it.each([
    [7, 48, 0],
    [7, 48, 1],
    [9, 37, 0],
    [4, 129, 1],
    [2, 256, 0],
    [1, 256, 1],
  ])('of a product of %s rows with %s columns, in integers: %s', (n, K, isInt) => {
    const { out, x, xq, xScales, weight } = addresses(['out', 'x', 'xq', 'xScales', 'weight']);
    const operands = { out, x, xq: isInt && xq, xScales, weight, bias: 0 };
    const { number, blockBytes, blockLen } = TENSOR_TYPES[n === 1 ? 'Q8_0' : 'F16'];
    const call = calls.matmul({ ...operands, type: number, rowBytes: (K / blockLen) * blockBytes, n, N: 45, K });
    expect(isEnough(call, 2, abi.matmulScratch(K))).toBe(true);
    // products of floats end with a tile at the very end; those of integers, and of few rows, take less
    const takesAll = !isInt && n >= abi.FLOAT_TILE_ROWS;
    expect(isEnough(call, 2, abi.matmulScratch(K) - 1)).toBe(!takesAll);
  });

  it.each(['Q4_1', 'Q8_0', 'Q5_K', 'Q6_K'] as const)('of a product of few rows with blocks as they lie: %s', (type) => {
    const [n, K] = [7, 512];
    const { out, x, xq, weight } = addresses(['out', 'x', 'xq', 'weight']);
    const { number, blockBytes, blockLen } = TENSOR_TYPES[type];
    const stored = { weight, type: number, rowBytes: (K / blockLen) * blockBytes, bias: 0 };
    const call = calls.matmul({ out, x, xq, xScales: 0, ...stored, n, N: 45, K });
    expect(isEnough(call, 2, abi.matmulScratch(K))).toBe(true);
  });

  const { FLOAT32, INT16, INT8, INT8_FUSED } = abi;
  const steps = [
    { format: FLOAT32, tileRows: abi.FEW_TILE_ROWS },
    { format: FLOAT32, tileRows: abi.FLOAT_TILE_ROWS },
    ...[INT16, INT8, INT8_FUSED].map((format) => ({ format, tileRows: abi.INT_TILE_ROWS })),
  ];
  const cases = steps.flatMap((step) => [16, 40, 128].map((headDim) => ({ ...step, headDim })));
  it.each(cases)('of attention: $format, $tileRows rows, heads of $headDim', ({ format, tileRows, headDim }) => {
    for (const { number } of Object.values(KV_TYPES)) {
      const [n, tileLen, nHeads, nKvHeads, capacity] = [11, 9, 6, 2, 2 * abi.PAGE_LEN];
      const T = Math.ceil((tileLen * nHeads) / nKvHeads / tileRows) * tileRows;
      const arrays = ['out', 'q', 'keys', 'keyScales', 'values', 'valueScales', 'parts', 'spans', 'pages'];
      const { out, q, keys, keyScales, values, valueScales, parts, spans, pages } = addresses(arrays);
      // Rotation, key form, from, to, and how the ends move.
      const each = [
        [0, 0, 3, 70, 0, 1],
        [1, 0, 70, 100, 0, 0],
        [2, 0, 100, 170, 0, 1],
      ];
      new Int32Array(memory.buffer, spans).set(each.flat());
      new Int32Array(memory.buffer, pages).set([1, 0]);
      const call = calls.attend({
        ...{ out, q, rotationBytes: 4 * n * nHeads * headDim, kvType: number, keys, keyScales, values, valueScales },
        ...{ n, nHeads, nKvHeads, headDim, capacity, spans, nSpans: each.length, pages },
        ...{ tileLen, tileRows, format, nSplits: 2, parts },
      });
      const scratchBytes = abi.attendScratch(T, headDim);
      expect(isEnough(call, 2 * 2 * nKvHeads, scratchBytes)).toBe(true);
      // what lies last are scales of values in integers
      expect(isEnough(call, 2 * 2 * nKvHeads, scratchBytes - 1)).toBe(format === FLOAT32);
    }
  });
});
