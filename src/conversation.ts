/**
 * A conversation about a text, as much of it as a context holds: the oldest turns go first, the text stays. Names are those of the
 * Prompt API (webmachinelearning.github.io/prompt-api) where it has the same things. A model in a worker serves as well.
 */
import { UnsupportedError } from './errors.ts';
import type { Piece, Prompt, ReadOptions, TextOptions } from './model.ts';
import { DEFAULT_MAX_TOKENS } from './runtime/texts.ts';
import type { Message } from './tokenizer/tokenizer.ts';

/** What a conversation asks of a model, here or in a worker; `S` is a session of it. */
export interface Talker<S> {
  readonly context: number;
  readonly tokenizer: {
    readonly chatTemplate?: string;
    encode(text: string, options?: { addSpecialTokens?: boolean }): number[] | Promise<number[]>;
  };
  encode(prompt: Prompt, options?: Pick<TextOptions, 'templateVariables'>): number[] | Promise<number[]>;
  generate(prompt: Prompt, options?: TextOptions): AsyncGenerator<Piece>;
  read(prompt: Prompt, options?: ReadOptions): Promise<S>;
}

export interface ConversationOptions {
  /** Stands before everything; of models with a chat template alone. */
  system?: string;
  /** Stands before the first question. */
  text?: string;
  /** What the chat template may ask for, such as `{ enable_thinking: false }`. */
  templateVariables?: Record<string, unknown>;
}

export interface Turn {
  readonly question: string;
  readonly answer: string;
}

/** The messages of a conversation with a new question behind it. */
export function messagesOf(
  { system, text = '' }: Pick<ConversationOptions, 'system' | 'text'>,
  turns: readonly Turn[],
  question: string,
): Message[] {
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

/** Questions that begin with different tokens. */
export const QUESTIONS = ['A', '7'] as const;

/** The tokens that both begin with: of two prompts that differ in their question alone, all that stands before it. */
export function sharedTokens(a: readonly number[], b: readonly number[]): number[] {
  const end = a.findIndex((token, at) => token !== b[at]);
  return a.slice(0, end < 0 ? a.length : end);
}

/** Models without a chat template are given text and turns as they stand, and go on behind the last question. */
export class Conversation<S> {
  readonly #model: Talker<S>;
  readonly #options: ConversationOptions;
  #text: string;
  #turns: readonly Turn[] = [];
  /** Of a model without a chat template: the ids of the text. */
  #textIds?: Promise<readonly number[]>;

  constructor(model: Talker<S>, options: ConversationOptions = {}) {
    this.#model = model;
    this.#options = options;
    this.#text = options.text ?? '';
  }

  /** Tokens that text, turns and answers may have together. */
  get contextWindow(): number {
    return this.#model.context;
  }

  /** What was said, the oldest turn first, without what was left out. */
  get turns(): readonly Turn[] {
    return this.#turns;
  }

  /** Tokens that text and turns take. */
  async contextUsage(): Promise<number> {
    return (await this.#shared()).length;
  }

  /** Puts more text behind the text, before all questions; what was read of it until then is not read again. */
  append(text: string): void {
    this.#text += text;
    this.#textIds = undefined;
  }

  /** The same conversation, which goes on by itself. Both share what was read. */
  clone(): Conversation<S> {
    const copy = new Conversation(this.#model, { ...this.#options, text: this.#text });
    copy.#turns = this.#turns;
    return copy;
  }

  /** Forgets all turns. */
  clear(): void {
    this.#turns = [];
  }

  /** Adds a turn. `ask` does so by itself. */
  add(question: string, answer: string): void {
    this.#turns = [...this.#turns, { question, answer }];
  }

  /**
   * Answers a question, which is then a turn of the conversation. One that fails or is stopped is none.
   * @throws UnsupportedError where not even the question fits, and as `Model.generate`.
   */
  async *ask(question: string, options: TextOptions = {}): AsyncGenerator<Piece> {
    const { prompt } = await this.prompt(question, options.maxTokens);
    let answer = '';
    for await (const piece of this.#model.generate(prompt, this.#withVariables(prompt, options))) {
      answer += piece.text;
      yield piece;
    }
    this.add(question, answer);
  }

  /**
   * Gives the prompt of a new question. Turns that leave no room for an answer are left out for good, the oldest first.
   *
   * @param maxTokens Tokens that the answer wants, of which a quarter of the context is set aside at most. Default 256.
   * @throws UnsupportedError where not even the question fits; the conversation is then as it was.
   */
  async prompt(question: string, maxTokens = DEFAULT_MAX_TOKENS): Promise<{ prompt: Prompt; nDropped: number }> {
    const { context } = this.#model;
    const room = Math.min(maxTokens, Math.floor(context / 4));
    for (let nDropped = 0; ; nDropped++) {
      const turns = this.#turns.slice(nDropped);
      const prompt = await this.#prompt(turns, question);
      const nTokens = (await this.#encode(prompt)).length;
      if (turns.length > 0 && nTokens + room > context) continue;
      if (nTokens >= context) {
        throw new UnsupportedError(
          `the question has ${nTokens.toLocaleString('en')} tokens with what stands before it, but the context holds ` +
            `${context.toLocaleString('en')}; ask a shorter one, or start again with a larger context`,
        );
      }
      this.#turns = turns;
      return { prompt, nDropped };
    }
  }

  /**
   * Reads all that stands before the next question, so that it is answered at once, and can be saved.
   * @throws UnsupportedError as `Model.read`.
   */
  async read(options: Omit<ReadOptions, 'templateVariables'> = {}): Promise<S> {
    return this.#model.read(await this.#shared(), options);
  }

  // --- internal ---

  get #isChat(): boolean {
    return this.#model.tokenizer.chatTemplate !== undefined;
  }

  async #prompt(turns: readonly Turn[], question: string): Promise<Prompt> {
    if (this.#isChat) return messagesOf({ ...this.#options, text: this.#text }, turns, question);
    const { tokenizer } = this.#model;
    this.#textIds ??= Promise.resolve(this.#text === '' ? [] : tokenizer.encode(this.#text));
    const textIds = await this.#textIds;
    const said = turns.map((turn) => `\n\n${turn.question}${turn.answer}`).join('');
    const isFirst = textIds.length === 0;
    const rest = isFirst ? `${said}\n\n${question}`.trimStart() : `${said}\n\n${question}`;
    return [...textIds, ...(await tokenizer.encode(rest, { addSpecialTokens: isFirst }))];
  }

  async #encode(prompt: Prompt): Promise<readonly number[]> {
    return this.#model.encode(prompt, this.#withVariables(prompt, {}));
  }

  /** The prompt begins with these tokens whatever the next question is. */
  async #shared(): Promise<number[]> {
    const idsOf = async (question: string) => this.#encode(await this.#prompt(this.#turns, question));
    const [a, b] = await Promise.all(QUESTIONS.map(idsOf));
    return sharedTokens(a, b);
  }

  #withVariables(prompt: Prompt, options: TextOptions): TextOptions {
    const { templateVariables } = this.#options;
    return templateVariables && typeof prompt[0] === 'object' ? { ...options, templateVariables } : options;
  }
}
