/**
 * The forward pass of all families, top to bottom. They differ by config numbers and by weights that may be absent, not by
 * code (`families.ts`). The same function reads a prompt and decodes: one is many tokens, the other is one.
 */
import type { Attention, AttentionKind } from './attention.ts';
import type { Backend, CallSizes, Tensor } from './backends/backend.ts';
import type { ModelConfig } from './config.ts';
import type { KvCache } from './kvCache.ts';
import { type Slice, type Stretch, stretchesOf } from './placement.ts';

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
   * Reads `tokens` (at most `blockLen`), the rows of `slices` one behind the other, and puts them into the cache. Only
   * records: the work is done at the backend's next `submit` or `read`. A text split into any slices gives the same logits.
   * A backend that draws tokens has them in a tensor, F32 `[n, 1]`.
   */
  forward(tokens: ArrayLike<number> | Tensor, slices: readonly Slice[], cache: KvCache): void;
  /** Logits of rows `row..row + nRows` (at most `maxLogitRows`) of the last block, `[nRows, vocabSize]`. */
  logits(row: number, nRows: number): Tensor;
}

/** Most spans that a query sees, and most forms of keys; no method has more. */
const MAX_SPANS = 3;
const MAX_KEY_FORMS = 2;

/** Columns of each scratch buffer; in every stage, a block has a row of each for every token. */
const scratchColumns = (config: ModelConfig) => ({
  x: config.hiddenSize, // residual stream
  h: config.hiddenSize, // same, but inside a residual branch
  q: config.numAttentionHeads * config.headDim,
  k: config.numKeyValueHeads * config.headDim,
  v: config.numKeyValueHeads * config.headDim,
  rotated: MAX_SPANS * config.numAttentionHeads * config.headDim, // q at the position of each span in use
  o: config.numAttentionHeads * config.headDim,
  gate: config.intermediateSize,
  up: config.intermediateSize,
});

type Buffers = Record<keyof ReturnType<typeof scratchColumns>, Tensor>;

/** Angles of a block's rows, `[n, headDim / 2]`, or of the rows several times, once for each position they have. */
interface Angles {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/** What a kind of attention needs in a stage. */
interface KindAngles {
  /** One a form. */
  readonly keys: readonly Angles[];
  readonly queries: Angles;
}

/** Bytes of float32 scratch memory that `makeTransformer` allocates in every stage, at most. */
export function scratchBytes(config: ModelConfig, blockLen: number, nKinds: number): number {
  const angles = nKinds * (MAX_SPANS + MAX_KEY_FORMS) * config.headDim;
  const columns = Object.values(scratchColumns(config)).reduce((a, b) => a + b, angles);
  return 4 * blockLen * columns;
}

/** Bytes that it allocates in stage 0 besides, for logits. */
export const logitBytes = ({ hiddenSize, vocabSize }: ModelConfig, maxLogitRows: number): number =>
  4 * maxLogitRows * (hiddenSize + vocabSize);

/** How much is read, and of which logits are computed, at once. */
export interface BlockSizes {
  /** Rows of a forward. */
  readonly blockLen: number;
  /** Rows of logits. */
  readonly maxLogitRows: number;
  /** Pages of all texts together. */
  readonly nPages: number;
}

/** The largest calls that `makeTransformer` makes. Ids and places are kept for every row, spans for about as many. */
export const callSizes = (config: ModelConfig, { blockLen, nPages }: Omit<BlockSizes, 'maxLogitRows'>): CallSizes => ({
  rows: blockLen,
  cols: Math.max(config.hiddenSize, config.intermediateSize, config.numAttentionHeads * config.headDim),
  nHeads: config.numAttentionHeads,
  nKvHeads: config.numKeyValueHeads,
  headDim: config.headDim,
  kept: 4 * blockLen + nPages,
});

/**
 * Binds weights, kinds of attention and scratch memory for blocks of `blockLen` rows. The layers of a stage follow each
 * other; embedding, last norm and head are in stage 0.
 */
export function makeTransformer(
  b: Backend,
  config: ModelConfig,
  weights: Weights,
  { kinds, kindOf }: Attention,
  sizes: BlockSizes,
): Transformer {
  const { blockLen, maxLogitRows } = sizes;
  const { hiddenSize, headDim, vocabSize, rmsNormEps: eps } = config;
  const { hiddenAct = 'silu', embeddingFactor, queryPreAttnScalar = headDim } = config;
  const mapBuffers = <T>(record: Record<string, T>, f: (entry: T) => Tensor) =>
    Object.fromEntries(Object.entries(record).map(([name, entry]) => [name, f(entry)])) as Buffers;
  const stageOf = weights.layers.map(({ oProj }) => oProj.weight.stage);
  const stages = Array.from({ length: 1 + Math.max(...stageOf) }, (_, stage) => {
    const scratch = (cols: number) => b.alloc('F32', blockLen, cols, stage);
    const angles = (times: number): Angles => {
      const table = () => b.alloc('F32', times * blockLen, headDim / 2, stage);
      return { cos: table(), sin: table() };
    };
    b.reserve?.(callSizes(config, sizes), stage);
    const ofKinds = kinds.map(
      ({ placement }): KindAngles => ({
        keys: placement.keyPositions.map(() => angles(1)),
        queries: angles(placement.spans(0).length),
      }),
    );
    return { buffers: mapBuffers(scratchColumns(config), scratch), ofKinds };
  });
  const normed = b.alloc('F32', maxLogitRows, hiddenSize);
  const logits = b.alloc('F32', maxLogitRows, vocabSize);

  /**
   * Angles of `n` rows, as cos and sin times `factor`; in float64, so that far positions are exact. Without RoPE they are 0,
   * and the factor is what is left.
   */
  function writeAngles(
    { rope }: AttentionKind,
    n: number,
    tablesOf: (stage: number) => Angles,
    at: (row: number) => [position: number, factor: number],
  ): void {
    const half = headDim / 2;
    const cosines = new Float64Array(n * half);
    const sines = new Float64Array(n * half);
    for (let r = 0; r < n; r++) {
      const [position, factor] = at(r);
      const length = factor * (rope?.attentionFactor ?? 1);
      for (let d = 0; d < half; d++) {
        const angle = rope ? position * rope.invFreq[d] : 0;
        cosines[r * half + d] = length * Math.cos(angle);
        sines[r * half + d] = length * Math.sin(angle);
      }
    }
    stages.forEach((_, stage) => {
      const { cos, sin } = tablesOf(stage);
      b.write(cos, cosines);
      b.write(sin, sines);
    });
  }

  /** What a kind's layers see of `slices`, and its angles, which do not depend on the layer. */
  function place(kind: number, slices: readonly Slice[], n: number): { stretches: Stretch[]; nRotations: number } {
    const { placement, window } = kinds[kind];
    const { stretches, used } = stretchesOf(placement, slices, window);
    const positions = slices.flatMap(({ start, nRows }) => Array.from({ length: nRows }, (_, r) => start + r));
    const spans = positions.map((i) => placement.spans(i));
    // The softmax scale rides on the queries, so that keys do not depend on the text's length.
    const scales = positions.map((i) => placement.attentionScale(i) / Math.sqrt(queryPreAttnScalar));
    const tables = (stage: number) => stages[stage].ofKinds[kind];
    placement.keyPositions.forEach((keyPosition, form) => {
      writeAngles(
        kinds[kind],
        n,
        (stage) => tables(stage).keys[form],
        (r) => [keyPosition(positions[r]), 1],
      );
    });
    writeAngles(
      kinds[kind],
      used.length * n,
      (stage) => tables(stage).queries,
      (r) => [spans[r % n][used[Math.floor(r / n)]].position, scales[r % n]],
    );
    return { stretches, nRotations: used.length };
  }

  const rotate = (out: Tensor, input: Tensor, { cos, sin }: Angles) => {
    const [cosines, sines] = [cos, sin].map((table) => b.view(table, out.rows, table.cols));
    b.rotate(out, input, cosines, sines);
  };

  function forward(tokens: ArrayLike<number> | Tensor, slices: readonly Slice[], cache: KvCache): void {
    const n = 'length' in tokens ? tokens.length : tokens.rows;
    const placed = kinds.map((_, kind) => place(kind, slices, n));
    const blocks = stages.map(({ buffers }) => mapBuffers(buffers, (t) => b.view(t, n, t.cols)));

    let stream = blocks[0].x;
    b.gatherRows(stream, weights.embedTokens, tokens, embeddingFactor);
    weights.layers.forEach((layer, l) => {
      const { x, h, q, k, v, o, gate, up } = blocks[stageOf[l]];
      const { buffers, ofKinds } = stages[stageOf[l]];
      const { stretches, nRotations } = placed[kindOf[l]];
      const angles = ofKinds[kindOf[l]];
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
      // The first form is rotated in place, after the second; `o` has no other use before attention.
      const keys = angles.keys.map((_, form) => (form === 0 ? k : b.view(o, n, k.cols)));
      for (let form = keys.length - 1; form >= 0; form--) rotate(keys[form], k, angles.keys[form]);
      b.append(cache.layers[l], keys, v, slices);
      const queries = b.view(buffers.rotated, nRotations * n, q.cols);
      rotate(queries, q, angles.queries);
      b.attend(o, queries, cache.layers[l], stretches);
      b.matmul(h, o, layer.oProj.weight, layer.oProj.bias);
      normalize(h, layer.postAttentionLayernorm);
      b.add(x, h);
      // feed-forward: norm, gate and up, gated, down, add
      const fed = read(layer.preFeedforwardLayernorm);
      b.matmul(gate, fed, layer.gateProj.weight, layer.gateProj.bias);
      b.matmul(up, fed, layer.upProj.weight, layer.upProj.bias);
      b.glu(gate, gate, up, hiddenAct);
      b.matmul(h, gate, layer.downProj.weight, layer.downProj.bias);
      normalize(h, layer.postFeedforwardLayernorm);
      b.add(x, h);
    });
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
