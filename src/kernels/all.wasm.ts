/**
 * Every kernel of the module; the first three parameters of each are scratch memory and a range of its items. Tiles are
 * exported too, so that they stay functions of their own.
 */
export { attend } from './attend.wasm';
export { gatherRows } from './dequantize.wasm';
export { add, glu } from './elementwise.wasm';
export { append } from './kv.wasm';
export { matmul } from './matmul.wasm';
export { mergeSplits } from './mergeSplits.wasm';
export { quantizeForDots, quantizeForTiles } from './quantize.wasm';
export { rmsNorm } from './rmsNorm.wasm';
export { rotate } from './rotate.wasm';
export { tile6x8 } from './tile.wasm';
export { tile3x8bf16, tile3x8f32, tile3x8q8 } from './tileFew.wasm';
export { tile4x8i16, tile4x8i8, tile4x8i8fused } from './tileInt.wasm';
