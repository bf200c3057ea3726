/** WebGPU, in Node and in browsers: which kernel a call takes. How tensors lie in the GPU's buffers is `webgpuMemory.ts`. */
import { append } from '../kernels/append.wgsl.ts';
import { attend, tileSizes } from '../kernels/attend.wgsl.ts';
import { attendFew, keysAtOnce, lanesOf, MOST_QUERIES, mergeSplits } from '../kernels/attendFew.wgsl.ts';
import { attendMatrix, queriesOf, subgroupsFor } from '../kernels/attendMatrix.wgsl.ts';
import { decoderOf } from '../kernels/dequantize.wgsl.ts';
import { draw, keepOfKept, keepOfLogits, SLICE } from '../kernels/draw.wgsl.ts';
import { add, copy, glu } from '../kernels/elementwise.wgsl.ts';
import { GATHERED, gatherRows } from '../kernels/gatherRows.wgsl.ts';
import { MATMUL_TILE, matmul, matvec, matvecRows, matvecTile } from '../kernels/matmul.wgsl.ts';
import { halve, MATRIX_DEPTH, MATRIX_TILE, matmulMatrix, matrixRows } from '../kernels/matmulMatrix.wgsl.ts';
import { rmsNorm } from '../kernels/rmsNorm.wgsl.ts';
import { rotate } from '../kernels/rotate.wgsl.ts';
import { gridOf, ITEMS, type WgslKernel } from '../kernels/wgsl.ts';
import type { Band, Bands, Piece } from '../placement.ts';
import type { Backend, Tensor } from './backend.ts';
import { openGpu, type WebGpuOptions } from './webgpuDevice.ts';
import { at, bufferOf, type KvPart, openMemory, partsOf, type WebGpuKv } from './webgpuMemory.ts';
import { type Call, openRecorder } from './webgpuRecorder.ts';

const MATVEC_TOKENS = 4; // more are a tile's work
const FEW_QUERIES = 16; // rows times query heads of a key-value head; more are a tile's work
const MOST_IDS = 2 ** 16; // of a call of gatherRows
/** Workgroups that share out the keys of so many queries: a few for every core of a large GPU, fewer with more work each. */
const splitGroups = (M: number) => Math.max(256, 1024 / M);

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

  const { growTo, ...memory } = openMemory(recorder, number, put);

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

  function attendPiece(out: Tensor, q: Bands<Tensor>, kv: WebGpuKv, { row, nRows, bands }: Piece): void {
    const { headDim, nKvHeads, room } = kv;
    const nHeads = out.cols / headDim;
    const group = nHeads / nKvHeads;
    const form = { headDim, number } as const;
    const each = [bands.inter, bands.succ, bands.intra];
    const [qInter, qSucc, qIntra] = [q.inter, q.succ, q.intra].map(bufferOf);
    const bits = each.flatMap(({ fromMoves, toMoves }) => [fromMoves, toMoves]);
    const reach = ({ from, to, toMoves }: Band) => Math.max(0, to + (toMoves ? nRows - 1 : 0) - from);
    const nKeys = each.reduce((sum, band) => sum + reach(band), 0);
    /** Where the query heads of a part begin in a row, numbers. */
    const firstOf = ({ firstHead }: KvPart) => firstHead * group * headDim;
    const buffersOf = ({ keys, interKeys, values }: KvPart) => ({ qInter, qSucc, qIntra, interKeys, keys, values });
    const paramsOf = (part: KvPart) => ({
      ...{ row, nRows, nHeads, group, room },
      ...Object.fromEntries([q.inter, q.succ, q.intra].map((tensor, b) => [`qAt${b}`, at(tensor) + firstOf(part)])),
      ...Object.fromEntries(each.flatMap(({ from, to }, b) => Object.entries({ [`from${b}`]: from, [`to${b}`]: to }))),
      moves: bits.reduce((sum, isMoving, bit) => sum | (Number(isMoving) << bit), 0),
    });
    if (nRows * group <= FEW_QUERIES) {
      const M = Math.min(nRows * group, MOST_QUERIES);
      const rest = nKvHeads * Math.ceil((nRows * group) / M);
      const wanted = nKeys / Math.ceil(splitGroups(M) / rest);
      const splitKeys = Math.max(1, Math.ceil(wanted / keysAtOnce(form, M))) * keysAtOnce(form, M);
      const nSplits = Math.max(1, Math.ceil(nKeys / splitKeys));
      const splitSize = headDim + 4; // numbers that a split leaves of a query
      const splits = roomForSplits(4 * nRows * nHeads * nSplits * splitSize);
      const hasSubgroups = subgroupSize >= lanesOf(form);
      for (const part of kv.parts) {
        const splitsAt = part.firstHead * group * nSplits * splitSize;
        record({
          kernel: kernel(`attendFew ${headDim} ${M}`, () => attendFew(form, M, hasSubgroups)),
          buffers: { splits, ...buffersOf(part) },
          params: { ...paramsOf(part), nSplits, splitKeys, splitsAt },
          groups: [nSplits, part.nHeads, Math.ceil((nRows * group) / M)],
        });
      }
      record({
        kernel: kernel(`mergeSplits ${headDim}`, () => mergeSplits(headDim)),
        buffers: { out: bufferOf(out), splits },
        params: { nQueries: nRows * nHeads, nSplits, outAt: at(out) + row * out.cols },
        groups: gridOf(nRows * nHeads),
      });
      return;
    }
    const subgroups = hasTensorCores ? subgroupsFor(headDim, maxComputeWorkgroupStorageSize) : 0;
    const sizes = tileSizes(form, maxComputeWorkgroupStorageSize);
    const M = subgroups ? queriesOf(subgroups) : sizes.M;
    const made = subgroups
      ? kernel(`attendMatrix ${headDim}`, () => attendMatrix(headDim, subgroups))
      : kernel(`attend ${headDim}`, () => attend(form, sizes));
    const nTiles = Math.ceil((nRows * group) / M);
    for (const part of kv.parts) {
      const workOfTile = 4 * M * nKeys * headDim * part.nHeads;
      const tilesAtOnce = Math.max(1, Math.floor(recorder.mostWork / workOfTile));
      for (let firstTile = 0; firstTile < nTiles; firstTile += tilesAtOnce) {
        const tiles = Math.min(tilesAtOnce, nTiles - firstTile);
        record({
          kernel: made,
          buffers: { out: bufferOf(out), ...buffersOf(part) },
          params: { ...paramsOf(part), outAt: at(out) + firstOf(part), firstTile, nTiles },
          groups: [tiles, part.nHeads],
          work: tiles * workOfTile,
        });
      }
    }
  }

  return {
    name: `webgpu (${gpu.adapter}, ${path}, ${number} cache${isChecked ? ', checked' : ''})`,
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
          'length' in ids ? recorder.keep(Array.prototype.slice.call(ids, row, end)) : [bufferOf(ids), at(ids) + row];
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
      const isVector = n <= MATVEC_TOKENS;
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
    append(kv, k, v, start, kInter) {
      const cache = kv as WebGpuKv;
      growTo(cache, start + k.rows);
      const { headDim, room } = cache;
      const forms = kInter ? 2 : 1;
      for (const { firstHead, nHeads, keys, interKeys, values } of cache.parts) {
        const cols = nHeads * headDim;
        const length = k.rows * cols;
        const first = firstHead * headDim;
        record({
          kernel: kernel(`append ${forms}`, () => append(number, forms)),
          buffers: {
            ...{ keys, values, fault, k: bufferOf(k), v: bufferOf(v) },
            ...(kInter && { interKeys, kInter: bufferOf(kInter) }),
          },
          params: {
            ...{ length, cols, stride: k.cols, headDim, room, start, kAt: at(k) + first, vAt: at(v) + first },
            kInterAt: kInter ? at(kInter) + first : 0,
            largest: LARGEST[number],
          },
          groups: gridOf(Math.ceil(length / ITEMS)),
        });
      }
    },
    attend(out, q, kv, pieces) {
      for (const piece of pieces) attendPiece(out, q, kv as WebGpuKv, piece);
    },
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
      return new Float32Array(await recorder.read(bufferOf(tensor), 4 * at(tensor), 4 * rows * cols));
    },
    async dispose() {
      await recorder.destroy();
      void gpu.entry; // kept until here
    },
  };
}
