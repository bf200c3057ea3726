/**
 * Attention of few queries, as when decoding: a workgroup has a run of keys of one key-value head and leaves maximum, sum
 * and weighted values of it; `mergeSplits` joins the runs. Keys count through the bands, a run of 64 lies in one of them.
 */
import { ATTEND_PARAMS, type AttendForm, attendBuffers, BANDS, reads } from './attend.wgsl.ts';
import { main, reduce, times, type WgslKernel } from './wgsl.ts';

/** Keys of a run: one for each thread. */
export const RUN = 64;

/** Most queries (rows times query heads of a key-value head) that a workgroup takes; more are the grid's `z`. */
export const MOST_QUERIES = 8;

/** Most vectors of a key in workgroup memory; 64 times 16 bytes each where the cache is float32. */
const KEY_VECTORS = 16;

/** Runs that begin where a band's first key is, for the piece's bands from their least to their greatest end. */
const RUNS = `
fn runsOf(band: u32) -> u32 {
  let begin = fromOf(band, 0);
  let end = toOf(band, p.nRows - 1);
  return (max(begin, end) - begin + ${RUN - 1}) / ${RUN};
}`;

/**
 * @param M Queries of a workgroup.
 * @param runs Runs a workgroup takes.
 */
export function attendFew({ headDim, number }: AttendForm, M: number, runs: number): WgslKernel {
  const D4 = headDim / 4;
  const vector = `vec4<${number}>`;
  const chunk = Math.ceil(D4 / Math.ceil(D4 / KEY_VECTORS)); // vectors of a key that are looked at together
  const slices = Math.floor(RUN / D4); // threads that share out the keys of a vector of the output
  return {
    name: `attendFew ${number} ${headDim} ${M} ${runs}`,
    // [nHeads · nRows queries, nSplits, headDim + 4]: weighted values, then maximum and sum
    buffers: { parts: 'vec4<f32>', ...attendBuffers(vector) },
    nWritten: 1,
    params: [...ATTEND_PARAMS, 'nSplits'],
    directives: number === 'f16' ? 'enable f16;' : '',
    text: (names) => `${BANDS}${reads(names, D4)}${RUNS}
var<workgroup> queries: array<vec4<f32>, ${M * D4}>;
var<workgroup> tile: array<${vector}, ${RUN * chunk}>;
var<workgroup> weights: array<f32, ${M * runs * RUN}>; // scores, then exp of them
var<workgroup> joined: array<f32, ${RUN}>;
var<workgroup> outputs: array<vec4<f32>, ${slices * D4}>;
${main(
  RUN,
  `
  let split = groupId.x;
  let head = groupId.y;
  let m0 = groupId.z * ${M};
  let nQueries = min(${M}u, p.nRows * p.group - m0);
  let nRuns = runsOf(0) + runsOf(1) + runsOf(2);
  ${times(M, (m) => `var max${m} = -3e38; var sum${m} = 0.0;`)}
  var loaded = 3u; // the band whose queries are loaded
  for (var i = 0u; i < ${runs}; i++) {
    var run = split * ${runs} + i;
    if (run >= nRuns) { break; }
    var band = 0u;
    while (run >= runsOf(band)) { run -= runsOf(band); band++; }
    let j0 = fromOf(band, 0) + run * ${RUN};
    let nSeen = min(${RUN}u, toOf(band, p.nRows - 1) - j0);
    workgroupBarrier();
    if (band != loaded) {
      for (var q = t; q < nQueries * ${D4}; q += ${RUN}) {
        let m = m0 + q / ${D4};
        queries[q] = queryAt(band, m / p.group, head * p.group + m % p.group, q % ${D4});
      }
      loaded = band;
    }
    let at = (head * p.capacity + j0) * ${D4};
    ${times(M, (m) => `var s${m} = 0.0;`)}
    for (var d0 = 0u; d0 < ${D4}; d0 += ${chunk}) {
      let nVectors = min(${chunk}u, ${D4} - d0);
      for (var i = t; i < nSeen * nVectors; i += ${RUN}) {
        let key = i / nVectors;
        let d = i % nVectors;
        // a key's vectors turned by its number, so that threads with a key each read other banks
        let place = key * ${chunk} + (d + key) % ${chunk};
        let k = at + key * ${D4} + d0 + d;
        if (band == 0) { tile[place] = ${names.interKeys}[k]; } else { tile[place] = ${names.keys}[k]; }
      }
      workgroupBarrier();
      for (var d = 0u; d < nVectors; d++) {
        let key = vec4<f32>(tile[t * ${chunk} + (d + t) % ${chunk}]);
        ${times(M, (m) => `s${m} += dot(queries[${m * D4} + d0 + d], key);`)}
      }
      workgroupBarrier();
    }
    let j = j0 + t;
    ${times(
      M,
      (m) => `
    {
      let row = (m0 + ${m}) / p.group;
      let isSeen = t < nSeen && j >= fromOf(band, row) && j < toOf(band, row);
      s${m} = select(-3e38, s${m}, isSeen);
      weights[(${m} * ${runs} + i) * ${RUN} + t] = s${m};
      max${m} = max(max${m}, s${m});
    }`,
    )}
  }
  ${times(
    M,
    (m) => `
  joined[t] = max${m};
  ${reduce('joined', RUN, (a, b) => `max(${a}, ${b})`)}
  max${m} = joined[0];
  for (var i = 0u; i < ${runs} && split * ${runs} + i < nRuns; i++) {
    let at = (${m} * ${runs} + i) * ${RUN} + t;
    // hidden keys have -3e38, and weigh nothing even where all are hidden
    let weight = select(0, exp(weights[at] - max${m}), weights[at] > -2e38);
    weights[at] = weight;
    sum${m} += weight;
  }
  workgroupBarrier();
  joined[t] = sum${m};
  ${reduce('joined', RUN, (a, b) => `${a} + ${b}`)}
  sum${m} = joined[0];`,
  )}
  {
    let d = t % ${D4};
    let slice = t / ${D4};
    let isBusy = slice < ${slices};
    ${times(M, (m) => `var o${m}: vec4<f32>;`)}
    for (var i = 0u; i < ${runs} && isBusy; i++) {
      var run = split * ${runs} + i;
      if (run >= nRuns) { break; }
      var band = 0u;
      while (run >= runsOf(band)) { run -= runsOf(band); band++; }
      let j0 = fromOf(band, 0) + run * ${RUN};
      let nSeen = min(${RUN}u, toOf(band, p.nRows - 1) - j0);
      for (var j = slice; j < nSeen; j += ${slices}) {
        let value = vec4<f32>(${names.values}[(head * p.capacity + j0 + j) * ${D4} + d]);
        ${times(M, (m) => `o${m} += weights[(${m} * ${runs} + i) * ${RUN} + j] * value;`)}
      }
    }
    ${times(
      M,
      (m) => `
    workgroupBarrier();
    if (isBusy) { outputs[slice * ${D4} + d] = o${m}; }
    workgroupBarrier();
    if (slice == 0 && ${m} < nQueries) {
      ${times(slices - 1, (s) => `o${m} += outputs[${(s + 1) * D4} + d];`)}
      let query = (m0 + ${m}) / p.group * p.nHeads + head * p.group + (m0 + ${m}) % p.group;
      let to = (query * p.nSplits + split) * ${D4 + 1};
      parts[to + d] = o${m};
      if (d == 0) { parts[to + ${D4}] = vec4(max${m}, sum${m}, 0, 0); }
    }`,
    )}
  }`,
)}`,
  };
}

/** Joins the splits of a query by their maxima and sums. Queries are the grid. */
export function mergeSplits(headDim: number): WgslKernel {
  const D4 = headDim / 4;
  return {
    name: `mergeSplits ${headDim}`,
    buffers: { out: 'vec4<f32>', parts: 'vec4<f32>' },
    nWritten: 1,
    params: ['nQueries', 'nSplits', 'outAt'],
    text: ({ parts }) => `
var<workgroup> maxima: array<f32, ${RUN}>;
${main(
  RUN,
  `
  if (group >= p.nQueries) { return; }
  let at = group * p.nSplits * ${D4 + 1};
  var most = -3e38;
  for (var s = t; s < p.nSplits; s += ${RUN}) { most = max(most, ${parts}[at + s * ${D4 + 1} + ${D4}].x); }
  maxima[t] = most;
  ${reduce('maxima', RUN, (a, b) => `max(${a}, ${b})`)}
  most = maxima[0];
  for (var d = t; d < ${D4}; d += ${RUN}) {
    var total: vec4<f32>;
    var sum = 0.0;
    for (var s = 0u; s < p.nSplits; s++) {
      let stats = ${parts}[at + s * ${D4 + 1} + ${D4}];
      let factor = exp(stats.x - most);
      total += factor * ${parts}[at + s * ${D4 + 1} + d];
      sum += factor * stats.y;
    }
    out[p.outAt / 4 + group * ${D4} + d] = total / sum;
  }`,
)}`,
  };
}
