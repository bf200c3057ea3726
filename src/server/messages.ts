/** `POST /v1/messages` and `/v1/messages/count_tokens`, Anthropic's shape. */
import { z } from 'zod';
import type { RequestError } from './errors.ts';
import { refused } from './errors.ts';
import type { Exchange, Frame, Protocol } from './exchange.ts';
import { type Answer, type AnswerEvent, type End, newId, type ServedModel, type Usage } from './generation.ts';
import {
  type ChatFields,
  type ChatMessage,
  chatTasks,
  parse,
  SHARED,
  templateVariables,
  toolChoice,
} from './requests.ts';

const blocks = z.array(
  z.object({
    type: z.string(),
    text: z.string().nullish(),
    id: z.string().nullish(),
    name: z.string().nullish(),
    input: z.record(z.string(), z.unknown()).nullish(),
    tool_use_id: z.string().nullish(),
    content: z.union([z.string(), z.array(z.object({ type: z.string(), text: z.string().nullish() }))]).nullish(),
  }),
);
const content = z.union([z.string(), blocks], { error: 'wanted a text or a list of blocks' });
const PROMPT = {
  system: content.nullish(),
  messages: z
    .array(z.object({ role: z.enum(['user', 'assistant']), content }))
    .min(1)
    .max(16_384),
  tools: z
    .array(
      z.object({
        type: z.string().nullish(),
        name: z.string().min(1).max(128),
        description: z.string().nullish(),
        input_schema: z.record(z.string(), z.unknown()).nullish(),
      }),
    )
    .max(128)
    .nullish(),
  tool_choice: toolChoice.nullish(),
  chat_template_kwargs: templateVariables.nullish(),
};
const { stream, temperature, top_p, top_k, seed, stop } = SHARED;
const BODY = z.object({
  ...PROMPT,
  ...{ stream, temperature, top_p, top_k, seed },
  max_tokens: z.int().min(1),
  stop_sequences: stop,
});

export const messages: Protocol = (model, given, name) => {
  const body = parse(BODY, given);
  const shared = { ...body, stop: body.stop_sequences };
  const head = { id: newId('msg_'), type: 'message', role: 'assistant', model: name };
  return {
    tasks: chatTasks(model, fieldsOf(body), shared),
    isStream: body.stream ?? false,
    whole: ([answer]) => ({
      ...head,
      content: blocksOf(answer),
      ...endOf(answer.end),
      usage: usageOf(answer.end.usage),
    }),
    stream: (events) => streamed(events, head),
    failed: (error) => ({ event: 'error', data: errorBody(error) }),
  };
};

/** How many tokens the prompt of a request has. */
export function countTokens(model: ServedModel, given: unknown): object {
  const [{ promptTokens }] = chatTasks(model, fieldsOf(parse(z.object(PROMPT), given)), {});
  return { input_tokens: promptTokens };
}

const TYPES: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
};

export const errorBody = ({ status, message, more }: RequestError): object => {
  const type = TYPES[status] ?? (status < 500 ? 'invalid_request_error' : 'api_error');
  return { type: 'error', error: { type, message, ...more } };
};

// --- internal ---

type Body = z.infer<z.ZodObject<typeof PROMPT>>;
type Content = z.infer<typeof content>;

/** A request as templates take it. */
function fieldsOf({ system, messages, tools, tool_choice, chat_template_kwargs: variables }: Body): ChatFields {
  const said = system ? [{ role: 'system' as const, content: textOf(system, 'system') }] : [];
  const builtIn = tools?.find(({ type }) => type && type !== 'custom');
  if (builtIn) throw refused('tools', `has one of type "${builtIn.type?.slice(0, 40)}"; wanted "custom"`);
  return {
    messages: [
      ...said,
      ...messages.flatMap(({ role, content }, at) => turnsOf(role, content, `messages[${at}].content`)),
    ],
    variables,
    tools: tools?.map(({ name, description, input_schema: parameters }) => ({
      type: 'function' as const,
      function: { name, ...(description && { description }), ...(parameters && { parameters }) },
    })),
    choice: tool_choice,
  };
}

/** A message's results of tools are turns of their own, in front of what else it says; reasoning of before is left out. */
function turnsOf(role: 'user' | 'assistant', content: Content, at: string): ChatMessage[] {
  if (typeof content === 'string') return [{ role, content }];
  const results = content.filter(({ type }) => type === 'tool_result');
  const uses = content.filter(({ type }) => type === 'tool_use');
  const said = content.filter(
    ({ type }) => !['tool_result', 'tool_use', 'thinking', 'redacted_thinking'].includes(type),
  );
  const calls = uses.map(({ id, name, input }) => {
    if (!name) throw refused(at, 'has a tool_use without a name');
    return { type: 'function' as const, ...(id && { id }), function: { name, arguments: input ?? {} } };
  });
  const turns: ChatMessage[] = results.map((result) => ({
    role: 'tool',
    content: textOf(result.content ?? '', at),
    ...(result.tool_use_id && { tool_call_id: result.tool_use_id }),
  }));
  if (said.length > 0 || calls.length > 0 || results.length === 0) {
    turns.push({ role, content: textOf(said, at), ...(calls.length > 0 && { tool_calls: calls }) });
  }
  return turns;
}

function textOf(content: string | readonly { type: string; text?: string | null }[], at: string): string {
  if (typeof content === 'string') return content;
  const other = content.find(({ type, text }) => type !== 'text' || typeof text !== 'string');
  if (other) throw refused(at, `has a block of type "${other.type.slice(0, 40)}"; wanted "text" with a text`);
  return content.map(({ text }) => text).join('\n');
}

const REASONS = { stop: 'end_turn', length: 'max_tokens', toolCalls: 'tool_use' } as const;

const endOf = ({ reason, stop }: End) => ({
  stop_reason: stop !== undefined && reason === 'stop' ? 'stop_sequence' : REASONS[reason],
  stop_sequence: stop ?? null,
});

const usageOf = ({ promptTokens, cachedTokens, completionTokens }: Usage) => ({
  input_tokens: promptTokens - cachedTokens,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: cachedTokens,
  output_tokens: completionTokens,
});

const blocksOf = ({ text, reasoning, toolCalls }: Answer): object[] => [
  ...(reasoning === '' ? [] : [{ type: 'thinking', thinking: reasoning, signature: '' }]),
  ...(text === '' ? [] : [{ type: 'text', text }]),
  ...toolCalls.map(({ id, name, arguments: json }) => ({ type: 'tool_use', id, name, input: JSON.parse(json) })),
];

/** Writes one answer: blocks one behind the other, each begun and ended. */
async function* streamed(events: Parameters<Exchange['stream']>[0], head: object): AsyncGenerator<Frame> {
  const frame = (type: string, more: object): Frame => ({ event: type, data: { type, ...more } });
  const start = (usage: Usage): Frame =>
    frame('message_start', {
      message: { ...head, content: [], stop_reason: null, stop_sequence: null, usage: usageOf(usage) },
    });
  let index = -1;
  let open: AnswerEvent['type'] | undefined;
  let isStarted = false;
  const ended = (): Frame[] => (open ? [frame('content_block_stop', { index })] : []);
  for await (const { event } of events) {
    if (!isStarted) {
      const { total = 0, cached = 0 } = event.type === 'progress' ? event : {};
      yield start({ promptTokens: total, cachedTokens: cached, completionTokens: 0 });
      isStarted = true;
    }
    if (event.type === 'progress' || ('text' in event && event.text === '')) continue;
    const isOn = open === event.type && event.type !== 'toolCall';
    if (!isOn) {
      yield* ended();
      open = event.type === 'end' ? undefined : event.type;
      if (open) index++;
    }
    const delta = (more: object) => frame('content_block_delta', { index, delta: more });
    const begin = (block: object) => frame('content_block_start', { index, content_block: block });
    if (event.type === 'end') {
      yield frame('message_delta', { delta: endOf(event), usage: usageOf(event.usage) });
      yield frame('message_stop', {});
    } else if (event.type === 'toolCall') {
      yield begin({ type: 'tool_use', id: event.id, name: event.name, input: {} });
      yield delta({ type: 'input_json_delta', partial_json: event.arguments });
    } else if (event.type === 'text') {
      if (!isOn) yield begin({ type: 'text', text: '' });
      yield delta({ type: 'text_delta', text: event.text });
    } else {
      if (!isOn) yield begin({ type: 'thinking', thinking: '', signature: '' });
      yield delta({ type: 'thinking_delta', thinking: event.text });
    }
  }
}
