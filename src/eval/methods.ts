/** Samples are put to ways to read: to methods of a model on disk, or to a server, which reads as it does. */
import type { OpenAI } from 'openai';
import { resolveMethod } from '../method.ts';
import type { LoadOptions, ModelFile } from '../modelFile.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { modelReader, serverReader } from './readers.ts';
import type { MethodRun } from './run.ts';
import type { Making } from './task.ts';

/**
 * Makes ways to read of methods; the model is loaded anew for each, with as much context as its samples need.
 *
 * @param names Methods as `LoadOptions.method` names them.
 * @param lengths Tokens of the samples.
 * @param options How the model computes, as for `ModelFile.load`.
 * @throws UnsupportedError when a method is unknown, or does not fit the model.
 */
export function modelMethods(
  file: ModelFile,
  names: readonly string[],
  lengths: readonly number[],
  options: Omit<LoadOptions, 'context' | 'method' | 'scale'> = {},
): MethodRun[] {
  return names.flatMap((name) => {
    // Dynamic NTK follows each length; other methods are settled for the longest.
    const groups = name === 'dynamic' ? lengths.map((length) => [length]) : [lengths];
    return groups.map((group) => {
      const { name: method, description } = resolveMethod(name, undefined, file.config, Math.max(...group));
      const open = async (context: number) => modelReader(await file.load({ ...options, context, method }));
      return { method, description, lengths: group, open };
    });
  });
}

/** Makes a server the one way to read of its model. It is sent text, which `tokenizer` makes of samples. */
export const serverMethod = (
  client: OpenAI,
  model: string,
  tokenizer: Tokenizer,
  form: Making['form'],
  lengths: readonly number[],
): MethodRun => ({
  ...{ method: 'server', description: `whatever ${client.baseURL} does`, lengths },
  open: async () => serverReader(client, model, tokenizer, form),
});
