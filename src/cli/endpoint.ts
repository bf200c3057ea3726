/** Reaches an OpenAI-compatible server: with the key that is meant for it, with no redirect and with answers that end. */
import { UnsupportedError } from '../index.ts';

/** @throws UnsupportedError when there is no server, or it has no models. */
export async function openServer(baseURL: string, model: string | undefined) {
  const { default: OpenAI } = await import('openai');
  const apiKey = apiKeyFor(baseURL) ?? 'none';
  const client = new OpenAI({ baseURL, apiKey, organization: null, project: null, fetch: boundedFetch });
  if (model !== undefined) return { client, model };
  try {
    for await (const { id } of client.models.list()) if (typeof id === 'string') return { client, model: id };
  } catch (error) {
    throw new UnsupportedError(
      `${baseURL} does not list its models (${(error as Error).message}); start the server, or name one with --endpoint-model`,
    );
  }
  throw new UnsupportedError(`${baseURL} lists no models; name one with --endpoint-model`);
}

/** The key that the user has named for this server: OpenAI's own goes to nobody else. */
function apiKeyFor(baseURL: string): string | undefined {
  const isOpenAi = URL.canParse(baseURL) && new URL(baseURL).origin === 'https://api.openai.com';
  return process.env.DUALCHUNK_API_KEY ?? (isOpenAi ? process.env.OPENAI_API_KEY : undefined);
}

/** A server that sends more for an answer of some hundred tokens is broken. */
const MAX_ANSWER_BYTES = 16 * 2 ** 20;

/** `fetch` that follows no server elsewhere, where the key is not meant to go, and reads no answer without end. */
const boundedFetch: typeof fetch = async (url, init) => {
  const { body, status, headers } = await fetch(url, { ...init, redirect: 'error' });
  const chunks: Uint8Array[] = [];
  let nBytes = 0;
  for await (const chunk of body ?? []) {
    chunks.push(chunk);
    nBytes += chunk.length;
    if (nBytes > MAX_ANSWER_BYTES) throw new UnsupportedError(`${url}: the answer has no end`);
  }
  return new Response(nBytes > 0 ? new Blob(chunks as BlobPart[]) : null, { status, headers });
};
