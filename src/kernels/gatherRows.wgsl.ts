/** Rows of a table, decoded; a thread for each unit of a row. */
import type { TensorType } from '../tensorTypes.ts';
import { decoderOf } from './dequantize.wgsl.ts';
import { main, type WgslKernel } from './wgsl.ts';

/** Units a workgroup takes. */
export const GATHERED = 64;

/** Rows `firstRow..firstRow + nRows` of the table lie in the buffer; others are left to another call. */
export function gatherRows(type: TensorType): WgslKernel {
  const decoder = decoderOf(type, true);
  return {
    name: `gatherRows ${type}`,
    buffers: { out: 'f32', table: decoder.element, ids: 'f32' },
    nWritten: 1,
    params: ['length', 'nUnits', 'K', 'firstRow', 'nRows', 'outAt', 'weightAt', 'idsAt', 'factor: f32'],
    text: ({ table, ids }) => `${decoder.text(table)}
${main(
  GATHERED,
  `
  let i = group * ${GATHERED}u + t;
  if (i >= p.length) { return; }
  let r = i / p.nUnits;
  let u = i % p.nUnits;
  let row = u32(${ids}[p.idsAt + r]) - p.firstRow;
  if (row >= p.nRows) { return; }
  let numbers = decode(row, u);
  let to = p.outAt + r * p.K;
  for (var k = 0u; k < ${decoder.unit}; k++) {
    let column = u * ${decoder.unit} + k;
    if (column >= p.K) { continue; }
    let number = numbers[k / 4][k % 4];
    out[to + column] = select(p.factor * number, number, p.factor == 1); // a product has no subnormal numbers
  }`,
)}`,
  };
}
