/** Samples are answered by a model loaded here, or by one behind an OpenAI-compatible server. */
import type { OpenAI } from 'openai';
import { UnsupportedError } from '../errors.ts';
import type { Model } from '../model.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Reader } from './run.ts';

/** Answers greedily. What a sample shares with the one before stays in the cache. */
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
 * Asks a server, which is sent text.
 * @param tokenizer Samples were made with it.
 * @param form `chat` sends a user's message, `raw` a text to continue.
 */
export function serverReader(client: OpenAI, model: string, tokenizer: Tokenizer, form: 'raw' | 'chat'): Reader {
  return {
    async answer({ ids, maxTokens }) {
      const text = tokenizer.decode(ids, { skipSpecialTokens: true });
      const settings = { model, max_tokens: maxTokens, temperature: 0 };
      const messages = [{ role: 'user' as const, content: text }];
      let reply: unknown;
      try {
        reply =
          form === 'raw'
            ? await client.completions.create({ ...settings, prompt: text })
            : await client.chat.completions.create({ ...settings, messages });
      } catch (error) {
        throw new UnsupportedError(`${client.baseURL} did not answer (${reasonOf(error)}); ${GOES_ON}`);
      }
      const [wanted, answer] = answerIn(reply as Reply, form);
      if (typeof answer === 'string') return answer;
      throw new UnsupportedError(
        `${client.baseURL} answered with ${answer === null ? 'null' : typeof answer} in ${wanted}, where a text is wanted; ` +
          `let the server run a model that does not think first; ${GOES_ON}`,
      );
    },
    losses: () => Promise.reject(new Error('a server gives answers, not losses')),
    close: async () => {},
  };
}

/** Says what the client of a server threw, in the words of whoever knows most of it. */
export function reasonOf(error: unknown): string {
  const { error: told, cause, message } = error as { error?: Error; cause?: NodeJS.ErrnoException; message: string };
  return told?.message || cause?.message || cause?.code || message;
}

// --- internal ---

const GOES_ON = 'what is finished is kept, and the same evaluation goes on from it';

type Reply = { choices?: { text?: unknown; message?: { content?: unknown } | null }[] } | null;

/** Tells where an answer should be, and what is there. */
function answerIn(reply: Reply, form: 'raw' | 'chat'): [where: string, answer: unknown] {
  const choice = reply?.choices?.[0];
  return form === 'raw' ? ['choices[0].text', choice?.text] : ['choices[0].message.content', choice?.message?.content];
}
