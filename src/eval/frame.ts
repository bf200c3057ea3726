/**
 * Every prompt has a frame, so that a model is asked as it is used to: with a text to continue, or a user's message.
 */
import { UnsupportedError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Frame, Making } from './task.ts';

/** A message that no template has in its own words. */
const MARK = 'the message of 9427 words';

/**
 * Gives the ids around a prompt: BOS if the model wants it, or what its chat template writes around a user's message.
 * @throws UnsupportedError when there is no chat template, or it does not hand on the message as it is.
 */
export function frameOf(tokenizer: Tokenizer, form: Making['form']): Frame {
  if (form === 'raw') return { before: tokenizer.encode(''), after: [] };
  if (tokenizer.chatTemplate === undefined) {
    throw new UnsupportedError('the model has no chat template, so prompts cannot be of form chat; use form raw');
  }
  const [before, after, ...more] = tokenizer.applyChatTemplate([{ role: 'user', content: MARK }]).split(MARK);
  if (after === undefined || more.length > 0) {
    throw new UnsupportedError('the chat template changes or repeats what the user says; use form raw');
  }
  const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  return { before: encode(before), after: encode(after) };
}
