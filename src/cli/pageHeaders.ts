/**
 * What a page's files are served with. `wasm-unsafe-eval` compiles kernels; threads begin from blobs. Nothing is fetched from
 * elsewhere but a model whose address the user types, which may be on any host.
 */
const POLICY = {
  'default-src': "'none'",
  'script-src': "'self' 'wasm-unsafe-eval'",
  'style-src': "'self'",
  'img-src': "'self' data:",
  'manifest-src': "'self'",
  'worker-src': "'self' blob:",
  'connect-src': "'self' https: http://localhost:* http://127.0.0.1:*",
  'base-uri': "'none'",
  'form-action': "'none'",
};

/** Also stands in the page itself, for hosts that send no headers. */
export const CONTENT_SECURITY_POLICY = Object.entries(POLICY)
  .map(([what, from]) => `${what} ${from}`)
  .join('; ');

/** With the first two a page may share memory between threads. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Content-Security-Policy': `${CONTENT_SECURITY_POLICY}; frame-ancestors 'none'`,
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
};
