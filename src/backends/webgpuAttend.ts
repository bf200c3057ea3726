/** Which kernels a call of attention takes on a GPU, and what they read of the stretches. */
import { type AttendForm, attend, SPAN_WORDS, tileSizes } from '../kernels/attend.wgsl.ts';
import { attendFew, JOB, keysAtOnce, lanesOf, MOST_QUERIES, mergeSplits, ROW } from '../kernels/attendFew.wgsl.ts';
import { attendMatrix, queriesOf, subgroupsFor } from '../kernels/attendMatrix.wgsl.ts';
import { gridOf, type WgslKernel } from '../kernels/wgsl.ts';
import type { Stretch } from '../placement.ts';
import type { Tensor } from './backend.ts';
import { at, bufferOf, type KvPart, type WebGpuKv } from './webgpuMemory.ts';
import type { Call, Recorder } from './webgpuRecorder.ts';

/** Rows times query heads of a key-value head; more are a tile's work. */
const FEW_QUERIES = 16;
/** Workgroups that share out the keys of so many queries: a few for every core of a large GPU, fewer with more work each. */
const splitGroups = (M: number) => Math.max(256, 1024 / M);

/** What a device offers to kernels of attention. */
export interface AttendDevice {
  readonly number: 'f16' | 'f32';
  readonly hasTensorCores: boolean;
  readonly subgroupSize: number;
  /** Bytes. */
  readonly workgroupMemory: number;
}

/** Queries of a key-value head in a row. */
interface Heads {
  readonly nHeads: number;
  readonly nKvHeads: number;
  readonly headDim: number;
}

const keysOf = ({ spans, nRows }: Stretch): number =>
  spans.reduce((sum, { from, to, toMoves }) => sum + Math.max(0, to + (toMoves ? nRows - 1 : 0) - from), 0);

/** Words of a stretch's spans and, behind them, of its text's pages. */
const wordsOf = ({ spans, pages }: Stretch): number[] => [
  ...spans.flatMap(({ rotation, keyForm, from, to, fromMoves, toMoves }) => [
    ...[rotation, keyForm, from, to],
    ...[Number(fromMoves), Number(toMoves)],
  ]),
  ...pages,
];

/** How few queries are shared out: jobs, rows to join splits for, and spans and pages, as kernels read them. */
interface FewPlan {
  readonly words: Uint32Array;
  readonly nJobs: number;
  readonly nRows: number;
  readonly mostSplits: number;
  /** Numbers that all splits leave. */
  readonly splitNumbers: number;
  /** Queries of a workgroup. */
  readonly M: number;
}

function planFew(stretches: readonly Stretch[], form: AttendForm, { nHeads, nKvHeads, headDim }: Heads): FewPlan {
  const group = nHeads / nKvHeads;
  const M = Math.min(Math.max(...stretches.map(({ nRows }) => nRows * group)), MOST_QUERIES);
  const jobsOf = ({ nRows }: Stretch) => Math.ceil((nRows * group) / M);
  const nJobs = stretches.reduce((sum, stretch) => sum + jobsOf(stretch), 0);
  const nRows = stretches.reduce((sum, stretch) => sum + stretch.nRows, 0);
  const splitVectors = headDim / 4 + 1; // that a split leaves of a query
  const [jobs, rows, rest]: number[][] = [[], [], []];
  const restAt = JOB.length * nJobs + ROW.length * nRows;
  let splitsAt = 0;
  let mostSplits = 1;
  for (const stretch of stretches) {
    const nKeys = keysOf(stretch);
    const wanted = nKeys / Math.ceil(splitGroups(M) / (nKvHeads * nJobs));
    const splitKeys = Math.max(1, Math.ceil(wanted / keysAtOnce(form, M))) * keysAtOnce(form, M);
    const nSplits = Math.max(1, Math.ceil(nKeys / splitKeys));
    mostSplits = Math.max(mostSplits, nSplits);
    const spans = restAt + rest.length;
    const pages = spans + SPAN_WORDS * stretch.spans.length;
    for (let m0 = 0; m0 < stretch.nRows * group; m0 += M) {
      jobs.push(m0, stretch.row, stretch.nRows, nSplits, splitKeys, splitsAt, spans, stretch.spans.length, pages);
    }
    for (let r = 0; r < stretch.nRows; r++) {
      rows.push(stretch.row + r, nSplits, splitsAt);
      splitsAt += nHeads * nSplits * splitVectors;
    }
    rest.push(...wordsOf(stretch));
  }
  const words = Uint32Array.from([...jobs, ...rows, ...rest]);
  return { words, nJobs, nRows, mostSplits, splitNumbers: 4 * splitsAt, M };
}

/**
 * Recorder of attention.
 *
 * @param record Records a call.
 * @param kernel Makes a kernel where there is none of its name yet.
 * @param roomForSplits A buffer of at least so many bytes.
 */
export function openAttend(
  { number, hasTensorCores, subgroupSize, workgroupMemory }: AttendDevice,
  recorder: Recorder,
  record: (call: Call) => void,
  kernel: (name: string, make: () => WgslKernel) => WgslKernel,
  roomForSplits: (nBytes: number) => GPUBuffer,
) {
  const plans = new WeakMap<readonly Stretch[], { shape: string; plan: FewPlan }>();
  /** All layers of a forward have the same stretches, and so the same plan. */
  function planOf(stretches: readonly Stretch[], form: AttendForm, heads: Heads): FewPlan {
    const shape = Object.values(heads).join();
    const known = plans.get(stretches);
    if (known?.shape === shape) return known.plan;
    const few = stretches.filter(({ nRows }) => isFew(nRows, heads));
    const plan = planFew(few, form, heads);
    plans.set(stretches, { shape, plan });
    return plan;
  }
  const isFew = (nRows: number, { nHeads, nKvHeads }: Heads) => (nRows * nHeads) / nKvHeads <= FEW_QUERIES;

  /** What all kernels take: queries, a part of the cache, and their places. */
  function operands(out: Tensor, q: Tensor, kv: WebGpuKv, part: KvPart, plan: GPUBuffer) {
    const group = out.cols / kv.headDim / kv.nKvHeads;
    const first = part.firstHead * group * kv.headDim; // number of a row at which the part's query heads begin
    return {
      buffers: { rotated: bufferOf(q), keys: part.keys, values: part.values, plan },
      params: {
        ...{ nHeads: out.cols / kv.headDim, group, room: kv.room, partHeads: part.nHeads },
        ...{ qAt: at(q) + first, rotationSize: (out.rows * out.cols) / 4, outAt: at(out) + first },
      },
    };
  }

  function attendFewQueries(out: Tensor, q: Tensor, kv: WebGpuKv, stretches: readonly Stretch[], heads: Heads): void {
    const { headDim, nHeads, nKvHeads } = heads;
    const form = { headDim, number };
    const plan = planOf(stretches, form, heads);
    const { M, nJobs, nRows, mostSplits, splitNumbers, words } = plan;
    const [kept, jobsAt] = recorder.keepOnce(stretches, Object.values(heads).join(), () => words);
    const splits = roomForSplits(4 * splitNumbers);
    const hasSubgroups = subgroupSize >= lanesOf(form);
    for (const part of kv.parts) {
      const { buffers, params } = operands(out, q, kv, part, kept);
      record({
        kernel: kernel(`attendFew ${headDim} ${M}`, () => attendFew(form, M, hasSubgroups)),
        buffers: { splits, ...buffers },
        params: { ...params, firstQueryHead: (part.firstHead * nHeads) / nKvHeads, jobsAt },
        groups: [mostSplits, part.nHeads, nJobs],
      });
    }
    record({
      kernel: kernel(`mergeSplits ${headDim}`, () => mergeSplits(headDim)),
      buffers: { out: bufferOf(out), splits, plan: kept },
      params: { nQueries: nRows * nHeads, nHeads, rowsAt: jobsAt + JOB.length * nJobs, outAt: at(out) },
      groups: gridOf(nRows * nHeads),
    });
  }

  function attendTiles(out: Tensor, q: Tensor, kv: WebGpuKv, stretch: Stretch, { headDim, nHeads, nKvHeads }: Heads) {
    const { row, nRows, spans } = stretch;
    const form = { headDim, number };
    const [plan, spansAt] = recorder.keepOnce(stretch, '', () => Uint32Array.from(wordsOf(stretch)));
    const subgroups = hasTensorCores ? subgroupsFor(headDim, workgroupMemory) : 0;
    const sizes = tileSizes(form, workgroupMemory);
    const M = subgroups ? queriesOf(subgroups) : sizes.M;
    const made = subgroups
      ? kernel(`attendMatrix ${headDim}`, () => attendMatrix(headDim, subgroups))
      : kernel(`attend ${headDim}`, () => attend(form, sizes));
    const nTiles = Math.ceil((nRows * nHeads) / nKvHeads / M);
    for (const part of kv.parts) {
      const { buffers, params } = operands(out, q, kv, part, plan);
      const workOfTile = 4 * M * keysOf(stretch) * headDim * part.nHeads;
      const tilesAtOnce = Math.max(1, Math.floor(recorder.mostWork / workOfTile));
      for (let firstTile = 0; firstTile < nTiles; firstTile += tilesAtOnce) {
        const tiles = Math.min(tilesAtOnce, nTiles - firstTile);
        record({
          kernel: made,
          buffers: { out: bufferOf(out), ...buffers },
          params: {
            ...params,
            ...{ row, nRows, spansAt, nSpans: spans.length, pagesAt: spansAt + SPAN_WORDS * spans.length },
            ...{ firstTile, nTiles },
          },
          groups: [tiles, part.nHeads],
          work: tiles * workOfTile,
        });
      }
    }
  }

  return (out: Tensor, q: Tensor, kv: WebGpuKv, stretches: readonly Stretch[]): void => {
    const heads = { nHeads: out.cols / kv.headDim, nKvHeads: kv.nKvHeads, headDim: kv.headDim };
    if (stretches.some(({ nRows }) => isFew(nRows, heads))) attendFewQueries(out, q, kv, stretches, heads);
    for (const stretch of stretches) if (!isFew(stretch.nRows, heads)) attendTiles(out, q, kv, stretch, heads);
  };
}
