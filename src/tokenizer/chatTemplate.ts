/** Messages to the prompt a chat model was trained on. Wraps `@huggingface/jinja`, with the globals transformers has. */
import { Template } from '@huggingface/jinja';
import { UnsupportedError } from '../errors.ts';
import { namedToken } from './tokenizerJson.ts';

/** `chat_template` of `tokenizer_config.json`: one template, or several with names, of which `default` is meant. */
export function chatTemplateOf(config: Record<string, unknown>): string | undefined {
  const value = config.chat_template;
  if (!Array.isArray(value)) return typeof value === 'string' ? value : undefined;
  return value.find((entry) => entry?.name === 'default' && typeof entry.template === 'string')?.template;
}

/** @throws UnsupportedError when the template cannot be read, or refuses the messages. */
export function renderChat(
  template: string,
  config: Record<string, unknown>,
  messages: readonly { role: string; content: string }[],
  addGenerationPrompt: boolean,
  origin: string,
): string {
  const names = ['bos_token', 'eos_token', 'unk_token', 'pad_token'];
  const tokens = Object.fromEntries(names.map((name) => [name, namedToken(config, name) ?? '']));
  try {
    return new Template(template).render({
      ...tokens,
      messages,
      add_generation_prompt: addGenerationPrompt,
      tools: null,
      documents: null,
    });
  } catch (error) {
    throw new UnsupportedError(`${origin}: the chat template refused the messages: ${(error as Error).message}`);
  }
}
