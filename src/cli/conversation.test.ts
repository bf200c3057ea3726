/** What a chat leaves out when its context is full, and what it never does. */
import { describe, expect, it } from 'vitest';
import type { Message } from '../node.ts';
import { Conversation } from './conversation.ts';

/** A token a character. */
const said = (messages: readonly Message[]) => messages.map(({ role, content }) => `${role[0]}:${content};`).join('');
const encode = (messages: readonly Message[]) => Array.from(said(messages), (letter) => letter.charCodeAt(0));
const conversation = (text = '', system?: string) => new Conversation({ system, text, encode });
const asked = ({ prompt }: { prompt: readonly Message[] }) => said(prompt);

describe('a conversation', () => {
  it('has the system message first, the text before the first question, and then the turns', () => {
    const chat = conversation('book', 'brief');
    expect(asked(chat.ask('one', 999, 9))).toBe('s:brief;u:book\n\none;');
    chat.add('one', 'first');
    expect(asked(chat.ask('two', 999, 9))).toBe('s:brief;u:book\n\none;a:first;u:two;');
  });

  it('leaves out the oldest turns, question and answer together, and keeps system message and text', () => {
    const chat = conversation('book', 'brief');
    for (const [question, answer] of [
      ['one', 'first'],
      ['two', 'second'],
      ['three', 'third'],
    ])
      chat.add(question, answer);
    const all = 's:brief;u:book\n\none;a:first;u:two;a:second;u:three;a:third;u:four;'.length;
    expect(chat.ask('four', all + 9, 9).nDropped).toBe(0);
    const { prompt, nDropped } = chat.ask('four', all + 8, 9);
    expect(nDropped).toBe(1);
    expect(asked({ prompt })).toBe('s:brief;u:book\n\ntwo;a:second;u:three;a:third;u:four;');
    // What was left out stays out, though it would fit again.
    expect(asked(chat.ask('four', 999, 9))).toBe('s:brief;u:book\n\ntwo;a:second;u:three;a:third;u:four;');
    expect(chat.ask('four', 's:brief;u:book\n\nfour;'.length + 9, 9).nDropped).toBe(2);
  });

  it('refuses a question that fits nowhere, and forgets nothing over it', () => {
    const chat = conversation();
    chat.add('one', 'first');
    expect(() => chat.ask('x'.repeat(90), 64, 9)).toThrow(
      /the question has 93 tokens .* the context holds 64; ask a shorter/,
    );
    expect(asked(chat.ask('two', 64, 9))).toBe('u:one;a:first;u:two;');
  });

  it('answers with the room there is where a question takes most of it', () => {
    expect(asked(conversation().ask('one', 8, 9))).toBe('u:one;');
  });

  it('is cleared but for system message and text', () => {
    const chat = conversation('book', 'brief');
    chat.add('one', 'first');
    chat.clear();
    expect(asked(chat.ask('two', 999, 9))).toBe('s:brief;u:book\n\ntwo;');
  });
});
