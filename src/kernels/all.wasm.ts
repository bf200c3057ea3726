/** Every kernel of the module. The first three parameters of each are scratch memory and a range of its items. */
export { attend, mergeSplits } from './attend.wasm';
export { gatherRows } from './dequantize.wasm';
export { add, swiglu } from './elementwise.wasm';
export { append } from './kv.wasm';
export { matmul } from './matmul.wasm';
export { quantizeForDots, quantizeForTiles } from './quantize.wasm';
export { rmsNorm } from './rmsNorm.wasm';
export { rotate } from './rotate.wasm';
export { tile6x8 } from './tile.wasm';
export { tile4x8i } from './tileInt.wasm';
