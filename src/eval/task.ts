/**
 * An evaluation asks tasks of a model. A task makes samples from a seed and texts, each of an exact number of tokens,
 * and scores what the model gave: an answer, or its loss on every token. Each task has a file; `tasks.ts` lists them.
 */
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** A text is read, or things are hidden in it. */
export interface NamedText {
  name: string;
  text: string;
}

/**
 * Ids that stand around every prompt: BOS, or what the model's chat template puts before and behind a user's message.
 */
export interface Frame {
  before: readonly number[];
  after: readonly number[];
}

/** Samples are made from this. */
export interface Making {
  tokenizer: Tokenizer;
  frame: Frame;
  /** Prompt and answer have so many tokens together. */
  length: number;
  /** So many samples are made at this length, and at each depth where a task has depths. */
  samples: number;
  /** Depths are the middles of so many equal parts of the text. */
  depths: number;
  seed: number;
  texts: readonly NamedText[];
  /** Things are hidden in repeated sentences, or in `texts`. */
  filler: 'sentences' | 'book';
  /** A prompt is a text to continue, or a message in a chat, whose answer may begin with words of its own. */
  form: 'raw' | 'chat';
}

/** A sample is one prompt, or one window of a text. */
export interface Sample {
  /** It is unique within task, length, seed and texts: a finished sample is remembered by it. */
  id: string;
  /** `ids` and the answer have so many tokens together, exactly as asked. */
  length: number;
  /** This share of the text stands before what is hidden in it. */
  depth?: number;
  ids: readonly number[];
  /** The answer has at most so many tokens; 0 asks for the loss of every id instead. */
  maxTokens: number;
  /** A right answer says one of them, or all. */
  answers: readonly string[];
}

/**
 * Samples of all lengths are made from this; `samples` and `depths` are 1 by default, `seed` 0, `filler` book, `form`
 * raw.
 */
export type MakingOptions = Pick<Making, 'tokenizer' | 'texts'> & Partial<Omit<Making, 'length'>>;

/** A sample has named figures: `accuracy` from 0 to 1, or others in the task's own units. */
export type Scores = Record<string, number>;

/**
 * A task makes samples, and scores what a model gave.
 * @typeParam Output The model's answer, or nats of every id of the sample but the first.
 */
export interface Task<Output extends string | Float64Array = string> {
  readonly name: string;
  /**
   * This says what samples are made of besides texts, in words. By default it is the filler, and the form of prompts.
   */
  readonly setup?: string;
  /**
   * Makes samples as they are asked for.
   * @throws UnsupportedError when a text is too short, or the length leaves no room.
   */
  makeSamples(making: Making): Iterable<Sample>;
  score(output: Output, sample: Sample): Scores;
}
