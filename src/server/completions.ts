/** `POST /v1/completions`, OpenAI's older shape: texts or token ids are continued. */
import { z } from 'zod';
import type { GeneratedToken } from '../runtime/texts.ts';
import { refused } from './errors.ts';
import { type Exchange, type Frame, logprobOf, type Protocol, progressOf, seconds, usageOf } from './exchange.ts';
import { type Answer, type End, newId, type ServedModel } from './generation.ts';
import { logprobsCount, MAX_ANSWERS, parse, SHARED, textTasks } from './requests.ts';

const text = z.string().min(1);
const ids = z.array(z.int().min(0)).min(1);
const BODY = z.object({
  ...SHARED,
  prompt: z.union([text, ids, z.array(z.union([text, ids])).min(1)], {
    error: 'wanted a text, token ids, or a list of such, none of them empty',
  }),
  logprobs: logprobsCount,
  echo: z.boolean().nullish(),
});

/** Tokens that are generated unless told, as OpenAI has it. */
const USUAL_TOKENS = 16;

export const completions: Protocol = (model, given, name) => {
  const body = parse(BODY, given);
  const prompts = promptsOf(body.prompt);
  const nAnswers = prompts.length * (body.n ?? 1);
  if (nAnswers > MAX_ANSWERS) throw refused('prompt', `asks for ${nAnswers} answers; wanted at most ${MAX_ANSWERS}`);
  const logprobs = body.logprobs ?? undefined;
  if (body.echo && logprobs !== undefined) throw refused('echo', 'cannot be had together with logprobs');
  const shared = { ...body, max_tokens: body.max_tokens ?? USUAL_TOKENS };
  const tasks = prompts.flatMap((prompt) => textTasks(model, prompt, shared, logprobs));
  const textOf = (prompt: string | readonly number[]) =>
    typeof prompt === 'string' ? prompt : model.tokenizer.decode(prompt);
  const echoes = tasks.map(({ prompt }) => (body.echo ? textOf(prompt as string | readonly number[]) : ''));
  const head = { id: newId('cmpl-'), object: 'text_completion', created: seconds(), model: name };
  const isUsageWanted = body.stream_options?.include_usage ?? false;
  return {
    tasks,
    isStream: body.stream ?? false,
    whole: (answers) => ({
      ...head,
      choices: answers.map(({ text, tokens, end }, index) => ({
        index,
        text: echoes[index] + text,
        logprobs: logprobs === undefined ? null : logprobsOf(model, tokens),
        finish_reason: end.reason,
      })),
      usage: usageOf(
        answers.map(({ end }: Answer) => end),
        prompts.length,
      ),
    }),
    stream: (events) =>
      streamed(events, {
        ...{ model, head, echoes, nPrompts: prompts.length },
        hasLogprobs: logprobs !== undefined,
        hasUsage: isUsageWanted,
        hasProgress: body.return_progress ?? false,
      }),
    failed: (error) => ({ data: error.body() }),
  };
};

// --- internal ---

type Given = z.infer<typeof BODY>['prompt'];

function promptsOf(given: Given): (string | number[])[] {
  if (typeof given === 'string') return [given];
  return typeof given[0] === 'number' ? [given as number[]] : (given as (string | number[])[]);
}

/** OpenAI's shape: lists beside each other. */
function logprobsOf(model: ServedModel, tokens: readonly GeneratedToken[]) {
  const all = tokens.map((token) => logprobOf(model, token));
  let at = 0;
  return {
    tokens: all.map(({ token }) => token),
    token_logprobs: all.map(({ logprob }) => logprob),
    top_logprobs: all.map(({ top_logprobs }) =>
      Object.fromEntries(top_logprobs.map(({ token, logprob }) => [token, logprob])),
    ),
    text_offset: all.map(({ token }) => {
      at += token.length;
      return at - token.length;
    }),
  };
}

interface Streaming {
  model: ServedModel;
  head: object;
  echoes: readonly string[];
  nPrompts: number;
  hasLogprobs: boolean;
  hasUsage: boolean;
  hasProgress: boolean;
}

async function* streamed(
  events: Parameters<Exchange['stream']>[0],
  { model, head, echoes, nPrompts, hasLogprobs, hasUsage, hasProgress }: Streaming,
): AsyncGenerator<Frame> {
  const chunk = (index: number, text: string, logprobs: object | null = null, reason: string | null = null) => {
    const choice = { index, text, logprobs, finish_reason: reason };
    return { ...head, choices: [choice], ...(hasUsage && { usage: null }) };
  };
  const ends: End[] = [];
  const isBegun = new Set<number>();
  for await (const { nth, event } of events) {
    if (!isBegun.has(nth) && echoes[nth] !== '') yield { data: chunk(nth, echoes[nth]) };
    isBegun.add(nth);
    if (event.type === 'progress' && hasProgress) yield { data: { ...chunk(nth, ''), ...progressOf(event) } };
    if (event.type === 'text') {
      yield { data: chunk(nth, event.text, hasLogprobs ? logprobsOf(model, event.tokens) : null) };
    }
    if (event.type === 'end') {
      ends[nth] = event;
      yield { data: chunk(nth, '', null, event.reason) };
    }
  }
  if (hasUsage) yield { data: { ...head, choices: [], usage: usageOf(ends, nPrompts) } };
  yield { data: '[DONE]' };
}
