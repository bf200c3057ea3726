/** What a conversation leaves out when its context is full, what it never does, and what it shares. */
import { describe, expect, it } from 'vitest';
import { Conversation, type ConversationOptions } from './conversation.ts';
import type { Piece, Prompt } from './model.ts';
import type { Message } from './tokenizer/tokenizer.ts';

/** A token a character. */
const said = (messages: readonly Message[]) => messages.map(({ role, content }) => `${role[0]}:${content};`).join('');
const idsOf = (text: string) => Array.from(text, (letter) => letter.charCodeAt(0));
const textOf = (prompt: Prompt) =>
  typeof prompt[0] === 'object' ? said(prompt as Message[]) : String.fromCharCode(...(prompt as number[]));

/** A model that answers every prompt with its answer, and tells what it was asked for. */
function talker({ context = 999, isChat = true, answer = 'yes' }) {
  const asked: string[] = [];
  const tokenizer = {
    ...(isChat && { chatTemplate: 'any' }),
    encode: (text: string, { addSpecialTokens = true } = {}) => idsOf((addSpecialTokens ? '^' : '') + text),
  };
  async function* generate(prompt: Prompt): AsyncGenerator<Piece> {
    asked.push(textOf(prompt));
    for (const text of answer) yield { text, tokens: [] };
  }
  const encode = (prompt: Prompt) => idsOf(textOf(prompt));
  const read = async (prompt: Prompt) => textOf(prompt);
  return { asked, model: { context, tokenizer, encode, generate, read } };
}
const conversation = (options?: ConversationOptions, context = 999) =>
  new Conversation(talker({ context }).model, options);
const promptOf = async (chat: Conversation<unknown>, question: string, maxTokens = 9) =>
  textOf((await chat.prompt(question, maxTokens)).prompt);
async function all(pieces: AsyncIterable<Piece>): Promise<string> {
  let text = '';
  for await (const piece of pieces) text += piece.text;
  return text;
}

describe('a conversation', () => {
  it('has the system message first, the text before the first question, and then the turns', async () => {
    const chat = conversation({ text: 'book', system: 'brief' });
    expect(await promptOf(chat, 'one')).toBe('s:brief;u:book\n\none;');
    chat.add('one', 'first');
    expect(await promptOf(chat, 'two')).toBe('s:brief;u:book\n\none;a:first;u:two;');
  });

  it('leaves out the oldest turns, question and answer together, and keeps system message and text', async () => {
    const whole = 's:brief;u:book\n\none;a:first;u:two;a:second;u:three;a:third;u:four;'.length;
    const filled = (context: number) => {
      const chat = conversation({ text: 'book', system: 'brief' }, context);
      for (const turn of ['one first', 'two second', 'three third']) chat.add(...(turn.split(' ') as [string, string]));
      return chat;
    };
    expect((await filled(whole + 9).prompt('four', 9)).nDropped).toBe(0);
    const chat = filled(whole + 8);
    const { prompt, nDropped } = await chat.prompt('four', 9);
    expect(nDropped).toBe(1);
    expect(textOf(prompt)).toBe('s:brief;u:book\n\ntwo;a:second;u:three;a:third;u:four;');
    // What was left out stays out, though it would fit again.
    expect(await promptOf(chat, 'x', 1)).toBe('s:brief;u:book\n\ntwo;a:second;u:three;a:third;u:x;');
    expect((await filled('s:brief;u:book\n\nfour;'.length + 6).prompt('four', 9)).nDropped).toBe(3);
  });

  it('refuses a question that fits nowhere, and forgets nothing over it', async () => {
    const chat = conversation({}, 64);
    chat.add('one', 'first');
    await expect(chat.prompt('x'.repeat(90), 9)).rejects.toThrow(
      /the question has 93 tokens .* the context holds 64; ask a shorter/,
    );
    expect(await promptOf(chat, 'two')).toBe('u:one;a:first;u:two;');
  });

  it('answers with the room there is where a question takes most of it', async () => {
    expect(await promptOf(conversation({}, 8), 'one')).toBe('u:one;');
  });

  it('is cleared but for system message and text', async () => {
    const chat = conversation({ text: 'book', system: 'brief' });
    chat.add('one', 'first');
    chat.clear();
    expect(await promptOf(chat, 'two')).toBe('s:brief;u:book\n\ntwo;');
  });

  it('remembers what it answered, and a clone goes on by itself', async () => {
    const { model, asked } = talker({});
    const chat = new Conversation(model, { text: 'book' });
    expect(await all(chat.ask('one'))).toBe('yes');
    const copy = chat.clone();
    await all(copy.ask('two'));
    await all(chat.ask('three'));
    expect(asked).toEqual(['u:book\n\none;', 'u:book\n\none;a:yes;u:two;', 'u:book\n\none;a:yes;u:three;']);
    expect([chat.turns.length, copy.turns.length]).toEqual([2, 2]);
  });

  it('does not remember a question whose answer was stopped', async () => {
    const chat = conversation();
    for await (const _ of chat.ask('one')) break;
    expect(chat.turns).toEqual([]);
  });

  it('reads what all questions share, and tells how long that is', async () => {
    const chat = conversation({ text: 'book' });
    expect(await chat.read()).toBe('u:book\n\n');
    expect(await chat.contextUsage()).toBe('u:book\n\n'.length);
    chat.append(' and more');
    expect(await chat.read()).toBe('u:book and more\n\n');
    expect(chat.contextWindow).toBe(999);
  });

  it('is plain text to a model without a chat template', async () => {
    const { model, asked } = talker({ isChat: false });
    const chat = new Conversation(model, { text: 'book' });
    await all(chat.ask('one'));
    await all(chat.ask('two'));
    expect(asked).toEqual(['^book\n\none', '^book\n\noneyes\n\ntwo']);
    expect(await chat.read()).toBe('^book\n\noneyes\n\ntwoyes\n\n');
    const empty = new Conversation(talker({ isChat: false }).model);
    expect(await promptOf(empty, 'one')).toBe('^one');
  });
});
