/** What `bench/browser.bench.ts` orders of an engine, and how an answer is timed, in a page as in Node. */
import type { RemoteModel } from 'dualchunk/browser';

export interface Order {
  readonly engine: 'dualchunk' | 'wllama';
  readonly threads: number;
  readonly isGpu: boolean;
  /** Addresses, relative to the page. */
  readonly model: string;
  /** Tokens of prompt and answer. */
  readonly context: number;
  /** Is gone on with before anything is timed, so that kernels are compiled; all engines must begin alike. */
  readonly check: string;
  /** A text, since wllama takes no token ids. */
  readonly prompt: string;
  readonly nAnswer: number;
  /** Of wllama. */
  readonly flashAttention: boolean;
}

export interface Timing {
  /** First token behind the text that was checked. */
  readonly check: string;
  /** As the engine counts those that it has read. */
  readonly promptTokens: number;
  readonly prefillSeconds: number;
  /** Milliseconds for each token behind the first. */
  readonly decode: number;
  readonly text: string;
  readonly runsOn: string;
  readonly loadSeconds: number;
}

/** Tokens behind the text that is checked. */
export const N_CHECK = 8;

/** A piece of an answer; its tokens are counted where they are known. */
export interface Timed {
  readonly text: string;
  readonly nTokens: number;
}

/** Times an answer: its first piece comes behind the prompt. */
export async function timed(pieces: AsyncIterable<Timed>) {
  const from = performance.now();
  let [first, last, nTokens, text] = [0, 0, 0, ''];
  for await (const piece of pieces) {
    last = performance.now();
    first ||= last;
    nTokens += piece.nTokens;
    text += piece.text;
  }
  return { prefillSeconds: (first - from) / 1000, decode: (last - first) / (nTokens - 1), text };
}

/** Goes on with the text that is checked. @returns the first piece. */
export async function checked(pieces: AsyncIterable<Timed>): Promise<string> {
  let first: string | undefined;
  for await (const { text } of pieces) first ??= text;
  return first ?? '';
}

/** What is used of a model in this thread and of one in a worker alike. */
type Generates = Pick<RemoteModel, 'generate' | 'backendName'>;

/** Times a model of ours, in a page as in Node. */
export async function measured(model: Generates, { check, prompt, nAnswer }: Order) {
  let promptTokens = 0;
  async function* pieces(prompt: string, maxTokens: number): AsyncGenerator<Timed> {
    const onProgress = (_done: number, total: number) => {
      promptTokens = total;
    };
    const options = { maxTokens, temperature: 0, stopTokens: [], onProgress };
    for await (const { text, tokens } of model.generate(prompt, options)) yield { text, nTokens: tokens.length };
  }
  const first = await checked(pieces(check, N_CHECK));
  const timing = await timed(pieces(prompt, nAnswer));
  return { ...timing, check: first, promptTokens, runsOn: model.backendName };
}
