/**
 * Rotated keys and values of some heads into the cache, `[heads, room, headDim]`: a head's lie together. Items are numbers. Values are
 * checked on their way, keys were when they were rotated.
 */
import { checkMagnitude, eachItem, type WgslKernel } from './wgsl.ts';

/** @param number What the cache holds: `f32` or `f16`. */
export const append = (number: string, keyForms: 1 | 2): WgslKernel => {
  const parts = ['keys', 'values', ...(keyForms === 2 ? ['interKeys'] : [])];
  const sources = { keys: 'k', values: 'v', interKeys: 'kInter' } as Record<string, string>;
  return {
    name: `append ${number} ${keyForms}`,
    buffers: {
      ...Object.fromEntries(parts.map((part) => [part, number])),
      fault: 'u32',
      ...Object.fromEntries(parts.map((part) => [sources[part], 'f32'])),
    },
    nWritten: parts.length + 1,
    params: [
      'length',
      'cols',
      'stride',
      'headDim',
      'room',
      'start',
      ...parts.map((part) => `${sources[part]}At`),
      'largest',
    ],
    directives: number === 'f16' ? 'enable f16;' : '',
    text: (names) =>
      eachItem(
        `
  let token = i / p.cols;
  let head = i % p.cols / p.headDim;
  let to = (head * p.room + p.start + token) * p.headDim + i % p.headDim;
  let source = token * p.stride + i % p.cols;
${parts.map((part) => `  ${part}[to] = ${number}(${names[sources[part]]}[p.${sources[part]}At + source]);`).join('\n')}
  ${checkMagnitude(`${names.v}[p.vAt + source]`)}`,
      ),
  };
};
