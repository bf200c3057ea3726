/**
 * Users name ways of reading, and each name means something for a model and a context: `none`; a RoPE rule, `pi`, `ntk`
 * or `yarn`, perhaps with its factor, `ntk:8`; a way that parts keys by distance, `selfextend:8/512`; or `dca` with
 * settings behind colons in any order, `dca:chunkllama:logn`: a preset (`paper`, `chunkllama`, `config`), a pair
 * `chunkLen/maxDistance`, a part, a scale. `dca@ntk:4` is DCA over the window that a RoPE rule stretches.
 */

import { reRope, selfExtend, shifted, streaming, windowed } from './byDistance.ts';
import { type ModelConfig, type RopeScaling, trainedWindow } from './config.ts';
import { type DualChunk, dualChunk, type Parts, PLAIN } from './dualChunk.ts';
import { shown, UnsupportedError } from './errors.ts';
import { attentionScale, type Placement, type Scale } from './placement.ts';

export interface Method {
  /** The user would type this to get exactly this method, all digits of a factor included. */
  readonly name: string;
  /** This says the same in words. */
  readonly description: string;
  readonly placement: Placement;
  /** Dual Chunk Attention has these settings; other methods have none. */
  readonly dca?: DualChunk;
  /** This RoPE rule stands in place of the model's own. */
  readonly ropeScaling?: RopeScaling;
  /** RoPE will see so many positions at most; dynamic NTK stretches to it. */
  readonly longest: number;
}

interface Chunks {
  chunkLen: number;
  maxDistance: number;
}

/** A preset makes chunk lengths of the trained window `c`. */
const PRESETS: Record<string, (c: number, config: ModelConfig) => Chunks | undefined> = {
  /** The paper's text has `s = 3c/4`, and distances up to `c - 1` (section 3). */
  paper: (c) => ({ chunkLen: Math.floor((3 * c) / 4), maxDistance: c - 1 }),
  /** The public code has by default chunk_size 3c/4 and local window c/8 (`chunkllama_attn_replace.py`). */
  chunkllama: (c) => {
    const chunkSize = Math.floor((3 * c) / 4);
    return { chunkLen: chunkSize - Math.floor(c / 8), maxDistance: chunkSize };
  },
  /** The model has a `dual_chunk_attention_config` of its own. */
  config: (_, { dualChunkAttentionConfig: own }) =>
    own && { chunkLen: own.chunkSize - own.localSize, maxDistance: own.chunkSize },
};

/** These RoPE rules stretch the trained window `c` by a factor, without training. */
const ROPE_RULES: Record<string, (factor: number, c: number) => RopeScaling> = {
  /** This is position interpolation (arXiv 2306.15595). */
  pi: (factor) => ({ ropeType: 'linear', factor }),
  /** NTK-aware RoPE has a larger base. */
  ntk: (factor) => ({ ropeType: 'ntk', factor }),
  /** YaRN is described in arXiv 2309.00071. */
  yarn: (factor, c) => ({ ropeType: 'yarn', factor, originalMaxPositionEmbeddings: c }),
  /** Dynamic NTK goes by the length of the text. Here that is the context, as keys are turned but once. */
  dynamic: (factor) => ({ ropeType: 'ntk', factor }),
};
const RULE_NAMES: Record<string, string> = {
  pi: 'position interpolation',
  ntk: 'NTK-aware RoPE',
  yarn: 'YaRN',
  dynamic: 'dynamic NTK',
};
/** A rule that DCA is stacked on has this factor by default. */
const DEFAULT_STACKED_FACTOR = 2;

/** Ways that part keys by distance have numbers, defaults for them, and the scale they were published with. */
const BY_DISTANCE: Record<
  string,
  {
    numbers: string;
    usual: (c: number, context: number) => number[];
    place: (a: number, b: number) => Omit<Placement, 'attentionScale'>;
    words: (a: number, b: number) => string;
    scale: Scale;
  }
> = {
  window: {
    numbers: 'LEN',
    usual: (c) => [c],
    place: windowed,
    words: (near) => `the last ${near} tokens only`,
    scale: 'none',
  },
  streaming: {
    numbers: 'SINKS/LEN',
    usual: (c) => [4, c - 4],
    place: streaming,
    words: (sinks, near) => `the first ${sinks} tokens and the last ${near}`,
    scale: 'none',
  },
  /** ReRoPE's author trained at 2,048 and took 512 or 1,024. */
  rerope: {
    numbers: 'W',
    usual: (c) => [Math.floor(c / 2)],
    place: reRope,
    words: (w) => `distances at most ${w}`,
    scale: 'logn',
  },
  /** The group is the least for which its authors' rule holds, `2/3 c > W + (L - W) / G`. */
  selfextend: {
    numbers: 'G/W',
    usual(c, context) {
      const w = Math.floor(c / 4);
      return [context <= c ? 1 : Math.ceil((context - w) / ((2 / 3) * c - w)), w];
    },
    place: selfExtend,
    words: (group, w) => `beyond ${w} tokens, positions in groups of ${group}`,
    scale: 'none',
  },
  /** STRING is made for use within the trained window; the shift is a third of the context. */
  string: {
    numbers: 'S/W',
    usual: (c, context) => [Math.max(1, Math.floor(context / 3)), Math.min(128, Math.ceil(c / 8))],
    place: shifted,
    words: (shift, w) => `beyond ${shift} tokens, distances less ${shift} plus ${w}`,
    scale: 'none',
  },
};
const PARTS: readonly Parts[] = ['full', 'intra+inter', 'intra'];
/** The paper has none; with it retrieval reaches twice as far (LOG.md). */
const DEFAULT_SCALE: Scale = 'logn';
const SCALES: readonly Scale[] = ['none', 'yarn', 'logn'];

/** The layers that parting distances is for, where others have a window, in which they read plainly. Else undefined. */
export const layersInWords = ({ numHiddenLayers, slidingWindow, slidingLayers }: ModelConfig): string | undefined =>
  slidingLayers &&
  `${numHiddenLayers - slidingLayers.length} of ${numHiddenLayers} layers, as the others look back ${slidingWindow} tokens`;

/** Whether no layer sees further than a window, so that no distance is ever too long. */
const looksBackOnly = ({ slidingWindow, slidingLayers }: ModelConfig) =>
  slidingWindow !== undefined && slidingLayers === undefined;

const RULES = Object.keys(ROPE_RULES).join('|');
export const METHOD_HELP = [
  'none',
  ...Object.entries(BY_DISTANCE).map(([kind, { numbers }]) => `${kind}[:${numbers}]`),
  `${RULES}[:FACTOR]`,
  `dca[:${Object.keys(PRESETS).join('|')}|CHUNKLEN/MAXDISTANCE][:${PARTS.join('|')}][:${SCALES.join('|')}][@${RULES}[:FACTOR]]`,
].join(', ');

/**
 * Settles the method for a model and a context.
 *
 * @param spec The head of this file says what it may be. By default it is plain attention within the trained window,
 *   and beyond it DCA with the model's own dual chunk config or else the `paper` preset.
 * @param scale Overrides the scale of `spec`; it is nothing to plain attention taken by default.
 * @throws UnsupportedError when `spec` is not a method, or not one for this model.
 */
export function resolveMethod(
  spec: string | undefined,
  scale: Scale | undefined,
  config: ModelConfig,
  context: number,
): Method {
  if (spec !== undefined && typeof spec !== 'string') {
    throw new UnsupportedError(`method is ${shown(spec)}; wanted a text such as "dca"`);
  }
  if (!Number.isSafeInteger(context) || context < 1) {
    throw new UnsupportedError(`context is ${shown(context)}; wanted a whole number of at least 1`);
  }
  const trainedLen = trainedWindow(config);
  if (spec === undefined) {
    const needsDca = context > trainedLen && !looksBackOnly(config);
    return needsDca ? resolveMethod('dca', scale, config, context) : resolveMethod('none', 'none', config, context);
  }
  if (scale !== undefined && !SCALES.includes(scale)) {
    throw new UnsupportedError(`unknown scale "${scale}"; wanted ${SCALES.join(', ')}`);
  }
  const [main, ...under] = spec.split('@');
  const [kind, ...settings] = main.split(':');
  const isScaled = kind === 'dca' || Object.hasOwn(BY_DISTANCE, kind);
  const isRule = Object.hasOwn(ROPE_RULES, kind) && settings.length <= 1;
  const isBare = kind === 'none' && settings.length === 0;
  if (!(isScaled || isRule || isBare) || under.length > (kind === 'dca' ? 1 : 0)) {
    throw new UnsupportedError(`unknown method "${spec}"; wanted ${METHOD_HELP}`);
  }
  if (isScaled && looksBackOnly(config)) {
    throw new UnsupportedError(
      `this model looks back ${config.slidingWindow} tokens only (sliding_window), so ${kind} has nothing to add; use method none`,
    );
  }
  if (!isScaled && (scale ?? 'none') !== 'none') {
    throw new UnsupportedError(`scale ${scale} needs method dca or one that parts keys by distance; got ${kind}`);
  }
  if (isRule) return ropeRule(kind, settings[0], config, context);
  if (kind === 'none') return { name: 'none', description: 'plain RoPE', placement: PLAIN, longest: context };
  const method =
    kind === 'dca'
      ? dcaOf(spec, settings, under[0], scale, config)
      : byDistance(spec, kind, settings, scale, trainedLen, context);
  const layers = layersInWords(config);
  return layers === undefined ? method : { ...method, description: `${method.description}; in ${layers}` };
}

// --- internal ---

/** Makes plain attention under a RoPE rule. By default it is stretched as far as the context needs. */
function ropeRule(kind: string, setting: string | undefined, config: ModelConfig, context: number): Method {
  if (config.ropeScaling) {
    throw new UnsupportedError(
      `method ${kind}: this model has a RoPE rule of its own (${config.ropeScaling.ropeType})`,
    );
  }
  const trainedLen = trainedWindow(config);
  const factor = setting === undefined ? Math.max(1, context / trainedLen) : Number(setting);
  if (!(factor >= 1 && factor < Infinity)) {
    throw new UnsupportedError(`method ${kind}:${setting}: wanted a factor of at least 1, such as ${kind}:8`);
  }
  return {
    name: `${kind}:${factor}`,
    description: `${RULE_NAMES[kind]}, factor ${Number(factor.toPrecision(4))}`,
    placement: PLAIN,
    ropeScaling: ROPE_RULES[kind](factor, trainedLen),
    longest: context,
  };
}

/** Makes DCA. @param rule DCA may be stacked on it: it counts as trained with the window the rule stretches. */
function dcaOf(
  spec: string,
  settings: readonly string[],
  rule: string | undefined,
  scale: Scale | undefined,
  config: ModelConfig,
): Method {
  const trainedLen = trainedWindow(config);
  const own = config.dualChunkAttentionConfig;
  const chosen = { preset: own ? 'config' : 'paper', parts: 'full' as Parts, scale: undefined as Scale | undefined };
  let explicit: Chunks | undefined;
  for (const setting of settings) {
    const pair = /^(\d{1,15})\/(\d{1,15})$/.exec(setting);
    if (pair) explicit = { chunkLen: Number(pair[1]), maxDistance: Number(pair[2]) };
    else if (Object.hasOwn(PRESETS, setting)) chosen.preset = setting;
    else if (PARTS.includes(setting as Parts)) chosen.parts = setting as Parts;
    else if (SCALES.includes(setting as Scale)) chosen.scale = setting as Scale;
    else throw unknownSetting(setting, spec);
  }
  const [ruleKind, factor = DEFAULT_STACKED_FACTOR, ...more] = rule?.split(':') ?? [];
  if (ruleKind !== undefined && (!Object.hasOwn(ROPE_RULES, ruleKind) || more.length > 0)) {
    throw new UnsupportedError(`unknown RoPE rule "${rule}" in method "${spec}"; wanted ${RULES}[:FACTOR]`);
  }
  const under = ruleKind === undefined ? undefined : ropeRule(ruleKind, String(factor), config, trainedLen);
  const window = Math.floor(trainedLen * (under ? Number(factor) : 1));
  const chunks = explicit ?? PRESETS[chosen.preset](window, config);
  if (!chunks) throw new UnsupportedError('method dca:config: this model has no dual_chunk_attention_config');
  // Qwen scales wherever its config names the original window.
  const byConfig = !explicit && chosen.preset === 'config' && own;
  const usual = byConfig ? (own.originalMaxPositionEmbeddings > 0 ? 'yarn' : 'none') : DEFAULT_SCALE;
  const chosenScale = scale ?? chosen.scale ?? usual;
  const dca = validateChunks({ ...chunks, parts: chosen.parts, scale: chosenScale, trainedLen });
  const chunkName = explicit ? `${dca.chunkLen}/${dca.maxDistance}` : chosen.preset;
  const partsName = dca.parts === 'full' ? '' : `:${dca.parts}`;
  return {
    name: `dca:${chunkName}${partsName}:${dca.scale}${under ? `@${under.name}` : ''}`,
    description:
      `Dual Chunk Attention, chunks of ${dca.chunkLen}, distances at most ${dca.maxDistance}, ` +
      `${dca.parts === 'full' ? '' : `${dca.parts} only, `}scale ${dca.scale}${under ? `, over ${under.description}` : ''}`,
    placement: dualChunk(dca),
    dca,
    ...(under && { ropeScaling: under.ropeScaling }),
    longest: window,
  };
}

function byDistance(
  spec: string,
  kind: string,
  settings: readonly string[],
  scale: Scale | undefined,
  trainedLen: number,
  context: number,
): Method {
  const { usual, place, words, scale: published } = BY_DISTANCE[kind];
  let numbers = usual(trainedLen, context);
  let chosen = scale;
  for (const setting of settings) {
    if (SCALES.includes(setting as Scale)) chosen ??= setting as Scale;
    else if (/^\d{1,15}(\/\d{1,15})?$/.test(setting) && setting.split('/').length === numbers.length) {
      numbers = setting.split('/').map(Number);
    } else throw unknownSetting(setting, spec);
  }
  if (numbers.some((number) => number < 1)) {
    throw new UnsupportedError(`method ${kind}:${numbers.join('/')}: wanted whole numbers of at least 1`);
  }
  const chosenScale = chosen ?? published;
  const [a, b] = numbers;
  return {
    name: `${kind}:${numbers.join('/')}:${chosenScale}`,
    description: `${kind}: ${words(a, b)}, scale ${chosenScale}`,
    placement: { ...place(a, b), attentionScale: (i) => attentionScale(i, chosenScale, trainedLen) },
    longest: kind === 'string' ? context : trainedLen,
  };
}

const unknownSetting = (setting: string, spec: string) =>
  new UnsupportedError(`unknown setting "${setting}" in method "${spec}"; wanted ${METHOD_HELP}`);

/**
 * Refuses chunks that cannot hold `maxDistance - chunkLen` tokens, up to which distances stay exact over a chunk
 * border.
 */
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
