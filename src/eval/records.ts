/** What an evaluation leaves behind: a line for every finished sample, and from the lines a row for every figure. */

/** One finished sample, one line of `samples.jsonl`. */
export interface SampleRecord {
  task: string;
  /** Name of the model's file or folder, or of the server's model. */
  model: string;
  /** With all its settings, `dca:paper:logn`. */
  method: string;
  length: number;
  depth?: number;
  sample: string;
  seed: number;
  /** What samples were made of besides, in words: texts, filler, form of the prompt, precision. */
  setup: string;
  /** `accuracy` 0 to 1; of perplexity `nll`, nats of all tokens together, and `tokens`. */
  scores: Record<string, number>;
  /** Of perplexity: nats and tokens by position, `[first position, nats, squares of nats, tokens]`. */
  buckets?: [from: number, sum: number, squares: number, tokens: number][];
  /** Of an answer: what the model said. */
  answer?: string;
  /** Spent on it. What it shares with a sample before was not read again, so this is not how long its text takes. */
  seconds: number;
}

/** One row of results: a mean over samples. `method` begins with the name the user gave. */
export interface Result {
  task: string;
  model: string;
  method: string;
  length: number;
  depth?: number;
  perplexity?: number;
  accuracy?: number;
  /** Of the figure; for perplexity in its own units. */
  standardError: number;
  samples: number;
  /** Spent on all samples together, without what was read before. */
  seconds: number;
}

/** What the report says about how figures came to be. */
export interface RunFacts {
  dualchunk: string;
  date: string;
  hardware: string;
  runtime: string;
  /** By model name: format, trained window, parameters in words, backend, cache. */
  models: Record<string, Record<string, string | number>>;
  /** By method name: what it does, in words and numbers. */
  methods: Record<string, string>;
  /** By task: its settings. */
  tasks: Record<string, Record<string, string | number>>;
  seed: number;
}
