/**
 * Runs in a browser (`browser.test.ts`): a case of every kernel and a model on `navigator.gpu`, beside the float64
 * backend.
 */
import type { Backend } from '../src/backends/backend.ts';
import { openReference } from '../src/backends/reference.ts';
import { openWebGpu } from '../src/backends/webgpu.ts';
import { judge } from './judge.ts';
import { oneOfEach } from './kernelCases.ts';
import { tinyEngine } from './tinyModel.ts';

export interface BrowserResult {
  name: string;
  /** A case of every kernel, and what is wrong with it. */
  cases: { name: string; fault?: string }[];
  /** What the model goes on with, on the GPU and in float64. */
  tokens: number[][];
}

async function run(): Promise<BrowserResult> {
  const backend = await openWebGpu();
  const cases: BrowserResult['cases'] = [];
  for (const one of oneOfEach()) cases.push({ name: one.name, fault: await judge(one, backend) });
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
