/** The page: what computes, what goes on or went wrong, and the three steps. */
import { useSignal, useSignalEffect } from '@preact/signals';
import { lazy, Suspense } from 'preact/compat';
import * as act from './actions.ts';
import { Chat } from './chat.tsx';
import { ModelPanel } from './modelPanel.tsx';
import * as state from './state.ts';
import { TextPanel } from './textPanel.tsx';
import { count, size } from './words.ts';

const Measure = lazy(() => import('./measure.tsx'));

export function App() {
  useSignalEffect(tellInTitle);
  return (
    <div class={`page${state.isDropping.value ? ' dropping' : ''}`}>
      <header>
        <h1>dualchunk</h1>
        <p>
          Reads a whole book with a small model, far past the window that it was trained on. All of it is computed in
          this tab; nothing leaves the machine.
        </p>
        {state.place.value && (
          <p class="place">
            Computes on: <strong>{state.place.value.name}</strong>. {state.place.value.why}
          </p>
        )}
      </header>
      <Notices />
      <main>
        <ModelPanel />
        <TextPanel />
        <Chat />
        <Sessions />
        <MeasurePanel />
      </main>
      <footer>
        <p>
          {state.room.value &&
            `${size(state.room.value.used)} of ${size(state.room.value.quota)} are kept by this browser. `}
          The method is Dual Chunk Attention (arXiv 2402.17463).
        </p>
      </footer>
    </div>
  );
}

/** What takes its time, and what went wrong. */
function Notices() {
  const { task, fault, opened, isBusy } = state;
  return (
    <section class="notices" aria-label="What goes on">
      <div role="status">
        {task.value && (
          <div class="notice">
            <span class="grow">
              {task.value.what}
              {/* The bar beside it tells this to screen readers, when they ask. */}
              <span aria-hidden="true">
                {task.value.total > 0 && `: ${Math.floor((100 * task.value.done) / task.value.total)}%`}
              </span>
            </span>
            <progress
              aria-label={task.value.what}
              {...(task.value.total > 0 ? { max: task.value.total, value: task.value.done } : {})}
            />
            {task.value.stop && (
              <button type="button" onClick={task.value.stop}>
                Stop
              </button>
            )}
          </div>
        )}
      </div>
      <div role="alert">
        {fault.value && (
          <div class="notice fault">
            <span class="grow">{fault.value.message}</span>
            {fault.value.isLost && opened.value && (
              <button type="button" disabled={isBusy.value} onClick={act.load}>
                Load the model again
              </button>
            )}
            <button
              type="button"
              aria-label="Dismiss"
              onClick={() => {
                fault.value = undefined;
              }}
            >
              ×
            </button>
          </div>
        )}
      </div>
    </section>
  );
}

/** Texts that were read and kept. */
function Sessions() {
  const { keptSessions, isBusy } = state;
  if (keptSessions.value.length === 0) return null;
  return (
    <section aria-labelledby="sessions-title">
      <h2 id="sessions-title">Read before</h2>
      <ul class="kept">
        {keptSessions.value.map(({ name, bytes, savedAt, about }) => {
          const { title = name, nTokens = 0, origin } = (about ?? {}) as Partial<state.AboutSession>;
          return (
            <li key={name}>
              <span class="grow">
                {title}{' '}
                <small>
                  {count(nTokens)} tokens, {origin?.name}, {size(bytes)}, {new Date(savedAt).toLocaleString()}
                </small>
              </span>
              <button
                type="button"
                disabled={isBusy.value}
                aria-label={`Reopen ${title}`}
                onClick={() => act.reopen(name)}
              >
                Reopen
              </button>
              <button
                type="button"
                disabled={isBusy.value}
                aria-label={`Remove ${title}`}
                onClick={() => act.remove(name)}
              >
                Remove
              </button>
            </li>
          );
        })}
      </ul>
    </section>
  );
}

function MeasurePanel() {
  const isOpen = useSignal(false);
  return (
    <section aria-labelledby="measure-title">
      <h2 id="measure-title">How far does it read?</h2>
      {isOpen.value ? (
        <Suspense fallback={<p class="hint">loading …</p>}>
          <Measure />
        </Suspense>
      ) : (
        <div class="row">
          <button
            type="button"
            onClick={() => {
              isOpen.value = true;
            }}
          >
            Measure the bundled model
          </button>
          <span class="hint">perplexity and pass keys against length, with DCA and without</span>
        </div>
      )}
    </section>
  );
}

/** A tab that is hidden tells how far it got by its title. */
function tellInTitle(): void {
  const { reading, task } = state;
  const { done, total, state: is } = reading.value ?? { done: 0, total: 0, state: 'read' };
  const at = (part: number, whole: number) => `${Math.floor((100 * part) / Math.max(1, whole))}%`;
  const what =
    is === 'reading'
      ? `${at(done, total)} read · `
      : task.value
        ? `${at(task.value.done, task.value.total)} ${task.value.what} · `
        : '';
  document.title = `${what}dualchunk`;
}
