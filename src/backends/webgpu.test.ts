import { afterAll, afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { expectRight, runContract } from '../../test/contract.ts';
import { attend, gatherRows, matmul, oneOfEach, RISING } from '../../test/kernelCases.ts';
import { tinyEngine } from '../../test/tinyModel.ts';
import { hasWebGpu, sharedWebGpu } from '../../test/webgpu.ts';
import { UnsupportedError } from '../errors.ts';
import { type Random, seededRandom } from '../eval/random.ts';
import { append } from '../kernels/append.wgsl.ts';
import { attend as attendTiles, tileSizes } from '../kernels/attend.wgsl.ts';
import { attendFew } from '../kernels/attendFew.wgsl.ts';
import { attendMatrix, subgroupsFor } from '../kernels/attendMatrix.wgsl.ts';
import { type Choice, draw, MAX_TOP_K } from '../kernels/draw.ts';
import { halve, matmulMatrix } from '../kernels/matmulMatrix.wgsl.ts';
import { moduleOf, type WgslKernel } from '../kernels/wgsl.ts';
import { TENSOR_TYPES, type TensorType } from '../tensorTypes.ts';
import { openWebGpu } from './webgpu.ts';

vi.setConfig({ testTimeout: 60_000 }); // a software driver takes seconds to compile a kernel

/** What a real entry point gives, but for what `change` makes of its devices. */
async function gpuWith(change: (device: GPUDevice) => void, offers: { subgroups?: number | null } = {}): Promise<GPU> {
  const { create } = await import('webgpu');
  const gpu = create([]) as GPU;
  return {
    gpu,
    requestAdapter: async () => {
      const adapter = (await gpu.requestAdapter()) as GPUAdapter;
      const { subgroups } = offers;
      const claimed =
        subgroups === null ? { vendor: 'any' } : { vendor: 'any', subgroupMinSize: subgroups, subgroupMaxSize: 128 };
      return {
        info: subgroups === undefined ? adapter.info : claimed,
        features: subgroups === undefined ? adapter.features : new Set(['subgroups']),
        limits: adapter.limits,
        requestDevice: async ({ requiredFeatures = [], ...descriptor }: GPUDeviceDescriptor) => {
          const features = [...requiredFeatures].filter((name) => name !== 'subgroups' || subgroups === undefined);
          const device = await adapter.requestDevice({ ...descriptor, requiredFeatures: features });
          change(device);
          return device;
        },
      };
    },
  } as unknown as GPU;
}

/** One whose devices bind so many bytes at most. */
const gpuOfBinding = (maxStorageBufferBindingSize: number) =>
  gpuWith((device) => {
    const limits = { ...device.limits, maxComputeWorkgroupStorageSize: 32768, maxBufferSize: 2 ** 20 };
    Object.defineProperty(device, 'limits', { value: { ...limits, maxStorageBufferBindingSize } });
  });

if (hasWebGpu) {
  runContract({ name: 'webgpu', open: () => openWebGpu({ robust: true }) });
}

/** Kernels for features that the software driver lacks: Dawn without any driver checks their text, though it runs nothing. */
const dawn = await import('webgpu').catch(() => undefined);
describe.skipIf(!dawn)('kernels for matrix units, half precision and subgroups', async () => {
  if (!dawn) return;
  const gpu = dawn.create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']) as GPU;
  const adapter = (await gpu.requestAdapter()) as GPUAdapter;
  const features = ['chromium-experimental-subgroup-matrix', 'subgroups', 'shader-f16'] as GPUFeatureName[];
  const device = await adapter.requestDevice({ requiredFeatures: features });
  afterAll(() => {
    device.destroy();
    void gpu; // kept until here, as Dawn goes with it
  });

  const types = Object.keys(TENSOR_TYPES).filter((type) => type !== 'F32') as TensorType[];
  const headDims = [16, 32, 48, 64, 80, 96, 112, 128];
  const kernels = [
    ...headDims.flatMap((headDim) => ([8, 4] as const).map((subgroups) => attendMatrix(headDim, subgroups))),
    ...types.flatMap((type) => [
      matmulMatrix({ type, hasBias: true, tileRows: 128, isWhole: true }),
      matmulMatrix({ type, hasBias: false, tileRows: 64, isWhole: false }),
    ]),
    ...headDims.flatMap((headDim) => [
      attendFew({ headDim, number: 'f16' }, 4, true),
      attendTiles({ headDim, number: 'f16' }, tileSizes({ headDim, number: 'f16' }, 32768)),
    ]),
    append('f16'),
    halve,
  ];
  it.each(kernels.map((kernel) => [kernel.name, kernel] as const))('%s', async (_, kernel) => {
    const { messages } = await device.createShaderModule({ code: moduleOf(kernel).code }).getCompilationInfo();
    expect(messages.map(({ message }) => message)).toEqual([]);
  });

  it.each([
    { min: 32, max: 32, path: 'tensor cores' },
    { min: 16, max: 32, path: 'subgroups' },
    { min: 32, max: 64, path: 'subgroups' },
    { min: 64, max: 64, path: 'subgroups' },
    { min: 4, max: 128, path: 'subgroups' },
    { min: undefined, max: undefined, path: 'plain' },
  ])('for matrix units are taken by subgroups of 32 threads alone: $min to $max take $path', async (widths) => {
    const { min, max, path } = widths;
    const config = { componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 };
    const info = { vendor: 'any', subgroupMinSize: min, subgroupMaxSize: max, subgroupMatrixConfigs: [config] };
    const offering = (adapter: GPUAdapter) => ({
      ...{ info, features: adapter.features, limits: adapter.limits },
      requestDevice: (descriptor: GPUDeviceDescriptor) => adapter.requestDevice(descriptor),
    });
    const requestAdapter = async () => offering((await gpu.requestAdapter()) as GPUAdapter);
    vi.stubGlobal('navigator', { gpu: { requestAdapter } });
    const b = await openWebGpu().finally(() => vi.unstubAllGlobals());
    expect(b.name).toContain(`(any, ${path}, f16 cache`);
    await b.dispose();
  });

  it('stay within the workgroup memory they are chosen for', () => {
    for (const headDim of headDims) {
      expect(subgroupsFor(headDim, 48 * 1024), `${headDim}`).toBe(8);
      expect(workgroupBytes(attendMatrix(headDim, 8)), `${headDim}`).toBeLessThanOrEqual(48 * 1024);
      for (const kib of [16, 32, 48]) {
        const bytes = kib * 1024;
        const subgroups = subgroupsFor(headDim, bytes);
        if (subgroups)
          expect(workgroupBytes(attendMatrix(headDim, subgroups)), `${headDim}`).toBeLessThanOrEqual(bytes);
        for (const number of ['f16', 'f32'] as const) {
          const form = { headDim, number };
          expect(workgroupBytes(attendTiles(form, tileSizes(form, bytes))), `${headDim}`).toBeLessThanOrEqual(bytes);
          expect(workgroupBytes(attendFew(form, 8, false)), `${headDim}`).toBeLessThanOrEqual(bytes);
        }
      }
    }
    expect([subgroupsFor(8, 48 * 1024), subgroupsFor(24, 48 * 1024), subgroupsFor(144, 48 * 1024)]).toEqual([0, 0, 0]);
  });
});

/** Bytes of workgroup memory in a kernel's text. */
function workgroupBytes(kernel: WgslKernel): number {
  const sizes: Record<string, number> = { f16: 2, f32: 4, u32: 4 };
  const sizeOf = (type: string): number => {
    const [, width, element] = /^vec([24])<(.*)>$/.exec(type) ?? [];
    return width ? Number(width) * sizes[element] : sizes[type];
  };
  const declared = moduleOf(kernel).code.matchAll(/var<workgroup> \w+: (?:array<(.+), (\d+)>|([^;]+));/g);
  return [...declared].reduce(
    (sum, [, element, length, type]) => sum + sizeOf(element ?? type) * Number(length ?? 1),
    0,
  );
}

describe.skipIf(!hasWebGpu)('openWebGpu', () => {
  afterEach(() => vi.unstubAllGlobals());

  it('computes without the checks of every index', async () => {
    const b = await openWebGpu();
    for (const kernelCase of [...oneOfEach(), ...RISING]) await expectRight(b, kernelCase);
    await b.dispose();
  });

  it('says that there is no adapter', async () => {
    vi.stubGlobal('navigator', { gpu: { requestAdapter: async () => null } });
    await expect(openWebGpu()).rejects.toThrow(UnsupportedError);
  });

  it('refuses what cannot be bound, and stays usable', async () => {
    const b = await openWebGpu();
    expect(() => b.allocKv(2 ** 19, 8, 128)).toThrow(/GPU binds .* GiB at most; use a shorter context/);
    expect(() => b.allocKv(8, 1, 260)).toThrow('multiple of 4 up to 256');
    const x = b.alloc('F32', 1, 4);
    b.write(x, [1, 2, 3, 4]);
    b.add(x, x);
    expect(Array.from(await b.read(x))).toEqual([2, 4, 6, 8]);
    await b.dispose();
  });

  it('splits a matrix by rows where a buffer cannot hold it', async () => {
    vi.stubGlobal('navigator', { gpu: await gpuOfBinding(2048) });
    const b = await openWebGpu();
    await expectRight(b, matmul({ type: 'Q8_0', n: 5, N: 60, K: 64, bias: true }));
    await expectRight(b, gatherRows({ type: 'F16', n: 7, rows: 40, cols: 37 }));
    await b.dispose();
  });

  it('splits a cache by heads where a buffer cannot hold it, and refuses a block that does not fit one', async () => {
    vi.stubGlobal('navigator', { gpu: await gpuOfBinding(33000) });
    const b = await openWebGpu();
    const sizes = { start: 30, nKvHeads: 3, group: 2, headDim: 16, chunkLen: 24 };
    for (const n of [1, 20]) await expectRight(b, attend({ ...sizes, n, keyForms: n === 1 ? 1 : 2 }));
    const large = b.alloc('F32', 400, 60);
    expect(() => b.add(large, large)).toThrow('400 rows of 60 numbers are more than this GPU binds at once');
    await b.dispose();
  });

  it('tells of memory that did not suffice, and of a device that was lost', async () => {
    let device: GPUDevice | undefined;
    const gpu = await gpuWith((made) => {
      device = made;
    });
    vi.stubGlobal('navigator', { gpu });
    const full = await openWebGpu();
    Object.defineProperty(device, 'popErrorScope', { value: async () => ({ message: 'out of memory' }) });
    full.alloc('F32', 1, 4);
    await expect(full.submit()).rejects.toThrow(/the GPU has no .* free; use a shorter context/);
    await full.dispose();

    const lost = await openWebGpu();
    const x = lost.alloc('F32', 1, 4);
    device?.destroy();
    lost.add(x, x);
    await expect(lost.read(x)).rejects.toThrow('the GPU was lost');
    await expect(lost.submit()).rejects.toThrow('open the model again');
    await lost.dispose();

    const busy = await openWebGpu();
    const y = busy.alloc('F32', 300, 1000);
    for (let i = 0; i < 50; i++) busy.add(y, y);
    const reading = busy.read(y);
    device?.destroy();
    await expect(reading).rejects.toThrow('the GPU was lost');
    await busy.dispose();

    const again = await openWebGpu();
    expect(Array.from(await again.read(again.alloc('F32', 1, 2)))).toEqual([0, 0]);
    await again.dispose();
  });
});

/**
 * A GPU whose subgroups are played in workgroup memory: what comes from a thread beyond a subgroup of `width` is no use.
 * @param claimed It claims subgroups of at least so many threads; with null it does not tell.
 */
const gpuOfSubgroups = (claimed: number | null, width: number, onShuffle = () => {}) =>
  gpuWith(
    (device) => {
      const create = device.createShaderModule.bind(device);
      Object.defineProperty(device, 'createShaderModule', {
        value: ({ code }: GPUShaderModuleDescriptor) => {
          if (!code.includes('subgroupShuffleXor')) return create({ code });
          onShuffle();
          const played = `
            var<workgroup> shuffled: array<vec4<f32>, 128>;
            fn shuffle(t: u32, value: vec4<f32>, mask: u32) -> vec4<f32> {
              workgroupBarrier();
              shuffled[t] = value;
              workgroupBarrier();
              let other = t ^ mask;
              return select(vec4(1e30), shuffled[other], other / ${width} == t / ${width});
            }`;
          const text = code.replace('enable subgroups;', '').replaceAll('subgroupShuffleXor(', 'shuffle(t, ');
          return create({ code: text + played });
        },
      });
    },
    { subgroups: claimed },
  );

describe.skipIf(!hasWebGpu)('subgroups', () => {
  afterEach(() => void vi.unstubAllGlobals());
  const decoding = [16, 64, 128, 256].map((headDim) => ({
    headDim,
    kernelCase: attend({ n: 1, start: 300, nKvHeads: 1, group: 3, headDim, chunkLen: 100 }),
  }));

  // Drivers choose a width for each kernel, from the least they tell of to the most.
  it.each([16, 64, 128])('of %i threads compute rightly where 8 are the least', async (width) => {
    let nShuffled = 0;
    vi.stubGlobal('navigator', { gpu: await gpuOfSubgroups(8, width, () => nShuffled++) });
    const b = await openWebGpu();
    for (const { kernelCase } of decoding.slice(0, 2)) await expectRight(b, kernelCase);
    expect(nShuffled).toBe(1); // 64 dimensions take 16 threads
    await b.dispose();
  });

  // Threads that share a key of 32-bit numbers are a quarter of its dimensions.
  it.each([4, 8, 16, 32, 64, 128])('of %i threads are used where a key fits in one, and rightly', async (width) => {
    let nShuffled = 0;
    const gpu = await gpuOfSubgroups(width, width, () => nShuffled++);
    vi.stubGlobal('navigator', { gpu });
    const b = await openWebGpu();
    expect(b.name).toMatch(/subgroups/);
    for (const { kernelCase } of decoding) await expectRight(b, kernelCase);
    expect(nShuffled).toBe(decoding.filter(({ headDim }) => headDim / 4 <= width).length);
    await b.dispose();
  });

  it('that are narrower than they claim would be noticed here', async () => {
    vi.stubGlobal('navigator', { gpu: await gpuOfSubgroups(128, 8) });
    const b = await openWebGpu();
    await expect(expectRight(b, decoding[2].kernelCase)).rejects.toThrow();
    await b.dispose();
  });

  it.each([0, null])('are left alone where their width is told as %s', async (claimed) => {
    let nShuffled = 0;
    vi.stubGlobal('navigator', { gpu: await gpuOfSubgroups(claimed, 4, () => nShuffled++) });
    const b = await openWebGpu();
    for (const { kernelCase } of decoding.slice(0, 2)) await expectRight(b, kernelCase);
    expect(nShuffled).toBe(0);
    await b.dispose();
  });
});

describe.skipIf(!hasWebGpu)('draw', () => {
  const b = sharedWebGpu();
  const GREEDY: Choice = { topK: 1, temperature: 1, topP: 1, minP: 0, u: 0 };

  /** The tokens that `choices` draw, from logits that have a row of NaN before and behind them. */
  async function draws(logits: Float32Array, choices: readonly Choice[]): Promise<number[]> {
    const n = logits.length;
    const [guarded, tokens] = [b.alloc('F32', 3, n), b.alloc('F32', choices.length, 1)];
    b.write(guarded, new Float32Array(3 * n).fill(NaN));
    b.write(b.view(guarded, 1, n, n), logits);
    for (const [at, choice] of choices.entries()) b.draw?.(b.view(tokens, 1, 1, at), b.view(guarded, 1, n, n), choice);
    return Array.from(await b.read(tokens));
  }

  const randomLogits = (n: number, { normals, integer, pick }: Random): Float32Array => {
    const round = pick([(x: number) => x, Math.round]); // as they are, or many equals
    const mask = pick([0, 1]); // nothing, or about half of them
    return normals(n, pick([0.1, 1, 5])).map((x) => (mask * integer(0, 1) === 1 ? -Infinity : round(x)));
  };
  const randomChoice = ({ uniform, integer, pick }: Random): Choice => ({
    topK: pick([integer(1, 8), integer(1, MAX_TOP_K), MAX_TOP_K]),
    temperature: pick([1e-45, 0.5, 1, 3, 100]),
    topP: pick([1, uniform()]),
    minP: pick([0, uniform() ** 4]),
    u: pick([0, 1 - 2 ** -32, uniform(), uniform()]),
  });

  // less than a slice, whole slices and one more or less, several passes
  const SIZES = [1, 2, 60, 1023, 1024, 1025, 5000, 128256];
  it.each(SIZES)('draws what the definition draws, from %i tokens', async (n) => {
    const random = seededRandom(`draw ${n}`);
    for (let round = 0; round < 4; round++) {
      const logits = randomLogits(n, random);
      const choices = [GREEDY, ...Array.from({ length: n > 10_000 ? 5 : 25 }, () => randomChoice(random))];
      const found = await draws(logits, choices);
      for (const [at, choice] of choices.entries()) {
        // in float32, borders between tokens may lie on the other side of `u`
        const near = [-1e-5, 1e-5].map((shift) => Math.min(Math.max(0, choice.u + shift), 1 - 2 ** -32));
        const [first, last] = near.map((u) => draw(logits, { ...choice, u }));
        const isInOrder = (a: number, b: number) => logits[a] > logits[b] || (logits[a] === logits[b] && a <= b);
        const isRight = isInOrder(first, found[at]) && isInOrder(found[at], last);
        expect(isRight, `${found[at]} is not ${first} to ${last}: ${JSON.stringify(choice)}`).toBe(true);
      }
    }
  });

  it.each([0, 5, 1023, 1024, 2999])('gives no token where logit %i is not a number', async (at) => {
    for (const bits of [0x7fc00000, 0xffc00000, 0x7f800001]) {
      const logits = seededRandom('nan').normals(3000);
      new Uint32Array(logits.buffer)[at] = bits;
      const choices = [GREEDY, { ...GREEDY, topK: 40, u: 0.5 }];
      expect(await draws(logits, choices)).toEqual([-1, -1]);
    }
  });

  it('takes -0 for 0, and knows the largest and the smallest numbers', async () => {
    expect(await draws(Float32Array.of(-1, -0, 0), [GREEDY])).toEqual([1]);
    expect(await draws(Float32Array.of(1.4e-45, 2.8e-45, 0), [GREEDY])).toEqual([1]);
    expect(await draws(Float32Array.of(-3.4e38, 3.3e38, 3.4e38, -Infinity), [GREEDY])).toEqual([2]);
    expect(await draws(Float32Array.of(-Infinity, -3.4e38), [GREEDY])).toEqual([1]);
    expect(await draws(Float32Array.of(-Infinity, -Infinity), [GREEDY, { ...GREEDY, topK: 2 }])).toEqual([-1, -1]);
    expect(await draws(Float32Array.of(1, Infinity), [GREEDY, { ...GREEDY, topK: 2 }])).toEqual([-1, -1]);
  });

  it('draws the second of two equals from a half on', async () => {
    const choice = { ...GREEDY, topK: 9, minP: 1 };
    const choices = [0, 0.49999, 0.5, 1 - 2 ** -32].map((u) => ({ ...choice, u }));
    expect(await draws(Float32Array.of(1, -Infinity, 2, 2, 1.99), choices)).toEqual([2, 2, 3, 3]);
  });

  it('goes on recording and writing while what was read is on its way', async () => {
    const x = b.alloc('F32', 1, 2);
    const readings = [1, 2, 3].map((value) => {
      b.write(x, [value, value]);
      b.add(x, x);
      return b.read(x);
    });
    expect((await Promise.all(readings)).map((numbers) => Array.from(numbers))).toEqual([
      [2, 2],
      [4, 4],
      [6, 6],
    ]);
  });

  it('lets a token be decoded in one submission', async () => {
    let nSubmissions = 0;
    const gpu = await gpuWith((device) => {
      const { queue } = device;
      const submit = queue.submit.bind(queue);
      vi.spyOn(queue, 'submit').mockImplementation((commands) => {
        nSubmissions++;
        submit(commands);
      });
      Object.defineProperty(device, 'queue', { value: queue });
    });
    vi.stubGlobal('navigator', { gpu });
    onTestFinished(() => void vi.unstubAllGlobals());
    const { engine, backend } = tinyEngine({ backend: await openWebGpu() });
    const counts: number[] = [];
    for await (const _ of engine.generate([1, 2, 3], { maxTokens: 6 })) counts.push(nSubmissions);
    // the prompt and its token; then the next token's goes ahead of this one, and none behind the last
    expect(counts).toEqual([2, 3, 4, 5, 6, 6]);
    await backend.dispose();
  });
});
