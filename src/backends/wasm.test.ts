import type { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { expectRight, runContract } from '../../test/contract.ts';
import { oneOfEach } from '../../test/kernelCases.ts';
import { stretches as seen, slice } from '../../test/stretches.ts';
import { UnsupportedError } from '../errors.ts';
import type { Machine } from '../platform/machine.ts';
import { nodeMachine } from '../platform/nodeMachine.ts';
import type { Backend, Tensor } from './backend.ts';
import { openWasm } from './wasm.ts';

const EXACT = { precision: 'f32', kvType: 'f32' } as const;
const INT16 = { precision: 'int16', kvType: 'f32' } as const;
const INT8 = { precision: 'int8', kvType: 'f32' } as const;

/** As a page that is not cross-origin isolated. */
const ALONE: Machine = { ...nodeMachine, startThread: undefined };

for (const relaxed of [true, false]) {
  const simd = relaxed ? 'relaxed' : 'plain';
  for (const threads of [1, 2, 3]) {
    runContract({
      name: `wasm, ${simd} SIMD, ${threads} threads`,
      open: () => openWasm(nodeMachine, { stages: 4, threads, relaxed, ...EXACT }),
      threads,
    });
  }
  // 12 bits of each factor, and of the weights 13: errors of a sum are near 5e-4 of its largest
  runContract({
    name: `wasm, ${simd} SIMD, 16-bit integers`,
    open: () => openWasm(nodeMachine, { stages: 4, threads: 2, relaxed, ...INT16 }),
    threads: 2,
    rounding: { matmul: 1e-3, attend: 2e-3 },
  });
}
// 7 bits of a query and of a weight, 8 of keys and values: an output is off by some 2.5% of its size, at most 6% of the largest
runContract({
  name: 'wasm, 8-bit integers',
  open: () => openWasm(nodeMachine, { stages: 4, threads: 2, ...INT8 }),
  threads: 2,
  rounding: { matmul: 1e-3, attend: 6e-2 },
});
// a key rounded to 8 bits moves a score by about 2^-9 of its length
for (const [kvType, cachedBytes, stored] of [
  ['bf16', 2, 1.2e-2],
  ['q8_0', 1, 3e-2],
] as const) {
  for (const precision of ['f32', 'int16', 'int8'] as const) {
    const attend = precision === 'int8' ? 6e-2 + stored : stored;
    runContract({
      name: `wasm, ${precision}, ${kvType} cache`,
      open: () => openWasm(nodeMachine, { stages: 4, threads: 2, precision, kvType }),
      threads: 2,
      rounding: { matmul: 1e-3, attend },
      cachedBytes,
    });
  }
}
for (const [relaxed, options] of [
  [true, { kvType: 'f32' }],
  [false, EXACT],
] as const) {
  runContract({
    name: `wasm, ${relaxed ? 'relaxed' : 'plain'} SIMD, calling thread`,
    open: () => openWasm(ALONE, { stages: 4, relaxed, ...options }),
    rounding: relaxed ? { matmul: 1e-3, attend: 6e-2 } : undefined,
  });
}

describe('openWasm', () => {
  it.each([0, 1.5, -1, 257, NaN])('refuses %s threads', (threads) => {
    expect(() => openWasm(nodeMachine, { threads })).toThrow(UnsupportedError);
  });

  it('refuses a precision and a KV type it does not know', () => {
    expect(() => openWasm(nodeMachine, { precision: 'int4' as 'f32' })).toThrow(
      'unknown precision "int4"; wanted f32, int16, int8',
    );
    expect(() => openWasm(nodeMachine, { kvType: 'q2' as 'f32' })).toThrow(
      'unknown KV type "q2"; wanted f32, bf16, q8_0',
    );
  });

  it.each([
    [{ threads: 1, relaxed: false, ...EXACT }, 'wasm (SIMD, f32, f32 cache, 1 thread)'],
    [{ threads: 2, relaxed: true }, 'wasm (relaxed SIMD, int8, bf16 cache, 2 threads)'],
    [{ threads: 2, relaxed: false }, 'wasm (SIMD, int16, bf16 cache, 2 threads)'],
    [{}, 'wasm (relaxed SIMD, int8, bf16 cache, calling thread)', ALONE],
  ])('names what it runs on: %o', async (options, name, machine = nodeMachine) => {
    const backend = openWasm(machine, options);
    expect(backend.name).toBe(name);
    await backend.dispose();
  });
});

describe('without threads', () => {
  it('refuses more than one', () => {
    expect(() => openWasm(ALONE, { threads: 2 })).toThrow('threads is 2, but threads cannot share memory here');
  });

  it('lets timers fire while it computes', async () => {
    const b = openWasm(ALONE, EXACT);
    onTestFinished(() => b.dispose());
    const x = b.alloc('F32', 300, 1000);
    for (let i = 0; i < 20_000; i++) b.add(x, x);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 10);
    const startedAt = performance.now();
    await b.submit();
    clearInterval(timer);
    const took = performance.now() - startedAt;
    expect(took).toBeGreaterThan(300);
    expect(ticks).toBeGreaterThan(took / 200); // a turn is 50 ms, and a little more on a machine that is busy
  });

  it('rejects when a kernel fails, then and from then on', async () => {
    const b = openWasm(ALONE, EXACT);
    const x = b.alloc('F32', 1, 4);
    b.add(x, b.view(x, 1, 4, 2 ** 29)); // past the end of memory
    await expect(b.submit()).rejects.toThrow('memory access out of bounds');
    b.add(x, x);
    await expect(b.read(x)).rejects.toThrow('memory access out of bounds');
    await b.dispose();
  });

  it('computes the same as with threads', async () => {
    const [alone, threads] = [openWasm(ALONE), openWasm(nodeMachine, { threads: 1 })];
    for (const { name, prepare } of oneOfEach()) {
      const results = [alone, threads].map((on) => {
        const { out, record } = prepare(on);
        record();
        return on.read(out);
      });
      const [found, wanted] = await Promise.all(results);
      expect(found, name).toEqual(wanted);
    }
    await Promise.all([alone.dispose(), threads.dispose()]);
  });
});

describe.each([INT16, INT8])('$precision', (options) => {
  let b: Backend;
  beforeEach(() => {
    b = openWasm(nodeMachine, { threads: 2, ...options });
  });
  afterEach(() => b.dispose());

  const filled = (rows: number, cols: number, value: (r: number, c: number) => number) => {
    const tensor = b.alloc('F32', rows, cols);
    b.write(
      tensor,
      Array.from({ length: rows * cols }, (_, i) => value(Math.floor(i / cols), i % cols)),
    );
    return tensor;
  };

  it.each([1, -1])('the largest sums a product can reach do not overflow, sign %d', async (sign) => {
    const K = 300;
    const [x, w, out] = [filled(9, K, () => 7), filled(40, K, () => sign), b.alloc('F32', 9, 40)];
    b.matmul(out, x, w);
    for (const sum of await b.read(out)) expect(Math.abs(sum / (7 * K * sign) - 1)).toBeLessThan(1e-3);
  });

  it.each([64, 128])('nor do those of attention, headDim %d', async (headDim) => {
    const n = 200;
    const constant = (value: number) => filled(n, headDim, () => value);
    const { stretches, nRotations } = seen({ n, chunkLen: 70 });
    const q = filled(nRotations * n, headDim, () => 3);
    const [out, kv] = [b.alloc('F32', n, headDim), b.allocKv(2, 1, headDim)];
    b.append(kv, [constant(-3)], constant(5), [slice(n)]);
    b.attend(out, q, kv, stretches);
    for (const value of await b.read(out)) expect(Math.abs(value / 5 - 1)).toBeLessThan(1e-3);
  });

  it('what all keys have in common costs no precision', async () => {
    const [n, headDim] = [200, 64];
    const { stretches, nRotations } = seen({ n, chunkLen: 90 });
    const q = filled(nRotations * n, headDim, (r, c) => Math.sin(3 * (r % n) + c) / 8);
    const v = filled(n, headDim, (r, c) => Math.cos(r * c));
    const attend = async (common: number) => {
      const [out, kv] = [b.alloc('F32', n, headDim), b.allocKv(2, 1, headDim)];
      const k = filled(n, headDim, (r, c) => Math.cos(5 * r + 2 * c) + (c === 40 ? common : 0));
      b.append(kv, [k], v, [slice(n)]);
      b.attend(out, q, kv, stretches);
      return b.read(out);
    };
    const [without, shifted] = [await attend(0), await attend(80)];
    // a shift of all keys moves all of a query's scores alike, so the weights stay
    without.forEach((value, i) => {
      expect(Math.abs(shifted[i] - value)).toBeLessThan(0.02);
    });
  });

  it('a large channel spoils no more than its segment of 128', async () => {
    const K = 512;
    const x = filled(8, K, (r, c) => (c === 3 ? 5000 : Math.sin(r + c)));
    const w = filled(32, K, (r, c) => (c < 128 ? 0 : Math.cos(r * c)));
    const [out, truth] = [b.alloc('F32', 8, 32), openWasm(nodeMachine, { threads: 1, ...EXACT })];
    b.matmul(out, x, w);
    const [exact, xs, ws] = [truth.alloc('F32', 8, 32), truth.alloc('F32', 8, K), truth.alloc('F32', 32, K)];
    truth.write(xs, await b.read(x));
    truth.write(ws, await b.read(w));
    truth.matmul(exact, xs, ws);
    const [found, wanted] = [await b.read(out), await truth.read(exact)];
    await truth.dispose();
    wanted.forEach((value, i) => {
      expect(Math.abs(found[i] - value)).toBeLessThan(0.02);
    });
  });
});

describe.each([true, false])('relaxed %s', (relaxed) => {
  it('exp has a relative error below 3e-7 from 1 to 87', async () => {
    const b = openWasm(nodeMachine, { threads: 1, relaxed });
    const x = Float32Array.from({ length: 17500 }, (_, i) => i / 100 - 87);
    const [gate, up, out] = [0, 0, 0].map(() => b.alloc('F32', 1, x.length));
    b.write(gate, x);
    b.write(up, new Float32Array(x.length).fill(1));
    b.glu(out, gate, up, 'silu'); // x / (1 + exp(-x)), from which exp(-x) is had back where it is not small beside 1
    const silu = await b.read(out);
    await b.dispose();
    const errors = Array.from(silu, (value, i) =>
      x[i] < -1 ? Math.abs(value / (x[i] / (1 + Math.exp(-x[i]))) - 1) : 0,
    );
    expect(Math.max(...errors)).toBeLessThan(3e-7);
  });
});

describe('one wasm memory', () => {
  let b: Backend;
  beforeEach(() => {
    b = openWasm(nodeMachine, { threads: 2, ...EXACT });
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
    ['a cache', () => b.allocKv(2 ** 13, 8, 128)],
    ['tensors that fit one by one', () => Array.from({ length: 5 }, () => b.alloc('F32', 2 ** 18, 2 ** 10))],
  ])('refuses %s beyond 4 GiB and stays usable', async (_, allocate) => {
    const x = ones();
    expect(allocate).toThrow(UnsupportedError);
    await expectWorking(x);
  });

  it('refuses kernels whose scratch memory it cannot have, and stays usable', async () => {
    const x = ones();
    const [long, out] = [b.alloc('F32', 1, 2 ** 24), b.alloc('F32', 1, 1)]; // 41 floats a column and thread are 5 GiB
    b.matmul(out, long, long);
    await expect(b.submit()).rejects.toThrow('the wasm backend cannot hold');
    await expectWorking(x);
    for (const kernelCase of oneOfEach()) await expectRight(b, kernelCase);
  });

  it('computes the same above 2 GiB, where addresses are negative as signed numbers', async () => {
    b.alloc('F32', 2 ** 19 - 1, 2 ** 10); // memory that is never touched takes no room
    for (const kernelCase of oneOfEach()) await expectRight(b, kernelCase);
  });

  it('runs programs longer than the commands its threads hold at once', async () => {
    const [x, one] = [b.alloc('F32', 1, 4), ones()];
    const nCalls = 2 ** 17 + 3;
    for (let n = 0; n < nCalls; n++) b.add(x, one);
    expect(Array.from(await b.read(x))).toEqual(Array(4).fill(nCalls));
  });

  it.each([
    ['is terminated', (worker: Worker) => void worker.terminate()],
    ['fails', (worker: Worker) => void worker.emit('error', new Error('out of memory'))],
  ])('rejects when a thread %s while it computes, and from then on', async (_, end) => {
    const workers: Worker[] = [];
    const onWorker = (worker: Worker) => workers.push(worker);
    process.on('worker', onWorker);
    const backend = openWasm(nodeMachine, { threads: 2, ...EXACT });
    const x = backend.alloc('F32', 300, 1000);
    backend.add(x, x);
    await backend.submit(); // all threads have started, and been told of
    process.off('worker', onWorker);
    for (let i = 0; i < 2000; i++) backend.add(x, x);
    const running = backend.submit();
    end(workers[workers.length - 1]); // before it may be threads of the test's own backend
    await expect(running).rejects.toThrow(/a thread of the wasm backend ended|out of memory/);
    backend.add(x, x);
    await expect(backend.read(x)).rejects.toThrow(/a thread of the wasm backend ended|out of memory/);
    await backend.dispose();
  });

  it('rejects when a thread fails, then and from then on', async () => {
    const x = ones();
    b.add(x, b.view(x, 1, 4, 2 ** 29)); // past the end of memory
    await expect(b.submit()).rejects.toThrow('memory access out of bounds');
    b.add(x, x);
    await expect(b.read(x)).rejects.toThrow('memory access out of bounds');
  });
});

describe('several wasm memories', () => {
  let b: Backend;
  beforeEach(() => {
    b = openWasm(nodeMachine, { stages: 3, threads: 2, ...INT16 });
  });
  afterEach(() => b.dispose());

  it('hold more than 4 GiB together, each its own 4', async () => {
    const halves = [0, 1, 2].map((stage) => b.alloc('F32', 2 ** 19, 2 ** 10, stage));
    expect(b.nBytes).toBeGreaterThan(6 * 2 ** 30);
    const far = halves.map((half) => b.view(half, 1, 4, 2 ** 29 - 4));
    b.write(far[2], [1, 2, 3, 4]);
    b.copy(far[0], far[2]);
    expect(Array.from(await b.read(far[0]))).toEqual([1, 2, 3, 4]);
    expect(Array.from(await b.read(far[1]))).toEqual([0, 0, 0, 0]);
    expect(() => b.alloc('F32', 2 ** 19, 2 ** 10, 1)).toThrow(UnsupportedError);
  });

  it('are as many as it was opened with', () => {
    for (const use of [() => b.alloc('F32', 1, 1, 3), () => b.allocKv(1, 1, 8, 3)]) {
      expect(use).toThrow('there is no stage 3: the backend was opened with 3');
    }
  });

  it('a kernel refuses operands of two', () => {
    const [x, y] = [b.alloc('F32', 2, 8), b.alloc('F32', 2, 8, 1)];
    const [kv, there] = [b.allocKv(1, 1, 8), b.allocKv(1, 1, 8, 1)];
    const { stretches } = seen({ n: 2 });
    for (const call of [
      () => b.gatherRows(x, y, [0]),
      () => b.gatherRows(x, x, y),
      () => b.rmsNorm(x, x, y, 0),
      () => b.matmul(x, x, y),
      () => b.matmul(x, x, x, y),
      () => b.rotate(x, x, x, y),
      () => b.append(kv, [x], y, [slice(2)]),
      () => b.append(there, [x], x, [slice(2)]),
      () => b.append(kv, [x, y], x, [slice(2)]),
      () => b.attend(x, y, kv, stretches),
      () => b.attend(x, x, there, stretches),
      () => b.glu(x, x, y, 'silu'),
      () => b.add(x, y),
    ]) {
      expect(call).toThrow('operands of a kernel lie in stages');
    }
  });
});
