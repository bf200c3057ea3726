/** Who answers samples: a model loaded here, or one behind an OpenAI-compatible server. */
import type { OpenAI } from 'openai';
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
      if (form === 'raw') {
        const { choices } = await client.completions.create({ ...settings, prompt: text });
        return choices[0]?.text ?? '';
      }
      const messages = [{ role: 'user' as const, content: text }];
      const { choices } = await client.chat.completions.create({ ...settings, messages });
      return choices[0]?.message.content ?? '';
    },
    losses: () => Promise.reject(new Error('a server gives answers, not losses')),
    close: async () => {},
  };
}
