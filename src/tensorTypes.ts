import { BF16, F16, F32, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0 } from './kernels/abi.ts';

/**
 * How a tensor's numbers are stored. Names and block sizes are ggml's (`ggml-common.h`): a block is the
 * smallest run of weights that can be decoded on its own, and every row is a whole number of blocks. `number` is what the
 * WebAssembly kernels call the type.
 */
export const TENSOR_TYPES = {
  F32: { number: F32, blockLen: 1, blockBytes: 4 },
  F16: { number: F16, blockLen: 1, blockBytes: 2 },
  BF16: { number: BF16, blockLen: 1, blockBytes: 2 },
  Q4_0: { number: Q4_0, blockLen: 32, blockBytes: 18 },
  Q4_1: { number: Q4_1, blockLen: 32, blockBytes: 20 },
  Q5_0: { number: Q5_0, blockLen: 32, blockBytes: 22 },
  Q5_1: { number: Q5_1, blockLen: 32, blockBytes: 24 },
  Q8_0: { number: Q8_0, blockLen: 32, blockBytes: 34 },
  Q4_K: { number: Q4_K, blockLen: 256, blockBytes: 144 },
  Q5_K: { number: Q5_K, blockLen: 256, blockBytes: 176 },
  Q6_K: { number: Q6_K, blockLen: 256, blockBytes: 210 },
} as const satisfies Record<string, { number: number; blockLen: number; blockBytes: number }>;

export type TensorType = keyof typeof TENSOR_TYPES;

/** Bytes of one row of `cols` numbers. `cols` must be a multiple of the type's block length. */
export const rowBytes = (type: TensorType, cols: number): number =>
  (cols / TENSOR_TYPES[type].blockLen) * TENSOR_TYPES[type].blockBytes;
