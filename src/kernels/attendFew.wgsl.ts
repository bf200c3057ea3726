/**
 * Attention of few queries, as when decoding, of any number of texts: a workgroup has a split of the keys of one key-value head
 * and leaves maximum, sum and weighted values of it; `mergeSplits` joins the splits (flash decoding). Neighbouring threads, `lanes` of them,
 * share a key and its value, a vector of 16 bytes each, so that both come straight from the cache in whole lines. Keys
 * count through the spans. Exponents are powers of two.
 */
import { ATTEND_PARAMS, type AttendForm, attendBuffers, readsPlan } from './attend.wgsl.ts';
import { main, reduce, times, type WgslKernel } from './wgsl.ts';

/** Threads of a workgroup. */
const THREADS = 128;

/** Keys that a thread weighs together. */
const KEYS = 4;

/** Most queries (rows times query heads of a key-value head) that a workgroup takes; more are the grid's `z`. */
export const MOST_QUERIES = 8;

/** Threads that join the splits of a query. */
const MERGE = 256;

/**
 * Words of a job, some queries of a stretch: the first of them, counted through its rows and the group's heads; its rows; how
 * its keys are split; where its splits go, in vectors; and where its spans and pages are, counted from the first job.
 */
export const JOB = ['m0', 'row', 'nRows', 'nSplits', 'splitKeys', 'splitsAt', 'spans', 'nSpans', 'pages'] as const;

/** Words of a row: its number in the block, its splits, and where they begin, in vectors. */
export const ROW = ['row', 'nSplits', 'splitsAt'] as const;

/** Numbers of a vector that a thread has of a key: 16 bytes where dimensions allow it. */
const vectorOf = ({ headDim, number }: AttendForm) => (number === 'f16' && headDim % 8 === 0 ? 8 : 4);

/** Threads that share a key: a power of two, so that they lie in one subgroup of at least as many. */
export const lanesOf = (form: AttendForm): number => 2 ** Math.ceil(Math.log2(form.headDim / vectorOf(form)));

/** Sets of `KEYS` that a thread has on their way at once, as far as registers go. */
const setsFor = (M: number) => (M <= 4 ? 2 : 1);

/** Keys that a workgroup of `M` queries takes at once: a split has a multiple. */
export const keysAtOnce = (form: AttendForm, M: number): number => (setsFor(M) * KEYS * THREADS) / lanesOf(form);

/**
 * @param M Queries of a workgroup.
 * @param hasSubgroups Scores are summed over `lanes` threads of a subgroup; else through workgroup memory.
 */
export function attendFew(form: AttendForm, M: number, hasSubgroups: boolean): WgslKernel {
  const { headDim, number } = form;
  const size = vectorOf(form);
  const D4 = headDim / 4;
  const nVectors = headDim / size; // of a key
  const lanes = lanesOf(form);
  const teams = THREADS / lanes; // of threads with a key each
  const quads = size / 4;
  const sets = setsFor(M);
  const element = number === 'f32' ? 'vec4<f32>' : `vec${size / 2}<u32>`;
  const quad = (vector: string, i: number) => {
    if (number === 'f32') return vector;
    return `vec4(unpack2x16float(${vector}[${2 * i}]), unpack2x16float(${vector}[${2 * i + 1}]))`;
  };
  const eachQuery = (text: (m: number) => string) => times(M, text);
  const eachKey = (text: (n: number) => string) => times(KEYS, text);
  const eachLoad = (text: (n: number) => string) => times(sets * KEYS, text);
  const eachQuad = (text: (i: number) => string) => times(quads, text);
  const sumOverLanes = hasSubgroups
    ? eachQuery((m) => times(Math.log2(lanes), (step) => `s${m} += subgroupShuffleXor(s${m}, ${2 ** step}u);`))
    : eachQuery(
        (m) => `
      workgroupBarrier();
      partial[t] = s${m};
      workgroupBarrier();
      s${m} = vec4<f32>();
      for (var lane = 0u; lane < ${lanes}; lane++) { s${m} += partial[team * ${lanes} + lane]; }`,
      );
  return {
    name: `attendFew ${number} ${headDim} ${M} ${hasSubgroups}`,
    // of each stretch [nRows · nHeads queries, nSplits, headDim + 4]: weighted values, then maximum and sum
    buffers: { splits: 'vec4<f32>', ...attendBuffers(element) },
    nWritten: 1,
    params: [...ATTEND_PARAMS, 'firstQueryHead', 'jobsAt'],
    directives: hasSubgroups ? 'enable subgroups;' : '',
    text: (names) => `${readsPlan(names, D4)}
fn wordOf(at: u32, i: u32) -> u32 { return ${names.plan}[at + i]; }
var<workgroup> outputs: array<vec4<f32>, ${THREADS * quads}>;
var<workgroup> stats: array<vec2<f32>, ${teams}>; // maximum and sum of a team's keys
${hasSubgroups ? '' : `var<workgroup> partial: array<vec4<f32>, ${THREADS}>;`}
${main(
  THREADS,
  `
  let split = groupId.x;
  let head = groupId.y;
  let job = p.jobsAt + ${JOB.length} * groupId.z;
  ${JOB.map((word, i) => `let ${word} = wordOf(job, ${i});`).join('\n  ')}
  if (split >= nSplits) { return; }
  let spansAt = p.jobsAt + spans;
  let pagesAt = p.jobsAt + pages;
  let nQueries = min(${M}u, nRows * p.group - m0);
  let team = t / ${lanes};
  let d = min(t % ${lanes}, ${nVectors - 1}u);
  let isBusy = t % ${lanes} < ${nVectors};
  ${eachQuery((m) => `var most${m} = -3e38; var sum${m}: vec4<f32>; ${eachQuad((i) => `var o${m}_${i}: vec4<f32>;`)}`)}
  var passed = split * splitKeys; // keys that belong to splits before
  var left = splitKeys;
  for (var span = 0u; span < nSpans; span++) {
    let begin = fromOf(spansAt, span, 0);
    let end = max(begin, toOf(spansAt, span, nRows - 1));
    let moves = fromOf(spansAt, span, 1) - begin + toOf(spansAt, span, 1) - toOf(spansAt, span, 0);
    let rotation = rotationOf(spansAt, span);
    let keysOfHead = (keyFormOf(spansAt, span) * p.partHeads + head) * p.room;
    let first = min(begin + passed, end);
    let stop = min(first + left, end);
    passed -= first - begin;
    left -= stop - first;
    if (first >= stop) { continue; }
    ${eachQuery(
      (m) => `
    let row${m} = (m0 + min(${m}, nQueries - 1)) / p.group;
    let head${m} = head * p.group + (m0 + min(${m}, nQueries - 1)) % p.group;
    ${eachQuad((i) => `let q${m}_${i} = select(vec4<f32>(), ${Math.LOG2E} * queryAt(rotation, row + row${m}, head${m}, d * ${quads} + ${i}), isBusy);`)}`,
    )}
    // Where keys lie is looked up while those before them are loaded; behind the last key the last one again.
    ${eachLoad((n) => `var place${n} = placeOf(pagesAt, min(first + team + ${n * teams}, stop - 1));`)}
    for (var j0 = first; j0 < stop; j0 += ${keysAtOnce(form, M)}) {
      ${eachLoad((n) => `let k${n} = ${names.keys}[(keysOfHead + place${n}) * ${nVectors} + d];`)}
      ${eachLoad((n) => `let v${n} = ${names.values}[(head * p.room + place${n}) * ${nVectors} + d];`)}
      ${eachLoad((n) => `place${n} = placeOf(pagesAt, min(j0 + team + ${keysAtOnce(form, M) + n * teams}, stop - 1));`)}
      ${times(
        sets,
        (set) => `
      {
        let j = j0 + team + ${teams * KEYS * set} + vec4(${Array.from({ length: KEYS }, (_, n) => n * teams)});
        // zeros said aloud: Dawn does not write them again in a loop
        ${eachQuery((m) => `var s${m} = vec4<f32>();`)}
        ${eachKey((n) =>
          eachQuad(
            (i) => `
        {
          let key = ${quad(`k${set * KEYS + n}`, i)};
          ${eachQuery((m) => `s${m}[${n}] += dot(q${m}_${i}, key);`)}
        }`,
          ),
        )}
        ${sumOverLanes}
        ${eachQuery(
          (m) => `
        {
          var isSeen = j < vec4(stop);
          if (moves != 0) {
            isSeen &= j >= vec4(fromOf(spansAt, span, row${m}));
            isSeen &= j < vec4(toOf(spansAt, span, row${m}));
          }
          s${m} = select(vec4(-3e38), s${m}, isSeen);
          let grown = max(most${m}, max(max(s${m}.x, s${m}.y), max(s${m}.z, s${m}.w)));
          let factor = exp2(most${m} - grown);
          most${m} = grown;
          s${m} = exp2(s${m} - max(grown, -1e38)); // hidden keys weigh nothing even where all are
          sum${m} = factor * sum${m} + s${m};
          ${eachQuad((i) => `o${m}_${i} *= factor;`)}
        }`,
        )}
        ${eachKey((n) =>
          eachQuad(
            (i) => `
        {
          let value = ${quad(`v${set * KEYS + n}`, i)};
          ${eachQuery((m) => `o${m}_${i} += s${m}[${n}] * value;`)}
        }`,
          ),
        )}
      }`,
      )}
    }
  }
  ${eachQuery(
    (m) => `
  workgroupBarrier();
  ${eachQuad((i) => `outputs[t * ${quads} + ${i}] = o${m}_${i};`)}
  if (t % ${lanes} == 0) { stats[team] = vec2(most${m}, dot(sum${m}, vec4(1))); }
  workgroupBarrier();
  if (t < ${D4} && ${m} < nQueries) {
    var most = -3e38;
    for (var g = 0u; g < ${teams}; g++) { most = max(most, stats[g].x); }
    var total: vec4<f32>;
    var sum = 0.0;
    for (var g = 0u; g < ${teams}; g++) {
      let factor = exp2(stats[g].x - most);
      sum += factor * stats[g].y;
      total += factor * outputs[g * ${lanes * quads} + t];
    }
    let query = (m0 + ${m}) / p.group * p.nHeads + p.firstQueryHead + head * p.group + (m0 + ${m}) % p.group;
    let to = splitsAt + (query * nSplits + split) * ${D4 + 1};
    splits[to + t] = total;
    if (t == 0) { splits[to + ${D4}] = vec4(most, sum, 0, 0); }
  }`,
  )}`,
)}`,
  };
}

/** Joins the splits of a query by their maxima and sums. Queries, `nHeads` a row, are the grid. */
export function mergeSplits(headDim: number): WgslKernel {
  const D4 = headDim / 4;
  const slices = Math.floor(MERGE / D4); // threads that share out the splits of a vector of the output
  const stats = (splits: string, s: string) => `${splits}[at + (${s}) * ${D4 + 1} + ${D4}]`;
  return {
    name: `mergeSplits ${headDim}`,
    buffers: { out: 'vec4<f32>', splits: 'vec4<f32>', plan: 'u32' },
    nWritten: 1,
    params: ['nQueries', 'nHeads', 'rowsAt', 'outAt'],
    text: ({ splits, plan }) => `
var<workgroup> maxima: array<f32, ${MERGE}>;
var<workgroup> totals: array<vec4<f32>, ${MERGE}>;
var<workgroup> sums: array<f32, ${MERGE}>;
${main(
  MERGE,
  `
  if (group >= p.nQueries) { return; }
  let head = group % p.nHeads;
  ${ROW.map((word, i) => `let ${word} = ${plan}[p.rowsAt + ${ROW.length} * (group / p.nHeads) + ${i}];`).join('\n  ')}
  let at = splitsAt + head * nSplits * ${D4 + 1};
  var most = -3e38;
  for (var s = t; s < nSplits; s += ${MERGE}) { most = max(most, ${stats(splits, 's')}.x); }
  maxima[t] = most;
  ${reduce('maxima', MERGE, (a, b) => `max(${a}, ${b})`)}
  most = maxima[0];
  let d = t % ${D4};
  let slice = t / ${D4};
  var total: vec4<f32>;
  var sum = 0.0;
  if (slice < ${slices}) {
    for (var s = slice; s < nSplits; s += ${2 * slices}) {
      let second = min(s + ${slices}, nSplits - 1);
      let stats0 = ${stats(splits, 's')};
      let stats1 = ${stats(splits, 'second')};
      let part0 = ${splits}[at + s * ${D4 + 1} + d];
      let part1 = ${splits}[at + second * ${D4 + 1} + d];
      let factor0 = exp2(stats0.x - most);
      let factor1 = select(0, exp2(stats1.x - most), s + ${slices} < nSplits);
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
  out[p.outAt / 4 + (row * p.nHeads + head) * ${D4} + d] = total / sum;`,
)}`,
  };
}
