/**
 * Attention that runs on every device; definition in `attend.ts`. A workgroup has a tile of queries of one key-value
 * head,
 * rows and query heads counted together, and walks the keys they see, band by band, with one online softmax.
 */
import { main, times, type WgslKernel } from './wgsl.ts';

/** What a kernel of attention is made for. */
export interface AttendForm {
  headDim: number;
  /** What the cache holds, and what tiles are kept in. */
  number: 'f32' | 'f16';
}

export const BAND_PARAMS = ['from0', 'to0', 'from1', 'to1', 'from2', 'to2', 'moves'];

/** Of all kernels that attend: the queries' variants and the cache, keys twice where the inter band's are its own. */
export const ATTEND_PARAMS = ['row', 'nRows', 'nHeads', 'group', 'capacity', 'qAt0', 'qAt1', 'qAt2', ...BAND_PARAMS];

export const attendBuffers = (vector: string) => ({
  qInter: 'vec4<f32>',
  qSucc: 'vec4<f32>',
  qIntra: 'vec4<f32>',
  interKeys: vector,
  keys: vector,
  values: vector,
});

/** Bands 0 to 2 are inter, succ and intra; where a band's ends are for row `r` of the piece. */
export const BANDS = `
fn fromOf(band: u32, r: u32) -> u32 {
  return select(select(p.from2, p.from1, band == 1), p.from0, band == 0) + select(0u, r, ((p.moves >> (2 * band)) & 1) == 1);
}
fn toOf(band: u32, r: u32) -> u32 {
  return select(select(p.to2, p.to1, band == 1), p.to0, band == 0) + select(0u, r, ((p.moves >> (2 * band + 1)) & 1) == 1);
}`;

/** Reading of query and key vectors of a band; a key-value head's keys lie together. */
export const reads = (names: Readonly<Record<string, string>>, D4: number): string => `
fn queryAt(band: u32, row: u32, head: u32, d: u32) -> vec4<f32> {
  let at = ((p.row + row) * p.nHeads + head) * ${D4} + d;
  if (band == 0) { return ${names.qInter}[p.qAt0 / 4 + at]; }
  if (band == 1) { return ${names.qSucc}[p.qAt1 / 4 + at]; }
  return ${names.qIntra}[p.qAt2 / 4 + at];
}`;

export interface TileSizes {
  /** Queries and keys of a tile. */
  M: number;
  N: number;
}

/** The largest tiles that fit into `bytes` of workgroup memory: queries, keys or values, scores, rows' factors. */
export function tileSizes({ headDim, number }: AttendForm, bytes: number): TileSizes {
  const size = number === 'f16' ? 2 : 4;
  const taken = ({ M, N }: TileSizes) => size * headDim * (M + N) + 4 * M * (N + 1) + 4 * M;
  const sizes = [64, 32, 16].flatMap((M) => [32, 16, 8].map((N) => ({ M, N })));
  return sizes.find((tile) => taken(tile) <= bytes) ?? { M: 8, N: 8 };
}

/**
 * Threads of a row of the tile. Each has keys `c, c + 8, …` of scores and vectors `c, c + 8, …` of output for four
 * rows.
 */
const COLUMNS = 8;

/** Tiles of queries are the grid's `x`, key-value heads its `y`. */
export function attend(form: AttendForm, { M, N }: TileSizes): WgslKernel {
  const { headDim, number } = form;
  const D4 = headDim / 4;
  const threads = (M / 4) * COLUMNS;
  const rowStep = M / 4;
  const nKeys = N / COLUMNS;
  const nVectors = Math.ceil(D4 / COLUMNS);
  const vector = `vec4<${number}>`;
  return {
    name: `attend ${number} ${headDim} ${M}x${N}`,
    buffers: { out: 'vec4<f32>', ...attendBuffers(vector) },
    nWritten: 1,
    params: [...ATTEND_PARAMS, 'outAt', 'firstTile'],
    directives: number === 'f16' ? 'enable f16;' : '',
    text: (names) => `${BANDS}${reads(names, D4)}
var<workgroup> queries: array<${vector}, ${M * D4}>;
var<workgroup> tile: array<${vector}, ${N * D4}>; // of keys, then of values
var<workgroup> weights: array<f32, ${M * (N + 1)}>; // scores, then exp of them
var<workgroup> factors: array<f32, ${M}>; // what the output so far is worth after a tile
${main(
  threads,
  `
  let head = groupId.y;
  let m0 = (groupId.x + p.firstTile) * ${M};
  let nQueries = min(${M}u, p.nRows * p.group - m0);
  let firstRow = m0 / p.group;
  let lastRow = (m0 + nQueries - 1) / p.group;
  let c = t % ${COLUMNS};
  let r = t / ${COLUMNS};
  ${times(4, (i) => `var o${i}: array<vec4<f32>, ${nVectors}>;`)}
  var rowMax = -3e38; // of query t, as is the sum
  var rowSum = 0.0;
  for (var band = 0u; band < 3; band++) {
    let begin = fromOf(band, firstRow);
    let end = toOf(band, lastRow);
    if (begin >= end) { continue; }
    workgroupBarrier();
    for (var i = t; i < nQueries * ${D4}; i += ${threads}) {
      let m = m0 + i / ${D4};
      queries[i] = ${vector}(queryAt(band, m / p.group, head * p.group + m % p.group, i % ${D4}));
    }
    for (var j0 = begin; j0 < end; j0 += ${N}) {
      let nSeen = min(${N}u, end - j0);
      let at = (head * p.capacity + j0) * ${D4};
      for (var i = t; i < ${N * D4}; i += ${threads}) {
        var key: ${vector};
        if (i < nSeen * ${D4}) {
          if (band == 0) { key = ${names.interKeys}[at + i]; } else { key = ${names.keys}[at + i]; }
        }
        tile[i] = key;
      }
      workgroupBarrier();
      ${times(4, (i) => times(nKeys, (j) => `var s${i}_${j} = 0.0;`))}
      for (var d = 0u; d < ${D4}; d++) {
        ${times(nKeys, (j) => `let k${j} = vec4<f32>(tile[(c + ${COLUMNS * j}) * ${D4} + d]);`)}
        ${times(
          4,
          (i) => `
        let q${i} = vec4<f32>(queries[(r + ${rowStep * i}) * ${D4} + d]);
        ${times(nKeys, (j) => `s${i}_${j} += dot(q${i}, k${j});`)}`,
        )}
      }
      ${times(4, (i) => times(nKeys, (j) => `weights[(r + ${rowStep * i}) * ${N + 1} + c + ${COLUMNS * j}] = s${i}_${j};`))}
      workgroupBarrier();
      for (var i = t; i < ${N * D4}; i += ${threads}) {
        var value: ${vector}; // zero behind the keys: a weight of 0 does not undo NaN
        if (i < nSeen * ${D4}) { value = ${names.values}[at + i]; }
        tile[i] = value;
      }
      if (t < nQueries) {
        let row = (m0 + t) / p.group;
        let lo = max(fromOf(band, row), j0) - j0;
        let hi = min(max(toOf(band, row), j0) - j0, nSeen);
        let before = rowMax;
        for (var j = lo; j < hi; j++) { rowMax = max(rowMax, weights[t * ${N + 1} + j]); }
        factors[t] = exp(before - rowMax);
        rowSum *= factors[t];
        for (var j = 0u; j < ${N}; j++) {
          var weight = 0.0;
          if (j >= lo && j < hi) { weight = exp(weights[t * ${N + 1} + j] - rowMax); }
          weights[t * ${N + 1} + j] = weight;
          rowSum += weight;
        }
      }
      workgroupBarrier();
      ${times(
        4,
        (i) => `
      for (var v = 0u; v < ${nVectors}; v++) { o${i}[v] *= factors[r + ${rowStep * i}]; }`,
      )}
      for (var j = 0u; j < ${N}; j++) {
        ${times(4, (i) => `let w${i} = weights[(r + ${rowStep * i}) * ${N + 1} + j];`)}
        for (var v = 0u; v < ${nVectors}; v++) {
          if (c + v * ${COLUMNS} < ${D4}) {
            let value = vec4<f32>(tile[j * ${D4} + c + v * ${COLUMNS}]);
            ${times(4, (i) => `o${i}[v] += w${i} * value;`)}
          }
        }
      }
      workgroupBarrier();
    }
  }
  if (t < nQueries) { factors[t] = 1 / rowSum; }
  workgroupBarrier();
  ${times(
    4,
    (i) => `
  if (r + ${rowStep * i} < nQueries) {
    let m = m0 + r + ${rowStep * i};
    let to = ((p.row + m / p.group) * p.nHeads + head * p.group + m % p.group) * ${D4} + p.outAt / 4;
    for (var v = 0u; v < ${nVectors}; v++) {
      if (c + v * ${COLUMNS} < ${D4}) { out[to + c + v * ${COLUMNS}] = o${i}[v] * factors[r + ${rowStep * i}]; }
    }
  }`,
  )}`,
)}`,
  };
}
