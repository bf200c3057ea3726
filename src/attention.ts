/** Kinds of attention that a model's layers have. A layer's kind is data: the forward pass treats all of them alike. */
import type { ModelConfig } from './config.ts';
import { PLAIN } from './dualChunk.ts';
import type { Placement } from './placement.ts';
import { type Rope, ropeFrequencies } from './rope.ts';

export interface AttentionKind {
  readonly placement: Placement;
  /** Absent where neither queries nor keys are rotated. */
  readonly rope?: Rope;
  /** Keys with `i - j >= window` are not seen. Absent: all are. */
  readonly window?: number;
}

export interface Attention {
  readonly kinds: readonly AttentionKind[];
  /** The kind of each layer. */
  readonly kindOf: readonly number[];
}

/**
 * How a model's layers attend when it reads by a method. Where only some layers have a window, these read plainly, at true
 * distances that never exceed it, and the method is for the others.
 *
 * @param longest Largest number of positions that RoPE will see, as of `ropeFrequencies`.
 */
export function attentionOf(config: ModelConfig, placement: Placement, longest: number): Attention {
  const { numHiddenLayers, slidingWindow, slidingLayers, ropeLocalTheta, layersWithoutRope = [] } = config;
  const ropeOf = (slides: boolean) =>
    slides && ropeLocalTheta !== undefined
      ? ropeFrequencies({ ...config, ropeTheta: ropeLocalTheta, ropeScaling: undefined }, longest)
      : ropeFrequencies(config, longest);
  const made = new Map<string, AttentionKind>();
  const kinds = Array.from({ length: numHiddenLayers }, (_, layer) => {
    const slides = slidingWindow !== undefined && (slidingLayers?.includes(layer) ?? true);
    const isRotated = !layersWithoutRope.includes(layer);
    const key = `${slides} ${isRotated}`;
    const kind = made.get(key) ?? {
      placement: slides && slidingLayers ? PLAIN : placement,
      rope: isRotated ? ropeOf(slides) : undefined,
      window: slides ? slidingWindow : undefined,
    };
    made.set(key, kind);
    return kind;
  });
  const distinct = [...made.values()];
  return { kinds: distinct, kindOf: kinds.map((kind) => distinct.indexOf(kind)) };
}
