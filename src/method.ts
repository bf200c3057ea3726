/**
 * How a user names a way of reading: `none`; a RoPE rule, `pi`, `ntk` or `yarn`, perhaps with its factor, `ntk:8`; or `dca`
 * with settings behind colons in any order, `dca:chunkllama:logn`. A setting is a preset (`paper`, `chunkllama`, `config`),
 * a pair `chunkLen/maxDistance`, a part or a scale.
 */
import { type ModelConfig, type RopeScaling, trainedWindow } from './config.ts';
import { type DualChunk, type Parts, PLAIN, type Scale } from './dualChunk.ts';
import { UnsupportedError } from './errors.ts';

export interface Method {
  /** What the user would type to get exactly this. */
  readonly name: string;
  readonly dca: DualChunk;
  /** A RoPE rule in place of the model's own. */
  readonly ropeScaling?: RopeScaling;
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
/** RoPE rules that stretch the trained window `c` by a factor, without training. */
const ROPE_RULES: Record<string, (factor: number, c: number) => RopeScaling> = {
  /** Position interpolation (arXiv 2306.15595). */
  pi: (factor) => ({ ropeType: 'linear', factor }),
  /** NTK-aware: a larger base. */
  ntk: (factor) => ({ ropeType: 'ntk', factor }),
  /** arXiv 2309.00071. */
  yarn: (factor, c) => ({ ropeType: 'yarn', factor, originalMaxPositionEmbeddings: c }),
};
const PARTS: readonly Parts[] = ['full', 'intra+inter', 'intra'];
/** The paper has none; with it retrieval reaches twice as far (LOG.md). */
const DEFAULT_SCALE: Scale = 'logn';
const SCALES: readonly Scale[] = ['none', 'yarn', 'logn'];

export const METHOD_HELP = `none, ${Object.keys(ROPE_RULES).join('|')}[:FACTOR], or dca[:${Object.keys(PRESETS).join('|')}|CHUNKLEN/MAXDISTANCE][:${PARTS.join('|')}][:${SCALES.join('|')}]`;

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
  const isRule = Object.hasOwn(ROPE_RULES, kind) && settings.length <= 1;
  if (isRule || (kind === 'none' && settings.length === 0)) {
    if ((scale ?? 'none') !== 'none') throw new UnsupportedError(`scale ${scale} needs method dca; got ${kind}`);
    return isRule ? ropeRule(kind, settings[0], config, context / trainedLen) : { name: 'none', dca: PLAIN };
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
  // Qwen scales wherever its config names the original window.
  const byConfig = !explicit && chosen.preset === 'config' && own;
  const usual = byConfig ? (own.originalMaxPositionEmbeddings > 0 ? 'yarn' : 'none') : DEFAULT_SCALE;
  const chosenScale = scale ?? chosen.scale ?? usual;
  const dca = validateChunks({ ...chunks, parts: chosen.parts, scale: chosenScale, trainedLen });
  const chunkName = explicit ? `${dca.chunkLen}/${dca.maxDistance}` : chosen.preset;
  const partsName = dca.parts === 'full' ? '' : `:${dca.parts}`;
  return { name: `dca:${chunkName}${partsName}:${dca.scale}`, dca };
}

/** Plain attention under a RoPE rule. By default it is stretched as far as the context needs. */
function ropeRule(kind: string, setting: string | undefined, config: ModelConfig, needed: number): Method {
  if (config.ropeScaling) {
    throw new UnsupportedError(
      `method ${kind}: this model has a RoPE rule of its own (${config.ropeScaling.ropeType})`,
    );
  }
  const factor = setting === undefined ? Math.max(1, needed) : Number(setting);
  if (!(factor >= 1 && factor < Infinity)) {
    throw new UnsupportedError(`method ${kind}:${setting}: wanted a factor of at least 1, such as ${kind}:8`);
  }
  const name = `${kind}:${Number(factor.toPrecision(4))}`;
  return { name, dca: PLAIN, ropeScaling: ROPE_RULES[kind](factor, trainedWindow(config)) };
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
