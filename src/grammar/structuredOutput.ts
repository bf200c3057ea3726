/** What a model keeps for answers in JSON: the bytes of its tokens, and the schemas that were asked for lately. */
import type { Constraint } from '../runtime/texts.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { compileJsonSchema, schemaText } from './jsonSchema.ts';
import { makeConstraint, TokenGrammar } from './mask.ts';
import { makeVocabulary, type Vocabulary } from './vocabulary.ts';

const MAX_GRAMMARS = 8;

export class StructuredOutput {
  readonly #tokenizer: Pick<Tokenizer, 'vocabSize' | 'bytesOf'>;
  /** Made when it is first wanted, which takes half a second for 150,000 tokens. */
  #vocabulary?: Vocabulary;
  /** By the schema's text, the one that was used longest ago first. */
  readonly #grammars = new Map<string, TokenGrammar>();

  constructor(tokenizer: Pick<Tokenizer, 'vocabSize' | 'bytesOf'>) {
    this.#tokenizer = tokenizer;
  }

  /**
   * Holds one text to a schema.
   * @param endTokens These end the text, which they may where the value is complete.
   * @throws UnsupportedError when a keyword cannot be enforced, a limit is passed, or no value fits.
   */
  constraint(schema: object, endTokens: ReadonlySet<number>): Constraint {
    const { vocabSize, bytesOf } = this.#tokenizer;
    const text = schemaText(schema);
    const make = () => {
      const automaton = compileJsonSchema(schema);
      this.#vocabulary ??= makeVocabulary(vocabSize, bytesOf);
      return new TokenGrammar(automaton, this.#vocabulary);
    };
    const grammar = this.#grammars.get(text) ?? make();
    this.#grammars.delete(text);
    this.#grammars.set(text, grammar);
    if (this.#grammars.size > MAX_GRAMMARS) this.#grammars.delete(this.#grammars.keys().next().value as string);
    return makeConstraint(grammar, bytesOf, endTokens);
  }
}
