/** `POST /v1/responses`, OpenAI's newer shape. Nothing is kept: a conversation comes whole with every request. */
import { z } from 'zod';
import { refused } from './errors.ts';
import { type Exchange, type Frame, type Protocol, seconds } from './exchange.ts';
import { type Answer, type AnswerEvent, type End, newId, type ToolCall, type Usage } from './generation.ts';
import {
  type ChatFields,
  type ChatMessage,
  chatTasks,
  content,
  parse,
  parsedOr,
  SHARED,
  templateVariables,
  textOf,
  toolChoice,
} from './requests.ts';

const item = z.object({
  type: z.string().nullish(),
  role: z.enum(['system', 'developer', 'user', 'assistant']).nullish(),
  content: content.nullish(),
  call_id: z.string().nullish(),
  name: z.string().nullish(),
  arguments: z.string().nullish(),
  output: content.nullish(),
});
const schema = z.record(z.string(), z.unknown());
const { stream, temperature, top_p, top_k, min_p, seed, max_tokens, frequency_penalty, presence_penalty } = SHARED;
const BODY = z.object({
  ...{ stream, temperature, top_p, top_k, min_p, seed, frequency_penalty, presence_penalty },
  input: z.union([z.string().min(1), z.array(item).min(1).max(16_384)], { error: 'wanted a text or a list of items' }),
  instructions: z.string().nullish(),
  max_output_tokens: max_tokens,
  tools: z
    .array(
      z.object({
        type: z.string(),
        name: z.string().min(1).max(128).nullish(),
        description: z.string().nullish(),
        parameters: schema.nullish(),
      }),
    )
    .max(128)
    .nullish(),
  tool_choice: toolChoice.nullish(),
  text: z
    .object({
      format: z.object({ type: z.enum(['text', 'json_object', 'json_schema']), schema: schema.nullish() }).nullish(),
    })
    .nullish(),
  previous_response_id: z.string().nullish(),
  background: z.boolean().nullish(),
  chat_template_kwargs: templateVariables.nullish(),
});

export const responses: Protocol = (model, given, name) => {
  const body = parse(BODY, given);
  if (body.previous_response_id) {
    throw refused('previous_response_id', 'cannot be given: nothing is kept here; send the whole conversation');
  }
  if (body.background) throw refused('background', 'is true, which is not supported here');
  const shared = { ...body, max_tokens: body.max_output_tokens };
  const head = {
    id: newId('resp_'),
    object: 'response',
    created_at: seconds(),
    model: name,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    temperature: body.temperature ?? null,
    top_p: body.top_p ?? null,
    tools: body.tools ?? [],
    tool_choice: body.tool_choice ?? 'auto',
    parallel_tool_calls: true,
    previous_response_id: null,
    store: false,
    metadata: {},
    error: null,
  };
  const writer = makeWriter(head);
  return {
    tasks: chatTasks(model, fieldsOf(body), shared),
    isStream: body.stream ?? false,
    whole: ([answer]) => ({ ...head, output: itemsOf(answer), ...endOf(answer.end) }),
    stream: writer.stream,
    failed: writer.failed,
  };
};

// --- internal ---

type Body = z.infer<typeof BODY>;

function fieldsOf({
  input,
  instructions,
  tools,
  tool_choice,
  text,
  chat_template_kwargs: variables,
}: Body): ChatFields {
  const builtIn = tools?.find(({ type, name }) => type !== 'function' || !name);
  if (builtIn) throw refused('tools', `has one of type "${builtIn.type.slice(0, 40)}"; wanted "function" with a name`);
  const said = instructions ? [{ role: 'system' as const, content: instructions }] : [];
  const { type = 'text', schema = null } = text?.format ?? {};
  return {
    messages: [...said, ...(typeof input === 'string' ? [{ role: 'user' as const, content: input }] : turnsOf(input))],
    variables,
    tools: tools?.map(({ name, description, parameters }) => ({
      type: 'function' as const,
      function: { name: name ?? '', ...(description && { description }), ...(parameters && { parameters }) },
    })),
    choice: tool_choice,
    format: { type, json_schema: schema && { schema } },
  };
}

/** Items become turns; calls that follow each other are of one. */
function turnsOf(items: readonly z.infer<typeof item>[]): ChatMessage[] {
  const turns: ChatMessage[] = [];
  for (const [at, { type, role, content, call_id, name, arguments: json, output }] of items.entries()) {
    if (type === 'reasoning') continue;
    if (type === 'function_call') {
      if (!name) throw refused(`input[${at}]`, 'is a function_call without a name');
      const call = {
        type: 'function' as const,
        ...(call_id && { id: call_id }),
        function: { name, arguments: parsedOr(json ?? '{}') },
      };
      const last = turns.at(-1);
      if (last?.role === 'assistant') last.tool_calls = [...(last.tool_calls ?? []), call];
      else turns.push({ role: 'assistant', content: '', tool_calls: [call] });
    } else if (type === 'function_call_output') {
      const said = textOf(output, `input[${at}].output`, ['input_text', 'output_text']);
      turns.push({ role: 'tool', content: said, ...(call_id && { tool_call_id: call_id }) });
    } else if (role && (!type || type === 'message')) {
      const said = textOf(content, `input[${at}].content`, ['input_text', 'output_text', 'text']);
      turns.push({ role: role === 'developer' ? 'system' : role, content: said });
    } else {
      throw refused(`input[${at}]`, `is of type "${(type ?? '').slice(0, 40)}"; wanted a message or a function call`);
    }
  }
  return turns;
}

const usageOf = ({ promptTokens, cachedTokens, completionTokens }: Usage) => ({
  input_tokens: promptTokens,
  input_tokens_details: { cached_tokens: cachedTokens },
  output_tokens: completionTokens,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: promptTokens + completionTokens,
});

const endOf = ({ reason, usage }: End) => ({
  status: reason === 'length' ? 'incomplete' : 'completed',
  incomplete_details: reason === 'length' ? { reason: 'max_output_tokens' } : null,
  usage: usageOf(usage),
});

const partOf = (text: string) => ({ type: 'output_text', text, annotations: [], logprobs: [] });
const messageOf = (id: string, text: string) => ({
  ...{ type: 'message', id, role: 'assistant', status: 'completed' },
  content: [partOf(text)],
});
const reasoningOf = (id: string, text: string) => ({
  ...{ type: 'reasoning', id, summary: [], status: 'completed' },
  content: [{ type: 'reasoning_text', text }],
});
const callOf = (id: string, { id: call_id, name, arguments: json }: ToolCall) => ({
  ...{ type: 'function_call', id, call_id, name, arguments: json, status: 'completed' },
});

const itemsOf = ({ text, reasoning, toolCalls }: Answer): object[] => [
  ...(reasoning === '' ? [] : [reasoningOf(newId('rs_'), reasoning)]),
  ...(text === '' ? [] : [messageOf(newId('msg_'), text)]),
  ...toolCalls.map((call) => callOf(newId('fc_'), call)),
];

/** Writes typed events, which are numbered. */
function makeWriter(head: object): Pick<Exchange, 'stream' | 'failed'> {
  let sequence_number = 0;
  const frame = (type: string, more: object): Frame => ({
    event: type,
    data: { type, sequence_number: sequence_number++, ...more },
  });
  const output: object[] = [];
  /** The item that is being written. */
  let open: { type: 'text' | 'reasoning'; id: string; text: string } | undefined;

  function* begin(type: 'text' | 'reasoning'): Generator<Frame> {
    const id = newId(type === 'text' ? 'msg_' : 'rs_');
    open = { type, id, text: '' };
    const item = type === 'text' ? messageOf(id, '') : reasoningOf(id, '');
    const place = { output_index: output.length };
    yield frame('response.output_item.added', { ...place, item: { ...item, status: 'in_progress', content: [] } });
    const part = type === 'text' ? partOf('') : { type: 'reasoning_text', text: '' };
    yield frame('response.content_part.added', { ...place, item_id: id, content_index: 0, part });
  }
  function* end(): Generator<Frame> {
    if (!open) return;
    const { type, id, text } = open;
    const item = type === 'text' ? messageOf(id, text) : reasoningOf(id, text);
    const place = { item_id: id, output_index: output.length, content_index: 0 };
    const name = type === 'text' ? 'output_text' : 'reasoning_text';
    yield frame(`response.${name}.done`, { ...place, text, ...(type === 'text' && { logprobs: [] }) });
    yield frame('response.content_part.done', { ...place, part: item.content[0] });
    yield frame('response.output_item.done', { output_index: output.length, item });
    output.push(item);
    open = undefined;
  }
  function* call(called: ToolCall): Generator<Frame> {
    const item = callOf(newId('fc_'), called);
    const place = { item_id: item.id, output_index: output.length };
    const begun = { ...item, arguments: '', status: 'in_progress' };
    yield frame('response.output_item.added', { output_index: output.length, item: begun });
    yield frame('response.function_call_arguments.delta', { ...place, delta: item.arguments });
    yield frame('response.function_call_arguments.done', { ...place, name: item.name, arguments: item.arguments });
    yield frame('response.output_item.done', { output_index: output.length, item });
    output.push(item);
  }
  function* written(event: AnswerEvent): Generator<Frame> {
    if (event.type === 'progress') return;
    if ('text' in event) {
      if (event.text === '') return;
      if (open?.type !== event.type) {
        yield* end();
        yield* begin(event.type);
      }
      if (!open) return;
      open.text += event.text;
      const place = { item_id: open.id, output_index: output.length, content_index: 0 };
      const name = event.type === 'text' ? 'output_text' : 'reasoning_text';
      const delta = { ...place, delta: event.text, ...(event.type === 'text' && { logprobs: [] }) };
      yield frame(`response.${name}.delta`, delta);
      return;
    }
    yield* end();
    if (event.type === 'toolCall') yield* call(event);
    else {
      const response = { ...head, output, ...endOf(event) };
      yield frame(response.status === 'completed' ? 'response.completed' : 'response.incomplete', { response });
    }
  }
  return {
    async *stream(events) {
      const response = { ...head, status: 'in_progress', incomplete_details: null, output: [], usage: null };
      yield frame('response.created', { response });
      yield frame('response.in_progress', { response });
      for await (const { event } of events) yield* written(event);
    },
    failed({ code, message, param }) {
      return frame('error', { code: code === null ? null : String(code), message, param });
    },
  };
}
