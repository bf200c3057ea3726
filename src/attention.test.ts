import { describe, expect, it } from 'vitest';
import { tinyConfig } from '../test/tinyModel.ts';
import { attentionOf } from './attention.ts';
import { dualChunk, PLAIN } from './dualChunk.ts';
import { ropeFrequencies } from './rope.ts';

const DCA = dualChunk({ chunkLen: 12, maxDistance: 16, parts: 'full', scale: 'none', trainedLen: 16 });
const scaled = { ropeType: 'linear', factor: 4 } as const;

describe('attentionOf', () => {
  it('is of one kind where all layers are alike', () => {
    const { kinds, kindOf } = attentionOf(tinyConfig({ slidingWindow: 7, ropeScaling: scaled }), DCA, 64);
    expect(kindOf).toEqual([0, 0]);
    expect(kinds).toHaveLength(1);
    expect(kinds[0]).toMatchObject({ placement: DCA, window: 7 });
  });

  it('reads plainly in layers with a window, at a base of their own that no rule scales', () => {
    const windows = { slidingWindow: 7, slidingLayers: [0, 1, 3], ropeLocalTheta: 10 };
    const config = tinyConfig({ numHiddenLayers: 4, ropeScaling: scaled, ...windows });
    const { kinds, kindOf } = attentionOf(config, DCA, 64);
    expect(kindOf).toEqual([0, 0, 1, 0]);
    const [local, global] = kinds;
    expect(local).toMatchObject({ placement: PLAIN, window: 7 });
    expect(local.rope).toEqual(ropeFrequencies(tinyConfig({ ropeTheta: 10 }), 64));
    expect(global).toMatchObject({ placement: DCA, window: undefined });
    expect(global.rope).toEqual(ropeFrequencies(config, 64));
  });

  it('has a kind for layers that are not rotated', () => {
    const config = tinyConfig({ numHiddenLayers: 3, layersWithoutRope: [2], slidingWindow: 7, slidingLayers: [1] });
    const { kinds, kindOf } = attentionOf(config, DCA, 64);
    expect(kindOf).toEqual([0, 1, 2]);
    expect(kinds.map(({ rope }) => rope !== undefined)).toEqual([true, true, false]);
    expect(kinds.map(({ placement }) => placement === DCA)).toEqual([true, false, true]);
  });
});
