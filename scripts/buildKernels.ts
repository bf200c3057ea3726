/**
 * Compiles the AssemblyScript kernels twice, with and without relaxed SIMD, into `src/kernels/wasmBinary.ts`. The bytes
 * travel as text in a module, so that Node, browsers and bundlers load them like any other code.
 */
import { writeFileSync } from 'node:fs';
import asc from 'assemblyscript/asc';

async function compile(features: string): Promise<string> {
  let binary: Uint8Array | undefined;
  const { error, stderr } = await asc.main(
    [
      'src/kernels/all.wasm.ts',
      ...['--outFile', 'all.wasm', '--runtime', 'stub', '-O3', '--noAssert'],
      ...['--importMemory', '--sharedMemory', '--maximumMemory', '65536', '--enable', features],
    ],
    {
      writeFile: (name, contents) => {
        if (name.endsWith('.wasm') && typeof contents !== 'string') binary = contents;
      },
    },
  );
  if (error || !binary) throw new Error(`asc failed: ${error?.message}\n${stderr}`);
  console.log(`kernels (${features}): ${binary.length} bytes`);
  return Buffer.from(binary).toString('base64');
}

const plain = await compile('simd,threads');
const relaxed = await compile('simd,threads,relaxed-simd');
writeFileSync(
  'src/kernels/wasmBinary.ts',
  `// Made by scripts/buildKernels.ts from the *.wasm.ts files; base64.\nexport const PLAIN_SIMD = '${plain}';\nexport const RELAXED_SIMD = '${relaxed}';\n`,
);
