/**
 * Attention on matrix units; definition in `attend.ts`, plan as in `attend.wgsl.ts`. A subgroup has 16 queries in
 * registers,
 * and their output. Keys and values come 32 at a time through workgroup memory, scores and their exponentials too. The
 * maximum that exponentials are taken from lags behind: only where a row's grows by more than 2^8 is the output
 * rescaled.
 */
import { ATTEND_PARAMS, attendBuffers, BANDS, reads } from './attend.wgsl.ts';
import {
  loadMatrix,
  loadResult,
  MATRIX_DIRECTIVES,
  main,
  RESULT,
  SUBGROUP,
  storeResult,
  times,
  type WgslKernel,
} from './wgsl.ts';

/** Keys of a tile. */
const N = 32;
const ROW = N / 4 + 1; // vectors of a row of scores: one of padding, so that a quarter of a subgroup reads all banks
const LAG = 8; // powers of two; weights stay below 2^8, sums of them far inside half precision's 65504

/** Whether heads of so many dimensions fit: output and queries of a subgroup stay in registers. */
export const fitsMatrix = (headDim: number): boolean => headDim % 16 === 0 && headDim <= 128;

/** Queries of a workgroup. */
export const queriesOf = (subgroups: number): number => 16 * subgroups;

/** Tiles of queries are the grid's `x`, from the last, which see most, to the first; key-value heads its `y`. */
export function attendMatrix(headDim: number, subgroups: 4 | 8): WgslKernel {
  const M = 16 * subgroups;
  const threads = 32 * subgroups;
  const D16 = headDim / 16;
  const D8 = headDim / 8;
  const stride = D8 + 1; // an odd number of vectors: neighbouring rows lie in other banks
  const loads = Math.ceil((N * D8) / threads); // of keys, and of values, for a thread
  return {
    name: `attendMatrix ${headDim} ${subgroups}`,
    buffers: { out: 'vec4<f32>', ...attendBuffers('vec4<u32>') },
    nWritten: 1,
    params: [...ATTEND_PARAMS, 'outAt', 'firstTile', 'nTiles'],
    directives: MATRIX_DIRECTIVES,
    text: (names) => {
      return `${BANDS}${reads(names, headDim / 4)}
var<workgroup> tile: array<vec4<u32>, ${2 * N * stride}>; // keys, then values
var<workgroup> scores: array<vec4<f32>, ${M * ROW}>;
var<workgroup> weights: array<vec4<u32>, ${M * 5}>; // rows of 32 halves and a vector of padding
var<workgroup> grows: vec4<u32>;
${main(
  threads,
  `
  let head = groupId.y;
  let m0 = (p.nTiles - 1 - p.firstTile - groupId.x) * ${M};
  let nQueries = min(${M}u, p.nRows * p.group - m0);
  let firstRow = m0 / p.group;
  let lastRow = (m0 + nQueries - 1) / p.group;
  // two threads for a query, 16 of a tile's keys each
  let mine = subgroup * 16 + lane / 2;
  let side = lane % 2 * 16;
  let row = (m0 + min(mine, nQueries - 1)) / p.group;
  var most = -3e38; // what exponentials are taken from, in powers of two
  var sum = 0.0;
  ${times(D16, (d) => `var q${d}: subgroup_matrix_left<f16, 16, 16>; var o${d} = ${RESULT}();`)}
  for (var band = 0u; band < 3; band++) {
    let begin = fromOf(band, firstRow);
    let end = toOf(band, lastRow);
    if (begin >= end) { continue; }
    for (var first = 0u; first < ${M}; first += ${2 * N}) {
      workgroupBarrier();
      for (var v = t; v < ${2 * N * D8}; v += ${threads}) {
        let m = m0 + min(first + v / ${D8}, nQueries - 1);
        let d = v % ${D8} * 2;
        let a = queryAt(band, m / p.group, head * p.group + m % p.group, d);
        let b = queryAt(band, m / p.group, head * p.group + m % p.group, d + 1);
        tile[v / ${D8} * ${stride} + v % ${D8}] =
          vec4(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
      }
      workgroupBarrier();
      if (subgroup * 16 / ${2 * N} == first / ${2 * N}) {
        ${times(D16, (d) => `q${d} = ${loadMatrix('left', 'row', 'tile', `subgroup * 16 % ${2 * N} * ${stride} + ${2 * d}`, stride)};`)}
      }
    }
    let lo = fromOf(band, row);
    let hi = toOf(band, row);
    for (var j0 = begin; j0 < end; j0 += ${N}) {
      workgroupBarrier();
      let nVectors = min(${N}u, end - j0) * ${D8};
      let at = (head * p.capacity + j0) * ${D8};
      ${times(loads, (i) => `let v${i} = t + ${threads * i}; var key${i}: vec4<u32>; var value${i}: vec4<u32>;`)}
      // zeros behind the keys: a weight of 0 does not undo NaN
      if (band == 0) {
        ${times(loads, (i) => `if (v${i} < nVectors) { key${i} = ${names.interKeys}[at + v${i}]; }`)}
      } else {
        ${times(loads, (i) => `if (v${i} < nVectors) { key${i} = ${names.keys}[at + v${i}]; }`)}
      }
      ${times(loads, (i) => `if (v${i} < nVectors) { value${i} = ${names.values}[at + v${i}]; }`)}
      ${times(
        loads,
        (i) => `
      if (v${i} < ${N * D8}) {
        tile[v${i} / ${D8} * ${stride} + v${i} % ${D8}] = key${i};
        tile[${N * stride} + v${i} / ${D8} * ${stride} + v${i} % ${D8}] = value${i};
      }`,
      )}
      if (t == 0) { grows = vec4<u32>(); }
      workgroupBarrier();
      let j = j0 + side;
      let isWhole = j0 >= fromOf(band, lastRow) && j0 + ${N} <= toOf(band, firstRow); // every query sees the tile
      {
        ${times(2, (h) => `var s${h} = ${RESULT}();`)}
        ${times(D16, (d) =>
          times(
            2,
            (h) =>
              `s${h} = subgroupMatrixMultiplyAccumulate(q${d}, ${loadMatrix('right', 'col', 'tile', `${16 * h * stride + 2 * d}u`, stride)}, s${h});`,
          ),
        )}
        ${times(2, (h) => storeResult(`s${h}`, 'scores', `subgroup * ${16 * ROW} + ${4 * h}`, ROW))}
      }
      workgroupBarrier();
      var tileMost = -3e38;
      ${times(4, (v) => `let row${v} = scores[mine * ${ROW} + side / 4 + ${v}] * 1.44269504;`)}
      ${times(
        16,
        (i) => `
      var s${i} = row${i >> 2}[${i & 3}];`,
      )}
      if (!isWhole) {
        ${times(16, (i) => `if (j + ${i} < lo || j + ${i} >= hi) { s${i} = -3e38; }`)}
      }
      ${times(16, (i) => `tileMost = max(tileMost, s${i});`)}
      tileMost = max(tileMost, subgroupShuffleXor(tileMost, 1));
      let isGrown = tileMost > most + ${LAG};
      if (isGrown) { grows.x = 1; }
      if (workgroupUniformLoad(&grows).x != 0) {
        var factor = 1.0;
        if (isGrown) { factor = exp2(most - tileMost); most = tileMost; }
        sum *= factor;
        // through workgroup memory, since a matrix does not tell which numbers a thread has
        ${times(
          D16,
          (d) => `
        workgroupBarrier();
        ${storeResult(`o${d}`, 'scores', `subgroup * ${16 * ROW}`, ROW)}
        workgroupBarrier();
        for (var v = 0u; v < 2; v++) { scores[mine * ${ROW} + side / 8 + v] *= factor; }
        workgroupBarrier();
        o${d} = ${loadResult('scores', `subgroup * ${16 * ROW}`, ROW)};`,
        )}
      }
      let base = max(most, -1e38); // so that hidden keys weigh nothing even where all are
      ${times(16, (i) => `let w${i} = exp2(s${i} - base);`)}
      sum += ${Array.from({ length: 16 }, (_, i) => `w${i}`).join(' + ')};
      ${times(2, (v) => {
        const pairs = Array.from(
          { length: 4 },
          (_, i) => `pack2x16float(vec2(w${8 * v + 2 * i}, w${8 * v + 2 * i + 1}))`,
        );
        return `weights[mine * 5 + side / 8 + ${v}] = vec4(${pairs.join(', ')});`;
      })}
      workgroupBarrier();
      ${times(
        2,
        (h) => `
      {
        let w = ${loadMatrix('left', 'row', 'weights', `subgroup * 80 + ${2 * h}`, 5)};
        ${times(
          D16,
          (d) =>
            `o${d} = subgroupMatrixMultiplyAccumulate(w, ${loadMatrix('right', 'row', 'tile', `${(N + 16 * h) * stride + 2 * d}u`, stride)}, o${d});`,
        )}
      }`,
      )}
    }
  }
  sum += subgroupShuffleXor(sum, 1);
  let m = m0 + mine;
  let to = ((p.row + m / p.group) * p.nHeads + head * p.group + m % p.group) * ${headDim / 4} + p.outAt / 4;
  ${times(
    D16,
    (d) => `
  workgroupBarrier();
  ${storeResult(`o${d}`, 'scores', `subgroup * ${16 * ROW}`, ROW)}
  workgroupBarrier();
  if (mine < nQueries) {
    for (var v = 0u; v < 2; v++) { out[to + ${4 * d} + side / 8 + v] = scores[mine * ${ROW} + side / 8 + v] / sum; }
  }`,
  )}`,
  SUBGROUP,
)}`;
    },
  };
}
