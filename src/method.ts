/**
 * How a user names a way of reading: `none`, or `dca` with settings behind colons in any order, `dca:chunkllama:logn`.
 * A setting is a preset (`paper`, `chunkllama`, `config`), a pair `chunkLen/maxDistance`, a part or a scale.
 */
import { type ModelConfig, trainedWindow } from './config.ts';
import { type DualChunk, type Parts, PLAIN, type Scale } from './dualChunk.ts';
import { UnsupportedError } from './errors.ts';

export interface Method {
  /** What the user would type to get exactly this. */
  readonly name: string;
  readonly dca: DualChunk;
}

interface Chunks {
  chunkLen: number;
  maxDistance: number;
}

/** Chunk lengths by preset, from the trained window `c`. */
const PRESETS: Record<string, (c: number, config: ModelConfig) => Chunks | undefined> = {
  /** The paper's text: `s = 3c/4`, distances up to `c - 1` (section 3). */
  paper: (c) => ({ chunkLen: Math.floor((3 * c) / 4), maxDistance: c - 1 }),
  /** The public code's defaults: chunk_size 3c/4, local window c/8 (`chunkllama_attn_replace.py`). */
  chunkllama: (c) => {
    const chunkSize = Math.floor((3 * c) / 4);
    return { chunkLen: chunkSize - Math.floor(c / 8), maxDistance: chunkSize };
  },
  /** The model's own `dual_chunk_attention_config`. */
  config: (_, { dualChunkAttentionConfig: own }) =>
    own && { chunkLen: own.chunkSize - own.localSize, maxDistance: own.chunkSize },
};
const PARTS: readonly Parts[] = ['full', 'intra+inter', 'intra'];
const SCALES: readonly Scale[] = ['none', 'yarn', 'logn'];

export const METHOD_HELP = `none, or dca[:${Object.keys(PRESETS).join('|')}|CHUNKLEN/MAXDISTANCE][:${PARTS.join('|')}][:${SCALES.join('|')}]`;

/**
 * Settles the method for a model and a context.
 *
 * @param spec See the head of this file. By default plain attention within the trained window, and beyond it DCA with
 *   the model's own dual chunk config or else the `paper` preset.
 * @param scale Overrides the scale of `spec`; nothing to plain attention taken by default.
 * @throws UnsupportedError when `spec` is not a method, or not one for this model.
 */
export function resolveMethod(
  spec: string | undefined,
  scale: Scale | undefined,
  config: ModelConfig,
  context: number,
): Method {
  const trainedLen = trainedWindow(config);
  if (spec === undefined) {
    const needsDca = context > trainedLen && config.slidingWindow === undefined;
    return needsDca ? resolveMethod('dca', scale, config, context) : resolveMethod('none', 'none', config, context);
  }
  const [kind, ...settings] = spec.split(':');
  if (scale !== undefined && !SCALES.includes(scale)) {
    throw new UnsupportedError(`unknown scale "${scale}"; wanted ${SCALES.join(', ')}`);
  }
  if (kind === 'none' && settings.length === 0) {
    if ((scale ?? 'none') !== 'none') throw new UnsupportedError(`scale ${scale} needs method dca; got none`);
    return { name: 'none', dca: PLAIN };
  }
  if (kind !== 'dca') throw new UnsupportedError(`unknown method "${spec}"; wanted ${METHOD_HELP}`);
  if (config.slidingWindow !== undefined) {
    throw new UnsupportedError(
      `this model looks back ${config.slidingWindow} tokens only (sliding_window), so DCA has nothing to add; use --method none`,
    );
  }

  const own = config.dualChunkAttentionConfig;
  const chosen = { preset: own ? 'config' : 'paper', parts: 'full' as Parts, scale: undefined as Scale | undefined };
  let explicit: Chunks | undefined;
  for (const setting of settings) {
    const pair = /^(\d+)\/(\d+)$/.exec(setting);
    if (pair) explicit = { chunkLen: Number(pair[1]), maxDistance: Number(pair[2]) };
    else if (Object.hasOwn(PRESETS, setting)) chosen.preset = setting;
    else if (PARTS.includes(setting as Parts)) chosen.parts = setting as Parts;
    else if (SCALES.includes(setting as Scale)) chosen.scale = setting as Scale;
    else throw new UnsupportedError(`unknown setting "${setting}" in method "${spec}"; wanted ${METHOD_HELP}`);
  }
  const chunks = explicit ?? PRESETS[chosen.preset](trainedLen, config);
  if (!chunks) throw new UnsupportedError('method dca:config: this model has no dual_chunk_attention_config');
  // Qwen scales wherever its config names the original window; the paper does not.
  const byConfig = !explicit && chosen.preset === 'config' && own && own.originalMaxPositionEmbeddings > 0;
  const chosenScale = scale ?? chosen.scale ?? (byConfig ? 'yarn' : 'none');
  const dca = validateChunks({ ...chunks, parts: chosen.parts, scale: chosenScale, trainedLen });
  const chunkName = explicit ? `${dca.chunkLen}/${dca.maxDistance}` : chosen.preset;
  const partsName = dca.parts === 'full' ? '' : `:${dca.parts}`;
  return { name: `dca:${chunkName}${partsName}:${dca.scale}`, dca };
}

/** Distances stay exact over a chunk border up to `maxDistance - chunkLen`, which one chunk must be able to hold. */
function validateChunks(dca: DualChunk): DualChunk {
  const { chunkLen, maxDistance } = dca;
  const isValid = chunkLen >= 1 && chunkLen <= maxDistance && maxDistance <= 2 * chunkLen;
  if (!isValid) {
    throw new UnsupportedError(
      `chunkLen ${chunkLen} with maxDistance ${maxDistance} does not work; wanted 1 <= chunkLen <= maxDistance <= 2 * chunkLen`,
    );
  }
  return dca;
}
