/**
 * The yardstick of the kernels' tolerance: every kernel in the plainest float32 there is, rounded after each step. Where
 * this is off by much, a fast kernel may be; where it is not, a fast kernel may not.
 */
import type { Backend, Tensor } from '../src/backends/backend.ts';
import { deferred, openEager } from '../src/backends/reference.ts';
import { placeOf } from '../src/kernels/attend.ts';
import { endsAt, type Stretch } from '../src/placement.ts';

const f32 = Math.fround;

/** The reference backend keeps an F32 tensor's numbers, and a cache's keys and values, in these fields. */
const numbersOf = (tensor: Tensor) => (tensor as Tensor & { numbers: Float64Array }).numbers;

/** `a · b` of `n` numbers from `aAt` and `bAt` on, added to `sum` one by one. */
function dot(a: Float64Array, aAt: number, b: Float64Array, bAt: number, n: number, sum = 0): number {
  for (let i = 0; i < n; i++) sum = f32(sum + f32(a[aAt + i] * b[bAt + i]));
  return sum;
}

/** The nearest number of half precision, IEEE's binary16, subnormal ones too. */
function toHalf(x: number): number {
  const step = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(x)))) - 10);
  return x === 0 ? 0 : Math.round(x / step) * step;
}

/**
 * A backend that stores what the reference backend stores, and computes in naive float32.
 * @param inHalves Kernels whose factors are rounded to half precision before, as matrix units and a cache of halves have them.
 */
export function openNaive(inHalves: readonly ('matmul' | 'attend')[] = []): Backend {
  const backend = openEager();
  const factorsOf = (kernel: 'matmul' | 'attend') => (numbers: Float64Array) =>
    inHalves.includes(kernel) ? numbers.map(toHalf) : numbers;
  return deferred({
    ...backend,
    name: 'naive float32',
    gatherRows(out, table, ids, factor) {
      backend.gatherRows(out, table, ids, factor);
      numbersOf(out).forEach((value, i, numbers) => {
        numbers[i] = f32(value);
      });
    },
    rmsNorm(out, x, weight, eps) {
      const [to, from, w, cols] = [numbersOf(out), numbersOf(x), numbersOf(weight), x.cols];
      for (let row = 0; row < from.length; row += cols) {
        const scale = f32(1 / f32(Math.sqrt(f32(f32(dot(from, row, from, row, cols) / cols) + f32(eps)))));
        for (let c = 0; c < cols; c++) to[row + c] = f32(f32(from[row + c] * scale) * w[c]);
      }
    },
    matmul(out, x, weight, bias) {
      const factors = factorsOf('matmul');
      const [to, from, cols] = [numbersOf(out), factors(numbersOf(x)), x.cols];
      const decoded = backend.alloc('F32', 1, cols);
      for (let r = 0; r < out.cols; r++) {
        this.gatherRows(decoded, weight, [r]);
        const row = factors(numbersOf(decoded));
        for (let t = 0; t < x.rows; t++) {
          to[t * out.cols + r] = dot(from, t * cols, row, 0, cols, bias && numbersOf(bias)[r]);
        }
      }
    },
    rotate(out, x, cos, sin) {
      const [to, from, cosines, sines, half] = [numbersOf(out), numbersOf(x), numbersOf(cos), numbersOf(sin), cos.cols];
      for (let at = 0; at < to.length; at += 2 * half) {
        const source = at % from.length;
        const row = Math.floor(at / x.cols) * half;
        for (let d = 0; d < half; d++) {
          const [a, b, c, s] = [from[source + d], from[source + d + half], cosines[row + d], sines[row + d]];
          to[at + d] = f32(f32(a * c) - f32(b * s));
          to[at + d + half] = f32(f32(b * c) + f32(a * s));
        }
      }
    },
    attend(out, q, kv, stretches) {
      const { nKvHeads, headDim, ...cached } = kv as typeof kv & { keys: Float64Array[]; values: Float64Array };
      const factors = factorsOf('attend');
      const [keys, values, queries] = [cached.keys.map(factors), factors(cached.values), factors(numbersOf(q))];
      const nHeads = out.cols / headDim;
      const to = numbersOf(out).fill(0);
      for (let at = 0; at < to.length; at += headDim) {
        const r = Math.floor(at / out.cols);
        const stretch = stretches.find(({ row, nRows }) => row <= r && r < row + nRows) as Stretch;
        const kvHead = Math.floor(((at % out.cols) / headDim) * (nKvHeads / nHeads));
        const scores: number[] = [];
        const rows: number[] = [];
        for (const span of stretch.spans) {
          const [from, end] = endsAt(span, r - stretch.row);
          for (let j = from; j < end; j++) {
            const row = (placeOf(stretch.pages, j) * nKvHeads + kvHead) * headDim;
            rows.push(row);
            scores.push(dot(queries, span.rotation * to.length + at, keys[span.keyForm], row, headDim));
          }
        }
        const max = Math.max(...scores);
        const weights = Float64Array.from(scores, (score) => f32(Math.exp(f32(score - max))));
        const sum = weights.reduce((a, b) => f32(a + b));
        const shares = factors(weights).map((weight) => f32(weight / sum));
        rows.forEach((row, s) => {
          const weight = shares[s];
          for (let d = 0; d < headDim; d++) to[at + d] = f32(to[at + d] + f32(weight * values[row + d]));
        });
      }
    },
    glu(out, gate, up, activation) {
      const [to, g, u] = [numbersOf(out), numbersOf(gate), numbersOf(up)];
      const silu = (x: number) => f32(x / f32(1 + f32(Math.exp(-x))));
      const gelu = (x: number) => {
        const inner = f32(f32(Math.sqrt(2 / Math.PI)) * f32(x + f32(f32(0.044715) * f32(x * f32(x * x)))));
        return f32(f32(x / 2) * f32(1 + f32(Math.tanh(inner))));
      };
      const activated = activation === 'silu' ? silu : gelu;
      for (let i = 0; i < to.length; i++) to[i] = f32(activated(g[i]) * u[i]);
    },
    add(x, y) {
      const [to, from] = [numbersOf(x), numbersOf(y)];
      for (let i = 0; i < to.length; i++) to[i] = f32(to[i] + from[i]);
    },
  });
}
