/** Answers in JSON: what is kept for a tokenizer, its tokens' bytes and the schemas that were asked for lately. */
import type { Constraint } from '../runtime/texts.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { compileJsonSchema, schemaText } from './jsonSchema.ts';
import { makeConstraint, TokenGrammar } from './mask.ts';
import { makeVocabulary, type Vocabulary } from './vocabulary.ts';

const MAX_GRAMMARS = 8;

interface Kept {
  /** It takes half a second to make of 150,000 tokens. */
  readonly vocabulary: Vocabulary;
  /** By the schema's text, the one that was used longest ago first. */
  readonly grammars: Map<string, TokenGrammar>;
}

const kept = new WeakMap<object, Kept>();

/**
 * Holds one text to a schema.
 * @param endTokens These end the text, which they may where the value is complete.
 * @throws UnsupportedError when a keyword cannot be enforced, a limit is passed, or no value fits.
 */
export function constraintOf(
  tokenizer: Pick<Tokenizer, 'vocabSize' | 'bytesOf'>,
  schema: object,
  endTokens: ReadonlySet<number>,
): Constraint {
  const text = schemaText(schema);
  const { bytesOf, vocabSize } = tokenizer;
  const automaton = kept.get(tokenizer)?.grammars.has(text) ? undefined : compileJsonSchema(schema);
  const { vocabulary, grammars } = kept.get(tokenizer) ?? {
    vocabulary: makeVocabulary(vocabSize, bytesOf),
    grammars: new Map<string, TokenGrammar>(),
  };
  kept.set(tokenizer, { vocabulary, grammars });
  const grammar = automaton ? new TokenGrammar(automaton, vocabulary) : (grammars.get(text) as TokenGrammar);
  grammars.delete(text);
  grammars.set(text, grammar);
  if (grammars.size > MAX_GRAMMARS) grammars.delete(grammars.keys().next().value as string);
  return makeConstraint(grammar, bytesOf, endTokens);
}
