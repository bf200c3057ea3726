/**
 * Compiles the AssemblyScript kernels twice, with and without relaxed SIMD, into `src/kernels/wasmBinary.ts`. The bytes
 * travel as text in a module, so that Node, browsers and bundlers load them like any other code.
 */
import { writeFileSync } from 'node:fs';
import asc from 'assemblyscript/asc';
import { unshared } from '../src/kernels/unshared.ts';

async function compile(features: string, isShared: boolean): Promise<Uint8Array<ArrayBuffer>> {
  let binary: Uint8Array<ArrayBuffer> | undefined;
  const { error, stderr } = await asc.main(
    [
      'src/kernels/all.wasm.ts',
      ...['--outFile', 'all.wasm', '--runtime', 'stub', '-O3', '--noAssert'],
      ...['--importMemory', ...(isShared ? ['--sharedMemory'] : []), '--maximumMemory', '65536', '--enable', features],
    ],
    {
      writeFile: (name, contents) => {
        if (name.endsWith('.wasm') && typeof contents !== 'string') binary = new Uint8Array(contents);
      },
    },
  );
  if (error || !binary) throw new Error(`asc failed: ${error?.message}\n${stderr}`);
  return binary;
}

/** The kernels over a shared memory, in base64. What the backend makes of them where memory is not shared must be right. */
async function build(features: string): Promise<string> {
  const binary = await compile(features, true);
  if (Buffer.compare(unshared(binary), await compile(features, false)) !== 0) {
    throw new Error(`kernels (${features}): without shared memory they differ in more than its flag`);
  }
  console.log(`kernels (${features}): ${binary.length} bytes`);
  return Buffer.from(binary).toString('base64');
}

const plain = await build('simd,threads');
const relaxed = await build('simd,threads,relaxed-simd');
writeFileSync(
  'src/kernels/wasmBinary.ts',
  `// Made by scripts/buildKernels.ts from the *.wasm.ts files; base64.\nexport const PLAIN_SIMD = '${plain}';\nexport const RELAXED_SIMD = '${relaxed}';\n`,
);
