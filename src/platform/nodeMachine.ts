import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import type { Machine } from './machine.ts';

export const nodeMachine: Machine = {
  cores: availableParallelism(),
  availableMemory: () => process.availableMemory?.() ?? Infinity,
  v8Version: Number.parseInt(process.versions.v8 ?? '99', 10), // Bun has another engine
  mayHaveGpu: () => process.platform !== 'linux' || ['/dev/dri', '/dev/nvidiactl', '/dev/dxg'].some(existsSync),
  // V8 of Node 20 has it behind a flag; later ones have it without, and complain of the flag.
  allowRelaxedSimd: () => setFlagsFromString('--experimental-wasm-relaxed-simd'),
  startThread(source, data, { onError, onExit }) {
    const start = `(${source})(require('node:worker_threads').workerData)`;
    // The process's own options might say that the text of a thread is a module.
    return new Worker(start, { eval: true, execArgv: [], workerData: data }).on('error', onError).on('exit', onExit);
  },
};
