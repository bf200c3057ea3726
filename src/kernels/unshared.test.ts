import { expect, it } from 'vitest';
import { unshared } from './unshared.ts';
import { PLAIN_SIMD, RELAXED_SIMD } from './wasmBinary.ts';

const HEAD = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const CUSTOM = [0, 0x83, 0, 1, 0x78, 2]; // its size in two bytes; in it, the id of an import section
const NAMES = [3, 0x65, 0x6e, 0x76, 6, 0x6d, 0x65, 0x6d, 0x6f, 0x72, 0x79];
const imports = (...kind: number[]) => [2, 1 + NAMES.length + kind.length, 1, ...NAMES, ...kind];
const moduleOf = (...sections: number[][]) => Uint8Array.from([...HEAD, ...sections.flat()]);

it('changes the flag of the memory alone, wherever it stands', () => {
  const found = unshared(moduleOf(CUSTOM, imports(2, 3, 1, 2)));
  expect(found).toEqual(moduleOf(CUSTOM, imports(2, 1, 1, 2)));
  expect(WebAssembly.validate(found)).toBe(true);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 });
  expect(new WebAssembly.Instance(new WebAssembly.Module(found), { env: { memory } })).toBeDefined();
});

it.each([PLAIN_SIMD, RELAXED_SIMD])('changes one byte of the kernels', (base64) => {
  const bytes = Uint8Array.from(Buffer.from(base64, 'base64'));
  expect(unshared(bytes).filter((byte, i) => byte !== bytes[i])).toHaveLength(1);
});

it.each([
  ['nothing', []],
  ['a memory that is not shared', imports(2, 1, 1, 2)],
  ['a memory without end', imports(2, 0, 1)],
  ['a table', imports(1, 0x70, 3, 1)],
])('refuses a module that imports %s', (_, section) => {
  expect(() => unshared(moduleOf(section))).toThrow('imports something else');
});
