/** Numbers and what computes, as people read them. */
import type { RemoteModel } from 'dualchunk/browser';

export const count = (value: number): string => Math.round(value).toLocaleString('en');

export const size = (bytes: number): string =>
  bytes < 2 ** 20
    ? `${Math.ceil(bytes / 2 ** 10)} KiB`
    : bytes < 2 ** 30
      ? `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`
      : `${(bytes / 2 ** 30).toFixed(1)} GiB`;

export const duration = (seconds: number): string =>
  seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;

/** Says what a backend's name, such as `wasm (relaxed SIMD, int8, bf16 cache, 2 threads)`, means. */
export function placeInWords(name: RemoteModel['backendName']): string {
  const threads = /(\d+) threads?/.exec(name)?.[1];
  if (name.startsWith('wasm')) {
    const simd = name.includes('relaxed') ? 'with relaxed SIMD' : 'with plain SIMD';
    return `CPU, WebAssembly ${simd}, ${threads === undefined ? 'one thread' : `${threads} threads`}`;
  }
  const half = name.includes('f16') ? 'half precision' : 'single precision';
  const units = name.includes('tensor') ? 'tensor cores' : name.includes('subgroups') ? 'subgroups' : 'plain shaders';
  return name.startsWith('webgpu') ? `GPU, WebGPU with ${units}, ${half}` : name;
}
