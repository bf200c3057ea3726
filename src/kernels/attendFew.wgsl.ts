/**
 * Attention of few queries, as when decoding: a workgroup has a run of keys of one key-value head and leaves maximum,
 * sum
 * and weighted values of it; `mergeSplits` joins the runs. Keys count through the bands, a run of 64 lies in one of
 * them.
 */
import { ATTEND_PARAMS, type AttendForm, attendBuffers, BANDS, reads } from './attend.wgsl.ts';
import { main, reduce, times, type WgslKernel } from './wgsl.ts';

/** Keys of a run: one for each thread. */
export const RUN = 64;

/** Most queries (rows times query heads of a key-value head) that a workgroup takes; more are the grid's `z`. */
export const MOST_QUERIES = 8;

/** Threads that join the splits of a query. */
const MERGE = 256;

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
  // vectors of a key that are looked at together: a whole number of chunks
  const chunk = Array.from({ length: KEY_VECTORS }, (_, i) => KEY_VECTORS - i).find((c) => D4 % c === 0) as number;
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
    for (var begin = 0u; begin < ${D4}; begin += ${chunk}) {
      // behind the last key the last one again; keys turned by their number, so that threads with one each read other
      // banks
      ${times(
        chunk,
        (i) => `
      let key${i} = (t + ${RUN * i}) / ${chunk};
      let d${i} = (t + ${RUN * i}) % ${chunk};
      let at${i} = at + min(key${i}, nSeen - 1) * ${D4} + begin + d${i};`,
      )}
      ${times(chunk, (i) => `var v${i}: ${vector};`)}
      if (band == 0) {
        ${times(chunk, (i) => `v${i} = ${names.interKeys}[at${i}];`)}
      } else {
        ${times(chunk, (i) => `v${i} = ${names.keys}[at${i}];`)}
      }
      ${times(chunk, (i) => `tile[key${i} * ${chunk} + (d${i} + key${i}) % ${chunk}] = v${i};`)}
      workgroupBarrier();
      ${times(
        chunk,
        (d) => `
      {
        let key = vec4<f32>(tile[t * ${chunk} + (${d} + t) % ${chunk}]);
        ${times(M, (m) => `s${m} += dot(queries[${m * D4 + d} + begin], key);`)}
      }`,
      )}
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
      let at = (head * p.capacity + j0) * ${D4} + d;
      // four at a time; what is behind the last key weighs nothing
      for (var j = slice; j < nSeen; j += ${4 * slices}) {
        ${times(4, (n) => `let value${n} = vec4<f32>(${names.values}[at + min(j + ${n * slices}, nSeen - 1) * ${D4}]);`)}
        ${times(4, (n) =>
          times(
            M,
            (m) =>
              `if (j + ${n * slices} < nSeen) { o${m} += weights[(${m} * ${runs} + i) * ${RUN} + j + ${n * slices}] * value${n}; }`,
          ),
        )}
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
  const slices = Math.floor(MERGE / D4); // threads that share out the splits of a vector of the output
  const stats = (parts: string, s: string) => `${parts}[at + (${s}) * ${D4 + 1} + ${D4}]`;
  return {
    name: `mergeSplits ${headDim}`,
    buffers: { out: 'vec4<f32>', parts: 'vec4<f32>' },
    nWritten: 1,
    params: ['nQueries', 'nSplits', 'outAt'],
    text: ({ parts }) => `
var<workgroup> maxima: array<f32, ${MERGE}>;
var<workgroup> totals: array<vec4<f32>, ${MERGE}>;
var<workgroup> sums: array<f32, ${MERGE}>;
${main(
  MERGE,
  `
  if (group >= p.nQueries) { return; }
  let at = group * p.nSplits * ${D4 + 1};
  var most = -3e38;
  for (var s = t; s < p.nSplits; s += ${MERGE}) { most = max(most, ${stats(parts, 's')}.x); }
  maxima[t] = most;
  ${reduce('maxima', MERGE, (a, b) => `max(${a}, ${b})`)}
  most = maxima[0];
  let d = t % ${D4};
  let slice = t / ${D4};
  var total: vec4<f32>;
  var sum = 0.0;
  if (slice < ${slices}) {
    for (var s = slice; s < p.nSplits; s += ${2 * slices}) {
      let second = min(s + ${slices}, p.nSplits - 1);
      let stats0 = ${stats(parts, 's')};
      let stats1 = ${stats(parts, 'second')};
      let part0 = ${parts}[at + s * ${D4 + 1} + d];
      let part1 = ${parts}[at + second * ${D4 + 1} + d];
      let factor0 = exp(stats0.x - most);
      let factor1 = select(0, exp(stats1.x - most), s + ${slices} < p.nSplits);
      total += factor0 * part0 + factor1 * part1;
      sum += factor0 * stats0.y + factor1 * stats1.y;
    }
  }
  totals[t] = total;
  sums[t] = sum;
  workgroupBarrier();
  if (slice > 0) { return; }
  for (var s = 1u; s < ${slices}; s++) {
    total += totals[s * ${D4} + d];
    sum += sums[s * ${D4} + d];
  }
  out[p.outAt / 4 + group * ${D4} + d] = total / sum;`,
)}`,
  };
}
