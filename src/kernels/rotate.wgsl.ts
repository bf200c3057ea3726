/** Items are pairs of dimensions; definition in `rotate.ts`. Every query and key comes through here, and is checked. */
import { checkMagnitude, eachItem, type WgslKernel } from './wgsl.ts';

export const rotate: WgslKernel = {
  name: 'rotate',
  buffers: { out: 'f32', fault: 'u32', x: 'f32', cosines: 'f32', sines: 'f32' },
  nWritten: 2,
  params: ['length', 'cols', 'nSources', 'halfDim', 'outAt', 'xAt', 'cosAt', 'sinAt', 'largest'],
  text: ({ x, cosines, sines }) =>
    eachItem(
      `
  let d = i % p.halfDim;
  let first = i / p.halfDim * 2 * p.halfDim + d;
  let angle = first / p.cols * p.halfDim + d;
  let cosine = ${cosines}[p.cosAt + angle];
  let sine = ${sines}[p.sinAt + angle];
  let source = p.xAt + first % p.nSources; // x is taken again where its numbers end
  let a = ${x}[source];
  let b = ${x}[source + p.halfDim];
  let turnedA = a * cosine - b * sine;
  let turnedB = b * cosine + a * sine;
  out[p.outAt + first] = turnedA;
  out[p.outAt + first + p.halfDim] = turnedB;
  ${checkMagnitude('turnedA')}
  ${checkMagnitude('turnedB')}`,
    ),
};
