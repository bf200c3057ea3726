/**
 * Attention as the wasm kernels mean to compute it, rounding to integers included (`roundings.ts`), so that they agree with
 * it to a few of float32's last bits: the same tiles of 64 keys, quantised once for all queries that share them. What is
 * not rounded is float64.
 */
import type { Backend, KvLayer, Tensor } from '../src/backends/backend.ts';
import { deferred, openEager } from '../src/backends/reference.ts';
import type { Precision } from '../src/backends/wasmStage.ts';
import { placeOf } from '../src/kernels/attend.ts';
import type { KvType } from '../src/kvTypes.ts';
import { endsAt, type Span, type Stretch } from '../src/placement.ts';
import { arithmeticOf, dot, stored, sumOf, turned } from './roundings.ts';

const f32 = Math.fround;
const KEY_TILE = 64;
const QUERY_ROWS = 384; // of a tile: its tokens times the query heads that share a key
const [MANY_ROWS, MAX_INT_HEAD_DIM] = [48, 128]; // with fewer rows or longer heads, attention is float32

const numbersOf = (tensor: Tensor) => (tensor as Tensor & { numbers: Float64Array }).numbers;
const columnsOf = (rows: Float64Array[]) => Array.from(rows[0], (_, d) => Float64Array.from(rows, (row) => row[d]));

/** A backend that computes attention as the wasm backend does, all else in float64. */
export function openAttendTwin(precision: Precision, kvType: KvType, isFused: boolean): Backend {
  const backend = openEager();
  return deferred({
    ...backend,
    append(kv, keys, v, slices) {
      const { headDim } = kv;
      const withNumbers = (x: Tensor, numbers: Float64Array) =>
        ({ ...x, numbers: stored(numbers, headDim, kvType) }) as Tensor;
      const key = (x: Tensor) => withNumbers(x, turned(numbersOf(x), headDim));
      backend.append(kv, keys.map(key), withNumbers(v, numbersOf(v)), slices);
    },
    attend(out, q, kv, stretches) {
      const { nKvHeads, headDim, ...cache } = kv as KvLayer & { keys: Float64Array[]; values: Float64Array };
      const nHeads = out.cols / headDim;
      const group = nHeads / nKvHeads;
      const vector = (numbers: Float64Array, nth: number) => numbers.subarray(nth * headDim, (nth + 1) * headDim);
      const sums = new Float64Array(out.rows * nHeads);
      numbersOf(out).fill(0);

      /** Rows from `firstRow` on that share tiles of keys, in all heads of one key-value head, against one span. */
      function attendSpan({ row, nRows, pages }: Stretch, firstRow: number, span: Span, kvHead: number) {
        const tileLen = Math.max(1, Math.min(nRows, Math.floor(QUERY_ROWS / group)));
        const isInt = tileLen * group >= MANY_ROWS && headDim <= MAX_INT_HEAD_DIM;
        const arithmetic = arithmeticOf(isInt ? precision : 'f32', isFused);
        const queries = Array.from({ length: Math.min(tileLen, nRows - firstRow) * group }, (_, i) => {
          const r = firstRow + Math.floor(i / group);
          const nth = (row + r) * nHeads + kvHead * group + (i % group);
          const query = vector(numbersOf(q), span.rotation * out.rows * nHeads + nth);
          const floats = turned(query, headDim).map((x) => f32(x * f32(Math.LOG2E)));
          const [from, to] = endsAt(span, r);
          const seen = { from, to };
          return { nth, floats, integers: arithmetic.query(floats), seen };
        });
        const end = queries[queries.length - 1].seen.to;
        for (let start = queries[0].seen.from, next = 0; start < end; start = next) {
          next = Math.min(end, start - (start % KEY_TILE) + KEY_TILE);
          const vectors = (numbers: Float64Array) =>
            Array.from({ length: next - start }, (_, j) =>
              vector(numbers, placeOf(pages, start + j) * nKvHeads + kvHead),
            );
          const keys = vectors(cache.keys[span.keyForm]);
          const common = Float64Array.from(columnsOf(keys), (column) => arithmetic.common(column, start));
          const packedKeys = keys.map((key) => arithmetic.quantised(key.map((x, d) => f32(x - common[d]))));
          const packedValues = columnsOf(vectors(cache.values)).map((column) => arithmetic.quantised(column));
          for (const { nth, floats, integers: query, seen } of queries) {
            const [first, last] = [Math.max(0, seen.from - start), Math.min(next, seen.to) - start];
            if (last <= first) continue;
            const scores = packedKeys.slice(first, last).map((key) => arithmetic.score(query, key));
            const max = Math.max(...scores);
            const weights = Float64Array.from(scores, (score) => arithmetic.weight(f32(score - max)));
            const share = 2 ** (max + dot(floats, common)); // float64 has room for it
            sums[nth] += share * sumOf(weights);
            packedValues.forEach(({ integers, scale }, d) => {
              vector(numbersOf(out), nth)[d] += share * scale * dot(weights, integers.subarray(first, last));
            });
          }
        }
        return firstRow + tileLen;
      }

      for (const stretch of stretches) {
        for (let kvHead = 0; kvHead < nKvHeads; kvHead++) {
          for (const span of stretch.spans) {
            for (let r = 0; r < stretch.nRows; ) r = attendSpan(stretch, r, span, kvHead);
          }
        }
      }
      numbersOf(out).forEach((sum, i, to) => {
        to[i] = sum / sums[Math.floor(i / headDim)];
      });
    },
  });
}
