/** Items are pairs of dimensions; definition in `rotate.ts`. */
import { eachItem, type WgslKernel } from './wgsl.ts';

export const rotate: WgslKernel = {
  name: 'rotate',
  buffers: { out: 'f32', x: 'f32', cosines: 'f32', sines: 'f32' },
  nWritten: 1,
  params: ['length', 'cols', 'nSources', 'halfDim', 'outAt', 'xAt', 'cosAt', 'sinAt'],
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
  out[p.outAt + first] = a * cosine - b * sine;
  out[p.outAt + first + p.halfDim] = b * cosine + a * sine;`,
    ),
};
