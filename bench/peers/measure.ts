/**
 * One engine in its own process: takes a job as JSON, prints one JSON line. What is timed on both sides: reading a prompt
 * from an empty cache without any logits, then tokens one at a time, each with logits and the choice of the likeliest.
 */
import { cpus } from 'node:os';
import { median } from '../median.ts';
import { loadLlamaCpp } from './llamaCpp.ts';

export type EngineName = 'dualchunk' | 'llama.cpp';

export interface Job {
  engine: EngineName;
  path: string;
  threads: number;
  method: string;
  /** Tokens that prompt and answer may have together. */
  context: number;
  /** Prompts are made of ids below this. */
  vocabSize: number;
  /** Asked for: what follows this prompt. */
  check?: readonly number[];
  /** Asked for: speed at these prompt lengths, and how many tokens to decode after each; 0 for none. */
  reads?: readonly { length: number; decodeTokens: number }[];
}

export interface Outcome {
  /** E.g. `wasm (relaxed SIMD, 2 threads)`. */
  backend: string;
  /** The likeliest next tokens, best first; null where a logarithm was not finite. */
  next?: { token: number; logprob: number | null }[];
  reads?: { length: number; prefillTokensPerSecond: number; decodeTokensPerSecond?: number }[];
  peakMemoryBytes: number;
  /** Cores that other processes kept busy meanwhile; well above 0, the speeds are not those of a quiet machine. */
  coresTakenByOthers: number;
}

interface Engine {
  backend: string;
  next(prompt: readonly number[]): Promise<{ token: number; logprob: number }[]>;
  read(prompt: readonly number[], decodeTokens: number): Promise<{ prefillMs: number; decodeMs: number[] }>;
  dispose(): Promise<void>;
}

/** Likeliest tokens to report. */
const TOP = 5;
const WARM_UP_DECODE_TOKENS = 8;

async function openDualchunk({ path, threads, method, context }: Job): Promise<Engine> {
  const { loadModel } = await import('../../src/node.ts');
  const model = await loadModel(path, { context, threads, method });
  const stopTokens = new Set<number>();
  return {
    backend: model.backendName,
    async next(prompt) {
      const options = { temperature: 0, maxTokens: 1, stopTokens, logprobs: TOP };
      const { value } = await model.generate(prompt, options).next();
      return value?.tokens[0]?.topLogprobs ?? [];
    },
    async read(prompt, decodeTokens) {
      const started = performance.now();
      let readAt = started;
      const onProgress = (done: number, total: number) => {
        if (done === total) readAt = performance.now();
      };
      const decodeMs: number[] = [];
      let before: number | undefined; // the first token needs no evaluation of its own
      const options = { temperature: 0, maxTokens: decodeTokens + 1, stopTokens, onProgress };
      for await (const { tokens } of model.generate(prompt, options)) {
        const now = performance.now();
        // A piece has several tokens where one alone was not yet a whole character.
        if (before !== undefined) for (const _ of tokens) decodeMs.push((now - before) / tokens.length);
        before = now;
      }
      return { prefillMs: readAt - started, decodeMs };
    },
    dispose: () => model.dispose(),
  };
}

async function openLlamaCpp({ path, threads, context: contextSize }: Job): Promise<Engine> {
  const { llama, model } = await loadLlamaCpp(path, threads);
  const context = await model.createContext({
    contextSize, // the last place stays free: it would drop old tokens first, which the count below would show
    batchSize: 512,
    threads: { ideal: threads, min: threads },
    flashAttention: true,
  });
  const sequence = context.getSequence();
  const evaluated = () => sequence.tokenMeter.usedInputTokens + sequence.tokenMeter.usedOutputTokens;
  return {
    backend: `llama.cpp ${llama.llamaCppRelease.release} (${threads} threads, ${isaOf(llama.systemInfo)})`,
    async next(prompt) {
      await sequence.clearHistory();
      const input = prompt.map((token, i): number | [number, object] =>
        i < prompt.length - 1 ? token : [token, { generateNext: { token: true, logits: true } }],
      );
      const logits = [...((await sequence.controlledEvaluate(input)).at(-1)?.next.logits ?? [])];
      const max = Math.max(...logits.map(([, logit]) => logit));
      const total = max + Math.log(logits.reduce((sum, [, logit]) => sum + Math.exp(logit - max), 0));
      const best = logits.sort(([, a], [, b]) => b - a).slice(0, TOP);
      return best.map(([token, logit]) => ({ token, logprob: logit - total }));
    },
    async read(prompt, decodeTokens) {
      await sequence.clearHistory();
      const evaluatedBefore = evaluated();
      const started = performance.now();
      await sequence.evaluateWithoutGeneratingNewTokens([...prompt]);
      const prefillMs = performance.now() - started;
      if (context.currentThreads !== threads || context.flashAttention !== true) {
        throw new Error(`llama.cpp ran ${context.currentThreads} threads, flash attention ${context.flashAttention}`);
      }
      const decodeMs: number[] = [];
      const tokens = sequence.evaluate([prompt[0]], { temperature: 0, yieldEogToken: true });
      while (decodeMs.length < decodeTokens) {
        const before = performance.now();
        await tokens.next();
        decodeMs.push(performance.now() - before);
      }
      await tokens.return(undefined);
      const wanted = prompt.length + decodeTokens;
      if (sequence.nextTokenIndex !== wanted || evaluated() - evaluatedBefore !== wanted) {
        const found = `${evaluated() - evaluatedBefore} and holds ${sequence.nextTokenIndex}`;
        throw new Error(`llama.cpp evaluated ${found} tokens; wanted ${wanted}`);
      }
      return { prefillMs, decodeMs };
    },
    dispose: () => llama.dispose(),
  };
}

/** The widest instructions that llama.cpp says it was built for and has found. */
function isaOf(systemInfo: string): string {
  const has = (feature: string) => systemInfo.includes(`${feature} = 1`);
  return ['AVX512_VNNI', 'AVX512', 'AVX2', 'NEON'].find(has) ?? 'no SIMD reported';
}

async function run(job: Job): Promise<Outcome> {
  const engine = await (job.engine === 'dualchunk' ? openDualchunk(job) : openLlamaCpp(job));
  const outcome: Pick<Outcome, 'backend' | 'next' | 'reads'> = { backend: engine.backend };
  const coresTakenByOthers = watchOthers();
  if (job.check) outcome.next = await engine.next(job.check);
  if (job.reads) {
    // Before anything is timed, pages of weights come in and kernels are compiled.
    const longest = Math.max(...job.reads.map(({ length }) => length));
    await engine.read(promptOf(Math.min(512, longest), job.vocabSize, 0), WARM_UP_DECODE_TOKENS);
    outcome.reads = [];
    for (const { length, decodeTokens } of job.reads) {
      const { prefillMs, decodeMs } = await engine.read(promptOf(length, job.vocabSize, 1), decodeTokens);
      const read = { length, prefillTokensPerSecond: (length / prefillMs) * 1000 };
      outcome.reads.push(decodeMs.length > 0 ? { ...read, decodeTokensPerSecond: 1000 / median(decodeMs) } : read);
    }
  }
  const taken = coresTakenByOthers();
  await engine.dispose();
  return { ...outcome, peakMemoryBytes: process.resourceUsage().maxRSS * 1024, coresTakenByOthers: taken };
}

/** Busy time of all cores less that of this process, by time passed. */
function watchOthers(): () => number {
  const others = () => {
    const busy = cpus().map(({ times }) => times.user + times.nice + times.sys + times.irq);
    const own = process.cpuUsage();
    return busy.reduce((sum, ms) => sum + ms, 0) - (own.user + own.system) / 1000;
  };
  const [started, before] = [performance.now(), others()];
  return () => Math.max(0, (others() - before) / (performance.now() - started));
}

/** Differs from the first id on for every length and salt, so that nothing is found in a cache. */
const promptOf = (length: number, vocabSize: number, salt: 0 | 1) =>
  Array.from({ length }, (_, i) => (i * 7919 + 2 * length + salt) % vocabSize);

console.log(JSON.stringify(await run(JSON.parse(process.argv[2]) as Job)));
