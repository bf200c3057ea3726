/** `POST /v1/chat/completions`, OpenAI's shape, with `reasoning_content` and `prompt_progress` as llama.cpp adds them. */
import { z } from 'zod';
import { refused } from './errors.ts';
import { type Exchange, type Frame, logprobOf, type Protocol, progressOf, seconds, usageOf } from './exchange.ts';
import { type Answer, type AnswerEvent, type End, newId, type ServedModel, type ToolCall } from './generation.ts';
import {
  chatTasks,
  logprobsCount,
  messageList,
  messagesOf,
  parse,
  responseFormat,
  SHARED,
  templateVariables,
  toolChoice,
  toolList,
} from './requests.ts';

const BODY = z.object({
  ...SHARED,
  messages: messageList,
  max_completion_tokens: SHARED.max_tokens,
  logprobs: z.boolean().nullish(),
  top_logprobs: logprobsCount,
  tools: toolList.nullish(),
  tool_choice: toolChoice.nullish(),
  response_format: responseFormat.nullish(),
  chat_template_kwargs: templateVariables.nullish(),
});

export const chat: Protocol = (model, given, name) => {
  const body = parse(BODY, given);
  if (body.top_logprobs && !body.logprobs) throw refused('top_logprobs', 'needs logprobs: true');
  const fields = {
    messages: messagesOf(body.messages),
    variables: body.chat_template_kwargs,
    tools: body.tools,
    choice: body.tool_choice,
    format: body.response_format,
  };
  const shared = { ...body, max_tokens: body.max_completion_tokens ?? body.max_tokens };
  const logprobs = body.logprobs ? (body.top_logprobs ?? 0) : undefined;
  const head = { id: newId('chatcmpl-'), created: seconds(), model: name };
  return {
    tasks: chatTasks(model, fields, shared, logprobs),
    isStream: body.stream ?? false,
    whole: (answers) => ({
      ...head,
      object: 'chat.completion',
      choices: answers.map((answer, index) => choiceOf(model, answer, index, logprobs !== undefined)),
      usage: usageOf(answers.map(({ end }) => end)),
    }),
    stream: (events) =>
      streamed(events, {
        model,
        head,
        hasLogprobs: logprobs !== undefined,
        hasUsage: body.stream_options?.include_usage ?? false,
        hasProgress: body.return_progress ?? false,
      }),
    failed: (error) => ({ data: error.body() }),
  };
};

// --- internal ---

const REASONS = { stop: 'stop', length: 'length', toolCalls: 'tool_calls' } as const;

const callOf = ({ id, name, arguments: json }: ToolCall) => ({
  id,
  type: 'function',
  function: { name, arguments: json },
});

function choiceOf(model: ServedModel, answer: Answer, index: number, hasLogprobs: boolean) {
  const { text, reasoning, toolCalls, tokens, end } = answer;
  return {
    index,
    message: {
      role: 'assistant',
      content: text === '' && toolCalls.length > 0 ? null : text,
      ...(reasoning !== '' && { reasoning_content: reasoning }),
      ...(toolCalls.length > 0 && { tool_calls: toolCalls.map(callOf) }),
      refusal: null,
    },
    logprobs: hasLogprobs ? { content: tokens.map((token) => logprobOf(model, token)), refusal: null } : null,
    finish_reason: REASONS[end.reason],
  };
}

interface Streaming {
  model: ServedModel;
  head: object;
  hasLogprobs: boolean;
  hasUsage: boolean;
  hasProgress: boolean;
}

async function* streamed(
  events: Parameters<Exchange['stream']>[0],
  { model, head, hasLogprobs, hasUsage, hasProgress }: Streaming,
): AsyncGenerator<Frame> {
  const chunk = (index: number, delta: object, more: object = {}, reason: string | null = null): Frame => {
    const choice = { index, delta, logprobs: null, ...more, finish_reason: reason };
    const usage = hasUsage ? { usage: null } : {};
    return { data: { ...head, object: 'chat.completion.chunk', choices: [choice], ...usage } };
  };
  const nCalls: number[] = [];
  const ends: End[] = [];
  for await (const { nth, event } of events) {
    if (nCalls[nth] === undefined) {
      nCalls[nth] = 0;
      yield chunk(nth, { role: 'assistant', content: '' });
    }
    if (event.type === 'progress' && hasProgress) {
      yield { data: { ...(chunk(nth, {}).data as object), ...progressOf(event) } };
    }
    if (event.type === 'text' || event.type === 'reasoning') yield chunk(nth, deltaOf(event), logprobs(event));
    if (event.type === 'toolCall') {
      const index = nCalls[nth]++;
      const { id, type, function: named } = callOf(event);
      const name = { name: named.name, arguments: '' };
      yield chunk(nth, { tool_calls: [{ index, id, type, function: name }] });
      yield chunk(nth, { tool_calls: [{ index, function: { arguments: named.arguments } }] });
    }
    if (event.type === 'end') {
      ends[nth] = event;
      yield chunk(nth, {}, {}, REASONS[event.reason]);
    }
  }
  if (hasUsage) yield { data: { ...head, object: 'chat.completion.chunk', choices: [], usage: usageOf(ends) } };
  yield { data: '[DONE]' };

  function logprobs({ tokens }: Extract<AnswerEvent, { type: 'text' | 'reasoning' }>): object {
    return hasLogprobs ? { logprobs: { content: tokens.map((token) => logprobOf(model, token)), refusal: null } } : {};
  }
}

const deltaOf = ({ type, text }: Extract<AnswerEvent, { type: 'text' | 'reasoning' }>) =>
  type === 'text' ? { content: text } : { reasoning_content: text };
