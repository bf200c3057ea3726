/** Every kernel of the module. The first three parameters of each are scratch memory and a range of its items. */
export { append, attend } from './attend.wasm';
export { gatherRows } from './dequantize.wasm';
export { add, swiglu } from './elementwise.wasm';
export { matmul } from './matmul.wasm';
export { rmsNorm } from './rmsNorm.wasm';
export { rotate } from './rotate.wasm';
export { tile6x8 } from './tile.wasm';
