/** Choosing a text, and how far it has been read. */
import * as act from './actions.ts';
import { stop } from './doing.ts';
import { FileButton } from './fileButton.tsx';
import { PlanOfAttention } from './planOfAttention.tsx';
import * as state from './state.ts';
import { count, duration } from './words.ts';

export function TextPanel() {
  const { model, text, isBusy } = state;
  return (
    <section aria-labelledby="text-title">
      <h2 id="text-title">2. A text</h2>
      <p class="hint">
        It may be dropped anywhere on the page{model.value ? '.' : ', and is read as soon as a model is loaded.'}
      </p>
      <div class="row">
        <FileButton
          label="Open a text"
          accept=".txt,.md,.markdown,.html,.htm,.xhtml,.epub,.pdf,text/*"
          isDisabled={isBusy.value}
          onFile={act.readFile}
        />
        <button type="button" disabled={isBusy.value} onClick={act.readBundledBook}>
          Read Dracula
        </button>
        <span class="hint">.txt, .md, .html, .epub or .pdf</span>
      </div>
      {text.value && (
        <p>
          <strong>{text.value.title}</strong>
          {text.value.keys.length > 0 && `, with ${text.value.keys.length} pass keys hidden in it`}.{' '}
          {!model.value && 'It waits for a model.'}
          {text.value.isCut && 'Its beginning, as much as the context holds.'}
        </p>
      )}
      {text.value?.isCut && model.value && <ReadMore from={model.value.context} />}
      {state.reading.value && <Meter />}
      <PlanOfAttention />
    </section>
  );
}

/** Loads the model with twice the context, and reads as much of the text as that holds. */
function ReadMore({ from }: { from: number }) {
  const next = act.CONTEXTS.find((tokens) => tokens > from);
  if (next === undefined) return null;
  return (
    <button type="button" disabled={state.isBusy.value} onClick={() => act.readMore(next)}>
      Read more, with a context of {count(next)} tokens
    </button>
  );
}

/** Tokens read, on a scale on which the trained window and the context are marked. */
function Meter() {
  const { reading, loaded, model, isBusy } = state;
  if (!reading.value || !loaded.value || !model.value) return null;
  const { done, total, speed, state: is } = reading.value;
  const { window } = loaded.value;
  const { context } = model.value;
  const share = (tokens: number) => `${Math.min(100, (100 * tokens) / context)}%`;
  const left = speed > 0 ? `, ${duration((total - done) / speed)} left` : '';
  const said = {
    reading: `reading: ${count(done)} of ${count(total)} tokens, ${count(speed)} a second${left}`,
    stopped: `stopped at ${count(done)} of ${count(total)} tokens`,
    read: `read: ${count(done)} tokens${speed > 0 ? `, ${count(speed)} a second` : ''}`,
  }[is];
  return (
    <div class="meter">
      <div
        class="track"
        role="progressbar"
        aria-label="Tokens read"
        aria-valuemin={0}
        aria-valuemax={context}
        aria-valuenow={done}
        aria-valuetext={said}
      >
        <span class="fill" style={{ width: share(done) }} />
        <span class="wanted" style={{ width: share(total) }} />
        {window < context && <span class="window" style={{ left: share(window) }} />}
      </div>
      <div class="scale" aria-hidden="true">
        <span>0</span>
        {window < context && (
          <span class="mark" style={{ left: share(window) }}>
            trained to {count(window)}
          </span>
        )}
        <span>{count(context)}</span>
      </div>
      <div class="row">
        <span class="grow">{said}</span>
        {is === 'reading' && (
          <button type="button" onClick={stop}>
            Stop reading
          </button>
        )}
        {is === 'stopped' && (
          <button type="button" class="primary" disabled={isBusy.value} onClick={act.goOn}>
            Go on
          </button>
        )}
        {is === 'read' && (
          <button type="button" disabled={isBusy.value} onClick={act.save}>
            Save what was read
          </button>
        )}
      </div>
    </div>
  );
}
