/**
 * Runs in a browser (`browser.test.ts`): a case of every kernel and a model on `navigator.gpu`, beside the float64
 * backend.
 */
import type { Backend } from '../src/backends/backend.ts';
import { openReference } from '../src/backends/reference.ts';
import { openWebGpu } from '../src/backends/webgpu.ts';
import { CASES } from '../src/kernels/cases.ts';
import { tinyEngine } from './tinyModel.ts';

export interface BrowserResult {
  name: string;
  /** Largest error of a case, relative to its largest output. */
  cases: { name: string; error: number }[];
  /** What the model goes on with, on the GPU and in float64. */
  tokens: number[][];
}

async function run(): Promise<BrowserResult> {
  const backend = await openWebGpu();
  const cases: BrowserResult['cases'] = [];
  for (const { name, prepare } of new Map(CASES.map((one) => [one.name.split(':')[0], one])).values()) {
    const results = [openReference(), backend].map((on) => {
      const { out, record } = prepare(on);
      record();
      return on.read(out);
    });
    const [truth, found] = await Promise.all(results);
    const largest = Math.max(...Array.from(truth, Math.abs));
    const errors = Array.from(truth, (value, i) => Math.abs(value - found[i]) / largest);
    cases.push({ name, error: Math.max(...errors) }); // NaN stays
  }
  const continuation = async (on: Backend) => {
    const tokens: number[] = [];
    for await (const { token } of tinyEngine({ backend: on }).engine.generate([3, 1, 4, 1, 5], { maxTokens: 8 })) {
      tokens.push(token);
    }
    return tokens;
  };
  return { name: backend.name, cases, tokens: [await continuation(backend), await continuation(openReference())] };
}

const answer = await run().catch((error: Error) => ({ fault: `${error.message}\n${error.stack}` }));
await fetch('/result', { method: 'POST', body: JSON.stringify(answer) });
