/** Who answers samples: a model loaded here, or one behind an OpenAI-compatible server. */
import type { OpenAI } from 'openai';
import { UnsupportedError } from '../errors.ts';
import type { Model } from '../model.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Reader } from './run.ts';

/** Greedy answers. What a sample shares with the one before stays in the cache. */
export function modelReader(model: Model): Reader {
  return {
    async answer({ ids, maxTokens }, onTokens) {
      const onProgress = (done: number, total: number) => onTokens(done + ids.length - total);
      let answer = '';
      for await (const { text } of model.generate(ids, { maxTokens, temperature: 0, onProgress })) answer += text;
      return answer;
    },
    async losses({ ids }, onTokens) {
      const losses = new Float64Array(ids.length - 1);
      let n = 0;
      for await (const block of model.score(ids, { onProgress: onTokens })) {
        losses.set(block, n);
        n += block.length;
      }
      return losses;
    },
    close: () => model.dispose(),
  };
}

/**
 * @param tokenizer That samples were made with; the server is sent text.
 * @param form `chat` sends a user's message, `raw` a text to continue.
 */
export function serverReader(client: OpenAI, model: string, tokenizer: Tokenizer, form: 'raw' | 'chat'): Reader {
  return {
    async answer({ ids, maxTokens }) {
      const text = tokenizer.decode(ids, { skipSpecialTokens: true });
      const settings = { model, max_tokens: maxTokens, temperature: 0 };
      const messages = [{ role: 'user' as const, content: text }];
      let answer: unknown;
      try {
        if (form === 'raw') answer = (await client.completions.create({ ...settings, prompt: text })).choices[0]?.text;
        else answer = (await client.chat.completions.create({ ...settings, messages })).choices[0]?.message.content;
      } catch (error) {
        throw new UnsupportedError(`the server did not answer (${(error as Error).message}); the same command goes on`);
      }
      if (typeof (answer ?? '') !== 'string') throw new UnsupportedError('the server gave an answer that is no text');
      return (answer as string | null | undefined) ?? '';
    },
    losses: () => Promise.reject(new Error('a server gives answers, not losses')),
    close: async () => {},
  };
}
