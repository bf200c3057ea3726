/** The definitions against values computed by hand, so that they share no mistake with the backends held against them. */
import { describe, expect, it } from 'vitest';
import { runContract } from '../../test/contract.ts';
import { CASES } from '../../test/kernelCases.ts';
import { repeated, type Seen, slice, stretches } from '../../test/stretches.ts';
import { rowBytes, TENSOR_TYPES, type TensorType } from '../tensorTypes.ts';
import type { Tensor } from './backend.ts';
import { openReference } from './reference.ts';

runContract({
  name: 'reference',
  open: openReference,
  skip: [
    {
      reason: 'it would be compared with itself; its definitions are held to values worked out by hand, below',
      tests: [
        ...CASES.map(({ name }) => name),
        ...['F16', 'BF16'].map((type) => `gatherRows: every ${type} that is a number, exactly`),
        'calls run in the order they were recorded',
        'calls on overlapping tensors run as if one after the other',
        'a cache holds what it held when more tokens come than it had room for',
        'every kernel computes the same in another stage',
      ],
    },
  ],
});

const b = openReference();

/** Rows of numbers as a tensor. */
const tensor = (...rows: number[][]): Tensor => {
  const filled = b.alloc('F32', rows.length, rows[0].length);
  b.write(filled, rows.flat());
  return filled;
};

const expectNumbers = async (actual: Tensor, expected: number[]) => {
  const numbers = Array.from(await b.read(actual));
  expect(numbers).toHaveLength(expected.length);
  numbers.forEach((value, i) => {
    expect(value, `number ${i} of ${numbers}`).toBeCloseTo(expected[i], 12);
  });
};

const [HALF_0_5, HALF_1, HALF_2, HALF_MINUS_1] = [
  [0x00, 0x38],
  [0x00, 0x3c],
  [0x00, 0x40],
  [0x00, 0xbc],
];

/** Six-bit scales and minimums of a K block: scale 0 is 5, minimum 0 is 3, scale 4 is 55 and minimum 4 is 42. */
const K_SCALES = { 4: 0b11_000101, 8: 0b10_000011, 12: 0xa7 };

/** A block by the bytes that are not 0, and the weights that are not as `others`. */
const BLOCKS: { type: TensorType; bytes: Record<number, number>; weights: Record<number, number>; others?: number }[] =
  [
    { type: 'F32', bytes: { 2: 0xc0, 3: 0x3f }, weights: { 0: 1.5 } },
    { type: 'F16', bytes: at(0, HALF_MINUS_1), weights: { 0: -1 } },
    { type: 'F16', bytes: { 0: 1 }, weights: { 0: 2 ** -24 } }, // subnormal
    { type: 'F16', bytes: { 0: 0xff, 1: 0x7b }, weights: { 0: 65504 } },
    { type: 'BF16', bytes: { 0: 0x40, 1: 0xc0 }, weights: { 0: -3 } },
    // low nibble 15 is weight 0, high nibble 9 is weight 16
    { type: 'Q4_0', bytes: { ...at(0, HALF_2), 2: 0x9f }, weights: { 0: 2 * (15 - 8), 16: 2 * (9 - 8) }, others: -16 },
    { type: 'Q4_1', bytes: { ...at(0, HALF_2, HALF_MINUS_1), 4: 0x9f }, weights: { 0: 29, 16: 17 }, others: -1 },
    // the fifth bits of weights 0 and 31 are set
    {
      type: 'Q5_0',
      bytes: { ...at(0, HALF_2), 2: 1, 5: 0x80, 6: 0x9f },
      weights: { 0: 2 * (31 - 16), 16: 2 * (9 - 16), 31: 0 },
      others: -32,
    },
    {
      type: 'Q5_1',
      bytes: { ...at(0, HALF_2, HALF_MINUS_1), 4: 1, 7: 0x80, 8: 0x9f },
      weights: { 0: 61, 16: 17, 31: 31 },
      others: -1,
    },
    { type: 'Q8_0', bytes: { ...at(0, HALF_0_5), 2: 0x80, 33: 0x7f }, weights: { 0: -64, 31: 63.5 } },
    {
      type: 'Q4_K',
      bytes: { ...at(0, HALF_2, HALF_1), ...K_SCALES, 16: 0x0c, 80: 0x0d },
      weights: { ...run(0, 32, -3), ...run(128, 32, -42), 0: 2 * 5 * 12 - 3, 128: 2 * 55 * 13 - 42 },
    },
    {
      type: 'Q5_K', // fifth bits of the first weights of runs 0 and 4
      bytes: { ...at(0, HALF_2, HALF_1), ...K_SCALES, 16: 0b10001, 48: 0x0c, 112: 0x0d },
      weights: { ...run(0, 32, -3), ...run(128, 32, -42), 0: 2 * 5 * 28 - 3, 128: 2 * 55 * 29 - 42 },
    },
    {
      type: 'Q6_K', // scales of runs 0, 4 and 8 of 16 weights are 2, -1 and 1
      bytes: { 0: 0xf1, 64: 0x05, 128: 0b00_10_00_11, 192: 2, 196: 0xff, 200: 1, ...at(208, HALF_0_5) },
      weights: {
        ...{ ...run(0, 16, -32), 0: 0.5 * 2 * (1 + 48 - 32) },
        ...{ ...run(64, 16, 16), 64: 0.5 * -1 * (15 + 32 - 32) },
        ...{ ...run(128, 16, -16), 128: 0.5 * (5 - 32) },
      },
    },
  ];

describe('gatherRows', () => {
  it.each(BLOCKS)('decodes $type', async ({ type, bytes, weights, others = 0 }) => {
    const { blockLen } = TENSOR_TYPES[type];
    const [table, out] = [b.alloc(type, 1, blockLen), b.alloc('F32', 1, blockLen)];
    b.load(
      table,
      Uint8Array.from({ length: rowBytes(type, blockLen) }, (_, i) => bytes[i] ?? 0),
      0,
    );
    b.gatherRows(out, table, [0]);
    await expectNumbers(
      out,
      Array.from({ length: blockLen }, (_, i) => weights[i] ?? others),
    );
  });

  it('takes rows in any order, more than once', async () => {
    const out = b.alloc('F32', 3, 2);
    b.gatherRows(out, tensor([1, 2], [3, 4], [5, 6]), [2, 0, 2]);
    await expectNumbers(out, [5, 6, 1, 2, 5, 6]);
  });
});

describe('rmsNorm', () => {
  it.each([
    [0, [1, 7], [0.2, 2.8]], // root mean square 5
    [16, [3, -3], [0.6, -1.2]], // mean square 9, with eps 25
  ])('with eps %d', async (eps, x, expected) => {
    const out = b.alloc('F32', 2, 2);
    b.rmsNorm(out, tensor(x, x), tensor([1, 2]), eps);
    await expectNumbers(out, [...expected, ...expected]);
  });
});

describe('matmul', () => {
  it.each([
    ['without bias', undefined, [17, 23, 29, 39, 53, 67]],
    ['with bias', [1, 10, 100], [18, 33, 129, 40, 63, 167]],
  ])('%s', async (_, bias, expected) => {
    const out = b.alloc('F32', 2, 3);
    b.matmul(out, tensor([1, 2], [3, 4]), tensor([5, 6], [7, 8], [9, 10]), bias && tensor(bias));
    await expectNumbers(out, expected);
  });
});

describe('rotate', () => {
  it('turns dimension d towards d + headDim / 2, each row by its angles, all heads alike', async () => {
    const x = [1, 2, 3, 4, 5, 6, 7, 8]; // two heads: pairs (1, 3) and (2, 4), (5, 7) and (6, 8)
    const out = b.alloc('F32', 2, 8);
    // row 0: a quarter turn of the first pair only; row 1: half a turn of the first, the second to length 2
    b.rotate(out, tensor(x, x), tensor([0, 1], [-1, 2]), tensor([1, 0], [0, 0]));
    await expectNumbers(out, [-3, 2, 1, 4, -7, 6, 5, 8, -1, 4, -3, 8, -5, 12, -7, 16]);
  });

  it('takes x again where there are more angles than rows', async () => {
    const out = b.alloc('F32', 4, 2);
    b.rotate(out, tensor([1, 2], [3, 4]), tensor([1], [0], [-1], [0]), tensor([0], [1], [0], [-1]));
    await expectNumbers(out, [1, 2, -4, 3, -1, -2, 4, -3]);
  });
});

describe('attend', () => {
  /** Keys 1, so that a score is the query; values 1, 10, 100, … so that the result shows each key's weight. */
  const answer = async (seen: Omit<Seen, 'n'>, ...queries: number[][]) => {
    const n = queries[0].length;
    const kv = b.allocKv(1, 1, 1);
    b.append(kv, [tensor([1], [1], [1], [1], [1])], tensor([1], [10], [100], [1000], [10000]), [slice(5)]);
    const { stretches: found, nRotations } = stretches({ n, ...seen });
    const rows = queries.length === 1 ? repeated(queries[0], nRotations) : queries.flat();
    const out = b.alloc('F32', n, 1);
    b.attend(out, tensor(...rows.map((query) => [query])), kv, found);
    return out;
  };

  it('sees keys up to the query itself', async () => {
    await expectNumbers(await answer({}, [0, 0, 0]), [1, 11 / 2, 111 / 3]);
    await expectNumbers(await answer({ start: 3 }, [0]), [1111 / 4]);
  });

  it('takes the query by how many chunks the key lies behind', async () => {
    // token 4 is chunk 2: it weighs 1, tokens 2 and 3 weigh 2 each, tokens 0 and 1 weigh 6 each
    const out = await answer({ start: 4, chunkLen: 2 }, [Math.log(6)], [Math.log(2)], [0]);
    await expectNumbers(out, [(10000 + 2 * 1100 + 6 * 11) / (1 + 2 * 2 + 2 * 6)]);
  });

  it.each([
    ['chunks', { maxChunksBehind: 0, chunkLen: 2 }, [1, 11 / 2, 100, 1100 / 2, 10000]],
    ['chunks', { maxChunksBehind: 1, chunkLen: 2 }, [1, 11 / 2, 111 / 3, 1111 / 4, 11100 / 3]],
    ['tokens', { window: 1 }, [1, 10, 100, 1000, 10000]],
    ['tokens', { window: 3 }, [1, 11 / 2, 111 / 3, 1110 / 3, 11100 / 3]],
  ])('sees no further back than so many %s: %o', async (_, seen, expected) => {
    await expectNumbers(await answer(seen, [0, 0, 0, 0, 0]), expected);
  });

  it('weighs by softmax of the dot product, and query heads share key-value heads in order', async () => {
    const kv = b.allocKv(1, 2, 2);
    b.append(kv, [tensor([1, 2, 0, 0], [3, 4, 0, 0])], tensor([4, 8, 0, 0], [8, 4, 1, 1]), [slice(2)]);
    const [out, weight] = [b.alloc('F32', 1, 8), Math.log(3) / 4];
    const q = tensor([weight, weight, 0, 0, 1, 1, 2, 2]); // head 0: scores ln 3 / 4 times 3 and 7, one to three
    b.attend(out, q, kv, stretches({ n: 1, start: 1 }).stretches);
    await expectNumbers(out, [7, 5, 6, 6, 0.5, 0.5, 0.5, 0.5]);
  });
});

describe('glu and add', () => {
  it('glu with SiLU is gate / (1 + exp(-gate)) * up', async () => {
    const out = b.alloc('F32', 1, 3);
    b.glu(out, tensor([0, Math.log(3), -Math.log(3)]), tensor([7, 4, 4]), 'silu');
    await expectNumbers(out, [0, 3 * Math.log(3), -Math.log(3)]);
  });

  it('glu with GELU is gate / 2 * (1 + tanh(...)) * up', async () => {
    const out = b.alloc('F32', 1, 4);
    b.glu(out, tensor([0, 1, -1, 3]), tensor([7, 1, 1, 2]), 'gelu');
    // PyTorch's gelu(x, approximate='tanh') in float64
    await expectNumbers(out, [0, 0.8411919906082768, -0.15880800939172324, 2 * 2.996362607918227]);
  });

  it('add changes its first operand', async () => {
    const [x, y] = [tensor([1, 2]), tensor([10, 20])];
    b.add(x, y);
    await expectNumbers(x, [11, 22]);
    await expectNumbers(y, [10, 20]);
  });
});

// --- internal ---

/** Bytes of numbers, one after the other from `start` on. */
function at(start: number, ...numbers: number[][]): Record<number, number> {
  return Object.fromEntries(numbers.flat().map((byte, i) => [start + i, byte]));
}

/** `count` weights of the same value. */
function run(start: number, count: number, value: number): Record<number, number> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [start + i, value]));
}
