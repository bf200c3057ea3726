/**
 * Rotated keys, of one form, and values of some heads into the cache, `[heads, room, headDim]`: a head's lie together. Items are
 * numbers. Values are checked on their way, keys were when they were rotated.
 */
import { checkMagnitude, eachItem, type WgslKernel } from './wgsl.ts';

/** @param number What the cache holds: `f32` or `f16`. */
export const append = (number: string): WgslKernel => ({
  name: `append ${number}`,
  buffers: { keys: number, values: number, fault: 'u32', k: 'f32', v: 'f32', places: 'u32' },
  nWritten: 3,
  params: ['length', 'cols', 'stride', 'headDim', 'room', 'firstKeyHead', 'placesAt', 'kAt', 'vAt', 'largest'],
  directives: number === 'f16' ? 'enable f16;' : '',
  text: ({ k, v, places }) =>
    eachItem(
      `
  let token = i / p.cols;
  let head = i % p.cols / p.headDim;
  let to = (head * p.room + ${places}[p.placesAt + token]) * p.headDim + i % p.headDim;
  let source = token * p.stride + i % p.cols;
  keys[p.firstKeyHead * p.room * p.headDim + to] = ${number}(${k}[p.kAt + source]);
  values[to] = ${number}(${v}[p.vAt + source]);
  ${checkMagnitude(`${v}[p.vAt + source]`)}`,
    ),
});
