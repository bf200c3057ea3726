/** A protocol reads a request and writes answers down; between the two lie tasks and events, which it does not make. */
import type { GeneratedToken } from '../runtime/texts.ts';
import type { RequestError } from './errors.ts';
import type { Answer, End, Numbered, Progress, ServedModel, Task, Usage } from './generation.ts';

/** One event of a stream of server-sent events; data that is no text is written as JSON. */
export interface Frame {
  event?: string;
  data: unknown;
}

export interface Exchange {
  /** One for each answer. */
  tasks: readonly Task[];
  isStream: boolean;
  /** Answers as they come. */
  stream(events: AsyncIterable<Numbered>): AsyncGenerator<Frame>;
  /** Answers that are complete. */
  whole(answers: readonly Answer[]): object;
  /** The last frame of a stream that fails. */
  failed(error: RequestError): Frame;
}

/** @throws RequestError when the body says something wrong. */
export type Protocol = (model: ServedModel, body: unknown, name: string) => Exchange;

export const seconds = (): number => Math.floor(Date.now() / 1000);

/** Usage of all answers to one request, in OpenAI's shape. Answers to the same prompt follow each other; it counts once. */
export function usageOf(ends: readonly End[], nPrompts = 1) {
  const sum = (of: readonly End[], name: keyof Usage) => of.reduce((total, { usage }) => total + usage[name], 0);
  const firsts = ends.filter((_, at) => at % (ends.length / nPrompts) === 0);
  const prompt_tokens = sum(firsts, 'promptTokens');
  const completion_tokens = sum(ends, 'completionTokens');
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    prompt_tokens_details: { cached_tokens: sum(firsts, 'cachedTokens') },
  };
}

/** How far a prompt is read, as llama.cpp tells it. */
export const progressOf = ({ total, cached, processed, milliseconds }: Progress) => ({
  prompt_progress: { total, cache: cached, processed, time_ms: milliseconds },
});

const decoder = new TextDecoder();

/** A token with its log-probability in OpenAI's shape; bytes tell what it is where it is a part of a character. */
export function logprobOf(model: ServedModel, { token, logprob = 0, topLogprobs = [] }: GeneratedToken) {
  const shaped = (id: number, value: number) => {
    const bytes = model.tokenizer.bytesOf(id);
    return { token: decoder.decode(bytes), logprob: Math.max(value, -9999), bytes: [...bytes] };
  };
  return { ...shaped(token, logprob), top_logprobs: topLogprobs.map(({ token, logprob }) => shaped(token, logprob)) };
}
