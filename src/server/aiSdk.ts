/** A model of this process as a language model of the Vercel AI SDK: its provider for OpenAI's protocol, without a port. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { makeServer, type ServedModel } from './app.ts';

/** Answers that may wait for their turn; an application asks for as many as it likes. */
const QUEUE = 2 ** 16;

/**
 * Makes what `generateText`, `streamText` and their like take for a model. Answers that are asked for at once go on together, as
 * many as the model was loaded for. It needs the package `@ai-sdk/openai-compatible`.
 *
 * @param name Is told with each answer. Default `dualchunk`.
 */
export function languageModel(model: ServedModel, name = 'dualchunk') {
  const { clientFetch } = makeServer(model, { name, sequences: 1, queue: QUEUE });
  const provider = createOpenAICompatible({
    ...{ name: 'dualchunk', baseURL: 'http://dualchunk/v1', fetch: clientFetch },
    ...{ includeUsage: true, supportsStructuredOutputs: true },
  });
  return provider(name);
}
