/**
 * WebGPU for tests: the machine's GPU, or else the software driver that comes with Debian's `chromium`. Where there is
 * neither, tests are skipped, or fail where REQUIRE_WEBGPU is set.
 */
import { existsSync } from 'node:fs';
import type { Backend } from '../src/backends/backend.ts';
import { openWebGpu } from '../src/backends/webgpu.ts';
import { UnsupportedError } from '../src/errors.ts';

const SOFTWARE_DRIVER = '/usr/lib/chromium/vk_swiftshader_icd.json';

async function find(): Promise<Backend | undefined> {
  process.env.XDG_RUNTIME_DIR ??= '/tmp'; // Dawn asks for it, and complains
  try {
    return await openWebGpu({ robust: true });
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    if (process.env.VK_ICD_FILENAMES === undefined && existsSync(SOFTWARE_DRIVER)) {
      process.env.VK_ICD_FILENAMES = SOFTWARE_DRIVER;
      return find();
    }
    if (process.env.REQUIRE_WEBGPU) throw error;
    console.warn(`WebGPU tests are skipped: ${error.message}`);
    return undefined;
  }
}

const found = await find();

export const hasWebGpu = found !== undefined;

/**
 * One backend for a whole file, since every new one compiles its kernels anew, which the software driver takes seconds
 * for.
 */
export const sharedWebGpu = (): Backend => ({ ...(found as Backend), dispose: async () => {} });
