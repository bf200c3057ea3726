/** Attention of the wasm kernels against its twin, in every format and from every type of cache. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Backend } from '../src/backends/backend.ts';
import { openWasm } from '../src/backends/wasm.ts';
import { nodeMachine } from '../src/platform/nodeMachine.ts';
import { openAttendTwin } from './attendTwin.ts';
import { CASES, type KernelCase, RISING } from './kernelCases.ts';

/**
 * Largest error, relative to the largest output. All integers are the same, so what is left are sums of a few tiles in
 * float32, below 4e-6; and where scores are float32 too, some hundred additions up to 60 in `RISING`: each is off by 2^-19,
 * together by 2e-5, of which a power of two takes on ln 2.
 */
const BOUND = 2e-5;

describe.each([
  { precision: 'f32', kvType: 'bf16', relaxed: true },
  { precision: 'f32', kvType: 'q8_0', relaxed: false },
  { precision: 'int16', kvType: 'f32', relaxed: false },
  { precision: 'int16', kvType: 'bf16', relaxed: true },
  { precision: 'int16', kvType: 'q8_0', relaxed: false },
  { precision: 'int8', kvType: 'f32', relaxed: true },
  { precision: 'int8', kvType: 'bf16', relaxed: true },
  { precision: 'int8', kvType: 'q8_0', relaxed: true },
] as const)('attention in $precision, $kvType cache, relaxed $relaxed', ({ precision, kvType, relaxed }) => {
  let b: Backend;
  beforeAll(() => {
    b = openWasm(nodeMachine, { threads: 2, precision, kvType, relaxed });
  });
  afterAll(() => b.dispose());

  async function errorAgainst(twin: Backend, { prepare }: KernelCase): Promise<number> {
    const [found, wanted] = await Promise.all(
      [b, twin].map((backend) => {
        const { out, record } = prepare(backend);
        record();
        return backend.read(out);
      }),
    );
    const errors = Array.from(found, (value, i) => Math.abs(value - wanted[i]));
    return Math.max(...errors) / Math.max(...Array.from(wanted, Math.abs));
  }

  const cases = [...CASES.filter(({ name }) => name.startsWith('attend:')), ...RISING];
  it.each(cases.map((kernelCase) => [kernelCase.name, kernelCase] as const))('%s', async (_, kernelCase) => {
    let error = Infinity;
    for (const isFused of relaxed ? [true, false] : [false]) {
      if (error > BOUND) error = await errorAgainst(openAttendTwin(precision, kvType, isFused), kernelCase); // as the CPU does
    }
    expect(error).toBeLessThanOrEqual(BOUND);
  });
});
