/** What requests may say, checked, and what it means for `generate`. Fields that are not known are left out. */
import { z } from 'zod';
import type { Prompt, TextOptions } from '../model.ts';
import { SAMPLING_RANGES } from '../sampler.ts';
import type { Message } from '../tokenizer/tokenizer.ts';
import { RequestError, refusal, refused } from './errors.ts';
import type { ServedModel, Task } from './generation.ts';

export const MAX_ANSWERS = 16;
const MAX_STOPS = 16;
const MAX_BIASES = 1024;
const MAX_MESSAGES = 16_384;
const MAX_TOOLS = 128;
const MAX_LOGPROBS = 20;

const ranged = ([min, max]: readonly [min: number, max: number]) => z.number().min(min).max(max).nullish();
const stopText = z.string().min(1).max(1000);
const tokens = z.int().min(1).nullish();
export const logprobsCount = z.int().min(0).max(MAX_LOGPROBS).nullish();

/** Fields that all protocols share, by their names in OpenAI's; llama.cpp's and vLLM's beside them. */
export const SHARED = {
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  return_progress: z.boolean().nullish(),
  n: z.int().min(1).max(MAX_ANSWERS).nullish(),
  max_tokens: tokens,
  stop: z
    .union([stopText, z.array(stopText).max(MAX_STOPS)], {
      error: `wanted a text or a list of at most ${MAX_STOPS} texts, none of them empty`,
    })
    .nullish(),
  seed: z.int().nullish(),
  temperature: ranged(SAMPLING_RANGES.temperature),
  top_p: ranged(SAMPLING_RANGES.topP),
  top_k: z.int().min(-1).nullish(),
  min_p: ranged(SAMPLING_RANGES.minP),
  repetition_penalty: ranged(SAMPLING_RANGES.repetitionPenalty),
  repeat_penalty: ranged(SAMPLING_RANGES.repetitionPenalty),
  frequency_penalty: ranged(SAMPLING_RANGES.frequencyPenalty),
  presence_penalty: ranged(SAMPLING_RANGES.presencePenalty),
  logit_bias: z
    .record(z.string().regex(/^\d{1,9}$/, 'wanted token ids'), z.number().min(-100).max(100))
    .refine((biases) => Object.keys(biases).length <= MAX_BIASES, `wanted at most ${MAX_BIASES} tokens`)
    .nullish(),
};
export type Shared = z.infer<z.ZodObject<typeof SHARED>>;

const part = z.object({ type: z.string(), text: z.string().nullish() });
export const content = z.union([z.string(), z.array(part)], { error: 'wanted a text or a list of parts' });
const toolCall = z.object({
  id: z.string().nullish(),
  type: z.literal('function').nullish(),
  function: z.object({ name: z.string(), arguments: z.string() }),
});
export const messageList = z
  .array(
    z.object({
      role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
      content: content.nullish(),
      reasoning_content: z.string().nullish(),
      tool_calls: z.array(toolCall).max(MAX_TOOLS).nullish(),
      tool_call_id: z.string().nullish(),
      name: z.string().nullish(),
    }),
  )
  .min(1)
  .max(MAX_MESSAGES);
export const toolList = z
  .array(
    z.object({
      type: z.literal('function'),
      function: z.object({
        name: z.string().min(1).max(128),
        description: z.string().nullish(),
        parameters: z.record(z.string(), z.unknown()).nullish(),
      }),
    }),
  )
  .max(MAX_TOOLS);
/** In the shapes of OpenAI's two protocols and of Anthropic's. */
export const toolChoice = z.union(
  [
    z.string(),
    z.object({ type: z.string(), name: z.string().nullish(), function: z.object({ name: z.string() }).nullish() }),
  ],
  { error: 'wanted "auto", "none", "required" or a function' },
);
export const responseFormat = z.object({
  type: z.enum(['text', 'json_object', 'json_schema']),
  json_schema: z.object({ schema: z.record(z.string(), z.unknown()) }).nullish(),
});
export const templateVariables = z.record(z.string(), z.unknown());

/** Reads a body by its schema. @throws RequestError with the name of the first field that is wrong. */
export function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const { success, data, error } = schema.safeParse(body);
  if (success) return data;
  const { path, message } = error.issues[0];
  const param = path.reduce<string>(
    (name, key) => (typeof key === 'number' ? `${name}[${key}]` : name === '' ? String(key) : `${name}.${String(key)}`),
    '',
  );
  throw new RequestError(400, param === '' ? `the body is wrong: ${message}` : `${param}: ${message}`, {
    param: param === '' ? null : param,
  });
}

/** Joins parts of type text, of whichever name a protocol has for it; others are refused by name. */
export function textOf(given: z.infer<typeof content> | null | undefined, at: string, types = ['text']): string {
  if (typeof given === 'string') return given;
  return (given ?? [])
    .map(({ type, text }, nth) => {
      if (types.includes(type) && typeof text === 'string') return text;
      throw refused(`${at}[${nth}]`, `is a part of type "${type.slice(0, 40)}"; wanted "${types[0]}" with a text`);
    })
    .join('\n');
}

/** A message as templates take it. */
export interface ChatMessage extends Message {
  tool_calls?: { type: 'function'; id?: string; function: { name: string; arguments: unknown } }[];
  tool_call_id?: string;
  name?: string;
  reasoning_content?: string;
}

export const messagesOf = (given: z.infer<typeof messageList>): ChatMessage[] =>
  given.map(({ role, content, tool_calls, tool_call_id, name, reasoning_content }, at) => ({
    role: role === 'developer' ? 'system' : role,
    content: textOf(content, `messages[${at}].content`),
    ...(tool_calls && {
      tool_calls: tool_calls.map(({ id, function: { name, arguments: json } }) => ({
        type: 'function' as const,
        ...(id && { id }),
        function: { name, arguments: parsedOr(json) },
      })),
    }),
    ...(tool_call_id && { tool_call_id }),
    ...(name && { name }),
    ...(reasoning_content && { reasoning_content }),
  }));

/** Templates expect arguments as an object. */
export function parsedOr(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return json;
  }
}

/** What a conversation says besides messages and the shared fields. */
export interface ChatFields {
  messages: readonly ChatMessage[];
  variables?: Record<string, unknown> | null;
  tools?: z.infer<typeof toolList> | null;
  choice?: z.infer<typeof toolChoice> | null;
  format?: z.infer<typeof responseFormat> | null;
}

/** Makes the tasks of a conversation, one for each answer that is wanted. */
export function chatTasks(model: ServedModel, fields: ChatFields, shared: Shared, logprobs?: number): Task[] {
  const { messages, format } = fields;
  const { chatTemplate } = model.tokenizer;
  const { tools, forced } = chosenTools(fields);
  if (tools && !/\btools\b/.test(chatTemplate ?? '')) {
    throw refused('tools', 'cannot be given: the chat template of this model takes none');
  }
  const variables = { ...fields.variables, ...(tools && { tools }) };
  const templateVariables = Object.keys(variables).length > 0 ? variables : undefined;
  const options: TextOptions = {
    ...optionsOf(model, shared, logprobs),
    ...formatOptions(format),
    ...(forced && { jsonSchema: callSchema(forced) }),
    ...(templateVariables && { templateVariables }),
  };
  const ids = encoded(model, messages, templateVariables);
  const opening = model.tokenizer.decode(ids.slice(-8), { skipSpecialTokens: false, midText: true });
  const task: Task = {
    prompt: messages,
    promptTokens: ids.length,
    options,
    isChat: true,
    isThinking: !forced && /<think>\s*$/.test(opening),
    ...(tools && { tools: new Set(tools.map((tool) => tool.function.name)) }),
  };
  return repeated(task, shared.n ?? 1);
}

/** Tools that the model is told of, and those of which it must call one. */
function chosenTools({ tools, choice }: ChatFields): Record<'tools' | 'forced', ChatFields['tools'] | undefined> {
  const kind = (typeof choice === 'string' ? choice : choice?.type) ?? 'auto';
  const name = typeof choice === 'object' ? (choice?.function?.name ?? choice?.name) : undefined;
  if (kind === 'none' || (kind === 'auto' && !tools?.length)) return { tools: undefined, forced: undefined };
  if (kind === 'auto') return { tools, forced: undefined };
  if (!['required', 'any', 'function', 'tool'].includes(kind)) {
    throw refused('tool_choice', `is "${kind.slice(0, 40)}"; wanted "auto", "none", "required" or a function`);
  }
  const forced = tools?.filter((tool) => name === undefined || tool.function.name === name);
  if (!forced?.length) throw refused('tool_choice', name ? 'names a function that is none of tools' : 'needs tools');
  return { tools, forced };
}

/** A call as templates write them, and nothing else. */
const callSchema = (tools: NonNullable<ChatFields['tools']>) => ({
  anyOf: tools.map(({ function: { name, parameters } }) => ({
    type: 'object',
    properties: { name: { const: name }, arguments: parameters ?? { type: 'object' } },
    required: ['name', 'arguments'],
    additionalProperties: false,
  })),
});

/** Makes the tasks of a prompt that is continued. */
export function textTasks(model: ServedModel, prompt: Prompt, shared: Shared, logprobs?: number): Task[] {
  const ids = encoded(model, prompt);
  const options = optionsOf(model, shared, logprobs);
  return repeated({ prompt, promptTokens: ids.length, options, isChat: false }, shared.n ?? 1);
}

/**
 * Token ids of a prompt that leaves room for an answer.
 * @throws RequestError when the prompt is none, or is too long: it is never cut.
 */
export function encoded(model: ServedModel, prompt: Prompt, variables?: Record<string, unknown>): number[] {
  const ids = readably(() => model.encode(prompt, variables && { templateVariables: variables }));
  const { context, config } = model;
  const stranger = ids.find((id) => id >= config.vocabSize);
  if (stranger !== undefined) throw refused('prompt', `has the token ${stranger}, which is not in the vocabulary`);
  if (ids.length >= context) {
    throw new RequestError(
      400,
      `the prompt has ${ids.length} tokens, and an answer needs one more; the context holds ${context}: shorten the prompt, or serve with a larger --context`,
      { type: 'exceed_context_size_error', code: 400, more: { n_prompt_tokens: ids.length, n_ctx: context } },
    );
  }
  return ids;
}

/** Does work of the library on what a client gave: what is at fault there is the client's. */
export function readably<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw refusal(error);
  }
}

// --- internal ---

/** Answers of one prompt differ by their seeds. */
const repeated = (task: Task, n: number): Task[] =>
  Array.from({ length: n }, (_, nth) => {
    const { seed } = task.options;
    return { ...task, options: { ...task.options, ...(seed !== undefined && { seed: seed + nth }) } };
  });

function optionsOf({ context, config }: ServedModel, shared: Shared, logprobs?: number): TextOptions {
  const stranger = Object.keys(shared.logit_bias ?? {}).find((id) => Number(id) >= config.vocabSize);
  if (stranger !== undefined) throw refused('logit_bias', `has the token ${stranger}, which is not in the vocabulary`);
  const given = {
    stop: [shared.stop ?? []].flat(),
    seed: shared.seed,
    temperature: shared.temperature,
    topP: shared.top_p,
    topK: shared.top_k === -1 ? 0 : shared.top_k,
    minP: shared.min_p,
    repetitionPenalty: shared.repetition_penalty ?? shared.repeat_penalty,
    frequencyPenalty: shared.frequency_penalty,
    presencePenalty: shared.presence_penalty,
    logitBias: shared.logit_bias,
    logprobs,
  };
  return {
    maxTokens: shared.max_tokens ?? context,
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined && value !== null)),
  };
}

function formatOptions(format: ChatFields['format']): { jsonSchema?: Record<string, unknown> } {
  if (!format || format.type === 'text') return {};
  if (format.type === 'json_object') return { jsonSchema: { type: 'object' } };
  if (!format.json_schema) throw refused('response_format.json_schema', 'is missing');
  return { jsonSchema: format.json_schema.schema };
}
