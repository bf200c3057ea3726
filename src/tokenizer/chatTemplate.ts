/**
 * Messages become the prompt a chat model was trained on, by the Jinja template that came with it, as in transformers.
 */
import { UnsupportedError } from '../errors.ts';
import { Interpreter } from './jinja/interpreter.ts';
import { Meter, TemplateError } from './jinja/limits.ts';
import { parse } from './jinja/parser.ts';
import { fromJson, type Value } from './jinja/values.ts';
import { namedToken } from './tokenizerJson.ts';

export interface Turn {
  role: string;
  content: string;
}

/** A template has variables of its own, such as `{ enable_thinking: false }`; one that takes tools has `tools`. */
export type TemplateVariables = Readonly<Record<string, unknown>>;

const TOKEN_NAMES = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'sep_token', 'cls_token', 'mask_token'];
/** These names have a meaning already. */
const TAKEN = new Set([
  ...[...TOKEN_NAMES, 'messages', 'add_generation_prompt', 'documents', 'loop', 'caller', 'self'],
  ...['range', 'dict', 'namespace', 'raise_exception', 'strftime_now', 'lipsum', 'cycler', 'joiner'],
  ...['true', 'false', 'none', 'True', 'False', 'None', 'and', 'or', 'not', 'in', 'is', 'if', 'else'],
]);
const MAX_VARIABLE_DEPTH = 32;

/**
 * Finds the template: `chat_template` of `tokenizer_config.json` is one, or several with names, of which `default` is
 * meant.
 */
export function chatTemplateOf(config: Record<string, unknown>): string | undefined {
  const value = config.chat_template;
  if (!Array.isArray(value)) return typeof value === 'string' ? value : undefined;
  return value.find((entry) => entry?.name === 'default' && typeof entry.template === 'string')?.template;
}

/**
 * Renders messages by a template.
 * @throws UnsupportedError when the template cannot be read, uses what is not supported here, does not come to an end,
 *   or refuses the messages; or when a variable is not one it may be given.
 */
export function renderChat(
  template: string,
  config: Record<string, unknown>,
  messages: readonly Turn[],
  addGenerationPrompt: boolean,
  origin: string,
  variables: TemplateVariables = {},
): string {
  const given = {
    ...Object.fromEntries(TOKEN_NAMES.map((name) => [name, namedToken(config, name)])),
    tools: null,
    ...variables,
    messages,
    add_generation_prompt: addGenerationPrompt,
    documents: null,
  };
  const nCharacters = template.length + messages.reduce((sum, { content }) => sum + content.length, 0);
  const meter = new Meter(messages.length, nCharacters);
  checkVariables(variables);
  try {
    const values = new Map<string, Value>(
      Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [[name, fromJson(value)]])),
    );
    return new Interpreter(meter).run(parse(template, meter), values);
  } catch (error) {
    const { message } = error as Error;
    if (error instanceof TemplateError) {
      throw new UnsupportedError(`${origin}: the chat template ${message}`, { cause: error });
    }
    // JavaScript itself ends a stack or a text beyond what it can have.
    if (!(error instanceof RangeError)) throw error;
    throw new UnsupportedError(`${origin}: the chat template goes too deep or makes too much: ${message}`, {
      cause: error,
    });
  }
}

/**
 * Does what `renderChat` does; a system message that the template refuses or leaves out goes in front of the first
 * message of the user, with an empty line between.
 */
export function renderConversation(...given: Parameters<typeof renderChat>): string {
  const [template, config, messages, ...rest] = given;
  const merged = withoutSystem(messages);
  if (!merged) return renderChat(...given);
  const has = (rendered: string) => rendered.includes(messages[0].content.trim());
  let refusal: unknown;
  try {
    const rendered = renderChat(...given);
    if (has(rendered) || renderChat(template, config, messages.slice(1), ...rest) !== rendered) return rendered;
  } catch (error) {
    refusal = error;
  }
  const rendered = orUndefined(() => renderChat(template, config, merged, ...rest));
  if (rendered !== undefined && has(rendered)) return rendered;
  throw refusal ?? new UnsupportedError(`${rest[1]}: the chat template leaves out the system message`);
}

/** Puts a first message of the system in front of what the user says first. */
function withoutSystem([first, ...messages]: readonly Turn[]): Turn[] | undefined {
  const at = messages.findIndex(({ role }) => role === 'user');
  if (first?.role !== 'system' || first.content.trim() === '' || at < 0) return undefined;
  return messages.map((turn, i) => (i === at ? { ...turn, content: `${first.content}\n\n${turn.content}` } : turn));
}

function orUndefined<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

/** Checks variables. @throws UnsupportedError when a name is taken, or a value is not what JSON can hold. */
export function checkVariables(variables: TemplateVariables): void {
  for (const [name, value] of Object.entries(variables)) {
    if (TAKEN.has(name))
      throw new UnsupportedError(`the template variable "${name}" has a meaning already; choose another name`);
    if (!/^[\p{L}_][\p{L}\p{N}_]*$/u.test(name)) {
      throw new UnsupportedError(`"${name}" is no name of a template variable; wanted letters, digits and _`);
    }
    checkJson(value, `the template variable "${name}"`);
  }
}

/**
 * Checks a value.
 * @throws UnsupportedError when it is not what JSON can hold, or goes deeper than a template's messages do.
 */
export function checkJson(value: unknown, what: string, depth = 0): void {
  const wanted = 'wanted what JSON can hold: a text, a number, true, false, null, or lists and objects of them';
  if (depth > MAX_VARIABLE_DEPTH) {
    throw new UnsupportedError(`${what} is nested deeper than ${MAX_VARIABLE_DEPTH}`);
  }
  if (value === null || value === undefined || typeof value === 'string' || typeof value === 'boolean') return;
  if (Number.isFinite(value)) return;
  const prototype = typeof value === 'object' ? Object.getPrototypeOf(value) : undefined;
  if (Array.isArray(value) || prototype === Object.prototype || prototype === null) {
    for (const item of Object.values(value as object)) checkJson(item, what, depth + 1);
    return;
  }
  throw new UnsupportedError(`${what} has a value of type ${typeof value}; ${wanted}`);
}
