/**
 * The same WGSL through `navigator.gpu` of headless Chromium. Skipped without it, or failed where REQUIRE_WEBGPU is
 * set.
 */
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { createViteServer } from 'vitest/node';
import type { BrowserResult } from './browserPage.ts';
import { isSkipped, openPage } from './chromium.ts';

async function textOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
}

it.skipIf(isSkipped)('computes in a browser', { timeout: 120_000 }, async () => {
  let resolve: (result: BrowserResult & { fault?: string }) => void;
  const posted = new Promise<BrowserResult & { fault?: string }>((resolved) => {
    resolve = resolved;
  });
  const server = await createViteServer({
    root: join(import.meta.dirname, '..'),
    configFile: false,
    logLevel: 'error',
    server: { host: 'localhost', hmr: false, watch: null },
    optimizeDeps: { noDiscovery: true },
    plugins: [
      {
        name: 'page',
        configureServer({ middlewares }) {
          middlewares.use('/page', (_, response) => {
            response.setHeader('content-type', 'text/html');
            response.end('<!doctype html><script type="module" src="/test/browserPage.ts"></script>');
          });
          middlewares.use('/result', async (request, response) => {
            response.end();
            resolve(JSON.parse(await textOf(request)));
          });
        },
      },
    ],
  });
  onTestFinished(() => server.close());
  await server.listen(0);
  const address = new URL('page', server.resolvedUrls?.local[0]).href;
  const { close } = await openPage(address, ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader']);
  onTestFinished(close);

  const { fault, name, cases, tokens } = await posted;
  expect(fault).toBeUndefined();
  expect(name).toMatch(/^webgpu/);
  expect(cases.map((one) => one.name.split(':')[0]).sort()).toEqual([
    ...['add', 'attend', 'gatherRows', 'glu', 'matmul', 'rmsNorm', 'rotate'],
  ]);
  for (const one of cases) expect(one.fault, one.name).toBeUndefined();
  expect(tokens[0]).toEqual(tokens[1]);
});
