/** What every backend must do. A backend's test file is one call of `runContract`, and what is its own. */
import { readFileSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { Backend, KvLayer, Tensor } from '../src/backends/backend.ts';
import { openReference } from '../src/backends/reference.ts';
import { seededRandom } from '../src/eval/random.ts';
import { PAGE_LEN } from '../src/kvTypes.ts';
import { rowBytes, type TensorType } from '../src/tensorTypes.ts';
import { differences, judge, maxAbs, type Rounding } from './judge.ts';
import { CASES, type KernelCase, oneOfEach } from './kernelCases.ts';
import { stretches as seen, slice } from './stretches.ts';

export interface Contract {
  name: string;
  open: () => Backend | Promise<Backend>;
  /** Worker threads that the backend starts. Default 0. */
  threads?: number;
  /** Errors beyond float32's that a kernel may have, relative to its largest output, where numbers are stored shorter. */
  rounding?: Rounding;
  /** Bytes of a cached number. Default 4. */
  cachedBytes?: number;
  /** Tests this backend cannot pass, and why; the reason is printed. */
  skip?: readonly { reason: string; tests: readonly string[] }[];
}

export function runContract({ name, open, threads = 0, rounding, cachedBytes = 4, skip = [] }: Contract): void {
  const check = (test: string, body: () => Promise<void>) => {
    const reason = skip.find(({ tests }) => tests.includes(test))?.reason;
    it.skipIf(reason !== undefined)(reason ? `${test} (skipped: ${reason})` : test, body);
  };

  describe(`${name}: contract`, () => {
    let b: Backend;
    beforeAll(async () => {
      b = await open();
    });
    afterAll(() => b.dispose());

    const filled = (rows: number, cols: number, values: ArrayLike<number>) => {
      const tensor = b.alloc('F32', rows, cols);
      b.write(tensor, values);
      return tensor;
    };
    const stored = (type: TensorType, rows: number, cols: number, bytes: Uint8Array) => {
      const tensor = b.alloc(type, rows, cols);
      b.load(tensor, bytes, 0);
      return tensor;
    };
    const read = async (tensor: Tensor) => Array.from(await b.read(tensor));

    for (const kernelCase of CASES) {
      check(kernelCase.name, () => expectRight(b, kernelCase, rounding));
    }

    for (const { type, rows, cols, bytes, values } of goldenBlocks()) {
      check(`gatherRows: ${type} as the gguf package decodes it`, async () => {
        const out = b.alloc('F32', rows, cols);
        b.gatherRows(out, stored(type, rows, cols, bytes), [0, 1]);
        const actual = await b.read(out);
        const largest = Math.max(...values.map(Math.abs));
        values.forEach((value, i) => {
          expect(Math.abs(actual[i] - value), `number ${i}`).toBeLessThanOrEqual(
            1e-6 * Math.abs(value) + 1e-7 * largest,
          );
        });
      });
    }

    for (const type of ['F16', 'BF16'] as const) {
      check(`gatherRows: every ${type} that is a number, exactly`, async () => {
        const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
        const isNumber = (value: number) => !Number.isNaN(value);
        const [out, expected] = await Promise.all(
          [b, openReference()].map(async (backend) => {
            const table = backend.alloc(type, 1, 65536);
            backend.load(table, new Uint8Array(bits.buffer), 0);
            const row = backend.alloc('F32', 1, 65536);
            backend.gatherRows(row, table, [0]);
            return Array.from(await backend.read(row)).filter(isNumber);
          }),
        );
        expect(out).toEqual(expected);
      });
    }

    check('alloc gives zeros, also behind memory that was written', async () => {
      filled(3, 5, Array(15).fill(7));
      expect(await read(b.alloc('F32', 7, 3))).toEqual(Array(21).fill(0));
      const decoded = filled(1, 32, Array(32).fill(7));
      b.gatherRows(decoded, b.alloc('Q8_0', 1, 32), [0]);
      expect(await read(decoded)).toEqual(Array(32).fill(0));
    });

    check('nBytes grows by what is allocated', async () => {
      const before = b.nBytes;
      b.alloc('F32', 10, 100);
      b.allocKv(1, 2, 8, 1);
      expect(b.nBytes - before).toBeGreaterThanOrEqual(4 * 1000 + cachedBytes * 2 * 50 * 2 * 8);
    });

    check('write fills a tensor from its beginning, and what is read is a copy', async () => {
      const tensor = filled(2, 3, [1, 2, 3, 4, 5, 6]);
      b.write(tensor, [7, 8]);
      const first = await b.read(tensor);
      expect(Array.from(first)).toEqual([7, 8, 3, 4, 5, 6]);
      first.fill(0);
      b.add(tensor, filled(2, 3, Array(6).fill(1)));
      expect(await read(tensor)).toEqual([8, 9, 4, 5, 6, 7]);
      expect(Array.from(first)).toEqual(Array(6).fill(0));
    });

    check('a view is the same numbers from its offset on', async () => {
      const tensor = filled(3, 4, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
      const view = b.view(tensor, 2, 3, 5);
      expect(view).toMatchObject({ type: 'F32', rows: 2, cols: 3 });
      expect(await read(view)).toEqual([5, 6, 7, 8, 9, 10]);
      expect(await read(b.view(view, 1, 2, 3))).toEqual([8, 9]);
      b.write(view, [50]);
      b.add(b.view(tensor, 1, 2, 6), b.view(tensor, 1, 2, 1));
      expect(await read(tensor)).toEqual([0, 1, 2, 3, 4, 50, 7, 9, 8, 9, 10, 11]);
    });

    check('a page is the same in any place of any cache, of both forms of keys', async () => {
      const [nTokens, nKvHeads, headDim, page] = [2 * PAGE_LEN + 60, 3, 40, 40];
      const random = seededRandom('pages');
      const noise = (rows: number, cols: number) =>
        filled(
          rows,
          cols,
          Float32Array.from({ length: rows * cols }, () => random.uniform() - 0.5),
        );
      const width = nKvHeads * headDim;
      const attendIn = async (kv: KvLayer, pages: readonly number[]) => {
        const { stretches, nRotations } = seen({ n: 1, start: nTokens - 1, keyForms: 2, chunkLen: 100, pages });
        const q = filled(
          nRotations,
          2 * width,
          Float32Array.from({ length: 2 * nRotations * width }, (_, i) => Math.sin(i)),
        );
        const out = b.alloc('F32', 1, 2 * width);
        b.attend(out, q, kv, stretches);
        return read(out);
      };
      const layers = [0, 1].map(() => b.allocKv(4, nKvHeads, headDim, 0, 2));
      const from = [3, 0, 2];
      for (const kv of layers) {
        const keys = [noise(nTokens, width), noise(nTokens, width)];
        b.append(kv, keys, noise(nTokens, width), [slice(nTokens, 0, from)]);
      }
      const others = layers.map(() => b.allocKv(page + 1, nKvHeads, headDim, 0, 2));
      const to = [page, 1, 7]; // one that a cache which grows has no room for yet
      for (const nth of [0, 1, 2]) {
        const nOfPage = Math.min(PAGE_LEN, nTokens - PAGE_LEN * nth);
        const bytes = await b.readPage(layers, from[nth], nOfPage);
        await b.writePage(others, to[nth], bytes);
        expect(await b.readPage(others, to[nth], PAGE_LEN)).toEqual(bytes);
      }
      for (const layer of [0, 1])
        expect(await attendIn(others[layer], to)).toEqual(await attendIn(layers[layer], from));
    });

    check('load takes a tensor in pieces, from bytes at any address', async () => {
      for (const { type, rows, cols, bytes } of [...goldenBlocks(), f32Blocks()]) {
        const [whole, pieces] = [stored(type, rows, cols, bytes), b.alloc(type, rows, cols)];
        const shifted = new Uint8Array(bytes.length + 1);
        shifted.set(bytes, 1);
        const middle = rowBytes(type, cols);
        b.load(pieces, shifted.subarray(1 + middle), middle);
        b.load(pieces, shifted.subarray(1, 1 + middle), 0);
        const [fromWhole, fromPieces] = [b.alloc('F32', 2, cols), b.alloc('F32', 2, cols)];
        b.gatherRows(fromWhole, whole, [0, 1]);
        await b.submit();
        b.gatherRows(fromPieces, pieces, [0, 1]);
        expect(await read(fromPieces), type).toEqual(await read(fromWhole));
      }
    });

    check('calls run in the order they were recorded', async () => {
      // whole numbers through a signed permutation that mixes rows and columns, so that any early step shows
      const [n, cols, headDim, steps] = [64, 40, 8, 500]; // long enough for every thread to wake
      const start = Array.from({ length: n * cols }, (_, i) => i % 7);
      const shift = Array.from({ length: cols * cols }, (_, i) =>
        i % cols === (Math.floor(i / cols) + 1) % cols ? 1 : 0,
      );
      const chain = async (backend: Backend) => {
        const fill = (rows: number, width: number, values: ArrayLike<number>) => {
          const tensor = backend.alloc('F32', rows, width);
          backend.write(tensor, values);
          return tensor;
        };
        const [x, y, step] = [fill(n, cols, start), fill(n, cols, []), fill(n, cols, start.toReversed())];
        const [cos, sin] = [0, 1].map((value) => fill(n, headDim / 2, Array((n * headDim) / 2).fill(value)));
        const permutation = fill(cols, cols, shift);
        for (let s = 0; s < steps; s++) {
          backend.matmul(y, x, permutation);
          backend.rotate(x, y, cos, sin);
          backend.add(x, step);
        }
        return Array.from(await backend.read(x), Math.round); // integers of 16 bits are off by far less than a half
      };
      expect(await chain(b)).toEqual(await chain(openReference()));
    });

    for (const rows of [1, 8]) {
      check(`matmul reads what was written since it last read it, ${rows} rows`, async () => {
        const x = filled(rows, 32, Array(rows * 32).fill(1));
        const [ones, out] = [filled(4, 32, Array(128).fill(1)), b.alloc('F32', rows, 4)];
        const stored = b.alloc('Q8_0', 4, 32); // blocks of scale 1 and weights 1
        for (let r = 0; r < 4; r++) b.load(stored, Uint8Array.from([0, 0x3c, ...Array(32).fill(1)]), 34 * r);
        const sums = async (weight: Tensor) => {
          b.matmul(out, x, weight);
          return Array.from(await b.read(out), Math.round);
        };
        for (const weight of [stored, ones]) {
          for (const value of [1, 2, 3]) {
            b.write(x, Array(rows * 32).fill(value));
            expect(await sums(weight)).toEqual(Array(rows * 4).fill(32 * value));
          }
        }
        // a product that writes what an earlier one read
        const square = filled(32, 32, Array(1024).fill(1));
        b.write(x, Array(rows * 32).fill(1));
        b.matmul(out, x, stored);
        b.matmul(x, filled(rows, 32, Array(rows * 32).fill(2)), square);
        expect(await sums(stored)).toEqual(Array(rows * 4).fill(32 * 64));
        b.matmul(out, x, stored);
        b.copy(x, filled(rows, 32, Array(rows * 32).fill(5)));
        expect(await sums(stored)).toEqual(Array(rows * 4).fill(32 * 5));
      });
    }

    check('gatherRows keeps the ids of every call', async () => {
      const table = filled(4, 2, [0, 1, 10, 11, 20, 21, 30, 31]);
      const [first, second] = [b.alloc('F32', 2, 2), b.alloc('F32', 3, 2)];
      const ids = [1, 3];
      b.gatherRows(first, table, ids);
      ids.fill(0);
      b.gatherRows(second, table, [2, 2, 0]);
      expect(await read(first)).toEqual([10, 11, 30, 31]);
      expect(await read(second)).toEqual([20, 21, 20, 21, 0, 1]);
    });

    check('gatherRows takes ids from a tensor, as they are when it runs', async () => {
      const table = filled(4, 2, [0, 1, 10, 11, 20, 21, 30, 31]);
      const [ids, out] = [filled(4, 1, [9, 0, 0, 9]), b.alloc('F32', 2, 2)];
      const [before, behind] = [filled(2, 1, [3, 1]), filled(2, 1, [2, 2])];
      b.copy(b.view(ids, 2, 1, 1), before);
      b.gatherRows(out, table, b.view(ids, 2, 1, 1));
      b.copy(b.view(ids, 2, 1, 1), behind);
      expect(await read(out)).toEqual([30, 31, 10, 11]);
    });

    check('submit runs calls once, and may be repeated', async () => {
      const [x, one] = [filled(1, 9, Array(9).fill(0)), filled(1, 9, Array(9).fill(1))];
      await b.submit();
      for (let n = 1; n <= 300; n++) {
        b.add(x, one);
        await b.submit();
      }
      await b.submit();
      expect(await read(x)).toEqual(Array(9).fill(300));
    });

    check('calls on overlapping tensors run as if one after the other', async () => {
      const truth = openReference();
      for (let program = 0; program < 30; program++) {
        const [found, wanted] = await Promise.all([b, truth].map((on) => randomProgram(on, `program ${program}`)));
        const worst = maxAbs(differences(found, wanted));
        expect(worst, `program ${program}`).toBeLessThan((1e-4 + 20 * (rounding?.matmul ?? 0)) * maxAbs(wanted));
      }
      await truth.dispose();
    });

    check('append in any pieces fills the same cache, and overwrites what was there', async () => {
      const [length, nKvHeads, headDim] = [75, 2, 16];
      const random = seededRandom('append');
      const normal = (rows: number, nHeads = nKvHeads) =>
        filled(rows, nHeads * headDim, random.normals(rows * nHeads * headDim));
      const [k, v] = [normal(length), normal(length)];
      const { stretches, nRotations } = seen({ n: length, chunkLen: 24 });
      const q = normal(nRotations * length, 4);
      const answer = async (pieces: readonly (readonly [start: number, n: number])[]) => {
        const kv = b.allocKv(1, nKvHeads, headDim);
        b.append(kv, [normal(20)], normal(20), [slice(20, 40)]); // the tail of a text before this one
        for (const [start, n] of pieces) {
          const piece = (tensor: Tensor) => b.view(tensor, n, tensor.cols, start * tensor.cols);
          const before = Math.min(start + (n >> 1), length - n);
          b.append(kv, [normal(n)], normal(n), [slice(n, before)]); // overwritten, and in order
          b.append(kv, [piece(k)], piece(v), [slice(n, start)]);
        }
        const out = b.alloc('F32', length, 4 * headDim);
        b.attend(out, q, kv, stretches);
        return read(out);
      };
      const starts = [0, 1, 8, 16, 29, 69, length];
      const pieces = starts.slice(1).map((end, at) => [starts[at], end - starts[at]] as const);
      expect(await answer(pieces)).toEqual(await answer([[0, length]]));
    });

    check('a cache holds what it held when more tokens come than it had room for', async () => {
      const [length, more, headDim] = [4090, 30, 8];
      const answer = async (on: Backend) => {
        const random = seededRandom('room');
        const normal = (rows: number, cols: number) => {
          const tensor = on.alloc('F32', rows, cols);
          on.write(tensor, random.normals(rows * cols));
          return tensor;
        };
        const kv = on.allocKv(71, 2, headDim, 0, 2);
        for (const [start, n] of [
          [0, length],
          [length, more],
        ]) {
          const [k, far, v] = [0, 1, 2].map(() => normal(n, 2 * headDim));
          on.append(kv, [k, far], v, [slice(n, start)]);
        }
        const { stretches, nRotations } = seen({ n: more, start: length, chunkLen: 1500, keyForms: 2 });
        const [q, out] = [normal(nRotations * more, 4 * headDim), on.alloc('F32', more, 4 * headDim)];
        on.attend(out, q, kv, stretches);
        return on.read(out);
      };
      const truth = await answer(openReference());
      const worst = maxAbs(differences(await answer(b), truth));
      expect(worst).toBeLessThan((1e-5 + 1.5 * (rounding?.attend ?? 0)) * maxAbs(truth));
    });

    // 2^60 is a number, but a score of such could not be one; half precision ends at 65504
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2 ** 60]) {
      for (const where of ['q', 'k', 'v'] as const) {
        check(`attention with ${bad} in ${where} is an error, and the next is right`, async () => {
          for (const n of [1, 70]) {
            const [nHeads, nKvHeads, headDim, start] = [6, 2, 24, 5];
            const random = seededRandom(`${bad} ${where} ${n}`);
            const attend = async (planted: 'q' | 'k' | 'v' | undefined) => {
              const normal = (name: 'q' | 'k' | 'v', rows: number, cols: number) => {
                const values = random.normals(rows * cols);
                // Among queries in the last rotation, whose span every row has keys in.
                if (name === planted)
                  values[random.integer(values.length - (name === 'q' ? n : rows) * cols, values.length - 1)] = bad;
                return filled(rows, cols, values);
              };
              const { stretches, nRotations } = seen({ n, start, chunkLen: 16 });
              const q = normal('q', nRotations * n, nHeads * headDim);
              const [k, v] = [normal('k', start + n, nKvHeads * headDim), normal('v', start + n, nKvHeads * headDim)];
              const [kv, out] = [b.allocKv(1, nKvHeads, headDim), b.alloc('F32', n, nHeads * headDim)];
              for (const x of [k, q]) {
                b.rotate(x, x, filled(x.rows, 12, Array(x.rows * 12).fill(1)), b.alloc('F32', x.rows, 12));
              }
              b.append(kv, [k], v, [slice(start + n)]);
              b.attend(out, q, kv, stretches);
              return read(out);
            };
            await expect(attend(where)).rejects.toThrow('not finite');
            expect((await attend(undefined)).every(Number.isFinite)).toBe(true);
          }
        });
      }
    }

    check('copy brings numbers from stage to stage, in order with what is computed in each', async () => {
      const values = Array.from({ length: 15 }, (_, i) => i);
      const [there, back] = [b.alloc('F32', 4, 5, 2), filled(4, 5, Array(20).fill(7))];
      const one = b.alloc('F32', 1, 5, 2);
      b.write(one, Array(5).fill(1));
      const x = filled(3, 5, values);
      expect([x.stage, there.stage, b.view(there, 1, 1).stage, b.allocKv(1, 1, 8, 1).stage]).toEqual([0, 2, 2, 1]);
      await b.submit();
      b.alloc('F32', 2 ** 10, 2 ** 8, 2); // the memory grows while threads know it
      b.add(x, x);
      b.copy(b.view(there, 3, 5, 5), x);
      b.add(x, x); // what was copied stays as it was
      b.add(b.view(there, 1, 5, 10), one);
      b.copy(b.view(back, 2, 5, 5), b.view(there, 2, 5, 10));
      b.add(b.view(there, 1, 5, 10), one);
      expect(await read(back)).toEqual([
        ...Array(5).fill(7),
        11,
        13,
        15,
        17,
        19,
        20,
        22,
        24,
        26,
        28,
        ...Array(5).fill(7),
      ]);
      expect(await read(there)).toEqual([...Array(5).fill(0), 0, 2, 4, 6, 8, 12, 14, 16, 18, 20, 20, 22, 24, 26, 28]);
    });

    check('every kernel computes the same in another stage', async () => {
      const elsewhere: Backend = {
        ...b,
        alloc: (type, rows, cols) => b.alloc(type, rows, cols, 3),
        allocKv: (nPages, nKvHeads, headDim) => b.allocKv(nPages, nKvHeads, headDim, 3),
      };
      for (const kernelCase of oneOfEach()) await expectRight(elsewhere, kernelCase, rounding);
    });

    check('write changes at once what calls recorded before will read', async () => {
      const [x, y] = [filled(1, 3, [1, 2, 3]), filled(1, 3, [0, 0, 0])];
      b.add(y, x);
      b.write(x, [10, 20, 30]);
      expect(await read(y)).toEqual([10, 20, 30]);
    });

    check('dispose settles what runs and refuses what comes', async () => {
      const backend = await open();
      const x = backend.alloc('F32', 300, 1000);
      for (let i = 0; i < 500; i++) backend.add(x, x);
      const running = Promise.allSettled([backend.read(x), backend.submit()]);
      await Promise.all([backend.dispose(), backend.dispose()]);
      await running; // settles, either way
      backend.add(x, x);
      await expect(backend.submit()).rejects.toThrow('disposed');
      await expect(backend.read(x)).rejects.toThrow('disposed');
      await backend.dispose();
    });

    check('dispose ends every thread', async () => {
      const workers: Worker[] = [];
      const onWorker = (worker: Worker) => workers.push(worker);
      process.on('worker', onWorker);
      onTestFinished(() => void process.off('worker', onWorker));
      const backend = await open();
      const x = backend.alloc('F32', 1, 4);
      backend.add(x, x);
      await backend.submit();
      await backend.dispose();
      expect(workers.map(({ threadId }) => threadId)).toEqual(Array(threads).fill(-1)); // -1 once a thread has ended
    });
  });
}

/** Runs a case: all of its output is right, and nothing beside it is touched. */
export async function expectRight(backend: Backend, kernelCase: KernelCase, rounding?: Rounding): Promise<void> {
  expect(await judge(kernelCase, backend, rounding), kernelCase.name).toBeUndefined();
}

// --- internal ---

/** Forty calls on rows of one tensor that overlap in all ways but within a call; what they leave behind. */
async function randomProgram(b: Backend, seed: string): Promise<Float32Array | Float64Array> {
  const random = seededRandom(seed);
  const [nRows, cols] = [24, 32];
  const tensor = (rows: number, deviation: number) => {
    const made = b.alloc('F32', rows, cols);
    b.write(made, random.normals(rows * cols, deviation));
    return made;
  };
  const pool = tensor(nRows, 1);
  const [scale, ...squares] = [tensor(1, 1), ...[1, 2, 3].map(() => tensor(cols, 1 / Math.sqrt(cols)))];
  const [cos, sin] = [tensor(nRows, 1), tensor(nRows, 1)];
  for (let call = 0; call < 40; call++) {
    const n = random.pick([1, 1, 3, 6]);
    const rows = (start: number) => b.view(pool, n, cols, start * cols);
    const shift = random.integer(0, n - 1);
    const starts = Array.from({ length: nRows / n - 1 }, (_, i) => i * n + shift);
    const [x, y, out] = [0, 1, 2].map(() => rows(starts.splice(random.integer(0, starts.length - 1), 1)[0]));
    const half = (t: Tensor) => b.view(t, n, cols / 4);
    const kind = random.pick(['rmsNorm', 'matmul', 'rotate', 'add', 'glu', 'gatherRows'] as const);
    if (kind === 'rmsNorm') b.rmsNorm(random.pick([x, out]), x, scale, 1e-3);
    else if (kind === 'matmul') for (const [i, to] of [out, y, out].entries()) b.matmul(to, x, squares[i]);
    else if (kind === 'rotate') b.rotate(random.pick([x, out]), x, half(cos), half(sin));
    else if (kind === 'add') b.add(x, y);
    else if (kind === 'gatherRows')
      b.gatherRows(
        out,
        x,
        Array.from({ length: n }, () => random.integer(0, n - 1)),
      );
    else b.glu(out, x, y, random.pick(['silu', 'gelu'] as const));
    b.rmsNorm(out, out, scale, 1e-3); // so that numbers stay in bounds
  }
  return b.read(pool);
}

interface Blocks {
  type: TensorType;
  rows: number;
  cols: number;
  bytes: Uint8Array;
  values: Float32Array;
}

/** Rows of every stored type, by the gguf package; see test/golden/README.md. */
function goldenBlocks(): Blocks[] {
  const json = readFileSync(new URL('golden/quants.json', import.meta.url), 'utf8');
  return JSON.parse(json).map(({ bytes, values, ...shape }: Record<string, string>) => ({
    ...shape,
    bytes: new Uint8Array(Buffer.from(bytes, 'base64')),
    values: new Float32Array(new Uint8Array(Buffer.from(values, 'base64')).buffer),
  }));
}

function f32Blocks(): Blocks {
  const values = seededRandom('F32').normals(2 * 37);
  return { type: 'F32', rows: 2, cols: 37, bytes: new Uint8Array(values.buffer), values };
}
