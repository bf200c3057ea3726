/**
 * Attention on matrix units; definition in `attend.ts`, plan as in `attend.wgsl.ts`. Tiles of 32 keys take two phases: all
 * subgroups multiply (the last tile's weights by its values, then queries by this tile's keys), then every query's threads
 * turn its scores into weights, while the next tile comes from storage through registers. What exponentials are taken from
 * lags behind a row's maximum: only where that grows by more than 2^9 is the output rescaled, outside of the inner loop, so
 * that in it the output never leaves its registers.
 */
import { ATTEND_PARAMS, attendBuffers, readsPlan, STRETCH_PARAMS } from './attend.wgsl.ts';
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
// Vectors of a row of scores: a gap between the halves and one behind them, so that both the matrix units' stores and the
// threads' loads reach all banks. Of a row of weights: one of padding.
const SCORE_ROW = N / 4 + 2;
const WEIGHT_ROW = N / 8 + 1;
// Powers of two: where a maximum is taken anew its weight is 2^6, and it may grow to 2^15. So weights stay within half
// precision's 65504, and one keeps its digits down to 2^-20 of the largest, as it must where very many keys weigh little.
const PEAK = 6;
const MOST = 15;

/** Subgroups of a workgroup, the more the better as they share a tile of keys. */
type Subgroups = 8 | 4;

/** Queries of a workgroup. */
export const queriesOf = (subgroups: Subgroups): number => 16 * subgroups;

const strideOf = (headDim: number) => headDim / 8 + 1; // vectors of a key or value: an odd number, for banks too

const workgroupBytes = (headDim: number, subgroups: Subgroups): number =>
  16 * (2 * N * strideOf(headDim) + queriesOf(subgroups) * (SCORE_ROW + WEIGHT_ROW) + 1) + 4 * queriesOf(subgroups);

/** How many subgroups work on heads of so many dimensions in `bytes` of workgroup memory; 0 where heads do not fit. */
export function subgroupsFor(headDim: number, bytes: number): Subgroups | 0 {
  if (headDim % 16 !== 0 || headDim > 128) return 0; // output and queries of a subgroup stay in registers
  return ([8, 4] as const).find((subgroups) => workgroupBytes(headDim, subgroups) <= bytes) ?? 0;
}

/** Tiles of queries are the grid's `x`, from the last, which see most, to the first; key-value heads its `y`. */
export function attendMatrix(headDim: number, subgroups: Subgroups): WgslKernel {
  const M = queriesOf(subgroups);
  const threads = 32 * subgroups;
  const D8 = headDim / 8;
  const stride = strideOf(headDim);
  const loads = Math.ceil((N * D8) / threads); // of keys, and of values, for a thread
  // Two subgroups share 32 queries: each has their scores with half of the keys, and half of their output's columns, so
  // that what it reads of keys and values is used twice. Where columns cannot be halved, each has 16 queries.
  const shared = headDim % 32 === 0 ? 2 : 1;
  const keyParts = N / 16 / shared; // of 16
  const columnParts = headDim / 16 / shared;
  const eachQuery = (text: (r: number) => string) => times(shared, text);
  const eachDim = (text: (d: number) => string) => times(headDim / 16, text);
  const eachScore = (text: (r: number, h: number) => string) => eachQuery((r) => times(keyParts, (h) => text(r, h)));
  const eachOutput = (text: (r: number, d: number) => string) =>
    eachQuery((r) => times(columnParts, (d) => text(r, d)));
  const eachLoad = (text: (i: number) => string) => times(loads, text);
  const ifOfTile = (i: number) => ((i + 1) * threads > N * D8 ? `if (t < ${N * D8 - i * threads}) ` : '');
  const storeWeights = (weight: (v: number) => string) =>
    times(2, (v) => `weights[mine * ${WEIGHT_ROW} + side * 2 + ${v}] = ${weight(v)};`);
  return {
    name: `attendMatrix ${headDim} ${subgroups}`,
    buffers: { out: 'vec4<f32>', ...attendBuffers('vec4<u32>') },
    nWritten: 1,
    params: [...ATTEND_PARAMS, ...STRETCH_PARAMS, 'outAt', 'firstTile', 'nTiles'],
    directives: MATRIX_DIRECTIVES,
    text: (names) => {
      // Behind the last key comes something of it: hidden as a key, weighed 0 as a value.
      const load = (buffer: string, head: string, to: string) =>
        eachLoad((i) => `${to}${i} = ${buffer}[(${head} + place) * ${D8} + min(t + ${threads * i}, last)];`);
      const loadKeys = load(names.keys, 'keysOfHead', 'key');
      const storeTile = (value: (i: number) => string) =>
        eachLoad((i) => `${ifOfTile(i)}{ tile[to${i}] = key${i}; tile[${N * stride} + to${i}] = ${value(i)}; }`);
      const scratch = (r: number) => `subgroup * ${64 * shared} + ${64 * r}`; // of a subgroup's own
      const rescale = times(
        columnParts,
        // through workgroup memory, since a matrix does not tell which numbers a thread has
        (d) => `
        ${eachQuery((r) => storeResult(`o${r}_${d}`, 'scores', scratch(r), 4))}
        workgroupBarrier();
        ${eachQuery(
          (r) => `
        for (var v = 0u; v < 2; v++) {
          scores[${scratch(r)} + lane * 2 + v] *= factors[(first16 + ${r}) * 16 + lane / 2];
        }`,
        )}
        workgroupBarrier();
        ${eachQuery((r) => `o${r}_${d} = ${loadResult('scores', scratch(r), 4)};`)}
        workgroupBarrier();`,
      );
      const readScores = (tile: string) => `
        ${times(4, (v) => `var s${v} = scores[mine * ${SCORE_ROW} + side * 5 + ${v}];`)}
        let j0 = first + ${tile} * ${N};
        if (j0 < wholeFrom || j0 + ${N} > wholeTo) { // not every query sees all of the tile
          ${times(
            4,
            (v) => `
          {
            let j = j0 + side * 16 + vec4(${4 * v}, ${4 * v + 1}, ${4 * v + 2}, ${4 * v + 3});
            s${v} = select(s${v}, vec4(-3e38), (j < lo) | (j >= hi));
          }`,
          )}
        }
        let most = max(max(s0, s1), max(s2, s3));`;
      const weigh = `
        let origin = max(base, -1e38); // so that hidden keys weigh nothing even where all are
        ${times(4, (v) => `let w${v} = exp2(s${v} - origin);`)}
        sumOfTile = w0 + w1 + w2 + w3;
        ${storeWeights((v) => {
          const pairs = ['xy', 'zw'].map((xy) => [2 * v, 2 * v + 1].map((w) => `pack2x16float(w${w}.${xy})`));
          return `vec4(${pairs[0][0]}, ${pairs[1][0]}, ${pairs[0][1]}, ${pairs[1][1]})`;
        })}`;
      const addValues = times(
        N / 16,
        (h) => `
        {
          ${eachQuery((r) => `let w${r} = ${loadMatrix('left', 'row', 'weights', `(first16 + ${r}) * ${16 * WEIGHT_ROW} + ${2 * h}`, WEIGHT_ROW)};`)}
          ${times(
            columnParts,
            (d) => `
          {
            let v = ${loadMatrix('right', 'row', 'tile', `${(N + 16 * h) * stride} + (part * ${columnParts} + ${d}) * 2`, stride)};
            ${eachQuery((r) => `o${r}_${d} = subgroupMatrixMultiplyAccumulate(w${r}, v, o${r}_${d});`)}
          }`,
          )}
        }`,
      );
      const score = `
        ${eachScore((r, h) => `var s${r}_${h} = ${RESULT}();`)}
        ${eachDim((d) =>
          times(
            keyParts,
            (h) => `
        {
          let k = ${loadMatrix('right', 'col', 'tile', `(part * ${keyParts} + ${h}) * ${16 * stride} + ${2 * d}`, stride)};
          ${eachQuery((r) => `s${r}_${h} = subgroupMatrixMultiplyAccumulate(q${r}_${d}, k, s${r}_${h});`)}
        }`,
          ),
        )}
        ${eachScore((r, h) => storeResult(`s${r}_${h}`, 'scores', `(first16 + ${r}) * ${16 * SCORE_ROW} + (part * ${keyParts} + ${h}) * 5`, SCORE_ROW))}`;
      return `${readsPlan(names, headDim / 4)}
var<workgroup> tile: array<vec4<u32>, ${2 * N * stride}>; // keys, then values
var<workgroup> scores: array<vec4<f32>, ${M * SCORE_ROW}>;
var<workgroup> weights: array<vec4<u32>, ${M * WEIGHT_ROW}>; // halves
var<workgroup> factors: array<f32, ${M}>; // what a query's output so far is worth
var<workgroup> grown: vec4<u32>; // the last tile in which a maximum grew, counted from 1 through all spans
${main(
  threads,
  `
  let head = groupId.y;
  let m0 = (p.nTiles - 1 - p.firstTile - groupId.x) * ${M};
  let nQueries = min(${M}u, p.nRows * p.group - m0);
  let firstRow = m0 / p.group;
  let lastRow = (m0 + nQueries - 1) / p.group;
  let first16 = subgroup / ${shared} * ${shared}; // first 16 queries of the subgroup, counted in 16s
  let part = subgroup % ${shared};
  // two threads for a query, each with half of a tile's keys
  let mine = t / 2;
  let side = t % 2;
  let row = (m0 + min(mine, nQueries - 1)) / p.group;
  var base = -3e38; // what exponentials are taken from, in powers of two
  var sum: vec4<f32>;
  var number = 0u; // of tiles so far
  ${eachQuery((r) => eachDim((d) => `var q${r}_${d}: subgroup_matrix_left<f16, 16, 16>;`))}
  ${eachOutput((r, d) => `var o${r}_${d} = ${RESULT}();`)}
  ${eachLoad((i) => `var key${i}: vec4<u32>; var value${i}: vec4<u32>; let to${i} = t + ${threads * i} + (t + ${threads * i}) / ${D8};`)}
  for (var span = 0u; span < p.nSpans; span++) {
    let begin = fromOf(p.spansAt, span, firstRow);
    let end = toOf(p.spansAt, span, lastRow);
    if (begin >= end) { continue; }
    let rotation = rotationOf(p.spansAt, span);
    for (var some = 0u; some < ${M}; some += ${2 * N}) {
      workgroupBarrier();
      for (var v = t; v < ${2 * N * D8}; v += ${threads}) {
        let m = m0 + min(some + v / ${D8}, nQueries - 1);
        let d = v % ${D8} * 2;
        let a = ${Math.LOG2E} * queryAt(rotation, p.row + m / p.group, head * p.group + m % p.group, d);
        let b = ${Math.LOG2E} * queryAt(rotation, p.row + m / p.group, head * p.group + m % p.group, d + 1);
        tile[v + v / ${D8}] =
          vec4(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
      }
      workgroupBarrier();
      if (first16 * 16 / ${2 * N} == some / ${2 * N}) {
        ${eachQuery((r) => eachDim((d) => `q${r}_${d} = ${loadMatrix('left', 'row', 'tile', `(first16 + ${r}) * 16 % ${2 * N} * ${stride} + ${2 * d}`, stride)};`))}
      }
    }
    let lo = vec4(fromOf(p.spansAt, span, row));
    let hi = vec4(toOf(p.spansAt, span, row));
    let wholeFrom = fromOf(p.spansAt, span, lastRow);
    let wholeTo = toOf(p.spansAt, span, firstRow);
    let keysOfHead = (keyFormOf(p.spansAt, span) * p.partHeads + head) * p.room;
    let first = begin / ${N} * ${N}; // key of the first tile
    let nTiles = (end - first + ${N - 1}) / ${N};
    // Where a tile lies is looked up while the one before it is loaded.
    var place = placeOf(p.pagesAt, first);
    var placeAfter = placeOf(p.pagesAt, first + min(1, nTiles - 1) * ${N});
    var last = min(${N}, end - first) * ${D8} - 1;
    ${loadKeys}
    workgroupBarrier();
    ${storeTile(() => 'vec4<u32>()')}
    ${storeWeights(() => 'vec4<u32>()')}
    workgroupBarrier();
    var i = 0u;
    loop {
      var isGrown: bool;
      var sumOfTile: vec4<f32>;
      loop {
        number++;
        ${load(names.values, 'head * p.room', 'value')}
        place = placeAfter;
        last = min(${N}, end - (first + min(i + 1, nTiles - 1) * ${N})) * ${D8} - 1;
        placeAfter = placeOf(p.pagesAt, first + min(i + 2, nTiles - 1) * ${N});
        ${loadKeys} // of the next tile
        ${addValues} // of the last tile, at first zeros
        ${score}
        workgroupBarrier();
        ${readScores('i')}
        ${weigh}
        if (max(max(most.x, most.y), max(most.z, most.w)) > base + ${MOST}) { grown.x = number; }
        ${storeTile((i) => `value${i}`)}
        isGrown = workgroupUniformLoad(&grown).x == number;
        i++;
        if (isGrown) { break; }
        sum += sumOfTile;
        if (i == nTiles) { break; }
      }
      if (isGrown) {
        ${readScores('(i - 1)')}
        var peak = max(max(most.x, most.y), max(most.z, most.w));
        peak = max(peak, subgroupShuffleXor(peak, 1));
        let before = base;
        if (peak > base + ${MOST}) { base = peak - ${PEAK}; }
        factors[mine] = exp2(before - base);
        ${weigh}
        sum = sum * exp2(before - base) + sumOfTile;
        workgroupBarrier();
        ${rescale}
      }
      if (i == nTiles) { break; }
    }
    ${addValues}
  }
  workgroupBarrier();
  var total = sum.x + sum.y + sum.z + sum.w;
  total += subgroupShuffleXor(total, 1);
  factors[mine] = 1 / total;
  ${eachOutput(
    (r, d) => `
  workgroupBarrier();
  ${storeResult(`o${r}_${d}`, 'scores', 'subgroup * 64', 4)}
  workgroupBarrier();
  {
    let query = (first16 + ${r}) * 16 + lane / 2;
    if (query < nQueries) {
      let m = m0 + query;
      let to = ((p.row + m / p.group) * p.nHeads + head * p.group + m % p.group) * ${headDim / 4} + p.outAt / 4;
      for (var v = 0u; v < 2; v++) {
        out[to + (part * ${columnParts} + ${d}) * 4 + lane % 2 * 2 + v] = scores[subgroup * 64 + lane * 2 + v] * factors[query];
      }
    }
  }`,
  )}`,
  SUBGROUP,
)}`;
    },
  };
}
