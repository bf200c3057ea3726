/**
 * Draws a token; definition in `draw.ts`. A workgroup sorts a slice and keeps its `k` likeliest, of logits first and then
 * of what was kept, until that is one slice: a last workgroup sorts it, and draws.
 *
 * Logits are compared by rank, a whole number that rises as they do: WGSL may assume that no float is infinite or NaN.
 */
import { main, type WgslKernel } from './wgsl.ts';

/** Logits or candidates that a workgroup sorts: 8 KiB of its memory, and 4 for their weights. Each pass leaves a quarter, or less. */
export const SLICE = 1024;
const THREADS = 256;

const DECLARATIONS = `
const NAN_RANK = 0xffffffffu; // above all, so that it comes out first
const INFINITE_RANK = 0xff800000u;
const NO_TOKEN = vec2<u32>(0x007fffff, 0xffffffff); // with the rank of -infinity, behind all that have it

fn rankOf(logit: u32) -> u32 {
  if ((logit & 0x7fffffff) > 0x7f800000) { return NAN_RANK; }
  return select(logit | 0x80000000, ~logit, logit > 0x80000000); // of -0 as of 0
}

fn logitOf(rank: u32) -> f32 { return bitcast<f32>(select(~rank, rank & 0x7fffffff, rank >= 0x80000000)); }

var<workgroup> slice: array<vec2<u32>, ${SLICE}>; // rank and number of each token

fn isBefore(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x > b.x || (a.x == b.x && a.y < b.y); }
`;

/** Fills the slice, likeliest first. @param token The token at place `i` of the input. */
const sortSlice = (token: string) => `
  for (var to = t; to < ${SLICE}u; to += ${THREADS}u) {
    let i = group * ${SLICE}u + to;
    slice[to] = NO_TOKEN;
    if (i < p.length) { slice[to] = ${token}; }
  }
  // bitonic: runs of a span, every other one backwards, are made from two halves each in steps of half a span and less
  for (var span = 2u; span <= ${SLICE}u; span *= 2u) {
    for (var step = span / 2u; step > 0u; step /= 2u) {
      workgroupBarrier();
      for (var pair = t; pair < ${SLICE / 2}u; pair += ${THREADS}u) {
        let at = 2u * pair - (pair & (step - 1u));
        let a = slice[at];
        let b = slice[at + step];
        if (isBefore(b, a) == ((at & span) == 0u)) {
          slice[at] = b;
          slice[at + step] = a;
        }
      }
    }
  }
  workgroupBarrier();`;

const keepLikeliest = (of: string, element: string, token: (input: string) => string): WgslKernel => ({
  name: `keepLikeliest ${of}`,
  buffers: { kept: 'vec2<u32>', input: element },
  nWritten: 1,
  params: ['length', 'k', 'inputAt', 'keptAt'],
  text: ({ input }) => `${DECLARATIONS}
${main(
  THREADS,
  `
  ${sortSlice(token(input))}
  for (var i = t; i < p.k; i += ${THREADS}u) { kept[p.keptAt + group * p.k + i] = slice[i]; }`,
)}`,
});

export const keepOfLogits = keepLikeliest('logits', 'u32', (input) => `vec2<u32>(rankOf(${input}[p.inputAt + i]), i)`);

export const keepOfKept = keepLikeliest('kept', 'vec2<u32>', (input) => `${input}[p.inputAt + i]`);

/** `token` is -1 where a logit is not a number or the largest is infinite. */
export const draw: WgslKernel = {
  name: 'draw',
  buffers: { token: 'f32', kept: 'vec2<u32>' },
  nWritten: 1,
  params: ['length', 'k', 'keptAt', 'tokenAt', 'temperature: f32', 'topP: f32', 'minP: f32', 'u: f32'],
  text: ({ kept }) => `${DECLARATIONS}
var<workgroup> weights: array<f32, ${SLICE}>;
${main(
  THREADS,
  `
  ${sortSlice(`${kept}[p.keptAt + i]`)}
  let best = logitOf(slice[0].x);
  for (var i = t; i < p.k; i += ${THREADS}u) {
    weights[i] = exp(max((logitOf(slice[i].x) - best) / p.temperature, -100)); // 0 beside the best, and finite where a logit is not
  }
  workgroupBarrier();
  if (t > 0) { return; }
  if (slice[0].x >= INFINITE_RANK || slice[0].x <= NO_TOKEN.x) {
    token[p.tokenAt] = -1;
    return;
  }
  var total = 0.0;
  for (var i = 0u; i < p.k; i++) { total += weights[i]; }
  // top-p and min-p both keep a run of the likeliest
  var sum = weights[0];
  var n = 1u;
  for (; n < p.k && sum < p.topP * total && weights[n] >= p.minP * weights[0]; n++) { sum += weights[n]; }
  let wanted = p.u * sum;
  var reached = weights[0];
  var drawn = 0u;
  for (; drawn + 1 < n && reached <= wanted; drawn++) { reached += weights[drawn + 1]; }
  token[p.tokenAt] = f32(slice[drawn].y);`,
)}`,
};
