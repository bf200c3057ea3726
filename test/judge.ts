/**
 * Whether a backend computes a kernel case right: the one rule of the contract, the browser and the benchmark. A result
 * may be off by twice what a naive float32 version is off by, and nothing beside it may be touched.
 */
import type { Backend } from '../src/backends/backend.ts';
import { openReference } from '../src/backends/reference.ts';
import { type KernelCase, kernelOf } from './kernelCases.ts';
import { openNaive } from './naive.ts';

/**
 * Errors beyond float32's that kernels may have, relative to their largest output, where numbers are stored shorter.
 */
export type Rounding = Readonly<Record<string, number>>;

/**
 * A kernel may be off by this share of its largest output where naive float32 is better by luck: 16 steps of float32.
 */
const FLOOR = 1e-6;
/** The same where factors are halves: a step of half precision. */
const FLOOR_OF_HALVES = 2 ** -11;

/** Runs a case, and says what is wrong with its result; undefined where nothing is. */
export async function judge(kernelCase: KernelCase, backend: Backend, rounding: Rounding = {}) {
  const { guarded, record } = kernelCase.prepare(backend);
  record();
  const { cols } = guarded;
  const all = await backend.read(guarded);
  const guards = [...all.subarray(0, cols), ...all.subarray(-cols)];
  if (!guards.every(Number.isNaN)) return 'it writes outside its output';

  const kernel = kernelOf(kernelCase);
  const halved = halvedBy(backend).filter((name) => name === kernel);
  const { truth, naiveError } = await yardstick(kernelCase, halved);
  const largest = maxAbs(truth);
  const floor = halved.length > 0 ? FLOOR_OF_HALVES : FLOOR;
  const bound = 2 * naiveError + (floor + (rounding[kernel] ?? 0)) * largest;
  const errors = differences(all.subarray(cols, -cols), truth);
  const worst = maxAbs(errors);
  if (worst <= bound) return undefined; // NaN is beyond any bound
  const nmse = sumOfSquares(errors) / sumOfSquares(truth);
  return `it is off by ${worst} of ${largest}, where ${bound} is allowed; its NMSE is ${nmse}`;
}

type Numbers = Float32Array | Float64Array;

export const differences = (a: Numbers, b: Numbers): Float64Array => Float64Array.from(a, (value, i) => value - b[i]);

export function maxAbs(numbers: Iterable<number>): number {
  let max = 0;
  for (const value of numbers) max = Math.max(max, Math.abs(value)); // NaN stays
  return max;
}

// --- internal ---

/** Kernels whose factors are rounded to halves before, which a backend's name tells. */
function halvedBy({ name }: Backend): ('attend' | 'matmul')[] {
  return [
    ...(/\bf16 cache/.test(name) ? ['attend' as const] : []),
    ...(name.includes('tensor cores') ? ['matmul' as const] : []),
  ];
}

interface Yardstick {
  /** The result in float64. */
  truth: Numbers;
  /** The largest error of the naive version. */
  naiveError: number;
}

const yardsticks = new Map<string, Promise<Yardstick>>();

/** A case's yardstick, computed once for all backends of a process. */
function yardstick({ name, prepare }: KernelCase, halved: readonly ('attend' | 'matmul')[]): Promise<Yardstick> {
  const resultOn = (backend: Backend) => {
    const { out, record } = prepare(backend);
    record();
    return backend.read(out);
  };
  const compute = async () => {
    const [truth, naive] = await Promise.all([openReference(), openNaive(halved)].map(resultOn));
    return { truth, naiveError: maxAbs(differences(naive, truth)) };
  };
  const key = `${name}; halves: ${halved}`;
  const known = yardsticks.get(key) ?? compute();
  yardsticks.set(key, known);
  return known;
}

function sumOfSquares(numbers: Iterable<number>): number {
  let sum = 0;
  for (const value of numbers) sum += value ** 2;
  return sum;
}
