/** A workgroup for each row; definition in `rmsNorm.ts`. */
import { main, reduce, type WgslKernel } from './wgsl.ts';

export const rmsNorm = (cols: number): WgslKernel => {
  const threads = cols > 1024 ? 256 : 64;
  return {
    name: `rmsNorm ${threads}`,
    buffers: { out: 'f32', x: 'f32', weight: 'f32' },
    nWritten: 1,
    params: ['rows', 'cols', 'outAt', 'xAt', 'weightAt', 'eps: f32'],
    text: ({ x, weight }) => `
var<workgroup> sums: array<f32, ${threads}>;
${main(
  threads,
  `
  if (group >= p.rows) { return; }
  let at = p.xAt + group * p.cols;
  var sum = 0.0;
  for (var c = t; c < p.cols; c += ${threads}u) { sum += ${x}[at + c] * ${x}[at + c]; }
  sums[t] = sum;
  ${reduce('sums', threads, (a, b) => `${a} + ${b}`)}
  let scale = 1 / sqrt(sums[0] / f32(p.cols) + p.eps);
  let to = p.outAt + group * p.cols;
  for (var c = t; c < p.cols; c += ${threads}u) { out[to + c] = ${x}[at + c] * scale * ${weight}[p.weightAt + c]; }`,
)}`,
  };
};
