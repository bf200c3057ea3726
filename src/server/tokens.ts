/** `POST /tokenize` and `/detokenize`, in llama.cpp's shape. */
import { z } from 'zod';
import type { ServedModel } from './generation.ts';
import { parse, readably } from './requests.ts';

const TOKENIZE = z.object({ content: z.string(), add_special: z.boolean().nullish() });
const DETOKENIZE = z.object({ tokens: z.array(z.int().min(0)) });

export function tokenize({ tokenizer }: ServedModel, given: unknown): object {
  const { content, add_special } = parse(TOKENIZE, given);
  return { tokens: readably(() => tokenizer.encode(content, { addSpecialTokens: add_special ?? false })) };
}

export function detokenize({ tokenizer }: ServedModel, given: unknown): object {
  const { tokens } = parse(DETOKENIZE, given);
  return { content: readably(() => tokenizer.decode(tokens, { skipSpecialTokens: false, midText: true })) };
}
