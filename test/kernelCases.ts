/**
 * What every kernel is tried and timed on, on any backend. A case's name tells its shape and seeds its numbers, so the
 * name alone repeats it. Numbers are exact in float32 and stored types are random blocks, so all backends see the same.
 */
import type { Backend, Tensor } from '../src/backends/backend.ts';
import { type Random, seededRandom } from '../src/eval/random.ts';
import type { Activation } from '../src/kernels/elementwise.ts';
import { PAGE_LEN } from '../src/kvTypes.ts';
import { endsAt, type Slice, type Stretch, stretchesOf } from '../src/placement.ts';
import { rowBytes, TENSOR_TYPES, type TensorType } from '../src/tensorTypes.ts';
import { spansOf, stretches } from './stretches.ts';

export interface KernelCall {
  /** Where the result will be; NaN until then, unless the kernel works in place. */
  readonly out: Tensor;
  /** `out` with a row of NaN before and behind it, which the kernel must leave alone. */
  readonly guarded: Tensor;
  /** Calls the kernel. May be called again, to be timed. */
  record(): void;
}

export interface KernelCase {
  readonly name: string;
  /** Allocates and fills the inputs. */
  prepare(backend: Backend): KernelCall;
}

type Make = ReturnType<typeof makeInputs>;
type Prepare<Shape> = (backend: Backend, shape: Shape, make: Make) => KernelCall;

const define =
  <Shape extends object>(kernel: string, prepare: Prepare<Shape>) =>
  (shape: Shape): KernelCase => {
    const sizes = Object.entries(shape).map(([size, value]) => `${size} ${value}`);
    const name = `${kernel}: ${sizes.join(', ')}`;
    return { name, prepare: (backend) => prepare(backend, shape, makeInputs(backend, seededRandom(name))) };
  };

export const gatherRows = define<{ type: TensorType; n: number; rows: number; cols: number; factor?: number }>(
  'gatherRows',
  (b, { type, n, rows, cols, factor }, make) => {
    const table = make.stored(type, rows, cols);
    const ids = Array.from({ length: n }, (_, r) => (r === 0 ? rows - 1 : make.random.integer(0, rows - 1)));
    return make.call(n, cols, (out) => b.gatherRows(out, table, ids, factor));
  },
);

export const rmsNorm = define<{ rows: number; cols: number; eps: number; inPlace?: boolean }>(
  'rmsNorm',
  (b, { rows, cols, eps, inPlace }, make) => {
    const [x, weight] = [make.normal(rows, cols, 3), make.normal(1, cols)];
    return inPlace
      ? make.callInPlace(rows, cols, (out) => b.rmsNorm(out, out, weight, eps))
      : make.call(rows, cols, (out) => b.rmsNorm(out, x, weight, eps));
  },
);

export const matmul = define<{ type: TensorType; n: number; N: number; K: number; bias?: boolean }>(
  'matmul',
  (b, { type, n, N, K, bias }, make) => {
    const [x, weight, addend] = [make.normal(n, K), make.stored(type, N, K), make.normal(1, N, 10)];
    return make.call(n, N, (out) => b.matmul(out, x, weight, bias ? addend : undefined));
  },
);

export const rotate = define<{ n: number; nHeads: number; headDim: number; inPlace?: boolean; times?: number }>(
  'rotate',
  (b, { n, nHeads, headDim, inPlace, times = 1 }, make) => {
    const rows = times * n;
    const angles = Array.from({ length: (rows * headDim) / 2 }, () => 1000 * make.random.uniform());
    const [cos, sin] = [Math.cos, Math.sin].map((f) => make.filled(rows, headDim / 2, angles.map(f)));
    const x = make.normal(n, nHeads * headDim);
    return inPlace
      ? make.callInPlace(n, nHeads * headDim, (out) => b.rotate(out, out, cos, sin))
      : make.call(rows, nHeads * headDim, (out) => b.rotate(out, x, cos, sin));
  },
);

const split = <T>(items: readonly T[], at: number): [T[], T[]] => [items.slice(0, at), items.slice(at)];

/** For each of `length` keys, whether any query sees it, in one of these forms. */
function seenIn(keyForms: readonly number[], seenBy: readonly Stretch[], length: number): Uint8Array {
  const isSeen = new Uint8Array(length);
  for (const { nRows, spans } of seenBy) {
    for (const span of spans.filter(({ keyForm }) => keyForms.includes(keyForm))) {
      isSeen.fill(1, span.from, endsAt(span, nRows - 1)[1]);
    }
  }
  return isSeen;
}

export interface AttendSizes {
  n: number;
  start: number;
  nKvHeads: number;
  /** Query heads for each key-value head. */
  group: number;
  headDim: number;
  chunkLen?: number;
  maxChunksBehind?: number;
  window?: number;
  near?: number;
  nFar?: number;
  /** 2: far spans have keys of their own. */
  keyForms?: number;
  /** Pages lie in the cache in no order, with others' between them. */
  scattered?: boolean;
  /** How much higher scores are at the last key than at the first: maxima then grow from tile to tile. Default 0. */
  rise?: number;
}

export const attend = define<AttendSizes>(
  'attend',
  (b, { n, start, nKvHeads, group, headDim, keyForms = 1, rise = 0, scattered = false, ...seen }, make) => {
    const nStale = 9; // tokens of a longer text that was here before
    const large = 30000; // shows with any weight and in any scale
    const length = start + n;
    const [cols, width] = [nKvHeads * group * headDim, nKvHeads * headDim];
    const nPages = Math.ceil((length + nStale) / PAGE_LEN);
    const all = Array.from(Array(2 * nPages).keys());
    const [pages, others] = scattered ? split(make.random.shuffled(all), nPages) : split(all, nPages);
    const { stretches: seenBy, nRotations } = stretches({ n, start, keyForms, pages, ...seen });
    /** `x` with `value(row)` in the first dimension of every head. */
    const marked = (rows: number, cols: number, deviation: number, value: (row: number) => number) => {
      const numbers = make.random.normals(rows * cols, deviation);
      if (rise > 0) {
        for (let at = 0; at < numbers.length; at += headDim) numbers[at] = value(Math.floor(at / cols));
      }
      return numbers;
    };
    const rotated = nRotations * n;
    // Scores of deviation 2 are neither flat nor one-hot.
    const q = make.filled(
      rotated,
      cols,
      marked(rotated, cols, 2 / Math.sqrt(headDim), () => 2),
    );
    /** Keys or values of these forms: large where no query sees them. */
    const cached = (numbers: Float32Array, forms: readonly number[]) => {
      const isSeen = seenIn(forms, seenBy, length);
      const value = (number: number, at: number) => (isSeen[Math.floor(at / width)] ? number : large);
      return make.filled(length, width, numbers.map(value));
    };
    const forms = Array.from(Array(keyForms).keys());
    const keys = forms.map((form) => {
      const numbers = marked(length, width, 1, (j) => Math.floor((rise / 2) * (j / length)));
      return cached(numbers, [form]);
    });
    const v = cached(make.random.normals(length * width), forms);
    const stale = make.filled(nPages * PAGE_LEN, width, Array(nPages * PAGE_LEN * width).fill(large));
    const kv = b.allocKv(2 * nPages, nKvHeads, headDim, 0, keyForms);
    const slice = (nRows: number, start: number, of = pages): Slice => ({ row: 0, nRows, start, pages: of });
    const put = (slices: readonly Slice[]) => {
      const rows = b.view(stale, slices[0].nRows, width);
      b.append(
        kv,
        forms.map(() => rows),
        rows,
        slices,
      );
    };
    put([slice(nStale, length)]);
    put([slice(nPages * PAGE_LEN, 0, others)]);
    b.append(kv, keys, v, [slice(length, 0)]);
    return make.call(n, cols, (out) => b.attend(out, q, kv, seenBy));
  },
);

/** Several texts at once, `n@start` each: rows one behind the other, pages mixed among those of the cache. */
export const attendTexts = define<{
  texts: string;
  nKvHeads: number;
  group: number;
  headDim: number;
  chunkLen?: number;
}>('attend', (b, { texts, nKvHeads, group, headDim, chunkLen = Infinity }, make) => {
  const [cols, width] = [nKvHeads * group * headDim, nKvHeads * headDim];
  const sizes = texts.split(' ').map((text) => text.split('@').map(Number));
  const nPages = sizes.reduce((sum, [n, start]) => sum + Math.ceil((n + start) / PAGE_LEN), 0);
  const pages = make.random.shuffled(Array.from(Array(nPages).keys()));
  let row = 0;
  const slices = sizes.map(([nRows, start]): Slice => {
    row += nRows;
    return { row: row - nRows, nRows, start, pages: pages.splice(0, Math.ceil((nRows + start) / PAGE_LEN)) };
  });
  const kv = b.allocKv(nPages, nKvHeads, headDim);
  for (const { nRows, start, pages } of slices) {
    if (start > 0)
      b.append(kv, [make.normal(start, width)], make.normal(start, width), [{ row: 0, nRows: start, start: 0, pages }]);
    b.append(kv, [make.normal(nRows, width)], make.normal(nRows, width), [{ row: 0, nRows, start, pages }]);
  }
  // All rows at once: they overwrite what was put there one text after the other.
  b.append(kv, [make.normal(row, width)], make.normal(row, width), slices);
  const { stretches: seenBy, used } = stretchesOf({ spans: (i) => spansOf(i, { n: 1, chunkLen }) }, slices);
  const q = make.normal(used.length * row, cols, 2 / Math.sqrt(headDim));
  return make.call(row, cols, (out) => b.attend(out, q, kv, seenBy));
});

interface GluSizes {
  n: number;
  cols: number;
  deviation: number;
  activation: Activation;
  inPlace?: boolean;
}

export const glu = define<GluSizes>('glu', (b, { n, cols, deviation, activation, inPlace }, make) => {
  const [gate, up] = [make.normal(n, cols, deviation), make.normal(n, cols)];
  return inPlace
    ? make.callInPlace(n, cols, (out) => b.glu(out, out, up, activation))
    : make.call(n, cols, (out) => b.glu(out, gate, up, activation));
});

export const add = define<{ n: number; cols: number }>('add', (b, { n, cols }, make) => {
  const y = make.normal(n, cols);
  return make.callInPlace(n, cols, (x) => b.add(x, y));
});

const TYPES = Object.keys(TENSOR_TYPES) as TensorType[];
/** Shortest row of a type that has two blocks; 37 where blocks are single numbers. */
const oddCols = (type: TensorType) => (TENSOR_TYPES[type].blockLen === 1 ? 37 : 2 * TENSOR_TYPES[type].blockLen);

/** `count` cases of shapes drawn by `shape`. */
const drawn = (count: number, kernel: string, shape: (random: Random) => KernelCase) =>
  Array.from({ length: count }, (_, nth) => shape(seededRandom(`${kernel} ${nth}`)));

/** Cases for correctness: small, odd, and at every border that a kernel's tiles have. */
export const CASES: readonly KernelCase[] = [
  ...TYPES.map((type) => gatherRows({ type, n: 7, rows: 5, cols: oddCols(type) })),
  gatherRows({ type: 'F16', n: 1, rows: 1, cols: 1 }),
  ...TYPES.map((type) => gatherRows({ type, n: 3, rows: 4, cols: oddCols(type), factor: 25.25 })),

  ...[1, 3, 4, 8, 37, 129, 384].map((cols, at) => rmsNorm({ rows: 2 * at + 1, cols, eps: 1e-5 })),
  rmsNorm({ rows: 6, cols: 24, eps: 1, inPlace: true }),

  ...TYPES.flatMap((type) => [
    matmul({ type, n: 1, N: 33, K: oddCols(type) }),
    matmul({ type, n: 7, N: 33, K: oddCols(type), bias: true }),
    matmul({ type, n: 19, N: 33, K: oddCols(type), bias: true }),
  ]),
  // rows come in groups of six, columns in groups of 8 and 32
  ...[2, 5, 6, 11, 12, 17, 18, 31].map((n) => matmul({ type: 'F32', n, N: 40, K: 19, bias: true })),
  ...[1, 7, 8, 9, 31, 32, 64, 65].map((N) => matmul({ type: 'F32', n: 13, N, K: 64 })),
  // so many weight rows that a thread takes several
  ...[1, 3].flatMap((n) => [matmul({ type: 'F16', n, N: 4099, K: 72 }), matmul({ type: 'Q8_0', n, N: 4099, K: 64 })]),
  ...[1, 2, 3, 4, 15, 16, 17].map((K) => matmul({ type: 'BF16', n: 3, N: 9, K, bias: true })),
  ...drawn(10, 'matmul', ({ integer, pick }) => {
    const type = pick(TYPES);
    const K = integer(1, 4) * oddCols(type);
    return matmul({ type, n: integer(1, 40), N: integer(1, 100), K, bias: pick([true, false]) });
  }),

  ...[8, 16, 24, 40, 64, 80, 128].map((headDim, at) => rotate({ n: 2 * at + 1, nHeads: at + 1, headDim })),
  rotate({ n: 5, nHeads: 3, headDim: 24, inPlace: true }),
  ...[2, 3].map((times) => rotate({ n: 7, nHeads: 2, headDim: 16, times })),

  // plain attention: the first token, decoding, whole tiles of 64 keys and one more or less
  ...[0, 1, 62, 63, 64, 200].map((start) => attend({ n: 1, start, nKvHeads: 2, group: 2, headDim: 16 })),
  ...[63, 64, 65, 129].map((n) => attend({ n, start: 0, nKvHeads: 1, group: 1, headDim: 8 })),
  ...[1, 2, 3, 4, 5, 6, 7, 8].map((group) => attend({ n: 26, start: 7, nKvHeads: 2, group, headDim: 24 })),
  attend({ n: 400, start: 3, nKvHeads: 1, group: 1, headDim: 8 }), // more than two tiles of queries
  // chunks: from before, at and behind a border; blocks over several chunks; chunks longer and shorter than a tile
  ...[47, 48, 49].map((start) => attend({ n: 1, start, nKvHeads: 1, group: 4, headDim: 16, chunkLen: 24 })),
  ...[1, 5, 6, 63, 64, 65, 128].map((chunkLen) =>
    attend({ n: 90, start: 60, nKvHeads: 2, group: 2, headDim: 16, chunkLen }),
  ),
  ...[0, 1].map((maxChunksBehind) =>
    attend({ n: 70, start: 20, nKvHeads: 1, group: 3, headDim: 16, chunkLen: 24, maxChunksBehind }),
  ),
  ...[1, 2, 20, 64, 89].map((window) => attend({ n: 50, start: 40, nKvHeads: 1, group: 3, headDim: 16, window })),
  // pages anywhere: decoding and reading, over borders of pages and chunks
  ...[1, 3, 40, 150].flatMap((n) => [
    attend({ n, start: 600, nKvHeads: 2, group: 3, headDim: 16, scattered: true }),
    attend({ n, start: 250, nKvHeads: 1, group: 2, headDim: 64, chunkLen: 100, scattered: true }),
    attend({ n, start: 300, nKvHeads: 1, group: 1, headDim: 128, near: 130, nFar: 70, keyForms: 2, scattered: true }),
  ]),
  // texts at once: decoding, at one length and at many, and prompts beside it
  attendTexts({ texts: '1@300 1@300 1@300', nKvHeads: 3, group: 3, headDim: 64 }),
  attendTexts({
    texts: '1@0 1@900 1@127 1@128 1@64 1@700 1@1 1@255',
    nKvHeads: 3,
    group: 3,
    headDim: 64,
    chunkLen: 200,
  }),
  attendTexts({ texts: '1@40 70@30 1@1000 3@126', nKvHeads: 2, group: 2, headDim: 16, chunkLen: 50 }),
  attendTexts({ texts: '2@300 20@0 1@10', nKvHeads: 1, group: 8, headDim: 128 }),
  // keys parted by distance: the border moves with the query
  ...[1, 2, 20, 64, 89].map((near) => attend({ n: 50, start: 40, nKvHeads: 1, group: 3, headDim: 16, near })),
  ...[1, 4, 64].map((nFar) => attend({ n: 90, start: 30, nKvHeads: 1, group: 3, headDim: 16, near: 70, nFar })),
  attend({ n: 1, start: 1500, nKvHeads: 1, group: 3, headDim: 16, near: 700, nFar: 4 }),
  ...drawn(12, 'attend by distance', ({ integer, pick }) =>
    attend({
      n: pick([1, integer(2, 80)]),
      start: pick([integer(0, 150), 1200]),
      nKvHeads: integer(1, 2),
      group: integer(1, 8),
      headDim: pick([8, 16, 40, 64, 80, 128]),
      near: pick([integer(1, 10), integer(40, 200)]),
      nFar: pick([integer(1, 9), Infinity]),
      keyForms: pick([1, 2]),
    }),
  ),
  ...drawn(20, 'attend', ({ integer, pick }) =>
    attend({
      n: integer(1, 80),
      start: integer(0, 150),
      nKvHeads: integer(1, 2),
      group: integer(1, 8),
      headDim: pick([8, 16, 40, 64, 80, 128]),
      chunkLen: pick([integer(1, 20), integer(40, 100), 64, Infinity]),
      maxChunksBehind: pick([0, 1, Infinity, Infinity]),
      window: pick([integer(1, 10), integer(40, 100), Infinity, Infinity]),
    }),
  ),

  ...(['silu', 'gelu'] as const).flatMap((activation) => [
    ...[1, 3, 4, 5, 66].map((cols) => glu({ n: 3, cols, deviation: 2, activation })),
    glu({ n: 9, cols: 33, deviation: 100, activation }), // exp overflows float32
    glu({ n: 5, cols: 9, deviation: 1e20, activation }), // so does a square
    glu({ n: 7, cols: 21, deviation: 2, activation, inPlace: true }),
  ]),
  ...[1, 4, 5, 67].map((cols) => add({ n: 3, cols })),
];

/**
 * Maxima that grow all along, as for a kernel that takes exponentials from one that lags. Beside `CASES`, since caches of
 * fewer bits than half precision lose digits where one dimension outweighs the others.
 */
export const RISING: readonly KernelCase[] = [16, 64, 128].flatMap((headDim) =>
  [1, 40].map((n) => attend({ n, start: 2000, nKvHeads: 1, group: 2, headDim, chunkLen: 600, rise: 40 })),
);

/** The kernel that a case is of. */
export const kernelOf = ({ name }: KernelCase): string => name.split(':')[0];

/** The last case of every kernel. */
export const oneOfEach = (): KernelCase[] => [...new Map(CASES.map((one) => [kernelOf(one), one])).values()];

// --- internal ---

/** Maker of one case's tensors. */
function makeInputs(b: Backend, random: Random) {
  const filled = (rows: number, cols: number, values: ArrayLike<number>): Tensor => {
    const tensor = b.alloc('F32', rows, cols);
    b.write(tensor, Float32Array.from(values));
    return tensor;
  };
  const normal = (rows: number, cols: number, deviation = 1) =>
    filled(rows, cols, random.normals(rows * cols, deviation));
  const guard = (rows: number, cols: number, record: (out: Tensor) => void): KernelCall => {
    const guarded = filled(rows + 2, cols, new Float32Array((rows + 2) * cols).fill(NaN));
    const out = b.view(guarded, rows, cols, cols);
    return { out, guarded, record: () => record(out) };
  };
  return {
    random,
    filled,
    normal,
    stored(type: TensorType, rows: number, cols: number): Tensor {
      if (type === 'F32') return normal(rows, cols);
      const tensor = b.alloc(type, rows, cols);
      b.load(tensor, randomBlocks(type, rows * rowBytes(type, cols), random), 0);
      return tensor;
    },
    /** A call that writes a new tensor. */
    call: guard,
    /** A call that changes a tensor of normal numbers. */
    callInPlace(rows: number, cols: number, record: (out: Tensor) => void): KernelCall {
      const call = guard(rows, cols, record);
      b.write(call.out, random.normals(rows * cols));
      return call;
    },
  };
}

/** Where a block keeps numbers in half precision, bytes. */
const HALVES: Record<Exclude<TensorType, 'F32' | 'BF16'>, readonly number[]> = {
  F16: [0],
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q8_0: [0],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
};

/** Random bytes, but for numbers of 16 bits, which are of either sign and between about 0.01 and 1. */
export function randomBlocks(type: Exclude<TensorType, 'F32'>, nBytes: number, random: Random): Uint8Array {
  const bytes = Uint8Array.from({ length: nBytes }, () => random.integer(0, 255));
  const view = new DataView(bytes.buffer);
  const [halves, oneHundredth, one] = type === 'BF16' ? [[0], 0x3c20, 0x3f80] : [HALVES[type], 0x2000, 0x3c00];
  for (let block = 0; block < nBytes; block += TENSOR_TYPES[type].blockBytes) {
    for (const at of halves) {
      view.setUint16(block + at, random.pick([0, 0x8000]) | random.integer(oneHundredth, one), true);
    }
  }
  return bytes;
}
