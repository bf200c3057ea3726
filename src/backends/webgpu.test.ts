import { afterEach, describe, expect, it, vi } from 'vitest';
import { hasWebGpu } from '../../test/webgpu.ts';
import { UnsupportedError } from '../errors.ts';
import { gatherRows, matmul } from '../kernels/cases.ts';
import { expectRight, oneOfEach, runContract } from './contract.case.ts';
import { openWebGpu } from './webgpu.ts';

vi.setConfig({ testTimeout: 60_000 }); // a software driver takes seconds to compile a kernel

/** What a real entry point gives, but for what `change` makes of its devices. */
async function gpuWith(change: (device: GPUDevice) => void): Promise<GPU> {
  const { create } = await import('webgpu');
  const gpu = create([]) as GPU;
  return {
    gpu,
    requestAdapter: async () => {
      const adapter = (await gpu.requestAdapter()) as GPUAdapter;
      return {
        info: adapter.info,
        features: adapter.features,
        limits: adapter.limits,
        requestDevice: async (descriptor: GPUDeviceDescriptor) => {
          const device = await adapter.requestDevice(descriptor);
          change(device);
          return device;
        },
      };
    },
  } as unknown as GPU;
}

if (hasWebGpu) {
  runContract({ name: 'webgpu', open: () => openWebGpu({ robust: true }) });
}

describe.skipIf(!hasWebGpu)('openWebGpu', () => {
  afterEach(() => vi.unstubAllGlobals());

  it('computes without the checks of every index', async () => {
    const b = await openWebGpu();
    for (const kernelCase of oneOfEach()) await expectRight(b, kernelCase);
    await b.dispose();
  });

  it('says that there is no adapter', async () => {
    vi.stubGlobal('navigator', { gpu: { requestAdapter: async () => null } });
    await expect(openWebGpu()).rejects.toThrow(UnsupportedError);
  });

  it('refuses what cannot be bound, and stays usable', async () => {
    const b = await openWebGpu();
    expect(() => b.allocKv(2 ** 26, 8, 128)).toThrow(/GPU binds .* GiB at most; use a shorter context/);
    expect(() => b.allocKv(8, 1, 260)).toThrow('multiple of 4 up to 256');
    const x = b.alloc('F32', 1, 4);
    b.write(x, [1, 2, 3, 4]);
    b.add(x, x);
    expect(Array.from(await b.read(x))).toEqual([2, 4, 6, 8]);
    await b.dispose();
  });

  it('splits a matrix by rows where a buffer cannot hold it', async () => {
    const small = await gpuWith((device) => {
      const limits = { ...device.limits, maxComputeWorkgroupStorageSize: 32768, maxBufferSize: 2 ** 20 };
      Object.defineProperty(device, 'limits', { value: { ...limits, maxStorageBufferBindingSize: 2048 } });
    });
    vi.stubGlobal('navigator', { gpu: small });
    const b = await openWebGpu();
    await expectRight(b, matmul({ type: 'Q8_0', n: 5, N: 60, K: 64, bias: true }));
    await expectRight(b, gatherRows({ type: 'F16', n: 7, rows: 40, cols: 37 }));
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
    const again = await openWebGpu();
    expect(Array.from(await again.read(again.alloc('F32', 1, 2)))).toEqual([0, 0]);
    await again.dispose();
  });
});
