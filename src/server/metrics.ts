/** What the server did so far, as Prometheus reads it. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Numbered, Usage } from './generation.ts';

export interface Metrics {
  readonly contentType: string;
  text(): Promise<string>;
  request(path: string, status: number): void;
  /** Counts what passes; `ended` gets what an answer took, or as much of it as there was. */
  counted(events: AsyncIterable<Numbered>, nAnswers: number): AsyncGenerator<Numbered>;
}

const SECONDS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000];

/** @param active Gives the number of answers that are wanted now. */
export function makeMetrics(active: () => number): Metrics {
  const registers = [new Registry()];
  const counter = (name: string, help: string, labelNames: string[] = []) =>
    new Counter({ name: `dualchunk_${name}`, help, labelNames, registers });
  const requests = counter('requests_total', 'Requests by route and status.', ['path', 'status']);
  const read = counter('prompt_tokens_total', 'Tokens of prompts that were read.');
  const cached = counter('cached_tokens_total', 'Tokens of prompts that were found in the cache.');
  const generated = counter('generated_tokens_total', 'Tokens that were generated.');
  const firstToken = new Histogram({
    name: 'dualchunk_time_to_first_token_seconds',
    help: 'From a request to the first token of its answer.',
    buckets: SECONDS,
    registers,
  });
  let running = 0;
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name: `dualchunk_${name}`,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  gauge('running', 'Answers that are being read for or written.', () => running);
  gauge('waiting', 'Answers that wait for their turn.', () => active() - running);

  return {
    contentType: registers[0].contentType,
    text: () => registers[0].metrics(),
    request: (path, status) => requests.inc({ path, status }),
    async *counted(events, nAnswers) {
      const startedAt = performance.now();
      const states = Array.from({ length: nAnswers }, () => ({ isRunning: false, hasToken: false }));
      const stop = (state: { isRunning: boolean }) => {
        if (state.isRunning) running--;
        state.isRunning = false;
      };
      try {
        for await (const numbered of events) {
          const { nth, event } = numbered;
          const state = states[nth];
          if (event.type === 'progress' && !state.isRunning) {
            state.isRunning = true;
            running++;
            cached.inc(event.cached);
            read.inc(event.total - event.cached);
          }
          if ('tokens' in event) {
            generated.inc(event.tokens.length);
            if (!state.hasToken) firstToken.observe((performance.now() - startedAt) / 1000);
            state.hasToken = true;
          }
          if (event.type === 'end') stop(state);
          yield numbered;
        }
      } finally {
        states.forEach(stop);
      }
    },
  };
}

/** What answers took together. */
export const sumOf = (usages: readonly Usage[]): Usage => {
  const sum = (name: keyof Usage) => usages.reduce((total, usage) => total + usage[name], 0);
  return {
    promptTokens: sum('promptTokens'),
    cachedTokens: sum('cachedTokens'),
    completionTokens: sum('completionTokens'),
  };
};
