/**
 * The forward pass of all families, top to bottom. They differ by config numbers and by weights that may be absent, not by
 * code (`families.ts`). The same function reads a prompt and decodes: one is many tokens, the other is one.
 */
import type { Backend, CallSizes, Queries, Tensor } from './backends/backend.ts';
import type { ModelConfig } from './config.ts';
import type { KvCache } from './kvCache.ts';
import { type Placement, piecesOf } from './placement.ts';
import type { Rope } from './rope.ts';

export interface Linear {
  readonly weight: Tensor; // [outFeatures, inFeatures]
  readonly bias?: Tensor; // [1, outFeatures]
}

export interface Layer {
  /** Of what attention reads, and of what it adds: `[1, hiddenSize]`. */
  readonly inputLayernorm?: Tensor;
  readonly postAttentionLayernorm?: Tensor;
  /** The same of the feed-forward branch. */
  readonly preFeedforwardLayernorm?: Tensor;
  readonly postFeedforwardLayernorm?: Tensor;
  readonly qProj: Linear; // [nHeads * headDim, hiddenSize]
  readonly kProj: Linear; // [nKvHeads * headDim, hiddenSize]
  readonly vProj: Linear;
  readonly oProj: Linear; // [hiddenSize, nHeads * headDim]
  /** Before they are rotated, queries and keys are normalised over as many numbers as these have: of a head, or of all. */
  readonly qNorm?: Tensor;
  readonly kNorm?: Tensor;
  readonly gateProj: Linear; // [intermediateSize, hiddenSize]
  readonly upProj: Linear;
  readonly downProj: Linear; // [hiddenSize, intermediateSize]
}

export interface Weights {
  readonly embedTokens: Tensor; // [vocabSize, hiddenSize]
  readonly layers: readonly Layer[];
  readonly norm: Tensor; // [1, hiddenSize]
  readonly lmHead: Linear; // [vocabSize, hiddenSize]
}

/** Bytes of the stored weights: of every layer, and of all that is in none. */
export interface WeightBytes {
  readonly layers: readonly number[];
  readonly others: number;
}

export interface Transformer {
  /**
   * Reads `tokens` (at most `blockLen`) behind what the cache holds, and appends them to it. Only records: the work is
   * done at the backend's next `submit` or `read`. A prompt split into any blocks gives the same logits. A backend that
   * draws tokens has them in a tensor, F32 `[n, 1]`.
   */
  forward(tokens: ArrayLike<number> | Tensor, cache: KvCache): void;
  /** Logits of rows `row..row + nRows` (at most `maxLogitRows`) of the last block, `[nRows, vocabSize]`. */
  logits(row: number, nRows: number): Tensor;
}

/** Queries have a position against each band of keys. */
const VARIANTS = ['intra', 'succ', 'inter'] as const;

/** Columns of each scratch buffer; in every stage, a block has a row of each for every token. */
const scratchColumns = (config: ModelConfig) => ({
  x: config.hiddenSize, // residual stream
  h: config.hiddenSize, // same, but inside a residual branch
  q: config.numAttentionHeads * config.headDim,
  k: config.numKeyValueHeads * config.headDim,
  v: config.numKeyValueHeads * config.headDim,
  rotated: VARIANTS.length * config.numAttentionHeads * config.headDim, // q at the position of each variant in use
  o: config.numAttentionHeads * config.headDim,
  gate: config.intermediateSize,
  up: config.intermediateSize,
});

type Buffers = Record<keyof ReturnType<typeof scratchColumns>, Tensor>;

interface Angles {
  readonly cos: Tensor; // [n, headDim / 2]
  readonly sin: Tensor;
}

/** Angles of a block's tokens: of its keys, and of its queries in each variant, one variant after the other. */
type Turn = Record<'key' | 'interKey' | 'query', Angles>;

/** Whether layers rotate queries and keys; for each of the two a block has angles of its own. */
type Rotation = 'rope' | 'none';

const rotationOf = ({ layersWithoutRope }: ModelConfig, layer: number): Rotation =>
  layersWithoutRope?.includes(layer) ? 'none' : 'rope';

const rotationsOf = (config: ModelConfig): Rotation[] => [
  ...new Set(Array.from({ length: config.numHiddenLayers }, (_, layer) => rotationOf(config, layer))),
];

/** Bytes of float32 scratch memory that `makeTransformer` allocates in every stage. */
export function scratchBytes(config: ModelConfig, blockLen: number): number {
  const angles = 5 * config.headDim * rotationsOf(config).length;
  const columns = Object.values(scratchColumns(config)).reduce((a, b) => a + b, angles);
  return 4 * blockLen * columns;
}

/** And in stage 0 besides. */
export const logitBytes = ({ hiddenSize, vocabSize }: ModelConfig, maxLogitRows: number): number =>
  4 * maxLogitRows * (hiddenSize + vocabSize);

/** The largest calls that `makeTransformer` makes. */
export const callSizes = (config: ModelConfig, blockLen: number): CallSizes => ({
  rows: blockLen,
  cols: Math.max(config.hiddenSize, config.intermediateSize, config.numAttentionHeads * config.headDim),
  nHeads: config.numAttentionHeads,
  nKvHeads: config.numKeyValueHeads,
  headDim: config.headDim,
});

/**
 * Binds weights, positions and scratch memory for blocks of `blockLen` tokens. The layers of a stage follow each other;
 * embedding, last norm and head are in stage 0.
 */
export function makeTransformer(
  b: Backend,
  config: ModelConfig,
  weights: Weights,
  placement: Placement,
  rope: Rope,
  blockLen: number,
  maxLogitRows: number,
): Transformer {
  const { hiddenSize, headDim, vocabSize, rmsNormEps: eps } = config;
  const mapBuffers = <T>(record: Record<string, T>, f: (entry: T) => Tensor) =>
    Object.fromEntries(Object.entries(record).map(([name, entry]) => [name, f(entry)])) as Buffers;
  const rotations = rotationsOf(config);
  const stageOf = weights.layers.map(({ oProj }) => oProj.weight.stage);
  const stages = Array.from({ length: 1 + Math.max(...stageOf) }, (_, stage) => {
    const scratch = (cols: number) => b.alloc('F32', blockLen, cols, stage);
    const angles = (forms = 1): Angles => {
      const table = () => b.alloc('F32', forms * blockLen, headDim / 2, stage);
      return { cos: table(), sin: table() };
    };
    b.reserve?.(callSizes(config, blockLen), stage);
    const turn = (): Turn => ({ key: angles(), interKey: angles(), query: angles(VARIANTS.length) });
    const turns = new Map(rotations.map((rotation) => [rotation, turn()]));
    return { buffers: mapBuffers(scratchColumns(config), scratch), turns };
  });
  const normed = b.alloc('F32', maxLogitRows, hiddenSize);
  const logits = b.alloc('F32', maxLogitRows, vocabSize);

  /**
   * Angles of `n` rows, as cos and sin times `factor`; in float64, so that far positions are exact. Where nothing is rotated
   * they are 0, and the factor is what is left, without the one of RoPE's rule.
   */
  function writeAngles(name: keyof Turn, n: number, at: (row: number) => [position: number, factor: number]) {
    const half = headDim / 2;
    for (const rotation of rotations) {
      const cosines = new Float64Array(n * half);
      const sines = new Float64Array(n * half);
      for (let r = 0; r < n; r++) {
        const [position, factor] = at(r);
        const length = rotation === 'rope' ? factor * rope.attentionFactor : factor;
        for (let d = 0; d < half; d++) {
          const angle = rotation === 'rope' ? position * rope.invFreq[d] : 0;
          cosines[r * half + d] = length * Math.cos(angle);
          sines[r * half + d] = length * Math.sin(angle);
        }
      }
      for (const { turns } of stages) {
        const { cos, sin } = (turns.get(rotation) as Turn)[name];
        b.write(cos, cosines);
        b.write(sin, sines);
      }
    }
  }

  function forward(tokens: ArrayLike<number> | Tensor, cache: KvCache): void {
    const n = 'length' in tokens ? tokens.length : tokens.rows;
    const start = cache.length;
    const rows = (t: Tensor) => b.view(t, n, t.cols);

    // positions, once for all layers. The softmax scale rides on the queries, so keys do not depend on length.
    const softmaxScale = (i: number) => placement.attentionScale(i) / Math.sqrt(headDim);
    const pieces = piecesOf(placement, start, n, config.slidingWindow);
    const variants = VARIANTS.filter((variant) => pieces.some(({ bands }) => bands[variant].to > bands[variant].from));
    writeAngles('key', n, (r) => [placement.keyPosition(start + r), 1]);
    const { interKeyPosition } = placement;
    if (interKeyPosition) writeAngles('interKey', n, (r) => [interKeyPosition(start + r), 1]);
    writeAngles('query', variants.length * n, (r) => {
      const i = start + (r % n);
      return [placement.queryPositions(i)[variants[Math.floor(r / n)]], softmaxScale(i)];
    });
    const rotate = (out: Tensor, input: Tensor, { cos, sin }: Angles) => {
      const [cosines, sines] = [cos, sin].map((table) => b.view(table, out.rows, table.cols));
      b.rotate(out, input, cosines, sines);
    };
    const blocks = stages.map(({ buffers, turns }) => {
      const block = mapBuffers(buffers, rows);
      const { cols } = block.q;
      const rotated = b.view(buffers.rotated, variants.length * n, cols);
      /** Where a variant is; one that is not in use is no one's, and anywhere. */
      const variant = (name: keyof Queries) => b.view(rotated, n, cols, Math.max(0, variants.indexOf(name)) * n * cols);
      const queries: Queries = { intra: variant('intra'), succ: variant('succ'), inter: variant('inter') };
      return { ...block, rotated, queries, turns };
    });

    let stream = blocks[0].x;
    b.gatherRows(stream, weights.embedTokens, tokens);
    weights.layers.forEach((layer, l) => {
      const { x, h, q, k, v, rotated, queries, o, gate, up, turns } = blocks[stageOf[l]];
      const turn = turns.get(rotationOf(config, l)) as Turn;
      /** What a branch reads: the stream, normalised where there is a norm for it. */
      const read = (norm?: Tensor) => {
        if (norm) b.rmsNorm(h, x, norm, eps);
        return norm ? h : x;
      };
      const normalize = (t: Tensor, norm?: Tensor) => {
        if (!norm) return;
        const parts = b.view(t, (n * t.cols) / norm.cols, norm.cols);
        b.rmsNorm(parts, parts, norm, eps);
      };
      if (x.stage !== stream.stage) b.copy(x, stream); // the residual stream goes where the layer is
      stream = x;
      // attention: norm, project, rotate, remember, attend, project, add
      const attended = read(layer.inputLayernorm);
      b.matmul(q, attended, layer.qProj.weight, layer.qProj.bias);
      b.matmul(k, attended, layer.kProj.weight, layer.kProj.bias);
      b.matmul(v, attended, layer.vProj.weight, layer.vProj.bias);
      normalize(q, layer.qNorm);
      normalize(k, layer.kNorm);
      const kInter = interKeyPosition && b.view(o, n, k.cols); // o has no other use before attention
      if (kInter) rotate(kInter, k, turn.interKey);
      rotate(k, k, turn.key);
      b.append(cache.layers[l], k, v, start, kInter);
      rotate(rotated, q, turn.query);
      b.attend(o, queries, cache.layers[l], pieces);
      b.matmul(h, o, layer.oProj.weight, layer.oProj.bias);
      normalize(h, layer.postAttentionLayernorm);
      b.add(x, h);
      // feed-forward: norm, gate and up, SwiGLU, down, add
      const fed = read(layer.preFeedforwardLayernorm);
      b.matmul(gate, fed, layer.gateProj.weight, layer.gateProj.bias);
      b.matmul(up, fed, layer.upProj.weight, layer.upProj.bias);
      b.swiglu(gate, gate, up);
      b.matmul(h, gate, layer.downProj.weight, layer.downProj.bias);
      normalize(h, layer.postFeedforwardLayernorm);
      b.add(x, h);
    });
    cache.length += n;
  }

  return {
    forward,
    logits(row, nRows) {
      const x = b.view(stages[stages.length - 1].buffers.x, nRows, hiddenSize, row * hiddenSize);
      const h = b.view(normed, nRows, hiddenSize);
      const out = b.view(logits, nRows, vocabSize);
      b.copy(h, x); // from the last layer's stage to the head's
      b.rmsNorm(h, h, weights.norm, eps);
      b.matmul(out, h, weights.lmHead.weight, weights.lmHead.bias);
      return out;
    },
  };
}
