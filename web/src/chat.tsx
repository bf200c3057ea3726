/** Questions and answers about the text. */
import { useSignal } from '@preact/signals';
import { lazy, memo, Suspense } from 'preact/compat';
import { useEffect, useRef } from 'preact/hooks';
import { ask, askForKey, compare } from './asking.ts';
import { stop } from './doing.ts';
import type { Exchange } from './state.ts';
import * as state from './state.ts';
import { count } from './words.ts';

const Markdown = lazy(() => import('./markdown.tsx'));

export function Chat() {
  const { text, isCompared, isBusy, model, reading, exchanges } = state;
  const isReady = reading.value?.state === 'read' && !isBusy.value;
  return (
    <section aria-labelledby="chat-title">
      <h2 id="chat-title">3. Ask</h2>
      {text.value && text.value.keys.length > 0 && (
        <fieldset class="row">
          <legend>Pass keys hidden in the text</legend>
          {text.value.keys.map((key) => (
            <button type="button" key={key.holder} disabled={!isReady} onClick={() => askForKey(key)}>
              {key.holder}’s key, {Math.round(100 * key.depth)}% in
            </button>
          ))}
        </fieldset>
      )}
      {model.value && model.value.method.name !== 'none' && (
        <label class="check">
          <input
            type="checkbox"
            checked={isCompared.value}
            disabled={isBusy.value}
            onChange={({ currentTarget }) => compare(currentTarget.checked)}
          />
          Answer without DCA too, side by side (the text is read again, once)
        </label>
      )}
      <ol class="exchanges" aria-label="Questions and answers">
        {exchanges.value.map((one, nth) => (
          <Answered key={nth} exchange={one} />
        ))}
      </ol>
      <Question isReady={isReady} />
    </section>
  );
}

function Question({ isReady }: { isReady: boolean }) {
  const typed = useSignal('');
  const isAnswering = state.exchanges.value.some(({ state: is }) => is === 'answering' || is === 'comparing');
  const isChat = state.loaded.value?.isChat ?? true;
  return (
    <form
      class="row"
      onSubmit={(event) => {
        event.preventDefault();
        const question = typed.value.trim();
        if (!isReady || question === '') return;
        typed.value = '';
        void ask(question);
      }}
    >
      <label class="grow">
        {isChat ? 'Question about the text' : 'Words to go on from, behind the text'}
        <textarea
          rows={2}
          value={typed.value}
          disabled={!state.reading.value}
          onInput={({ currentTarget }) => {
            typed.value = currentTarget.value;
          }}
          onKeyDown={(event) => {
            if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            event.currentTarget.form?.requestSubmit();
          }}
        />
      </label>
      {isAnswering ? (
        <button type="button" onClick={stop}>
          Stop answering
        </button>
      ) : (
        <button type="submit" class="primary" disabled={!isReady}>
          Ask
        </button>
      )}
    </form>
  );
}

/** While one is answered the others stay as they are. */
const Answered = memo(({ exchange }: { exchange: Exchange }) => {
  const { question, answer, plain, expected, state: is, speed } = exchange;
  const end = useRef<HTMLLIElement>(null);
  // It comes into view once; from then on the reader scrolls.
  useEffect(() => end.current?.scrollIntoView({ block: 'nearest' }), []);
  return (
    <li ref={end}>
      <p class="question">{question}</p>
      <div class={plain === undefined ? '' : 'sides'}>
        <Answer
          title={plain === undefined ? undefined : 'With DCA'}
          text={answer}
          expected={expected}
          isOn={is === 'answering'}
        />
        {plain !== undefined && (
          <Answer title="Without DCA" text={plain} expected={expected} isOn={is === 'comparing'} />
        )}
      </div>
      <p class="hint">
        {speed > 0 && `${count(speed)} tokens a second`}
        {is === 'stopped' && ' (stopped; this turn is forgotten)'}
      </p>
    </li>
  );
});

interface AnswerParts {
  title?: string;
  text: string;
  expected?: string;
  isOn: boolean;
}

function Answer({ title, text, expected, isOn }: AnswerParts) {
  const isRight = expected !== undefined && new RegExp(`^\\D{0,3}${expected}(?!\\d)`).test(text);
  return (
    <div class="answer">
      {title && <h3>{title}</h3>}
      <div aria-live="polite" aria-busy={isOn}>
        {state.loaded.value?.isChat ? (
          <Suspense fallback={<p>{text}</p>}>
            <Markdown text={text} />
          </Suspense>
        ) : (
          <p>{text}</p>
        )}
        {isOn && text === '' && <p class="hint">reading …</p>}
      </div>
      {expected !== undefined && !isOn && (
        <p class={isRight ? 'right' : 'wrong'}>{isRight ? '✓ right' : `✗ it is ${expected}`}</p>
      )}
    </div>
  );
}
