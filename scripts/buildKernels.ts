/**
 * Compiles the AssemblyScript kernels twice, with and without relaxed SIMD, into `src/kernels/wasmBinary.ts`. The bytes
 * travel as text in a module, so that Node, browsers and bundlers load them like any other code. Beside them stands a
 * function for every kernel that makes a call of named arguments, in the order that the compiler saw them in.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FunctionPrototype, type Program } from 'assemblyscript';
import asc, { type Transform } from 'assemblyscript/asc';
import { unshared } from '../src/kernels/unshared.ts';

const ENTRY = 'src/kernels/all.wasm';
const FIRST = 'scratch: usize, begin: i32, end: i32'; // parameters of every kernel, which the threads fill in
const NUMBERS = ['i32', 'u32', 'usize', 'f32', 'f64'];

/** The text of a function that makes a call of the kernel from named arguments. */
function callOf(kernel: string, parameters: { name: string; type: string }[]): string {
  const rest = parameters.slice(3);
  const signature = parameters.map(({ name, type }) => `${name}: ${type}`).join(', ');
  if (!`${signature}, `.startsWith(`${FIRST}, `) || !rest.every(({ type }) => NUMBERS.includes(type))) {
    throw new Error(`cannot call ${kernel}(${signature}); wanted ${FIRST}, and behind them only numbers`);
  }
  const type = `Record<${rest.map(({ name }) => `'${name}'`).join(' | ')}, number>`;
  const args = rest.map(({ name }) => `a.${name}`).join(', ');
  return `  ${kernel}: (a: ${type}) => ({ kernel: '${kernel}', args: [${args}] }),\n`;
}

/** Calls of all kernels, as text. What the module exports without scratch memory are tiles, which nobody calls. */
let calls = '';
function readSignatures({ filesByName }: Program): void {
  calls = '';
  for (const [name, element] of filesByName.get(ENTRY)?.exports ?? []) {
    if (!(element instanceof FunctionPrototype)) throw new Error(`${ENTRY}.ts exports ${name}; wanted only functions`);
    const { parameters } = element.functionTypeNode;
    const read = parameters.map(({ name, type }) => ({ name: name.text, type: `${type.range}` }));
    if (read[0]?.name === 'scratch') calls += callOf(name, read);
  }
}

/** Constants and functions of `abi.ts` are inlined; TypeScript has no decorator that could stand in the file. */
function readFile(name: string, folder: string): string | null {
  const path = join(folder, name);
  if (!existsSync(path)) return null;
  const text = readFileSync(path, 'utf8');
  return name === 'src/kernels/abi.ts' ? text.replaceAll(/^(export )?(const|function) /gm, '@inline $&') : text;
}

async function compile(features: string, isShared: boolean): Promise<Uint8Array<ArrayBuffer>> {
  let binary: Uint8Array<ArrayBuffer> | undefined;
  const { error, stderr } = await asc.main(
    [
      `${ENTRY}.ts`,
      ...['--outFile', 'all.wasm', '--runtime', 'stub', '-O3', '--noAssert'],
      ...['--importMemory', ...(isShared ? ['--sharedMemory'] : []), '--maximumMemory', '65536', '--enable', features],
    ],
    {
      readFile,
      transforms: [{ afterInitialize: readSignatures } as Transform],
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
  `// Made by scripts/buildKernels.ts from the *.wasm.ts files: the module in base64, and calls of its kernels.
export const PLAIN_SIMD = '${plain}';
export const RELAXED_SIMD = '${relaxed}';
export const calls = {
${calls}};
`,
);
