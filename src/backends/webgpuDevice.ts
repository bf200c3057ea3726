/** Finds a GPU: `navigator.gpu` where there is one, Dawn through the npm package `webgpu` where not. */
import { UnsupportedError } from '../errors.ts';

export interface WebGpuOptions {
  /** Half precision in the cache and in tiles, where the adapter has it. Default true. */
  f16?: boolean;
  /** Matrix units, where the adapter offers them to shaders. Default true. */
  tensorCores?: boolean;
  /** Let Dawn check every index in a shader; a browser always does. Default false. */
  robust?: boolean;
}

export interface Gpu {
  readonly device: GPUDevice;
  /** E.g. `nvidia hopper`. */
  readonly adapter: string;
  readonly hasF16: boolean;
  readonly hasTensorCores: boolean;
  /** Threads that a subgroup has at least; 0 where shaders have no subgroups. */
  readonly subgroupSize: number;
  /** Whether every index in a shader is checked. */
  readonly isChecked: boolean;
  /** Kept reachable: where the entry point is collected, Dawn goes with it. */
  readonly entry: GPU;
}

/** What Dawn must be asked for to give half precision and matrix units on NVIDIA's driver. */
const DAWN_TOGGLES = ['allow_unsafe_apis', 'vulkan_enable_f16_on_nvidia'];

/** Chromium's name of the extension that no standard has yet. */
const SUBGROUP_MATRIX = 'chromium-experimental-subgroup-matrix' as GPUFeatureName;

/** Beyond the limits that every device has, where the adapter has more. */
const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
] as const;

/** @throws UnsupportedError where there is no WebGPU or no adapter. */
export async function openGpu({ f16 = true, tensorCores = true, robust = false }: WebGpuOptions): Promise<Gpu> {
  const own = globalThis.navigator?.gpu;
  const entry = own ?? (await openDawn(robust));
  const adapter = await entry.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) {
    throw new UnsupportedError(
      'no WebGPU adapter found: it takes a graphics driver, and on Linux the Vulkan loader libvulkan.so.1; or use backend wasm',
    );
  }
  const offers = (feature: string) => adapter.features.has(feature as GPUFeatureName);
  const hasF16 = f16 && offers('shader-f16');
  const hasSubgroups = offers('subgroups');
  const hasTensorCores = hasF16 && hasSubgroups && tensorCores && offers(SUBGROUP_MATRIX) && has16x16(adapter);
  const requiredFeatures = [
    ...(hasF16 ? ['shader-f16'] : []),
    ...(hasSubgroups ? ['subgroups'] : []),
    ...(hasTensorCores ? [SUBGROUP_MATRIX] : []),
  ] as GPUFeatureName[];
  const requiredLimits = Object.fromEntries(LIMITS.map((limit) => [limit, adapter.limits[limit]]));
  const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
  const { vendor, architecture, description, subgroupMinSize = 0 } = adapter.info as GPUAdapterInfo & AdapterInfo;
  const name = [vendor, architecture].filter(Boolean).join(' ') || description || 'adapter without a name';
  const subgroupSize = hasSubgroups ? subgroupMinSize : 0;
  const isChecked = robust || own !== undefined;
  return { device, adapter: name, hasF16, hasTensorCores, subgroupSize, isChecked, entry };
}

/** Whether there is a GPU. One that is played by software is slower than the wasm backend. */
export async function hasGpu(): Promise<boolean> {
  const entry = globalThis.navigator?.gpu ?? (await openDawn(false).catch(() => undefined));
  const adapter = await entry?.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
  if (!adapter) return false;
  const { isFallbackAdapter, vendor, architecture, device, description } = adapter.info;
  const names = [vendor, architecture, device, description].join(' ');
  return !isFallbackAdapter && !/swiftshader|llvmpipe|lavapipe|software|basic render/i.test(names);
}

/** Whether subgroups of 32 multiply 16 x 16 x 16 numbers of half precision into float32, as NVIDIA's do. */
function has16x16({ info }: GPUAdapter): boolean {
  const { subgroupMatrixConfigs = [], subgroupMinSize, subgroupMaxSize } = info as unknown as AdapterInfo;
  if (subgroupMinSize !== 32 || subgroupMaxSize !== 32) return false;
  return [...subgroupMatrixConfigs].some(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === 'f16' && resultComponentType === 'f32' && M === 16 && N === 16 && K === 16,
  );
}

/** What TypeScript does not know of. */
interface AdapterInfo {
  subgroupMinSize?: number;
  subgroupMaxSize?: number;
  subgroupMatrixConfigs?: Iterable<{
    componentType: string;
    resultComponentType: string;
    M: number;
    N: number;
    K: number;
  }>;
}

/** @param dawn Names the package where no bundler for browsers sees it, and looks for it. */
async function openDawn(robust: boolean, dawn = 'webgpu'): Promise<GPU> {
  const { create }: typeof import('webgpu') = await import(/* @vite-ignore */ dawn).catch(() => {
    throw new UnsupportedError(
      'no WebGPU here: Node needs the optional package "webgpu", which was not installed or has no build for this system; run npm install webgpu, or use backend wasm',
    );
  });
  const toggles = robust ? DAWN_TOGGLES : [...DAWN_TOGGLES, 'disable_robustness'];
  return create([`enable-dawn-features=${toggles.join(',')}`]) as GPU;
}
