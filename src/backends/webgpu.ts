/** WebGPU, in Node and in browsers: which kernel a call takes. How tensors lie in the GPU's buffers is `webgpuMemory.ts`. */
import { cut } from '../bytes.ts';
import { append } from '../kernels/append.wgsl.ts';
import { placeOf } from '../kernels/attend.ts';
import { decoderOf } from '../kernels/dequantize.wgsl.ts';
import { draw, keepOfKept, keepOfLogits, SLICE } from '../kernels/draw.wgsl.ts';
import { add, copy, glu } from '../kernels/elementwise.wgsl.ts';
import { GATHERED, gatherRows } from '../kernels/gatherRows.wgsl.ts';
import { MATMUL_TILE, matmul, matvec, matvecRows, matvecTile } from '../kernels/matmul.wgsl.ts';
import { halve, MATRIX_DEPTH, MATRIX_TILE, matmulMatrix, matrixRows } from '../kernels/matmulMatrix.wgsl.ts';
import { rmsNorm } from '../kernels/rmsNorm.wgsl.ts';
import { rotate } from '../kernels/rotate.wgsl.ts';
import { gridOf, ITEMS, type WgslKernel } from '../kernels/wgsl.ts';
import { PAGE_LEN } from '../kvTypes.ts';
import type { Slice } from '../placement.ts';
import { rowBytes } from '../tensorTypes.ts';
import { type Backend, clearBehind, type Tensor } from './backend.ts';
import { openAttend } from './webgpuAttend.ts';
import { openGpu, type WebGpuOptions } from './webgpuDevice.ts';
import { at, bufferOf, openMemory, partsOf, type WebGpuKv } from './webgpuMemory.ts';
import { type Call, openRecorder } from './webgpuRecorder.ts';

const MATVEC_TOKENS = 4; // more are a tile's work
/** So many take a matrix each by itself too where the GPU's cache holds it: a tile would leave most of the GPU idle. */
const CACHED_TOKENS = 16;
const CACHED_BYTES = 2 ** 25;
const MOST_IDS = 2 ** 16; // of a call of gatherRows

/**
 * Bits of the largest magnitude that attention takes by what it computes in, in float32 below 2^58 and in halves 2^15, so that
 * no score, no sum and no multiple of a query by log2(e) overflows.
 */
const LARGEST = { f32: 0x5c7fffff, f16: 0x47000000 } as const;

/** Opens the WebGPU backend. @throws UnsupportedError where there is no adapter. */
export async function openWebGpu(options: WebGpuOptions = {}): Promise<Backend> {
  const gpu = await openGpu(options);
  const { device, hasF16, hasTensorCores, subgroupSize, isChecked } = gpu;
  const recorder = openRecorder(device);
  const { fault } = recorder;
  const { maxComputeWorkgroupStorageSize } = device.limits;
  const path = hasTensorCores ? 'tensor cores' : subgroupSize > 0 ? 'subgroups' : 'plain';
  const number = hasF16 ? 'f16' : 'f32';
  const kernels = new Map<string, WgslKernel>();
  /** Texts are made once. */
  const kernel = (key: string, make: () => WgslKernel): WgslKernel => {
    const known = kernels.get(key) ?? make();
    kernels.set(key, known);
    return known;
  };

  /** A buffer that one call fills and the next reads; grows with what is asked of it. */
  function makeRoom(what: string) {
    let room: GPUBuffer | undefined;
    return (nBytes: number): GPUBuffer => {
      if (room && room.size >= nBytes) return room;
      const before = room;
      room = recorder.alloc(Math.max(nBytes, Math.min(2 * (before?.size ?? 0), recorder.maxBytes)), what);
      if (before) recorder.free(before);
      return room;
    };
  }
  const roomForSplits = makeRoom('attention over so many keys');
  const roomForHalves = makeRoom('a block of tokens');
  const roomForCandidates = makeRoom('drawing a token');

  function put(buffer: GPUBuffer, byteOffset: number, bytes: Uint8Array): void {
    if (buffer === halves?.source) halves = undefined;
    device.queue.writeBuffer(buffer, byteOffset, bytes as Uint8Array<ArrayBuffer>, 0, bytes.length);
  }

  const { growTo, pageRanges, ...memory } = openMemory(recorder, number, put);

  /** Records a kernel that takes the numbers of its operands one by one. */
  function each(made: WgslKernel, out: Tensor, inputs: Readonly<Record<string, Tensor>>): void {
    const buffers: Record<string, GPUBuffer> = { out: bufferOf(out) };
    const length = out.rows * out.cols;
    const params: Record<string, number> = { length, outAt: at(out) };
    for (const [name, tensor] of Object.entries(inputs)) {
      buffers[name] = bufferOf(tensor);
      params[`${name}At`] = at(tensor);
    }
    record({ kernel: made, buffers, params, groups: gridOf(Math.ceil(length / ITEMS)) });
  }

  /** What the room for halves holds, as long as its source stays as it was: q, k and v, or gate and up, take the same. */
  let halves: { readonly source: GPUBuffer; readonly key: string } | undefined;
  function record(call: Call): void {
    const { kernel, buffers } = call;
    const isSource = (name: string, i: number) => i < kernel.nWritten && buffers[name] === halves?.source;
    if (halves && Object.keys(kernel.buffers).some(isSource)) halves = undefined;
    recorder.record(call);
  }

  /** `x` in half precision, in whole tiles of rows of `stride` vectors. */
  function halved(x: Tensor, stride: number): GPUBuffer {
    const [source, key] = [bufferOf(x), `${at(x)} ${x.rows} ${x.cols}`];
    const isKnown = halves?.source === source && halves.key === key;
    const length = Math.ceil(x.rows / MATRIX_TILE) * MATRIX_TILE * stride;
    const out = roomForHalves(16 * length);
    if (isKnown) return out;
    halves = { source, key };
    recorder.record({
      kernel: halve,
      buffers: { out, x: source },
      params: { length, n: x.rows, K: x.cols, stride, xAt: at(x) },
      groups: gridOf(Math.ceil(length / ITEMS)),
    });
    return out;
  }

  const attendDevice = {
    number,
    hasTensorCores,
    subgroupSize,
    workgroupMemory: maxComputeWorkgroupStorageSize,
  } as const;
  const attend = openAttend(attendDevice, recorder, record, kernel, roomForSplits);

  /** Where the rows of slices go in the cache, in tokens, and how many tokens it must have room for. */
  const placesOf = (slices: readonly Slice[], n: number) => {
    const known = places.get(slices);
    if (known) return known;
    const rows = new Uint32Array(n);
    for (const { row, nRows, start, pages } of slices) {
      for (let r = 0; r < nRows; r++) rows[row + r] = placeOf(pages, start + r);
    }
    const made = { rows, room: PAGE_LEN * (1 + Math.floor(rows.reduce((a, b) => Math.max(a, b), 0) / PAGE_LEN)) };
    places.set(slices, made);
    return made;
  };
  const places = new WeakMap<readonly Slice[], { rows: Uint32Array; room: number }>();

  return {
    name: `webgpu (${gpu.adapter}, ${path}, ${number} cache${isChecked ? ', checked' : ''})`,
    pageLayout: `webgpu ${number}`,
    get nBytes() {
      return recorder.nBytes;
    },
    ...memory,

    gatherRows(out, table, ids, factor = 1) {
      const { type, cols } = table;
      const made = kernel(`gatherRows ${type}`, () => gatherRows(type));
      const nUnits = Math.ceil(cols / decoderOf(type, true).unit);
      const n = 'length' in ids ? ids.length : ids.rows;
      for (let row = 0; row < n; row += MOST_IDS) {
        const end = Math.min(row + MOST_IDS, n);
        const [kept, idsAt] =
          'length' in ids
            ? recorder.keep(Float32Array.from(Array.prototype.slice.call(ids, row, end)))
            : [bufferOf(ids), at(ids) + row];
        const length = (end - row) * nUnits;
        for (const { buffer, firstRow, nRows } of partsOf(table)) {
          record({
            kernel: made,
            buffers: { out: bufferOf(out), table: buffer, ids: kept },
            params: {
              ...{ length, nUnits, K: cols, firstRow, nRows, idsAt },
              ...{ outAt: at(out) + row * cols, weightAt: at(table), factor },
            },
            groups: gridOf(Math.ceil(length / GATHERED)),
          });
        }
      }
    },
    rmsNorm(out, x, weight, eps) {
      record({
        kernel: kernel(`rmsNorm ${x.cols > 1024}`, () => rmsNorm(x.cols)),
        buffers: { out: bufferOf(out), x: bufferOf(x), weight: bufferOf(weight) },
        params: { rows: x.rows, cols: x.cols, outAt: at(out), xAt: at(x), weightAt: at(weight), eps },
        groups: gridOf(x.rows),
      });
    },
    matmul(out, x, weight, bias) {
      const { type, rows: N, cols: K } = weight;
      const n = x.rows;
      const isVector = n <= MATVEC_TOKENS || (n <= CACHED_TOKENS && N * rowBytes(type, K) <= CACHED_BYTES);
      const usesMatrices = hasTensorCores && !isVector && type !== 'F32';
      const isShared = [bufferOf(x), ...partsOf(weight).map(({ buffer }) => buffer)].includes(bufferOf(out));
      const isRagged = isShared || K % 4 !== 0 || at(x) % 4 !== 0 || at(weight) % 4 !== 0;
      const form = { type, hasBias: bias !== undefined, isRagged };
      const xStride = (Math.ceil(K / MATRIX_DEPTH) * MATRIX_DEPTH) / 8; // of halves, in vectors
      const input = usesMatrices ? halved(x, xStride) : bufferOf(x);
      for (const { buffer, firstRow, nRows } of partsOf(weight)) {
        const rows = matvecRows(type, nRows);
        const tileRows = matrixRows(n, nRows);
        const isWhole = K % MATRIX_DEPTH === 0;
        const key = `${type} ${form.hasBias} ${isRagged}`;
        const made = usesMatrices
          ? kernel(`matmulMatrix ${tileRows} ${isWhole} ${key}`, () => matmulMatrix({ ...form, tileRows, isWhole }))
          : isVector
            ? kernel(`matvec ${rows} ${key}`, () => matvec(form, rows))
            : kernel(`matmul ${key}`, () => matmul(form));
        record({
          kernel: made,
          buffers: { out: bufferOf(out), x: input, weight: buffer, ...(bias && { bias: bufferOf(bias) }) },
          params: {
            ...{ n, N, K, firstRow, nRows, outAt: at(out), xAt: at(x), xStride, weightAt: at(weight) },
            biasAt: bias ? at(bias) : 0,
          },
          groups: isVector
            ? [...gridOf(Math.ceil(nRows / matvecTile(rows))), n]
            : usesMatrices
              ? [Math.ceil(nRows / tileRows), Math.ceil(n / MATRIX_TILE)]
              : [Math.ceil(nRows / MATMUL_TILE), Math.ceil(n / MATMUL_TILE)],
          work: 2 * n * nRows * K,
        });
      }
    },
    rotate(out, x, cos, sin) {
      const length = (out.rows * out.cols) / 2; // pairs
      record({
        kernel: rotate,
        buffers: { out: bufferOf(out), fault, x: bufferOf(x), cosines: bufferOf(cos), sines: bufferOf(sin) },
        params: {
          largest: LARGEST[number],
          ...{ length, cols: x.cols, nSources: x.rows * x.cols, halfDim: cos.cols },
          ...{ outAt: at(out), xAt: at(x), cosAt: at(cos), sinAt: at(sin) },
        },
        groups: gridOf(Math.ceil(length / ITEMS)),
      });
    },
    append(kv, keyTensors, v, slices) {
      const cache = kv as WebGpuKv;
      const { rows, room: needed } = placesOf(slices, v.rows);
      growTo(cache, needed);
      const { headDim, room } = cache;
      const [places, placesAt] = recorder.keepOnce(slices, '', () => rows);
      for (const { firstHead, nHeads, keys, values } of cache.parts) {
        const cols = nHeads * headDim;
        const length = v.rows * cols;
        const first = firstHead * headDim;
        keyTensors.forEach((k, form) => {
          record({
            kernel: kernel('append', () => append(number)),
            buffers: { keys, values, fault, k: bufferOf(k), v: bufferOf(v), places },
            params: {
              ...{ length, cols, stride: v.cols, headDim, room, firstKeyHead: form * nHeads, placesAt },
              ...{ kAt: at(k) + first, vAt: at(v) + first, largest: LARGEST[number] },
            },
            groups: gridOf(Math.ceil(length / ITEMS)),
          });
        });
      }
    },
    attend: (out, q, kv, stretches) => attend(out, q, kv as WebGpuKv, stretches),
    glu: (out, gate, up, activation) => each(glu[activation], out, { gate, up }),
    add: (x, y) => each(add, x, { y }),
    copy: (out, x) => each(copy, out, { x }),
    draw(token, logits, { topK: k, temperature, topP, minP, u }) {
      const half = k * Math.ceil(logits.cols / SLICE); // of the room: a pass reads what the one before wrote to the other
      const room = roomForCandidates(2 * 8 * half);
      const keep = (kernel: WgslKernel, input: GPUBuffer, inputAt: number, length: number, keptAt: number): number => {
        const nSlices = Math.ceil(length / SLICE);
        const params = { length, k, inputAt, keptAt };
        record({ kernel, buffers: { kept: room, input }, params, groups: [nSlices] });
        return k * nSlices;
      };
      let keptAt = 0;
      let length = keep(keepOfLogits, bufferOf(logits), at(logits), logits.cols, keptAt);
      while (length > SLICE) {
        length = keep(keepOfKept, room, keptAt, length, half - keptAt);
        keptAt = half - keptAt;
      }
      const filters = { temperature: Math.max(temperature, 2 ** -126), topP, minP }; // above 0 in float32, too
      record({
        kernel: draw,
        buffers: { token: bufferOf(token), kept: room },
        params: { length, k, keptAt, tokenAt: at(token), ...filters, u },
        groups: [1],
      });
    },

    submit: () => recorder.submit(),
    async read(tensor) {
      const { rows, cols } = tensor;
      const range = { buffer: bufferOf(tensor), byteOffset: 4 * at(tensor), length: 4 * rows * cols };
      return new Float32Array(await recorder.read([range]));
    },
    async readPage(layers, page, nTokens) {
      const ranges = pageRanges(layers, page);
      const bytes = new Uint8Array(await recorder.read(ranges));
      for (const part of cut(bytes, ranges)) clearBehind(part, nTokens);
      return bytes;
    },
    async writePage(layers, page, bytes) {
      for (const kv of layers) growTo(kv as WebGpuKv, PAGE_LEN * (page + 1));
      await recorder.submit(); // a cache that has grown is moved by then
      const ranges = pageRanges(layers, page);
      const pieces = cut(bytes, ranges);
      for (const [nth, { buffer, byteOffset }] of ranges.entries()) put(buffer, byteOffset, pieces[nth]);
    },
    async dispose() {
      await recorder.destroy();
      void gpu.entry; // kept until here
    },
  };
}
