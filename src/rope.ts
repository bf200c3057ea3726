/**
 * In rotary position embedding the angle of pair `d` at position `p` is `p · invFreq[d]`. A scaling rule only changes
 * `invFreq` (and, for YaRN, the length of the rotated vectors). Formulas are those of Hugging Face's
 * `modeling_rope_utils.py`.
 */
import type { ModelConfig, RopeScaling } from './config.ts';

export interface Rope {
  /**
   * Frequencies are radians a position, `[headDim / 2]`. Pair `d` is dimensions `d` and `d + headDim / 2` of a head.
   */
  readonly invFreq: Float64Array;
  /** Rotated queries and rotated keys are multiplied by it (YaRN's `attention_factor`); it is 1 for the other rules. */
  readonly attentionFactor: number;
}

/**
 * Gives the frequencies of a model's RoPE under its scaling rule.
 *
 * @param longest RoPE will never see more positions. Only dynamic NTK depends on it: a key is rotated once,
 *   so its rule is settled for the whole context ahead instead of changing as the text grows.
 */
export function ropeFrequencies(
  { headDim, ropeTheta, ropeScaling, maxPositionEmbeddings }: ModelConfig,
  longest: number,
): Rope {
  const plain = (theta: number) => Float64Array.from({ length: headDim / 2 }, (_, d) => theta ** ((-2 * d) / headDim));
  // In NTK-aware RoPE raising the base stretches the slowest pair by `factor` and leaves the fastest as it was.
  const ntk = (factor: number) => plain(ropeTheta * factor ** (headDim / (headDim - 2)));
  const unscaled = { invFreq: plain(ropeTheta), attentionFactor: 1 };
  if (!ropeScaling) return unscaled;
  const { invFreq } = unscaled;
  switch (ropeScaling.ropeType) {
    case 'linear':
      return { ...unscaled, invFreq: invFreq.map((f) => f / ropeScaling.factor) };
    case 'ntk':
      return { ...unscaled, invFreq: ntk(ropeScaling.factor) };
    case 'dynamic': {
      const ratio = Math.max(1, longest / maxPositionEmbeddings);
      return { ...unscaled, invFreq: ntk(ropeScaling.factor * ratio - (ropeScaling.factor - 1)) };
    }
    case 'yarn':
      return yarn(invFreq, headDim, ropeTheta, ropeScaling);
    case 'llama3':
      return { ...unscaled, invFreq: llama3(invFreq, ropeScaling) };
    case 'factors':
      return { ...unscaled, invFreq: invFreq.map((f, d) => f / ropeScaling.factors[d]) };
    default:
      return ropeScaling satisfies never;
  }
}

/** In YaRN (arXiv 2309.00071) fast pairs stay, slow pairs are interpolated, and a ramp joins them. */
function yarn(
  invFreq: Float64Array,
  headDim: number,
  theta: number,
  scaling: Extract<RopeScaling, { ropeType: 'yarn' }>,
): Rope {
  const { factor, originalMaxPositionEmbeddings, betaFast = 32, betaSlow = 1 } = scaling;
  // This pair turns `rotations` times over the original window.
  const pairOf = (rotations: number) =>
    (headDim * Math.log(originalMaxPositionEmbeddings / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  const low = Math.max(Math.floor(pairOf(betaFast)), 0);
  const high = Math.min(Math.ceil(pairOf(betaSlow)), headDim - 1);
  const width = high === low ? 0.001 : high - low;
  return {
    invFreq: invFreq.map((f, d) => {
      const interpolated = Math.min(Math.max((d - low) / width, 0), 1);
      return (f / factor) * interpolated + f * (1 - interpolated);
    }),
    attentionFactor: scaling.attentionFactor ?? (factor > 1 ? 0.1 * Math.log(factor) + 1 : 1),
  };
}

/**
 * In Llama 3.1 pairs slower than the original window are interpolated, and a ramp over wavelengths joins them to the
 * rest.
 */
function llama3(invFreq: Float64Array, scaling: Extract<RopeScaling, { ropeType: 'llama3' }>): Float64Array {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings } = scaling;
  return invFreq.map((f) => {
    const turns = (originalMaxPositionEmbeddings * f) / (2 * Math.PI);
    const kept = Math.min(Math.max((turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor), 0), 1);
    return kept * f + (1 - kept) * (f / factor);
  });
}
