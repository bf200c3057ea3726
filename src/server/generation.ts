/**
 * An answer is a stream of events, which every protocol writes down in its own way: how much of the prompt is read, text,
 * reasoning, calls of tools, and the end with what it took.
 */
import type { Model, Piece, Prompt, TextOptions } from '../model.ts';
import type { GeneratedToken } from '../runtime/texts.ts';
import { refusal } from './errors.ts';
import { makeAnswerReader, type Part } from './toolCalls.ts';

/** What the server needs of a model. */
export type ServedModel = Pick<Model, 'config' | 'tokenizer' | 'context' | 'encode' | 'generate'>;

/** One answer that is wanted. */
export interface Task {
  prompt: Prompt;
  /** Tokens of the prompt. */
  promptTokens: number;
  options: TextOptions;
  /** The answer may begin with reasoning and call tools; otherwise all of it is text. */
  isChat: boolean;
  /** The prompt ends within reasoning. */
  isThinking?: boolean;
  /** Names of the tools that may be called. */
  tools?: ReadonlySet<string>;
}

export interface Usage {
  promptTokens: number;
  /** Tokens of the prompt that were found in the cache. */
  cachedTokens: number;
  completionTokens: number;
}

export interface Progress {
  type: 'progress';
  /** Tokens of the prompt: all, found in the cache, and dealt with so far, those of the cache included. */
  total: number;
  cached: number;
  processed: number;
  /** Since the answer was asked for. */
  milliseconds: number;
}
export interface ToolCall {
  id: string;
  name: string;
  /** JSON. */
  arguments: string;
}
export interface End {
  type: 'end';
  reason: 'stop' | 'length' | 'toolCalls';
  /** The stop text that ended it. */
  stop?: string;
  usage: Usage;
}
export type AnswerEvent =
  | Progress
  /** Tokens are those generated since the event before. */
  | { type: 'text' | 'reasoning'; text: string; tokens: readonly GeneratedToken[] }
  | ({ type: 'toolCall' } & ToolCall)
  | End;

/** An event, and of which answer it is. */
export interface Numbered {
  nth: number;
  event: AnswerEvent;
}

/** A whole answer. */
export interface Answer {
  text: string;
  reasoning: string;
  toolCalls: ToolCall[];
  tokens: GeneratedToken[];
  end: End;
}

/** Names in the protocols' style, such as `chatcmpl-5f…`. */
export const newId = (prefix: string): string => `${prefix}${crypto.randomUUID().replaceAll('-', '')}`;

/**
 * Gives the events of answers that are made at once.
 * @throws RequestError when one fails; the reason of `signal` when that is aborted. All are ended then.
 */
export async function* answers(
  model: ServedModel,
  tasks: readonly Task[],
  signal: AbortSignal,
): AsyncGenerator<Numbered> {
  const end = new AbortController();
  const abort = () => end.abort(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort);
  const sources = tasks.map((task) => answer(model, task, end.signal));
  const next = (nth: number) => sources[nth].next().then((result) => ({ nth, result }));
  const pending = new Map(sources.map((_, nth) => [nth, next(nth)]));
  try {
    while (pending.size > 0) {
      const { nth, result } = await Promise.race(pending.values());
      if (result.done) pending.delete(nth);
      else {
        yield { nth, event: result.value };
        pending.set(nth, next(nth));
      }
    }
  } finally {
    signal.removeEventListener('abort', abort);
    end.abort();
    await Promise.allSettled([...pending.values(), ...sources.map((source) => source.return(undefined))]);
  }
}

/** Joins events to whole answers. */
export async function collect(events: AsyncIterable<Numbered>, nAnswers: number): Promise<Answer[]> {
  const end: End = { type: 'end', reason: 'stop', usage: { promptTokens: 0, cachedTokens: 0, completionTokens: 0 } };
  const wholes = Array.from(
    { length: nAnswers },
    (): Answer => ({ text: '', reasoning: '', toolCalls: [], tokens: [], end }),
  );
  for await (const { nth, event } of events) {
    const whole = wholes[nth];
    if (event.type === 'end') whole.end = event;
    if (event.type === 'toolCall') whole.toolCalls.push(event);
    if (event.type === 'text' || event.type === 'reasoning') {
      whole[event.type] += event.text;
      whole.tokens.push(...event.tokens);
    }
  }
  return wholes;
}

// --- internal ---

async function* answer(model: ServedModel, task: Task, signal: AbortSignal): AsyncGenerator<AnswerEvent> {
  const { promptTokens, options } = task;
  const startedAt = performance.now();
  const reader = task.isChat ? makeAnswerReader(task.isThinking ?? false, task.tools) : PLAIN_READER;
  const usage: Usage = { promptTokens, cachedTokens: 0, completionTokens: 0 };
  let progress: Progress | undefined;
  let isBegun = false;
  let wake = () => {};
  const onProgress = (done: number, total: number) => {
    isBegun = true;
    const cached = promptTokens - total;
    usage.cachedTokens = cached;
    const milliseconds = Math.round(performance.now() - startedAt);
    progress = { type: 'progress', total: promptTokens, cached, processed: cached + done, milliseconds };
    wake();
  };
  let tokens: GeneratedToken[] = [];
  let hasCalled = false;
  const eventOf = (part: Part): AnswerEvent => {
    if (part.type === 'toolCall') {
      hasCalled = true;
      return { ...part, id: newId('call_') };
    }
    const event = { ...part, tokens };
    tokens = [];
    return event;
  };
  const pieces = model.generate(task.prompt, { ...options, signal, onProgress });
  let last: Piece | undefined;
  const ask = () => {
    const piece = pieces.next();
    piece.catch(() => {}); // whoever reads events may have left
    return piece;
  };
  let next = ask();
  try {
    for (;;) {
      const told = new Promise<undefined>((resolve) => {
        wake = () => resolve(undefined);
      });
      const result = progress ? undefined : await Promise.race([next, told]);
      if (progress) yield progress;
      progress = undefined;
      if (!result) continue;
      if (result.done) break;
      last = result.value;
      usage.completionTokens += last.tokens.length;
      tokens.push(...last.tokens);
      next = ask();
      for (const part of reader.push(last.text)) yield eventOf(part);
    }
    for (const part of reader.end()) yield eventOf(part);
    if (tokens.length > 0) yield eventOf({ type: 'text', text: '' });
    const { finishReason = 'stop', stop } = last ?? {};
    yield { type: 'end', reason: hasCalled ? 'toolCalls' : finishReason, ...(stop !== undefined && { stop }), usage };
  } catch (error) {
    throw refusal(error, isBegun ? 500 : 400); // what is refused before anything is read is the request's fault
  } finally {
    await pieces.return(undefined).catch(() => {});
  }
}

const PLAIN_READER = { push: (text: string): Part[] => (text === '' ? [] : [{ type: 'text', text }]), end: () => [] };
