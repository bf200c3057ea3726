/** Pages of a layer's cache as they lie in a stage's memory; layouts in kernels/kv.wasm.ts. */
import { cut, joined } from '../bytes.ts';
import { KV_TYPES, type KvType, PAGE_LEN } from '../kvTypes.ts';
import { clearBehind } from './backend.ts';
import type { WasmKv } from './wasmStage.ts';

/** The bytes of a page in place: keys, which lie in panels of eight, and all else, a token behind the other. */
function partsOf(memory: ArrayBufferLike, kvType: KvType, kv: WasmKv, page: number) {
  const { nPages, nKvHeads, headDim, keyForms } = kv;
  const { numberBytes, scaleDims } = KV_TYPES[kvType];
  // Heads, and of scales their runs too, each have the tokens of all pages one behind the other.
  const parts = (from: number, count: number, tokenBytes: number) =>
    Array.from({ length: count }, (_, nth) => {
      const pageBytes = PAGE_LEN * tokenBytes;
      return new Uint8Array(memory, from + (nth * nPages + page) * pageBytes, pageBytes);
    });
  const nRuns = scaleDims && Math.ceil(headDim / scaleDims);
  return {
    keys: parts(kv.keys, keyForms * nKvHeads, headDim * numberBytes),
    others: [
      ...parts(kv.keyScales, keyForms * nKvHeads * nRuns, 4),
      ...parts(kv.values, nKvHeads, headDim * numberBytes),
      ...parts(kv.valueScales, nKvHeads * nRuns, 4),
    ],
  };
}

/** As `Backend.readPage`, of one layer. */
export function readPage(
  memory: ArrayBufferLike,
  kvType: KvType,
  kv: WasmKv,
  page: number,
  nTokens: number,
): Uint8Array {
  const { keys, others } = partsOf(memory, kvType, kv, page);
  const bytes = joined([...keys, ...others]);
  for (const [nth, part] of cut(bytes, [...keys, ...others]).entries()) {
    if (nth < keys.length) clearPanels(part, kv.headDim, nTokens);
    else clearBehind(part, nTokens);
  }
  return bytes;
}

/** As `Backend.writePage`, of one layer, whose bytes `bytes` begins with; returns those behind them. */
export function writePage(
  memory: ArrayBufferLike,
  kvType: KvType,
  kv: WasmKv,
  page: number,
  bytes: Uint8Array,
): Uint8Array {
  const { keys, others } = partsOf(memory, kvType, kv, page);
  const parts = [...keys, ...others];
  const pieces = cut(bytes, parts);
  for (const [nth, part] of parts.entries()) part.set(pieces[nth]);
  return bytes.subarray(parts.reduce((sum, { length }) => sum + length, 0));
}

/** Puts zeros in place of all behind the first `nTokens` of a head's keys, `[PAGE_LEN / 8, headDim, 8]`. */
function clearPanels(part: Uint8Array, headDim: number, nTokens: number): void {
  if (nTokens === PAGE_LEN) return;
  const numberBytes = part.length / PAGE_LEN / headDim;
  const panel = (nTokens >> 3) * 8 * headDim; // the one that is not full
  for (let d = 0; d < headDim; d++) {
    const row = panel + 8 * d;
    part.fill(0, (row + (nTokens & 7)) * numberBytes, (row + 8) * numberBytes);
  }
  part.fill(0, (panel + 8 * headDim) * numberBytes);
}
