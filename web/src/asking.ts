/** Questions to the model that has read the text, and to the same model without DCA, which reads the text when it is first asked. */
import { Conversation, UnsupportedError } from 'dualchunk';
import type { RemoteModel, RemoteSession } from 'dualchunk/browser';
import { begun, guarded, models, stop } from './doing.ts';
import { type PassKey, questionOf } from './passKeys.ts';
import { BACKEND } from './place.ts';
import type { Exchange } from './state.ts';
import * as state from './state.ts';

const ANSWER_TOKENS = { chat: 512, plain: 24 };

/** The same model without DCA, and how far it has read. */
let plain: { readonly model: RemoteModel; readonly conversation: Conversation<RemoteSession> } | undefined;

export const ask = (question: string): Promise<void> => guarded(() => answer(question));
export const askForKey = (key: PassKey): Promise<void> => guarded(() => answer(questionOf(key), key.key));

/** Puts questions to the model without DCA too, or no longer. */
export async function compare(isCompared: boolean): Promise<void> {
  state.isCompared.value = isCompared;
  if (!isCompared) await forgetPlain();
}

/** What is asked about, and by which model. @throws UnsupportedError until a text was read. */
export function currently() {
  const { loaded, text, conversation, model } = state;
  if (loaded.value && text.value && conversation.value && model.value) {
    return { opened: loaded.value, text: text.value, conversation: conversation.value, model: model.value };
  }
  throw new UnsupportedError('no text was read; choose a model and a text');
}

/** Lets go of the model without DCA, and of what it has read. */
export async function forgetPlain(): Promise<void> {
  const { model } = plain ?? {};
  plain = undefined;
  await model?.dispose().catch(() => {});
}

// --- internal ---

async function answer(question: string, expected?: string): Promise<void> {
  const { conversation, opened } = currently();
  const place = state.exchanges.value.length;
  const base: Exchange = { question, answer: '', expected, state: 'answering', speed: 0 };
  const change = (more: Partial<Exchange>) => {
    state.exchanges.value = state.exchanges.value.map((one, at) => (at === place ? { ...one, ...more } : one));
  };
  state.exchanges.value = [...state.exchanges.value, base];
  const signal = begun();
  const { isChat } = opened;
  const options = isChat
    ? { maxTokens: ANSWER_TOKENS.chat, signal }
    : { maxTokens: expected ? 8 : ANSWER_TOKENS.plain, temperature: 0, signal };
  // A pass key is asked for beside the conversation, so that one answer does not help the next.
  const before = expected ? conversation.clone() : conversation;
  const copy = state.isCompared.value ? before.clone() : undefined;
  try {
    const told = (answer: string, speed: number) => change({ answer, speed });
    await stream(before.ask(question, options), told);
    if (copy) {
      change({ state: 'comparing', plain: '' });
      const other = (await plainConversation(signal)).clone();
      for (const turn of copy.turns) other.add(turn.question, turn.answer);
      await stream(other.ask(question, options), (text) => change({ plain: text }));
    }
    change({ state: 'done' });
  } catch (error) {
    change({ state: 'stopped' });
    if (!signal.aborted) throw error;
  }
}

async function stream(
  pieces: ReturnType<Conversation<RemoteSession>['ask']>,
  told: (text: string, speed: number) => void,
) {
  let text = '';
  let [n, from] = [0, 0];
  for await (const piece of pieces) {
    from ||= performance.now();
    text += piece.text;
    n += piece.tokens.length;
    told(text, n > 1 ? (n - 1) / ((performance.now() - from) / 1000) : 0);
  }
}

/** The model without DCA, which reads the same text when it is asked for the first time. */
async function plainConversation(signal: AbortSignal): Promise<Conversation<RemoteSession>> {
  const { opened, text, model } = currently();
  if (plain) return plain.conversation;
  const options = { context: model.context, method: 'none', backend: BACKEND, signal };
  const loaded = await models.loadModel(opened.source, options);
  const conversation = new Conversation(loaded, { text: text.text });
  plain = { model: loaded, conversation };
  const onProgress = (done: number, total: number) => {
    state.task.value = { what: 'reading without DCA', done, total, stop };
  };
  try {
    await conversation.read({ signal, onProgress });
  } finally {
    state.task.value = undefined;
  }
  return conversation;
}
