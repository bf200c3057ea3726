/**
 * Attention that runs on every device; definition in `attend.ts`. A workgroup has a tile of queries of one key-value head,
 * rows and query heads counted together, and walks the keys they see, span by span, with one online softmax. A tile of keys
 * lies in one page of the cache. Threads form
 * a square: each has the scores of a few queries with a few keys, and then the output's columns of the same queries. While
 * a tile is used, the next one comes from storage through registers. Exponents are powers of two.
 */
import { PAGE_LEN } from '../kvTypes.ts';
import { main, times, type WgslKernel } from './wgsl.ts';

/** What a kernel of attention is made for. */
export interface AttendForm {
  headDim: number;
  /** What the cache holds, and what tiles are kept in. */
  number: 'f32' | 'f16';
}

/** Words of a span in memory: rotation, key form, from, to, and by how much the two ends move with the row. */
export const SPAN_WORDS = 6;

/** Parameters of all kernels that attend. Queries of a rotation are `rotationSize` vectors behind those of the one before. */
export const ATTEND_PARAMS = ['nHeads', 'group', 'room', 'partHeads', 'qAt', 'rotationSize'];

/** Parameters of kernels that take one stretch. */
export const STRETCH_PARAMS = ['row', 'nRows', 'spansAt', 'nSpans', 'pagesAt'];

export const attendBuffers = (vector: string) => ({
  rotated: 'vec4<f32>',
  keys: vector,
  values: vector,
  plan: 'u32', // spans of stretches, and pages of their texts
});

/** Reading of spans, which lie one behind the other at `spansAt`, of pages at `pagesAt`, and of queries, by vectors. */
export const readsPlan = ({ plan, rotated }: Readonly<Record<string, string>>, D4: number): string => `
fn rotationOf(spansAt: u32, span: u32) -> u32 { return ${plan}[spansAt + ${SPAN_WORDS} * span]; }
fn keyFormOf(spansAt: u32, span: u32) -> u32 { return ${plan}[spansAt + ${SPAN_WORDS} * span + 1]; }
fn fromOf(spansAt: u32, span: u32, r: u32) -> u32 {
  return ${plan}[spansAt + ${SPAN_WORDS} * span + 2] + r * ${plan}[spansAt + ${SPAN_WORDS} * span + 4];
}
fn toOf(spansAt: u32, span: u32, r: u32) -> u32 {
  return ${plan}[spansAt + ${SPAN_WORDS} * span + 3] + r * ${plan}[spansAt + ${SPAN_WORDS} * span + 5];
}
fn placeOf(pagesAt: u32, j: u32) -> u32 { return ${plan}[pagesAt + j / ${PAGE_LEN}] * ${PAGE_LEN} + j % ${PAGE_LEN}; }
fn queryAt(rotation: u32, row: u32, head: u32, d: u32) -> vec4<f32> {
  return ${rotated}[p.qAt / 4 + rotation * p.rotationSize + (row * p.nHeads + head) * ${D4} + d];
}`;

export interface TileSizes {
  /** Queries and keys of a tile. */
  M: number;
  N: number;
  /** Threads of a side of the square. */
  side: 8 | 16;
}

/** Vectors of a query, key or value in workgroup memory: an odd number, so that threads that read rows read other banks. */
const strideOf = ({ headDim }: AttendForm) => (headDim / 4) | 1;

/** What lies in workgroup memory: queries, a tile of keys or values, weights, and what a thread found to be a row's maximum. */
const workgroupBytes = (form: AttendForm, { M, N, side }: TileSizes): number =>
  (form.number === 'f16' ? 2 : 4) * (4 * strideOf(form) * (M + N) + M * (N + N / side)) + 4 * M * side;

/** The largest tiles that fit into `bytes` of workgroup memory. */
export function tileSizes(form: AttendForm, bytes: number): TileSizes {
  const sizes: TileSizes[] = [
    { M: 64, N: 64, side: 16 },
    { M: 64, N: 32, side: 16 },
    { M: 32, N: 32, side: 16 },
    { M: 32, N: 16, side: 16 },
    { M: 16, N: 16, side: 16 },
    { M: 8, N: 8, side: 8 },
  ];
  return sizes.find((size) => workgroupBytes(form, size) <= bytes) ?? sizes[sizes.length - 1];
}

/** Tiles of queries are the grid's `x`, key-value heads its `y`. */
export function attend(form: AttendForm, { M, N, side }: TileSizes): WgslKernel {
  const { headDim, number } = form;
  const D4 = headDim / 4;
  const stride = strideOf(form);
  const threads = side * side;
  const nRows = M / side; // of a thread: y, y + side, …
  const nKeys = N / side; // of a thread, one after the other
  const nVectors = Math.ceil(D4 / side); // of a row's output, for a thread
  const loads = Math.ceil((N * D4) / threads);
  const several = (n: number, type: string) => (n === 1 ? type : `vec${n}<${type}>`);
  const one = (of: string, i: number, n: number) => (n === 1 ? of : `${of}[${i}]`);
  const list = (n: number, text: (i: number) => string) => Array.from({ length: n }, (_, i) => text(i));
  const eachRow = (text: (r: number) => string) => times(nRows, text);
  const eachKey = (text: (n: number) => string) => times(nKeys, text);
  const eachVector = (text: (v: number) => string) => times(nVectors, text);
  const vector = `vec4<${number}>`;
  const ofRows = several(nRows, 'f32');
  const ofKeys = several(nKeys, number);
  const ifVector = (v: number) => ((v + 1) * side <= D4 ? '' : `if (x + ${v * side} < ${D4}) `);
  return {
    name: `attend ${number} ${headDim} ${M}x${N}`,
    buffers: { out: 'vec4<f32>', ...attendBuffers(vector) },
    nWritten: 1,
    params: [...ATTEND_PARAMS, ...STRETCH_PARAMS, 'outAt', 'firstTile'],
    directives: number === 'f16' ? 'enable f16;' : '',
    text: (names) => {
      // Behind the last key comes the last one again: hidden as a key, weighed 0 as a value.
      const load = (buffer: string, head: string) =>
        times(loads, (i) => `next${i} = ${buffer}[(${head} + place) * ${D4} + min(t + ${threads * i}, last)];`);
      const loadKeys = load(names.keys, 'keysOfHead');
      const store = (place: (row: string) => string) =>
        times(loads, (i) => {
          const ifOfTile = (i + 1) * threads > N * D4 ? `if (t < ${N * D4 - i * threads}) ` : '';
          const at = `(t + ${threads * i})`;
          return `${ifOfTile}{ tile[${place(`${at} / ${D4}`)} * ${stride} + ${at} % ${D4}] = next${i}; }`;
        });
      return `${readsPlan(names, D4)}
var<workgroup> queries: array<${vector}, ${M * stride}>;
var<workgroup> tile: array<${vector}, ${N * stride}>; // keys, a thread's apart by ${side}; then values
var<workgroup> weights: array<${ofKeys}, ${M * (side + 1)}>;
var<workgroup> maxima: array<${ofRows}, ${threads}>;
${main(
  threads,
  `
  let head = groupId.y;
  let m0 = (groupId.x + p.firstTile) * ${M};
  let nQueries = min(${M}u, p.nRows * p.group - m0);
  let firstRow = m0 / p.group;
  let lastRow = (m0 + nQueries - 1) / p.group;
  let x = t % ${side};
  let y = t / ${side};
  var most = ${ofRows}(-3e38);
  var sum: ${ofRows};
  ${eachRow((r) => eachVector((v) => `var o${r}_${v}: vec4<f32>;`))}
  ${times(loads, (i) => `var next${i}: ${vector};`)}
  for (var span = 0u; span < p.nSpans; span++) {
    let begin = fromOf(p.spansAt, span, firstRow);
    let end = toOf(p.spansAt, span, lastRow);
    if (begin >= end) { continue; }
    let wholeFrom = fromOf(p.spansAt, span, lastRow);
    let wholeTo = toOf(p.spansAt, span, firstRow);
    let rotation = rotationOf(p.spansAt, span);
    let keysOfHead = (keyFormOf(p.spansAt, span) * p.partHeads + head) * p.room;
    var j0 = begin / ${N} * ${N};
    var place = placeOf(p.pagesAt, j0);
    var last = min(${N}, end - j0) * ${D4} - 1;
    ${loadKeys}
    workgroupBarrier();
    for (var i = t; i < nQueries * ${D4}; i += ${threads}) {
      let m = m0 + i / ${D4};
      let q = ${Math.LOG2E} * queryAt(rotation, p.row + m / p.group, head * p.group + m % p.group, i % ${D4});
      queries[i / ${D4} * ${stride} + i % ${D4}] = ${vector}(q);
    }
    for (; j0 < end; j0 += ${N}) {
      workgroupBarrier();
      ${store((row) => (nKeys === 1 ? row : `(${row} % ${nKeys} * ${side} + ${row} / ${nKeys})`))}
      workgroupBarrier();
      ${load(names.values, 'head * p.room')}
      let next = select(j0, j0 + ${N}, j0 + ${N} < end);
      place = placeOf(p.pagesAt, next);
      last = min(${N}, end - next) * ${D4} - 1;
      ${eachRow((r) => eachKey((n) => `var s${r}_${n} = 0.0;`))}
      for (var d = 0u; d < ${D4}; d++) {
        ${eachKey((n) => `let k${n} = vec4<f32>(tile[(x + ${side * n}) * ${stride} + d]);`)}
        ${eachRow(
          (r) => `
        {
          let q = vec4<f32>(queries[(y + ${side * r}) * ${stride} + d]);
          ${eachKey((n) => `s${r}_${n} += dot(q, k${n});`)}
        }`,
        )}
      }
      if (j0 < wholeFrom || j0 + ${N} > wholeTo) { // not every query sees all of the tile
        ${eachRow(
          (r) => `
        {
          let row = (m0 + min(y + ${side * r}, nQueries - 1)) / p.group;
          let lo = fromOf(p.spansAt, span, row);
          let hi = toOf(p.spansAt, span, row);
          let j = j0 + x * ${nKeys};
          ${eachKey((n) => `s${r}_${n} = select(-3e38, s${r}_${n}, j + ${n} >= lo && j + ${n} < hi);`)}
        }`,
        )}
      }
      maxima[t] = ${ofRows}(${list(nRows, (r) => list(nKeys, (n) => `s${r}_${n}`).reduce((a, b) => `max(${a}, ${b})`))});
      workgroupBarrier();
      ${store((row) => row)}
      var grown = most;
      for (var c = 0u; c < ${side}; c++) { grown = max(grown, maxima[y * ${side} + c]); }
      let factor = exp2(most - grown);
      let base = max(grown, ${ofRows}(-1e38)); // so that hidden keys weigh nothing even where all are
      most = grown;
      sum *= factor;
      ${eachRow(
        (r) => `
      {
        ${eachKey((n) => `let w${n} = exp2(s${r}_${n} - ${one('base', r, nRows)});`)}
        ${one('sum', r, nRows)} += ${list(nKeys, (n) => `w${n}`).join(' + ')};
        ${eachVector((v) => `o${r}_${v} *= ${one('factor', r, nRows)};`)}
        weights[(y + ${side * r}) * ${side + 1} + x] = ${ofKeys}(${list(nKeys, (n) => `${number}(w${n})`)});
      }`,
      )}
      ${loadKeys} // of the next tile
      workgroupBarrier();
      for (var j = 0u; j < ${side}; j++) {
        ${eachRow((r) => `let w${r} = ${several(nKeys, 'f32')}(weights[(y + ${side * r}) * ${side + 1} + j]);`)}
        ${eachKey((n) =>
          eachVector(
            (v) => `
        ${ifVector(v)}{
          let value = vec4<f32>(tile[(${nKeys} * j + ${n}) * ${stride} + x + ${v * side}]);
          ${eachRow((r) => `o${r}_${v} += ${one(`w${r}`, n, nKeys)} * value;`)}
        }`,
          ),
        )}
      }
    }
  }
  workgroupBarrier();
  maxima[t] = sum;
  workgroupBarrier();
  sum = ${ofRows}();
  for (var c = 0u; c < ${side}; c++) { sum += maxima[y * ${side} + c]; }
  ${eachRow(
    (r) => `
  if (y + ${side * r} < nQueries) {
    let m = m0 + y + ${side * r};
    let to = ((p.row + m / p.group) * p.nHeads + head * p.group + m % p.group) * ${D4} + p.outAt / 4;
    ${eachVector((v) => `${ifVector(v)}{ out[to + x + ${v * side}] = o${r}_${v} / ${one('sum', r, nRows)}; }`)}
  }`,
  )}`,
)}`;
    },
  };
}
