/**
 * What a model writes becomes reasoning, text and calls of tools. Reasoning is between `<think>` and `</think>` at the
 * beginning; calls are `<tool_call>{"name", "arguments"}</tool_call>` as Hermes and Qwen write them, or an answer that is
 * JSON `{"name", "parameters"}` from its first character on, as Llama 3 writes them.
 */
import { isRecord } from '../errors.ts';
import { splitAtStop } from '../model.ts';

export type Part =
  | { type: 'reasoning' | 'text'; text: string }
  /** Arguments are JSON. */
  | { type: 'toolCall'; name: string; arguments: string };

export interface AnswerReader {
  /** Gives the parts that are complete with a piece of the answer. */
  push(text: string): Part[];
  end(): Part[];
}

type State = 'start' | 'reasoning' | 'text' | 'call' | 'json';

const THINK = '<think>';
const THOUGHT = '</think>';
const CALL = '<tool_call>';
const CALLED = '</tool_call>';

/**
 * @param isThinking The prompt ends with `<think>` already.
 * @param tools Names of the tools that may be called; absent: calls are text like any other.
 */
export function makeAnswerReader(isThinking: boolean, tools?: ReadonlySet<string>): AnswerReader {
  let held = '';
  let state: State = isThinking ? 'reasoning' : 'start';
  let isBare = isThinking; // white space counts for nothing before the first word behind a mark
  const STATES: Record<State, (isEnd: boolean) => Part[]> = {
    start(isEnd) {
      const text = held.trimStart();
      const mayBegin = (mark: string) => mark.startsWith(text);
      if (!isEnd && (text === '' || mayBegin(THINK) || (tools && mayBegin(CALL)))) return [];
      const thinks = text.startsWith(THINK) && !isBare;
      if (isBare || thinks || tools) held = text;
      if (thinks) {
        held = held.slice(THINK.length);
        isBare = true;
      }
      state = thinks ? 'reasoning' : tools && /^[{[]/.test(text) ? 'json' : 'text';
      return [];
    },
    reasoning(isEnd) {
      if (isBare) held = held.trimStart();
      const { safe, isStopped } = splitAtStop(held, [THOUGHT]);
      const text = (isEnd && !isStopped ? held : safe).trimEnd();
      held = isStopped ? held.slice(safe.length + THOUGHT.length) : held.slice(text.length);
      isBare = isStopped || (isBare && text === '');
      if (isStopped) state = 'start';
      return text === '' ? [] : [{ type: 'reasoning', text }];
    },
    text(isEnd) {
      if (isBare) held = held.trimStart();
      const { safe, isStopped } = tools ? splitAtStop(held, [CALL]) : { safe: held, isStopped: false };
      // White space in front of a call is no part of the text.
      const text = isEnd && !isStopped ? held : tools ? safe.trimEnd() : safe;
      held = isStopped ? held.slice(safe.length + CALL.length) : held.slice(text.length);
      if (isStopped) state = 'call';
      isBare &&= text === '';
      return text === '' ? [] : [{ type: 'text', text }];
    },
    call(isEnd) {
      const at = held.indexOf(CALLED);
      if (at < 0 && !isEnd) return [];
      const body = at < 0 ? held : held.slice(0, at);
      const calls = callsOf(body);
      held = at < 0 ? '' : held.slice(at + CALLED.length);
      state = 'text';
      isBare = calls !== undefined;
      return calls ?? [{ type: 'text', text: CALL + body + (at < 0 ? '' : CALLED) }];
    },
    json(isEnd) {
      if (!isEnd) return [];
      const calls = callsOf(held);
      const text = held;
      held = '';
      state = 'text';
      const isKnown = calls?.every((call) => call.type === 'toolCall' && tools?.has(call.name));
      return calls && isKnown ? calls : [{ type: 'text', text }];
    },
  };
  function read(isEnd: boolean): Part[] {
    const parts: Part[] = [];
    for (;;) {
      const before = state;
      parts.push(...STATES[state](isEnd));
      if (state === before) return parts;
    }
  }
  return {
    push(text) {
      held += text;
      return read(false);
    },
    end: () => read(true),
  };
}

/** Reads one call or several; nothing where there is anything else. */
function callsOf(text: string): Part[] | undefined {
  try {
    const values = orUndefined(text) ?? text.split(/;\s*(?=\{)|\n\s*(?=\{)/).map((call) => JSON.parse(call) as unknown);
    const calls = [values].flat().map((value): Part => {
      const { name, arguments: given, parameters } = isRecord(value) ? value : {};
      const args = given ?? parameters ?? {};
      const json = typeof args === 'string' ? args : JSON.stringify(args);
      if (typeof name !== 'string' || !isRecord(JSON.parse(json))) throw new SyntaxError('this is no call');
      return { type: 'toolCall', name, arguments: json };
    });
    return calls.length > 0 ? calls : undefined;
  } catch {
    return undefined;
  }
}

function orUndefined(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}
