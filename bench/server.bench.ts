/**
 * The server under load, over loopback: 64 clients ask for 2,000 answers, long and short, and some leave or ask for nonsense.
 * Every answer must be the one that its request gets alone. `npm run bench:server -- --requests 200` is a short one, after a fifth as many that warm up.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { parseArgs } from 'node:util';
import { serve } from '@hono/node-server';
import { BUNDLED_BOOK, BUNDLED_MODEL } from '../src/bundled.ts';
import { seededRandom } from '../src/eval/random.ts';
import { loadModel } from '../src/node.ts';
import { makeServer } from '../src/server/app.ts';

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '2000' },
    clients: { type: 'string', default: '64' },
    parallel: { type: 'string', default: '8' },
    model: { type: 'string', default: BUNDLED_MODEL },
  },
});
const [nRequests, nClients, sequences] = [values.requests, values.clients, values.parallel].map(Number);
const book = readFileSync(BUNDLED_BOOK, 'utf8');
const random = seededRandom('server');

interface Job {
  prompt: string;
  max_tokens: number;
  /** What the client does beyond asking. */
  kind: 'asks' | 'leaves' | 'errs';
  isStream: boolean;
}

/** Sixteen passages, so that some are asked for again while others push them out of the cache. */
const passages = Array.from({ length: 16 }, (_, nth) => {
  const start = random.integer(0, book.length - 5000);
  return { prompt: book.slice(start, start + (nth % 4 === 0 ? 3000 : 200)), max_tokens: nth % 2 === 0 ? 8 : 24 };
});
const kindOf = (nth: number): Job['kind'] => (nth % 10 === 3 ? 'leaves' : nth % 25 === 7 ? 'errs' : 'asks');
const jobsOf = (length: number) =>
  Array.from(
    { length },
    (_, nth): Job => ({ ...passages[random.integer(0, 15)], kind: kindOf(nth), isStream: nth % 2 === 0 }),
  );

const model = await loadModel(values.model, { context: 1024, sequences, precision: 'f32', kvType: 'f32' });
let nFaults = 0;
const server = makeServer(model, { name: 'bench', sequences, queue: nClients, isLoopback: true, onFault: fault });
function fault(error: unknown): void {
  nFaults++;
  console.error(error);
}
const http = serve({ fetch: server.fetch, port: 0, hostname: '127.0.0.1' });
if (!http.listening) await once(http, 'listening');
const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/v1/completions`;

interface Answer {
  status: number;
  text: string;
  nTokens: number;
  /** Milliseconds to the first token, of streams. */
  first?: number;
}

async function ask({ prompt, max_tokens, isStream }: Job, signal?: AbortSignal, body?: string): Promise<Answer> {
  const begun = performance.now();
  const asked = { prompt, max_tokens, temperature: 0, stream: isStream, stream_options: { include_usage: true } };
  const response = await fetch(url, { method: 'POST', body: body ?? JSON.stringify(asked), signal });
  if (response.status !== 200) return { status: response.status, text: await response.text(), nTokens: 0 };
  if (!isStream) {
    const { choices, usage } = await response.json();
    return { status: 200, text: choices[0].text, nTokens: usage.completion_tokens };
  }
  let first: number | undefined;
  let all = '';
  const decoder = new TextDecoder();
  for await (const bytes of response.body ?? []) {
    first ??= performance.now() - begun;
    all += decoder.decode(bytes, { stream: true });
  }
  const events = [...all.matchAll(/^data: (\{.*)$/gm)].map(([, data]) => JSON.parse(data));
  const text = events.map(({ choices }) => choices?.[0]?.text ?? '').join('');
  return { status: 200, text, nTokens: events.at(-1).usage?.completion_tokens ?? 0, first };
}

const keyOf = ({ prompt, max_tokens }: Pick<Job, 'prompt' | 'max_tokens'>) => `${max_tokens} ${prompt}`;
const MiB = 2 ** 20;

const alone = new Map<string, string>();
/** Asks for every passage, one after the other; gives tokens a second. */
async function oneByOne(): Promise<number> {
  const begun = performance.now();
  let sum = 0;
  for (const passage of passages) {
    const { text, nTokens } = await ask({ ...passage, kind: 'asks', isStream: false });
    alone.set(keyOf(passage), text);
    sum += nTokens;
  }
  return sum / ((performance.now() - begun) / 1000);
}
await oneByOne();
const aloneRate = await oneByOne();

const counts = { right: 0, wrong: 0, left: 0, refused: 0, failed: 0 };
const firsts: number[] = [];
let nTokens = 0;

async function client(jobs: Job[]): Promise<void> {
  for (;;) {
    const job = jobs.pop();
    if (!job) return;
    try {
      if (job.kind === 'errs') {
        const bodies = ['{', '[]', '{"prompt": 5}', JSON.stringify({ prompt: 'a', temperature: 'hot' }), ''];
        const { status } = await ask(job, undefined, bodies[jobs.length % bodies.length]);
        counts[status === 400 ? 'refused' : 'failed']++;
      } else if (job.kind === 'leaves') {
        await ask(job, AbortSignal.timeout(1 + ((jobs.length * 37) % 6000)));
        counts.left++; // it was answered before
      } else {
        const answer = await ask(job);
        nTokens += answer.nTokens;
        if (answer.first !== undefined) firsts.push(answer.first);
        counts[answer.status !== 200 ? 'failed' : answer.text === alone.get(keyOf(job)) ? 'right' : 'wrong']++;
      }
    } catch (error) {
      if (job.kind !== 'leaves') console.error(error);
      counts[job.kind === 'leaves' ? 'left' : 'failed']++;
    }
  }
}
/** Answers so many requests; gives seconds. */
async function underLoad(length: number): Promise<number> {
  const begunAt = performance.now();
  const jobs = jobsOf(length);
  await Promise.all(Array.from({ length: nClients }, () => client(jobs)));
  globalThis.gc?.();
  return (performance.now() - begunAt) / 1000;
}
// Sockets, and pages of the cache that were never touched, take memory once: they are there before it is measured.
await underLoad(Math.ceil(nRequests / 5));
const before = process.memoryUsage.rss();
firsts.length = 0;
nTokens = 0;
const seconds = await underLoad(nRequests);
const after = process.memoryUsage.rss();
firsts.sort((a, b) => a - b);
const quantile = (share: number) => Math.round(firsts[Math.floor(share * (firsts.length - 1))]);

console.log(JSON.stringify(counts), `${nFaults} faults`);
console.log(`${seconds.toFixed(1)} s, ${(nRequests / seconds).toFixed(1)} requests/s`);
console.log(`${(nTokens / seconds).toFixed(1)} tokens/s; one request at a time: ${aloneRate.toFixed(1)}`);
console.log(`time to first token: median ${quantile(0.5)} ms, 99% within ${quantile(0.99)} ms`);
console.log(`memory: ${Math.round(before / MiB)} MiB before, ${Math.round(after / MiB)} MiB after`);
await server.close(1000);
http.close();
await model.dispose();
process.exit(counts.wrong + counts.failed + nFaults === 0 ? 0 : 1);
