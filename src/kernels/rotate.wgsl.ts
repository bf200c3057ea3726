/** A thread for each pair of dimensions; definition in `rotate.ts`. */
import { main, type WgslKernel } from './wgsl.ts';

/** Pairs a workgroup takes. */
export const PAIRS = 64;

export const rotate: WgslKernel = {
  name: 'rotate',
  buffers: { out: 'f32', x: 'f32', cosines: 'f32', sines: 'f32' },
  nWritten: 1,
  params: ['nPairs', 'cols', 'length', 'halfDim', 'outAt', 'xAt', 'cosAt', 'sinAt'],
  text: ({ x, cosines, sines }) =>
    main(
      PAIRS,
      `
  let pair = group * ${PAIRS}u + t;
  if (pair >= p.nPairs) { return; }
  let d = pair % p.halfDim;
  let first = pair / p.halfDim * 2 * p.halfDim + d;
  let angle = first / p.cols * p.halfDim + d;
  let cosine = ${cosines}[p.cosAt + angle];
  let sine = ${sines}[p.sinAt + angle];
  let source = p.xAt + first % p.length; // x is taken again where its numbers end
  let a = ${x}[source];
  let b = ${x}[source + p.halfDim];
  out[p.outAt + first] = a * cosine - b * sine;
  out[p.outAt + first + p.halfDim] = b * cosine + a * sine;`,
    ),
};
