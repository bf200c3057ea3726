/**
 * Rotated keys and values into the cache, `[nKvHeads, capacity, headDim]`: a head's lie together. A thread a number.
 */
import { main, type WgslKernel } from './wgsl.ts';

/** Numbers a workgroup takes. */
export const APPENDED = 256;

/** @param number What the cache holds: `f32` or `f16`. */
export const append = (number: string, keyForms: 1 | 2): WgslKernel => {
  const parts = ['keys', 'values', ...(keyForms === 2 ? ['interKeys'] : [])];
  const sources = { keys: 'k', values: 'v', interKeys: 'kInter' } as Record<string, string>;
  return {
    name: `append ${number} ${keyForms}`,
    buffers: {
      ...Object.fromEntries(parts.map((part) => [part, number])),
      ...Object.fromEntries(parts.map((part) => [sources[part], 'f32'])),
    },
    nWritten: parts.length,
    params: ['length', 'cols', 'headDim', 'capacity', 'start', ...parts.map((part) => `${sources[part]}At`)],
    directives: number === 'f16' ? 'enable f16;' : '',
    text: (names) =>
      main(
        APPENDED,
        `
  let i = group * ${APPENDED}u + t;
  if (i >= p.length) { return; }
  let head = i % p.cols / p.headDim;
  let to = (head * p.capacity + p.start + i / p.cols) * p.headDim + i % p.headDim;
${parts.map((part) => `  ${part}[to] = ${number}(${names[sources[part]]}[p.${sources[part]}At + i]);`).join('\n')}`,
      ),
  };
};
