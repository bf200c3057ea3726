/**
 * A conversation keeps what a chat has said so far, as much as a context holds: the oldest turns go first, the attached
 * text stays.
 */
import { type Message, UnsupportedError } from '../node.ts';
import { count } from './terminal.ts';

interface Turn {
  question: string;
  answer: string;
}

export interface ConversationParts {
  system?: string;
  /** Stands before the first question. */
  text: string;
  /** Gives token ids of messages, as the model's template has them. */
  encode(messages: readonly Message[]): number[];
}

export class Conversation {
  readonly #parts: ConversationParts;
  #turns: Turn[] = [];

  constructor(parts: ConversationParts) {
    this.#parts = parts;
  }

  /**
   * Gives the messages of the conversation with a new question behind it. Turns that leave no room for an answer are
   * left out for good, the oldest first.
   * @param room Tokens that the answer wants.
   * @throws UnsupportedError where not even the question fits; the conversation is then as it was.
   */
  ask(question: string, context: number, room: number): { prompt: Message[]; nDropped: number } {
    for (let nDropped = 0; ; nDropped++) {
      const turns = this.#turns.slice(nDropped);
      const prompt = this.#messages(turns, question);
      const nTokens = this.#parts.encode(prompt).length;
      if (turns.length > 0 && nTokens + room > context) continue;
      if (nTokens >= context) {
        throw new UnsupportedError(
          `the question has ${count(nTokens)} tokens with what stands before it, but the context holds ` +
            `${count(context)}; ask a shorter one, or start again with a larger --context`,
        );
      }
      this.#turns = turns;
      return { prompt, nDropped };
    }
  }

  /** The system message, the attached text and the template around a question take so many tokens. */
  get frameTokens(): number {
    return this.#parts.encode(this.#messages([], '?')).length;
  }

  add(question: string, answer: string): void {
    this.#turns.push({ question, answer });
  }

  clear(): void {
    this.#turns = [];
  }

  #messages(turns: readonly Turn[], question: string): Message[] {
    const { system, text } = this.#parts;
    const opening: Message[] = system === undefined ? [] : [{ role: 'system', content: system }];
    const say = (content: string, at: number): Message => ({
      role: 'user',
      content: at === 0 && text !== '' ? `${text}\n\n${content}` : content,
    });
    const answered = turns.flatMap((turn, at): Message[] => [
      say(turn.question, at),
      { role: 'assistant', content: turn.answer },
    ]);
    return [...opening, ...answered, say(question, turns.length)];
  }
}
