/** Choosing a model, and what it would take before it is loaded. */
import { useSignal } from '@preact/signals';
import * as act from './actions.ts';
import { FileButton } from './fileButton.tsx';
import type { Method, Opened } from './state.ts';
import * as state from './state.ts';
import { count, size } from './words.ts';

export function ModelPanel() {
  return (
    <section aria-labelledby="model-title">
      <h2 id="model-title">1. A model</h2>
      <Sources />
      {state.opened.value && <Chosen opened={state.opened.value} />}
    </section>
  );
}

function Sources() {
  const address = useSignal('');
  const isBusy = state.isBusy.value;
  return (
    <>
      <div class="row">
        <button type="button" class="primary" disabled={isBusy} onClick={act.openBundled}>
          Use the bundled model
        </button>
        <FileButton label="Open a .gguf file" accept=".gguf" isDisabled={isBusy} onFile={act.openFile} />
      </div>
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          void act.openAddress(address.value.trim());
        }}
      >
        <label class="grow">
          Address of a .gguf file, which is downloaded and kept here
          <input
            type="url"
            placeholder="https://host/model.gguf"
            value={address.value}
            onInput={({ currentTarget }) => {
              address.value = currentTarget.value;
            }}
          />
        </label>
        <button type="submit" disabled={isBusy || address.value === ''}>
          Download
        </button>
      </form>
      {state.keptModels.value.length > 0 && (
        <ul class="kept" aria-label="Models kept here">
          {state.keptModels.value.map(({ name, bytes, totalBytes, isWhole, url }) => (
            <li key={name}>
              <span class="grow">
                {name}{' '}
                <small>{isWhole ? size(bytes) : `${size(bytes)} of ${size(totalBytes ?? bytes)}, not whole`}</small>
              </span>
              {isWhole ? (
                <button type="button" disabled={isBusy} aria-label={`Open ${name}`} onClick={() => act.openKept(name)}>
                  Open
                </button>
              ) : (
                <button
                  type="button"
                  disabled={isBusy || !url}
                  aria-label={`Go on with ${name}`}
                  onClick={() => url && act.openAddress(url)}
                >
                  Go on
                </button>
              )}
              <button type="button" disabled={isBusy} aria-label={`Remove ${name}`} onClick={() => act.remove(name)}>
                Remove
              </button>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

const METHODS: Record<Method, string> = {
  auto: 'DCA where the text exceeds the window',
  dca: 'DCA',
  none: 'plain RoPE, as the model was trained',
};

/** Contexts to choose from: the usual ones, the model's window, and the one that is chosen. */
const contextsOf = (window: number, chosen: number) =>
  [...new Set([...act.CONTEXTS, window, chosen])].sort((a, b) => a - b);

function Chosen({ opened }: { opened: Opened }) {
  const { origin, source, window, isChat } = opened;
  const { context, method, plan, model, loaded, isBusy } = state;
  const isLoaded = model.value !== undefined && loaded.value === opened;
  const isKept = state.keptModels.value.some(({ name, isWhole }) => isWhole && name === origin.name);
  return (
    <div class="card">
      <p>
        <strong>{origin.kind === 'bundled' ? 'books-16m' : origin.name}</strong>: trained to read {count(window)}{' '}
        tokens,{' '}
        {isChat ? 'answers questions' : 'a base model: it goes on with a text, and finds pass keys hidden in one'}.
      </p>
      <div class="row">
        <label>
          Context, in tokens
          <select
            value={context.value}
            disabled={isBusy.value}
            onChange={({ currentTarget }) => act.choose(Number(currentTarget.value), method.value)}
          >
            {contextsOf(window, context.value).map((tokens) => (
              <option key={tokens} value={tokens}>
                {count(tokens)}
                {tokens > window ? `, ${Number((tokens / window).toFixed(1))} windows` : ''}
              </option>
            ))}
          </select>
        </label>
        <label>
          Reading with
          <select
            value={method.value}
            disabled={isBusy.value}
            onChange={({ currentTarget }) => act.choose(context.value, currentTarget.value as Method)}
          >
            {Object.entries(METHODS).map(([name, words]) => (
              <option key={name} value={name}>
                {words}
              </option>
            ))}
          </select>
        </label>
      </div>
      {plan.value && <Plan plan={plan.value} />}
      <div class="row">
        <button type="button" class="primary" disabled={isBusy.value} onClick={act.load}>
          {isLoaded ? 'Load again' : 'Load'}
        </button>
        {origin.kind === 'file' && source instanceof File && !isKept && (
          <button type="button" disabled={isBusy.value} onClick={() => act.keepFile(source)}>
            Keep this model here
          </button>
        )}
      </div>
      <p role="status">
        {model.value &&
          `Loaded: ${isLoaded ? '' : `${loaded.value?.origin.name}, `}context ${count(model.value.context)} tokens, ${model.value.method.description}.`}
      </p>
    </div>
  );
}

/** Bytes by kind, beside what the device is known to have. */
function Plan({ plan: { weights, kvCache, scratch, total } }: { plan: NonNullable<typeof state.plan.value> }) {
  // Browsers tell at most 8 GiB, in powers of two, and some nothing.
  const memory = ((navigator as { deviceMemory?: number }).deviceMemory ?? 0) * 2 ** 30;
  const most = Math.max(total, memory);
  const parts = { weights, 'what was read': kvCache, scratch };
  return (
    <figure class="plan">
      <div class="bar" aria-hidden="true">
        {Object.entries(parts).map(([name, bytes], nth) => (
          <span key={name} class={`part${nth}`} style={{ width: `${(100 * bytes) / most}%` }} />
        ))}
      </div>
      <figcaption>
        {size(total)} of memory:{' '}
        {Object.entries(parts)
          .map(([name, bytes]) => `${name} ${size(bytes)}`)
          .join(', ')}
        . {memory > 0 && `This device has ${memory >= 8 * 2 ** 30 ? 'at least ' : 'about '}${size(memory)}.`}{' '}
        {memory > 0 && total > memory / 2 && <strong>That is much of it; a smaller context takes less.</strong>}
      </figcaption>
    </figure>
  );
}
