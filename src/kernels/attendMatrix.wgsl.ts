/**
 * Attention on matrix units; definition in `attend.ts`, plan as in `attend.wgsl.ts`. A subgroup has 16 queries in registers,
 * and their output. Keys and values come 32 at a time through workgroup memory, scores and their exponentials too. The
 * maximum that exponentials are taken from lags behind: only where a row's grows by more than 2^8 is the output rescaled.
 */
import { ATTEND_PARAMS, attendBuffers, BANDS, reads } from './attend.wgsl.ts';
import { loadMatrix, MATRIX_DIRECTIVES, main, RESULT, SUBGROUP, times, type WgslKernel } from './wgsl.ts';

/** Keys of a tile. */
const N = 32;
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
  const load = `
      ${times(
        loads,
        (i) => `
      {
        let v = t + ${threads * i};
        nextK${i} = vec4<u32>(); // zeros behind the keys: a weight of 0 does not undo NaN
        nextV${i} = vec4<u32>();
        if (v < min(${N}u, end - j0) * ${D8}) {
          let at = (head * p.capacity + j0) * ${D8} + v;
          if (band == 0) { nextK${i} = INTER_KEYS[at]; } else { nextK${i} = KEYS[at]; }
          nextV${i} = VALUES[at];
        }
      }`,
      )}`;
  return {
    name: `attendMatrix ${headDim} ${subgroups}`,
    buffers: { out: 'vec4<f32>', ...attendBuffers('vec4<u32>') },
    nWritten: 1,
    params: [...ATTEND_PARAMS, 'outAt', 'firstTile', 'nTiles'],
    directives: MATRIX_DIRECTIVES,
    text: (names) => {
      const next = load
        .replaceAll('INTER_KEYS', names.interKeys)
        .replaceAll('VALUES', names.values)
        .replaceAll('KEYS', names.keys);
      return `${BANDS}${reads(names, headDim / 4)}
var<workgroup> tile: array<vec4<u32>, ${2 * N * stride}>; // keys, then values
var<workgroup> scores: array<f32, ${M * (N + 4)}>;
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
  ${times(loads, (i) => `var nextK${i}: vec4<u32>; var nextV${i}: vec4<u32>;`)}
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
    var j0 = begin;
    ${next}
    for (; j0 < end; ) {
      workgroupBarrier();
      ${times(
        loads,
        (i) => `
      {
        let v = t + ${threads * i};
        if (v < ${N * D8}) {
          tile[v / ${D8} * ${stride} + v % ${D8}] = nextK${i};
          tile[${N * stride} + v / ${D8} * ${stride} + v % ${D8}] = nextV${i};
        }
      }`,
      )}
      if (t == 0) { grows = vec4<u32>(); }
      workgroupBarrier();
      let j = j0 + side;
      j0 += ${N};
      if (j0 < end) {${next}
      }
      {
        ${times(2, (h) => `var s${h} = ${RESULT}();`)}
        ${times(D16, (d) =>
          times(
            2,
            (h) =>
              `s${h} = subgroupMatrixMultiplyAccumulate(q${d}, ${loadMatrix('right', 'col', 'tile', `${16 * h * stride + 2 * d}u`, stride)}, s${h});`,
          ),
        )}
        ${times(2, (h) => `subgroupMatrixStore(&scores, subgroup * ${16 * (N + 4)} + ${16 * h}, s${h}, false, ${N + 4});`)}
      }
      workgroupBarrier();
      var tileMost = -3e38;
      ${times(
        16,
        (i) => `
      var s${i} = scores[mine * ${N + 4} + side + ${i}] * 1.44269504;
      if (j + ${i} < lo || j + ${i} >= hi) { s${i} = -3e38; }
      tileMost = max(tileMost, s${i});`,
      )}
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
        subgroupMatrixStore(&scores, subgroup * ${16 * (N + 4)}, o${d}, false, ${N + 4});
        workgroupBarrier();
        for (var i = 0u; i < 8; i++) { scores[mine * ${N + 4} + side / 2 + i] *= factor; }
        workgroupBarrier();
        o${d} = subgroupMatrixLoad<${RESULT}>(&scores, subgroup * ${16 * (N + 4)}, false, ${N + 4});`,
        )}
      }
      ${times(16, (i) => `let w${i} = select(exp2(s${i} - most), 0.0, s${i} < -2e38);`)}
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
  subgroupMatrixStore(&scores, subgroup * ${16 * (N + 4)}, o${d}, false, ${N + 4});
  workgroupBarrier();
  if (mine < nQueries) {
    for (var v = 0u; v < 2; v++) {
      let at = mine * ${N + 4} + side / 2 + 4 * v;
      out[to + ${4 * d} + side / 8 + v] = vec4(scores[at], scores[at + 1], scores[at + 2], scores[at + 3]) / sum;
    }
  }`,
  )}`,
  SUBGROUP,
)}`;
    },
  };
}
