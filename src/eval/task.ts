/**
 * What an evaluation asks of a model. A task makes samples from a seed and texts, each of an exact number of tokens, and
 * scores what the model gave: an answer, or its loss on every token. One task a file; `tasks.ts` lists them.
 */
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** A text to read, or to hide things in. */
export interface NamedText {
  name: string;
  text: string;
}

/** Ids around every prompt: BOS, or what the model's chat template puts before and behind a user's message. */
export interface Frame {
  before: readonly number[];
  after: readonly number[];
}

/** What samples are made from. */
export interface Making {
  tokenizer: Tokenizer;
  frame: Frame;
  /** Tokens that prompt and answer have together. */
  length: number;
  /** Wanted at this length; of tasks with depths, at each depth. */
  samples: number;
  /** How many depths: the middles of so many equal parts of the text. */
  depths: number;
  seed: number;
  texts: readonly NamedText[];
  /** What things are hidden in: repeated sentences, or `texts`. */
  filler: 'sentences' | 'book';
  /** A text to continue, or a message in a chat, whose answer may begin with words of its own. */
  form: 'raw' | 'chat';
}

/** One prompt, or one window of a text. */
export interface Sample {
  /** Unique within task, length, seed and texts: a finished sample is remembered by it. */
  id: string;
  /** Of `ids` and the answer together, exactly as asked. */
  length: number;
  /** Share of the text before what is hidden in it. */
  depth?: number;
  ids: readonly number[];
  /** Most tokens of the answer; 0: the loss of every id is wanted instead. */
  maxTokens: number;
  /** What a right answer says, or says all of. */
  answers: readonly string[];
}

/** Named figures of one sample: `accuracy` from 0 to 1, or others in the task's own units. */
export type Scores = Record<string, number>;

/** @typeParam Output The model's answer, or nats of every id of the sample but the first. */
export interface Task<Output extends string | Float64Array = string> {
  readonly name: string;
  /** Lazily. @throws UnsupportedError when a text is too short, or the length leaves no room. */
  makeSamples(making: Making): Iterable<Sample>;
  score(output: Output, sample: Sample): Scores;
}
