/**
 * Texts that are read once and kept under a name: `POST /sessions/save` reads a conversation or a prompt and writes it down,
 * `/sessions/restore` puts it back into the cache. Requests that begin so are then answered at once.
 */
import { z } from 'zod';
import { FormatError } from '../errors.ts';
import type { Prompt } from '../model.ts';
import { RequestError, refusal } from './errors.ts';
import type { ServedModel } from './generation.ts';
import { encoded, messageList, messagesOf, parse, templateVariables } from './requests.ts';

/** Where sessions are kept, by names of letters, digits, `_`, `-` and dots. */
export interface SessionShelf {
  /** Both return tokens, and reject with the library's errors. */
  save(name: string, tokens: readonly number[], signal: AbortSignal): Promise<number>;
  restore(name: string, signal: AbortSignal): Promise<number>;
}

const name = z.string().regex(/^(?!\.)[\w.-]{1,100}$/, 'wanted a name of letters, digits, _, - and dots');
const SAVE = z.object({
  name,
  messages: messageList.nullish(),
  prompt: z.string().min(1).nullish(),
  chat_template_kwargs: templateVariables.nullish(),
});
const RESTORE = z.object({ name });

export type SessionRoute = (
  shelf: SessionShelf,
  model: ServedModel,
  body: unknown,
  signal: AbortSignal,
) => Promise<object>;

export const save: SessionRoute = async (shelf, model, body, signal) => {
  const { name, messages, prompt, chat_template_kwargs } = parse(SAVE, body);
  const text: Prompt | null | undefined = messages ? messagesOf(messages) : prompt;
  if (!text) throw new RequestError(400, 'messages or prompt: one of them is wanted', { param: 'messages' });
  const tokens = encoded(model, text, (messages && chat_template_kwargs) ?? undefined);
  return told(name, () => shelf.save(name, tokens, signal));
};

export const restore: SessionRoute = async (shelf, _model, body, signal) => {
  const { name } = parse(RESTORE, body);
  return told(name, () => shelf.restore(name, signal));
};

async function told(name: string, work: () => Promise<number>): Promise<object> {
  const startedAt = performance.now();
  try {
    const tokens = await work();
    return { object: 'session', name, n_tokens: tokens, milliseconds: Math.round(performance.now() - startedAt) };
  } catch (error) {
    throw error instanceof FormatError ? new RequestError(400, error.message) : refusal(error);
  }
}
