/**
 * How the wasm kernels round: to what a cache stores, and to the integers of a format. Computed in float32 and in the
 * kernels' order, since a last bit can turn a rounded number to the next integer.
 */
import type { Precision } from '../src/backends/wasmStage.ts';
import type { KvType } from '../src/kvTypes.ts';

/** Stands for `scale * integers + offset`. */
export interface Quantised {
  integers: Float64Array;
  scale: number;
  offset: number;
  sum: number; // of `scale * integers`
}

/** The largest integers of a vector and of a weight, and a polynomial for `2^x` near 0, highest power first. */
const FORMATS = {
  f32: [1, 1, []],
  int16: [4095, 8191, [0.0096663685, 0.055921976, 0.24022349, 0.69312105, 1]],
  int8: [127, 127, [0.055838283, 0.24263948, 0.69313673, 0.99992456]],
} as const;

const f32 = Math.fround;
/** The nearest whole number, an even one in a tie: floats of this size have no room for fractions. */
const nearest = (x: number) => x + 1.5 * 2 ** 52 - 1.5 * 2 ** 52;
const maxAbs = (x: Float64Array) => x.reduce((max, value) => Math.max(max, Math.abs(value)), 0);

export const sumOf = (x: Float64Array) => x.reduce((sum, value) => sum + value, 0);

export function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** Every head multiplied by a Walsh-Hadamard matrix, by blocks of the largest power of two in `headDim`. */
export function turned(x: Float64Array, headDim: number): Float64Array {
  const block = headDim & -headDim;
  const scale = f32(1 / f32(Math.sqrt(block)));
  const y = x.map((value) => f32(value * scale));
  for (let half = 1; half < block; half *= 2) {
    for (let i = 0; i < y.length; i++) {
      if ((i & half) === 0) [y[i], y[i + half]] = [f32(y[i] + y[i + half]), f32(y[i] - y[i + half])];
    }
  }
  return y;
}

/** What a cache gives back of `x`: in 8 bits, 32 dimensions of a head share a scale. */
export function stored(x: Float64Array, headDim: number, kvType: KvType): Float64Array {
  if (kvType === 'f32') return x;
  return x.map((value, i) => {
    if (value === 0) return 0;
    const step = 2 ** (Math.floor(Math.log2(Math.abs(value))) - 7);
    if (kvType === 'bf16') return nearest(value / step) * step;
    const [head, run] = [i - (i % headDim), (i % headDim) - ((i % headDim) % 32)];
    const largest = maxAbs(x.subarray(head + run, head + Math.min(headDim, run + 32)));
    return f32(nearest(f32(value * f32(127 / largest))) * f32(largest / 127));
  });
}

/** @param isFused Whether a product and a sum are rounded once, as in relaxed SIMD. */
export function arithmeticOf(precision: Precision, isFused: boolean) {
  const [largest, largestWeight, power] = FORMATS[precision];
  const madd = (a: number, b: number, c: number) => f32((isFused ? a * b : f32(a * b)) + c);
  const toInteger = (x: number, factor: number) => nearest(isFused ? x * factor : f32(x * factor));
  const quantised = (x: Float64Array, range = maxAbs(x), offset = 0): Quantised => {
    if (precision === 'f32') return { integers: x, scale: 1, offset, sum: 0 };
    const [factor, scale] = [range > 0 ? f32(largest / range) : 0, f32(range / largest)];
    const integers = x.map((value) => toInteger(f32(value - offset), factor));
    return { integers, scale, offset, sum: f32(scale * sumOf(integers)) };
  };
  return {
    quantised,
    /** What is taken from one dimension of a tile's keys: in 8 bits their mean, summed four lanes of a panel at a time. */
    common(keys: Float64Array, from: number): number {
      if (precision !== 'int8') return 0;
      const lanes = [0, 0, 0, 0];
      for (let j = -(from % 8); j < keys.length; j += 8) {
        lanes.forEach((sum, lane) => {
          lanes[lane] = f32(sum + f32((keys[j + lane] ?? 0) + (keys[j + lane + 4] ?? 0)));
        });
      }
      return f32(f32(f32(lanes[0] + lanes[2]) + f32(lanes[1] + lanes[3])) * f32(1 / keys.length));
    },
    /** In 8 bits integers of a query count from its smallest number on. */
    query(x: Float64Array): Quantised {
      const low = Math.min(...x);
      return precision === 'int8' ? quantised(x, f32(Math.max(...x) - low), low) : quantised(x);
    },
    score(query: Quantised, key: Quantised): number {
      const product = f32(f32(dot(query.integers, key.integers)) * f32(query.scale * key.scale));
      return madd(query.offset, key.sum, product);
    },
    /** `2^x` for `x <= 0`, 1 being `largestWeight`. */
    weight(x: number): number {
      if (precision === 'f32') return 2 ** x;
      const whole = nearest(Math.max(-125, x));
      const fraction = Math.max(-125, x) - whole;
      const mantissa = power.map(f32).reduce((sum, coefficient) => madd(sum, fraction, coefficient));
      return toInteger(mantissa * 2 ** whole, largestWeight);
    },
  };
}
