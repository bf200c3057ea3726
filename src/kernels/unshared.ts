const IMPORTS = 2; // id of the section
const MEMORY = 2; // kind of an import
const BOUNDED = 1; // flag of a memory's limits: they have a maximum
const SHARED = 2;

/**
 * A WebAssembly module that imports one thing, a shared memory, as the same module over a memory that is not shared. No
 * other byte differs between the two. Binary format: WebAssembly Core Specification, section 5.
 */
export function unshared(module: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const bytes = module.slice();
  let at = 8; // behind magic number and version
  const number = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++];
      value |= (byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value; // also behind the last byte
    }
  };
  const skip = (length: number) => {
    at += length;
  };
  while (at < bytes.length && bytes[at++] !== IMPORTS) skip(number());
  const [, nImports] = [number(), number()];
  for (const _name of ['env', 'memory']) skip(number());
  if (nImports !== 1 || bytes[at] !== MEMORY || bytes[at + 1] !== (BOUNDED | SHARED)) {
    throw new Error('the module imports something else than one shared memory with a maximum');
  }
  bytes[at + 1] = BOUNDED;
  return bytes;
}
