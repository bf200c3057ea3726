/**
 * dualchunk beside llama.cpp, as a JavaScript user would run it (node-llama-cpp, its prebuilt CPU build): the same file,
 * threads and token ids, in turn, each engine in a process of its own. Prefill is reading a prompt from an empty cache;
 * decode is the median time of a token with its logits and the choice of the likeliest; on both sides by public calls.
 * A table of medians and their ratios for people, then one JSON line for machines.
 *
 *     npm run bench:peers -- [model.gguf] [--lengths 512,2048,8192,16384] [--decode 512,8192,16384] [--threads 2]
 *                            [--rounds 3] [--method dca]
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openModel } from '../../src/node.ts';
import { median } from '../median.ts';
import type { EngineName, Job, Outcome } from './measure.ts';
import { RANDOM, syntheticModel } from './syntheticModel.ts';

const FOLDER = import.meta.dirname;
const ENGINES: readonly EngineName[] = ['dualchunk', 'llama.cpp'];
const DECODE_TOKENS = 24;

/**
 * Nats by which log-probabilities may differ. llama.cpp rounds activations to 8 bits before it multiplies them with Q8_0:
 * 0.19 here on SmolLM2-135M, where the same weights as F32 agree to 0.002.
 */
const TOLERANCE = 0.4;

/** Cores that others may keep busy. One busy core of two costs llama.cpp, whose threads spin, far more than its half. */
const QUIET = 0.1;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    lengths: { type: 'string', default: '512,2048,8192,16384' },
    decode: { type: 'string', default: '512,8192,16384' },
    threads: { type: 'string', default: String(availableParallelism()) },
    rounds: { type: 'string', default: '3' },
    method: { type: 'string', default: 'dca' },
  },
});

/** Whole numbers above 0. */
function numbers(option: 'lengths' | 'decode' | 'threads' | 'rounds'): number[] {
  const found = values[option].split(',').map(Number);
  if (found.every((n) => Number.isInteger(n) && n > 0)) return found;
  throw new Error(`--${option} is ${values[option]}; wanted whole numbers above 0`);
}

const [lengths, decodeLengths] = [numbers('lengths'), numbers('decode')];
const [[threads], [rounds]] = [numbers('threads'), numbers('rounds')];
const { method } = values;

if (!existsSync(join(FOLDER, 'node_modules', 'node-llama-cpp', 'package.json'))) {
  console.log('installing node-llama-cpp into bench/peers');
  // Its scripts would only look for what the prebuilt packages bring; its exact version is lock enough for a benchmark.
  const flags = ['--ignore-scripts', '--no-package-lock', '--no-audit', '--no-fund'];
  execFileSync('npm', ['install', '--prefix', FOLDER, ...flags], { stdio: 'inherit' });
}

const path = positionals[0] ?? (await syntheticModel());
const file = await openModel(path);
const checkPrompt = file.tokenizer.encode(readFileSync('texts/dracula.txt', 'utf8').slice(0, 1000));
const { vocabSize } = file.tokenizer;
await file.close();

const allLengths = [...new Set([...lengths, ...decodeLengths])].sort((a, b) => a - b);
const reads = allLengths.map((length) => ({
  length,
  decodeTokens: decodeLengths.includes(length) ? DECODE_TOKENS : 0,
}));
const context = Math.max(checkPrompt.length, ...allLengths) + DECODE_TOKENS + 1;

function measure(engine: EngineName, task: Pick<Job, 'check' | 'reads'>): Outcome {
  const job: Job = { engine, path, threads, method, context, vocabSize, ...task };
  const child = ['--import', 'tsx', join(FOLDER, 'measure.ts'), JSON.stringify(job)];
  const output = execFileSync(process.execPath, child, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  return JSON.parse(output.trim().split('\n').at(-1) ?? '') as Outcome;
}

/** Both engines read the same text on; no timing of wrong results. */
function check(): void {
  const [ours, theirs] = ENGINES.map((engine) => measure(engine, { check: checkPrompt }));
  console.log(
    `${path}\n${ours.backend}, method ${method}\n${theirs.backend}\ncontext ${context}, node ${process.version}`,
  );
  const [a, b] = [ours, theirs].map(({ next = [] }) => next);
  if (a.length === 0 || b.length === 0 || ![...a, ...b].every(({ logprob }) => Number.isFinite(logprob))) {
    throw new Error(`not all results are finite: ${JSON.stringify([a, b])}`);
  }
  if (path === RANDOM) {
    console.log('both engines give finite results on random weights');
    return;
  }
  const differences = a.flatMap(({ token, logprob }) =>
    b.filter((other) => other.token === token).map((other) => Math.abs(Number(logprob) - Number(other.logprob))),
  );
  const worst = Math.max(...differences);
  if (a[0].token !== b[0].token || !(worst < TOLERANCE)) {
    throw new Error(`the engines disagree after a text of ${checkPrompt.length} tokens: ${JSON.stringify([a, b])}`);
  }
  const shared = `${differences.length} of the ${a.length} likeliest tokens`;
  console.log(
    `both engines choose token ${a[0].token} and share ${shared}, log-probabilities ${worst.toFixed(3)} apart`,
  );
}

/** Ends the line of a measurement that others disturbed. */
const noiseOf = ({ coresTakenByOthers: cores }: Outcome) =>
  cores > QUIET ? ` - NOT QUIET: others kept ${cores.toFixed(2)} cores busy` : '';

check();
const outcomes: Record<EngineName, Outcome[]> = { dualchunk: [], 'llama.cpp': [] };
for (let round = 1; round <= rounds; round++) {
  for (const engine of ENGINES) {
    const outcome = measure(engine, { reads });
    outcomes[engine].push(outcome);
    const speeds = outcome.reads?.map(({ length, prefillTokensPerSecond: prefill, decodeTokensPerSecond: decode }) =>
      [`${length}: ${prefill.toFixed(0)}`, decode?.toFixed(1)].filter(Boolean).join('/'),
    );
    console.log(`round ${round} of ${rounds}, ${engine}: ${speeds?.join(', ')} tokens/s${noiseOf(outcome)}`);
  }
}

const rounded = (x: number) => Number(x.toPrecision(4));

function compared(what: string, unit: string, pick: (outcome: Outcome) => number | undefined) {
  const [ours, theirs] = ENGINES.map((engine) => median(outcomes[engine].map((outcome) => pick(outcome) ?? NaN)));
  return { what, unit, dualchunk: rounded(ours), 'llama.cpp': rounded(theirs), ratio: rounded(ours / theirs) };
}

const readOf = (outcome: Outcome, length: number) => outcome.reads?.find((read) => read.length === length);
const results = [
  ...lengths.map((n) => compared(`prefill ${n}`, 'tokens/s', (o) => readOf(o, n)?.prefillTokensPerSecond)),
  ...decodeLengths.map((n) => compared(`decode at ${n}`, 'tokens/s', (o) => readOf(o, n)?.decodeTokensPerSecond)),
  compared('peak memory', 'MiB', ({ peakMemoryBytes }) => peakMemoryBytes / 2 ** 20),
];
console.table(Object.fromEntries(results.map(({ what, ...row }) => [what, row])));
const backends = ENGINES.map((engine) => outcomes[engine][0].backend);
const coresTakenByOthers = ENGINES.map((engine) => outcomes[engine].map((o) => rounded(o.coresTakenByOthers)));
if (Math.max(...coresTakenByOthers.flat()) > QUIET) {
  console.warn('other processes were busy meanwhile: the ratios are not fair, measure again on a quiet machine');
}
console.log(JSON.stringify({ model: path, backends, method, threads, rounds, context, coresTakenByOthers, results }));
