/** Opens backends by their names. The code of each is loaded when it is asked for. */
import { UnsupportedError } from '../errors.ts';
import type { Machine } from '../platform/machine.ts';
import type { Backend } from './backend.ts';
import type { WasmOptions } from './wasm.ts';

export type BackendKind = 'wasm' | 'webgpu' | 'reference';

/** Options that only the wasm backend knows. */
export type WasmOnly = Pick<WasmOptions, 'threads' | 'precision' | 'kvType'>;

/**
 * The backend that a choice comes to: `auto` is `webgpu` where there is a GPU and nothing is asked that only `wasm` knows.
 * @throws UnsupportedError when an option does nothing with the backend.
 */
export async function settledBackend(
  choice: BackendKind | 'auto',
  machine: Machine,
  options: WasmOnly,
): Promise<BackendKind> {
  const own = (['threads', 'precision', 'kvType'] as const).find((name) => options[name] !== undefined);
  if (choice !== 'auto' && choice !== 'wasm' && own) {
    throw new UnsupportedError(`${own} has no effect with backend ${choice}; leave it out, or take backend wasm`);
  }
  if (choice !== 'auto') return choice;
  if (own || machine.mayHaveGpu?.() === false) return 'wasm';
  const { hasGpu } = await import('./webgpuDevice.ts');
  return (await hasGpu()) ? 'webgpu' : 'wasm';
}

/** @param stages Memories that the model is spread over. @throws UnsupportedError where the backend cannot be opened. */
export async function openBackend(
  kind: BackendKind,
  machine: Machine,
  { threads, precision, kvType }: WasmOnly,
  stages: number,
): Promise<Backend> {
  switch (kind) {
    case 'wasm':
      return (await import('./wasm.ts')).openWasm(machine, { threads, precision, kvType, stages });
    case 'webgpu':
      return (await import('./webgpu.ts')).openWebGpu();
    case 'reference':
      return (await import('./reference.ts')).openReference();
    default:
      return kind satisfies never;
  }
}
