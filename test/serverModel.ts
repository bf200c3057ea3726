/** A model for tests of the server: it has a real tokenizer, and says what it is told to. */
import { setTimeout as sleep } from 'node:timers/promises';
import { openModel } from '../src/node.ts';
import { makeServer, type ServedModel, type Server, type ServerOptions } from '../src/server/app.ts';
import { makeTokenizer } from '../src/tokenizer/tokenizer.ts';

const file = await openModel('test/golden/qwen3');
await file.close();
const TEMPLATE = `{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for call in m.tool_calls %}{{ call.function | tojson }}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if think %}<think>
{% endif %}{% endif %}`;

export interface Scripted extends ServedModel {
  /** Texts of prompts that were read. */
  readonly prompts: string[];
  /** Generations that have begun and not ended. */
  readonly active: () => number;
}

export interface Script {
  says?: string;
  context?: number;
  /** Milliseconds a token takes. */
  delay?: number;
  /** Characters of a token. */
  size?: number;
  fails?: Error;
}

/** Says `says` in tokens of a few characters, and ends where it is told to. */
export async function scripted({ says = 'Hello there', context = 512, delay = 0, size = 3, fails }: Script = {}) {
  const json = await import('node:fs').then(
    ({ readFileSync }) =>
      (name: string) =>
        JSON.parse(readFileSync(`test/golden/qwen3/${name}`, 'utf8')),
  );
  const config = { ...json('tokenizer_config.json'), chat_template: TEMPLATE };
  const tokenizer = makeTokenizer(json('tokenizer.json'), config, 'a model', file.config.vocabSize);
  const prompts: string[] = [];
  let active = 0;
  const model: Scripted = {
    config: file.config,
    tokenizer,
    context,
    prompts,
    active: () => active,
    encode(prompt, { templateVariables: variables } = {}) {
      if (typeof prompt === 'string') return tokenizer.encode(prompt);
      const [first] = prompt;
      if (typeof first === 'number') return [...(prompt as readonly number[])];
      return tokenizer.encodeChat(prompt as Parameters<typeof tokenizer.encodeChat>[0], { variables });
    },
    async *generate(prompt, { maxTokens = 256, signal, onProgress, templateVariables, logprobs, seed = 1 } = {}) {
      const ids = model.encode(prompt, { templateVariables });
      prompts.push(tokenizer.decode(ids, { skipSpecialTokens: false }));
      active++;
      try {
        const cached = Math.floor((ids.length - 1) / 2);
        onProgress?.(0, ids.length - cached);
        for (let at = 0, n = 0; at < says.length; at += size, n++) {
          if (n === maxTokens) return yield { text: '', tokens: [], finishReason: 'length', seed };
          await sleep(delay, undefined, { signal }).catch(() => {});
          signal?.throwIfAborted();
          if (n === 0) onProgress?.(ids.length - cached, ids.length - cached);
          if (fails && n === 2) throw fails;
          const token = { token: 5, ...(logprobs !== undefined && { logprob: -1, topLogprobs: [] }) };
          yield { text: says.slice(at, at + size), tokens: [token] };
        }
        yield { text: '', tokens: [], finishReason: 'stop', seed };
      } finally {
        active--;
      }
    },
  };
  return model;
}

export const serverOf = (model: ServedModel | Promise<ServedModel>, options: Partial<ServerOptions> = {}): Server =>
  makeServer(model, { name: 'scripted', sequences: 4, ...options });

const ORIGIN = 'http://127.0.0.1:8080';

export const post = (server: Server, path: string, body: unknown, init: RequestInit = {}): Promise<Response> =>
  server.fetch(
    new Request(ORIGIN + path, {
      method: 'POST',
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...init,
    }),
  );
export const get = (server: Server, path: string, headers: Record<string, string> = {}): Promise<Response> =>
  server.fetch(new Request(ORIGIN + path, { headers }));

/** Whatever it is. */
export type Json = Awaited<ReturnType<Response['json']>>;

/** The data of a stream of events, `[DONE]` as it is. */
export async function eventsOf(response: Response): Promise<Json[]> {
  const text = await response.text();
  return [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => (data === '[DONE]' ? data : JSON.parse(data)));
}
