/** A short run of every fuzzer, always the same; `npm run fuzz` goes on. */
import { expect, it } from 'vitest';
import { fuzz } from './fuzz/fuzz.ts';
import { TARGETS } from './fuzz/targets.ts';

const INPUTS = 60;

it.each(Object.keys(TARGETS))(
  '%s: every input works or is refused in a line',
  async (target) => {
    const { findings, inputs } = await fuzz(
      target,
      (n) => `test:${n}`,
      (n) => n >= INPUTS,
    );
    expect(findings).toEqual([]);
    expect(inputs).toBe(INPUTS);
  },
  60_000,
);
