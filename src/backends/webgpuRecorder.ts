/**
 * Records calls of kernels and runs them: one compute pass that is cut where its work gets long, so that no driver's
 * watchdog fires and a page stays responsive. Nothing is made for a call but its parameters, which go to pages of one
 * buffer each; pipelines and bind groups are made once.
 */
import { LostError, UnsupportedError } from '../errors.ts';
import { moduleOf, type WgslKernel } from '../kernels/wgsl.ts';
import { DISPOSED, notFinite } from './backend.ts';

// GPUBufferUsage, which Node has no global of
const MAP_READ = 0x1;
const COPY_SRC = 0x4;
const COPY_DST = 0x8;
const UNIFORM = 0x40;
const STORAGE = 0x80;
const COMPUTE = 0x4; // GPUShaderStage

const FAULT_BYTES = 4;
const SLOT = 256; // bytes; least alignment of dynamic offsets on every device
const PAGE = 4096 * SLOT;
/** Seconds a submission may take: a page stays responsive, and watchdogs wait for two and more. */
const SUBMISSION_SECONDS = 0.2;
/** Floating-point operations a second before any were timed: those of a slow integrated GPU. */
const FIRST_SPEED = 2e11;
const TIMED_WORK = 2 ** 32; // less says nothing of speed
/** Bytes that wait to be given back; more are not kept for a submission to come. */
const MOST_FREED = 2 ** 28;

export interface Call {
  kernel: WgslKernel;
  buffers: Readonly<Record<string, GPUBuffer>>;
  params: Readonly<Record<string, number>>;
  groups: readonly [x: number, y?: number, z?: number];
  /** Floating-point operations, where they are many. */
  work?: number;
}

/** A range is bytes of a buffer; offset and length are multiples of 4. */
export interface BufferRange {
  readonly buffer: GPUBuffer;
  readonly byteOffset: number;
  readonly length: number;
}

/** A buffer, and the place in it, in numbers of 32 bits. */
export type Kept = readonly [buffer: GPUBuffer, at: number];

export interface Recorder {
  readonly nBytes: number;
  /**
   * Floating-point operations that one submission, and so one call, should not exceed; as the GPU turns out to be fast.
   */
  readonly mostWork: number;
  /** Bytes that the device binds at most. */
  readonly maxBytes: number;
  /** A word that kernels set where they met a number that is not finite or too large; every `read` rejects while it is set. */
  readonly fault: GPUBuffer;
  /** @throws UnsupportedError where that is not enough. */
  checkSize(nBytes: number, what: string): void;
  /** A zeroed buffer. @throws UnsupportedError as `checkSize`. */
  alloc(nBytes: number, what: string): GPUBuffer;
  record(call: Call): void;
  /** Copies bytes from one buffer to another, in order with the calls. */
  copy(from: GPUBuffer, fromAt: number, to: GPUBuffer, toAt: number, nBytes: number): void;
  /** Gives a buffer back once what was recorded until now is done with it. Nothing recorded later may use it. */
  free(buffer: GPUBuffer): void;
  /** Keeps numbers for the calls recorded until the next submission; a buffer of them and where they begin in it. */
  keep(values: Float32Array | Uint32Array): Kept;
  /** The same for numbers that many calls share: `values` is asked once a submission for each `key` and `variant`. */
  keepOnce(key: object, variant: string, values: () => Uint32Array): Kept;
  /** Runs what was recorded. Resolves when what was submitted before is done, so that the GPU never waits. */
  submit(): Promise<void>;
  /** Runs what was recorded, and reads ranges of buffers, one behind the other. */
  read(ranges: readonly BufferRange[]): Promise<ArrayBuffer>;
  destroy(): Promise<void>;
}

/** Parameters on their way to the GPU. */
interface Page {
  readonly buffer: GPUBuffer;
  readonly words: Uint32Array;
  readonly floats: Float32Array;
}

interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly bound: readonly string[]; // buffers in the order of their bindings
  readonly isFloat: readonly boolean[]; // by parameter
  readonly fields: readonly string[];
}

/** A kernel with the buffers it computes on. */
interface Binding extends Pipeline {
  readonly of: readonly GPUBuffer[];
  readonly group: GPUBindGroup;
}

export function openRecorder(device: GPUDevice): Recorder {
  const pages: Page[] = [];
  let used = 0; // bytes of the pages, one after the other
  let encoder: GPUCommandEncoder | undefined;
  let pass: GPUComputePassEncoder | undefined;
  let work = 0; // of the submission that is recorded
  let allWork = 0; // and of all since the last flush
  let speed = FIRST_SPEED;
  const mostWork = () => SUBMISSION_SECONDS * speed;
  let doneAt = 0; // when the GPU was last seen to be done, milliseconds
  const ready: GPUCommandBuffer[] = [];
  let running: Promise<void> = Promise.resolve();
  let nBytes = 0;
  const freed: GPUBuffer[] = []; // still in use by what is recorded
  const allocations: Promise<GPUError | null>[] = []; // since the last submission

  /** Why nothing is computed any more. */
  let end: Error | undefined;
  let closing: Promise<void> | undefined;
  void device.lost.then(({ message }) => {
    end ??= new LostError(`the GPU was lost (${message || 'no reason given'}); open the model again`);
  });
  device.addEventListener('uncapturederror', ({ error }) => {
    end ??= new Error(`WebGPU: ${error.message}`);
  });
  /** Throws what went wrong until now. */
  async function check(): Promise<void> {
    const errors = await Promise.all(allocations.splice(0));
    if (errors.some((error) => error !== null)) {
      end ??= new UnsupportedError(`the GPU has no ${gib(nBytes)} free; use a shorter context or a smaller model`);
    }
    if (end) throw end;
  }

  const maxBytes = Math.min(device.limits.maxBufferSize, device.limits.maxStorageBufferBindingSize);
  function checkSize(size: number, what: string): void {
    if (size <= maxBytes) return;
    throw new UnsupportedError(
      `${what} takes ${gib(size)}, but this GPU binds ${gib(maxBytes)} at most; use a shorter context or a smaller model`,
    );
  }

  const makeBuffer = (size: number, usage: number) => device.createBuffer({ size, usage });

  const numberOf = new WeakMap<GPUBuffer, number>();
  let nBuffers = 0;

  /** The page with room for `nBytes` more at `used`, which moves on to it. */
  function pageFor(nBytes: number): Page {
    if ((used % PAGE) + nBytes > PAGE) used = Math.ceil(used / PAGE) * PAGE;
    const index = Math.floor(used / PAGE);
    if (index === pages.length) {
      const buffer = makeBuffer(PAGE, UNIFORM | STORAGE | COPY_DST);
      const bytes = new ArrayBuffer(PAGE);
      numberOf.set(buffer, nBuffers++);
      pages.push({ buffer, words: new Uint32Array(bytes), floats: new Float32Array(bytes) });
    }
    return pages[index];
  }

  const pipelines = new Map<string, Pipeline>();
  /** @param shared As of `moduleOf`. */
  function pipelineOf(kernel: WgslKernel, shared: Readonly<Record<string, string>>): Pipeline {
    const key = `${kernel.name} ${Object.entries(shared)}`;
    const known = pipelines.get(key);
    if (known) return known;
    const { code, bound } = moduleOf(kernel, shared);
    const types: GPUBufferBindingLayout[] = [
      ...bound.map(({ isWritten }) => ({ type: isWritten ? ('storage' as const) : ('read-only-storage' as const) })),
      { type: 'uniform', hasDynamicOffset: true },
    ];
    const layout = device.createBindGroupLayout({
      entries: types.map((buffer, binding) => ({ binding, visibility: COMPUTE, buffer })),
    });
    const made: Pipeline = {
      pipeline: device.createComputePipeline({
        label: key,
        layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module: device.createShaderModule({ label: key, code }) },
      }),
      layout,
      bound: bound.map(({ name }) => name),
      fields: kernel.params.map((param) => param.split(':')[0]),
      isFloat: kernel.params.map((param) => param.endsWith('f32')),
    };
    pipelines.set(key, made);
    return made;
  }

  const bindings = new Map<string, Binding>();
  /** @param page Holds the parameters, at an offset that is given with each call. */
  function bindingOf(kernel: WgslKernel, buffers: Call['buffers'], page: GPUBuffer): Binding {
    let key = `${kernel.name} ${numberOf.get(page)}`;
    for (const name in kernel.buffers) key += ` ${numberOf.get(buffers[name])}`;
    return bindings.get(key) ?? bind(kernel, buffers, page, key);
  }

  function bind(kernel: WgslKernel, buffers: Call['buffers'], page: GPUBuffer, key: string): Binding {
    const names = Object.keys(kernel.buffers);
    const shared: Record<string, string> = {};
    names.forEach((name, i) => {
      const first = names.findIndex((other) => buffers[other] === buffers[name]);
      if (first < i && (first < kernel.nWritten || kernel.buffers[names[first]] === kernel.buffers[name])) {
        shared[name] = names[first];
      }
    });
    const made = pipelineOf(kernel, shared);
    const of = made.bound.map((name) => buffers[name]);
    const resources = [...of.map((buffer) => ({ buffer })), { buffer: page, size: SLOT }];
    const entries = resources.map((resource, binding) => ({ binding, resource }));
    const binding = { ...made, of, group: device.createBindGroup({ layout: made.layout, entries }) };
    bindings.set(key, binding);
    return binding;
  }

  function endPass(): void {
    pass?.end();
    if (encoder) ready.push(encoder.finish());
    [pass, encoder, work] = [undefined, undefined, 0];
  }

  /** Records a copy, between two passes. */
  function copy(...[from, fromAt, to, toAt, size]: Parameters<Recorder['copy']>): void {
    pass?.end();
    pass = undefined;
    encoder ??= device.createCommandEncoder();
    encoder.copyBufferToBuffer(from, fromAt, to, toAt, size);
  }

  /** Hands everything to the queue. */
  function flush(): void {
    endPass();
    for (let page = 0; page * PAGE < used; page++) {
      const { buffer, words } = pages[page];
      device.queue.writeBuffer(buffer, 0, words, 0, Math.min(PAGE, used - page * PAGE) / 4);
    }
    used = 0;
    shared.clear();
    for (const commands of ready.splice(0)) device.queue.submit([commands]);
    for (const buffer of freed.splice(0)) buffer.destroy();
    const [timed, startedAt] = [allWork, performance.now()];
    allWork = 0;
    running = device.queue.onSubmittedWorkDone().then(() => {
      const seconds = (performance.now() - Math.max(startedAt, doneAt)) / 1000;
      doneAt = performance.now();
      // one slow measurement, of a GPU that was waking up or waited for, is not believed at once
      if (timed > TIMED_WORK && seconds > 0) speed = Math.max(FIRST_SPEED / 10, speed / 2, timed / seconds);
    });
    running.catch(() => {}); // a lost device is told of by `end`
  }

  function keep(values: Float32Array | Uint32Array): Kept {
    const page = pageFor(values.byteLength);
    const at = (used % PAGE) / 4;
    page.words.set(new Uint32Array(values.buffer, values.byteOffset, values.length), at);
    used += Math.ceil(values.byteLength / SLOT) * SLOT;
    return [page.buffer, at];
  }
  /** What the calls of a submission share. */
  const shared = new Map<object, Map<string, Kept>>();

  const readBacks: GPUBuffer[] = []; // not in use
  const fault = makeBuffer(FAULT_BYTES, STORAGE | COPY_SRC | COPY_DST);
  numberOf.set(fault, nBuffers++);
  return {
    fault,
    get nBytes() {
      return nBytes;
    },
    get mostWork() {
      return mostWork();
    },
    maxBytes,
    checkSize,
    alloc(wanted, what) {
      const size = Math.max(16, Math.ceil(wanted / 16) * 16);
      checkSize(size, what);
      device.pushErrorScope('out-of-memory');
      const buffer = makeBuffer(size, STORAGE | COPY_SRC | COPY_DST);
      allocations.push(device.popErrorScope());
      numberOf.set(buffer, nBuffers++);
      nBytes += size;
      return buffer;
    },
    record({ kernel, buffers, params, groups: [x, y = 1, z = 1], work: more = 0 }) {
      if (x === 0) return;
      const page = pageFor(SLOT);
      const { pipeline, group, fields, isFloat } = bindingOf(kernel, buffers, page.buffer);
      const at = (used % PAGE) / 4;
      for (let i = 0; i < fields.length; i++) (isFloat[i] ? page.floats : page.words)[at + i] = params[fields[i]];
      if (work + more > mostWork()) endPass();
      work += more;
      allWork += more;
      encoder ??= device.createCommandEncoder();
      pass ??= encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group, [used % PAGE]);
      pass.dispatchWorkgroups(x, y, z);
      used += SLOT;
    },
    copy,
    free(buffer) {
      for (const [key, { of }] of bindings) if (of.includes(buffer)) bindings.delete(key);
      nBytes -= buffer.size;
      freed.push(buffer);
      if (freed.reduce((sum, { size }) => sum + size, 0) > MOST_FREED) flush();
    },
    keep,
    keepOnce(key, variant, values) {
      const variants = shared.get(key) ?? new Map<string, Kept>();
      shared.set(key, variants);
      const kept = variants.get(variant) ?? keep(values());
      variants.set(variant, kept);
      return kept;
    },
    async submit() {
      if (end) throw end;
      const before = running;
      flush();
      await before.catch(() => {});
      await check();
    },
    async read(ranges) {
      if (end) throw end;
      const nBytes = ranges.reduce((sum, { length }) => sum + length, 0);
      const size = nBytes + FAULT_BYTES;
      const index = readBacks.findIndex((free) => free.size >= size);
      const readBack =
        index < 0 ? makeBuffer(Math.max(SLOT, size), MAP_READ | COPY_DST) : readBacks.splice(index, 1)[0];
      let to = 0;
      for (const range of ranges) {
        copy(range.buffer, range.byteOffset, readBack, to, range.length);
        to += range.length;
      }
      copy(fault, 0, readBack, nBytes, FAULT_BYTES);
      flush();
      const failure = await readBack.mapAsync(1, 0, size).catch((error: Error) => error); // GPUMapMode.READ
      await check();
      if (failure) throw new LostError(`the GPU gave nothing back (${failure.message}); open the model again`);
      const bytes = readBack.getMappedRange(0, size).slice(0);
      readBack.unmap();
      readBacks.push(readBack);
      const [isFaulty] = new Uint32Array(bytes, nBytes, 1);
      if (isFaulty) {
        device.queue.writeBuffer(fault, 0, new Uint32Array(1));
        throw notFinite('the queries, keys or values of attention');
      }
      return bytes.slice(0, nBytes);
    },
    destroy() {
      end ??= new UnsupportedError(DISPOSED);
      closing ??= device.queue
        .onSubmittedWorkDone()
        .catch(() => {}) // of a device that was lost
        .then(() => device.destroy());
      return closing;
    },
  };
}

const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
