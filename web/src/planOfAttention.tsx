/** Which token sees which, and from what distance: queries go down, keys across. It is drawn as far as reading got. */
import { useEffect, useRef } from 'preact/hooks';
import * as state from './state.ts';
import { count } from './words.ts';

/** Pixels. */
const SIDE = 320;

export function PlanOfAttention() {
  const canvas = useRef<HTMLCanvasElement>(null);
  const drawn = useRef({ plan: '', row: 0 });
  const { model, loaded, reading } = state;
  const read = reading.value?.done ?? 0;
  const { method, context = 1 } = model.value ?? {};
  const { dca } = method ?? {};
  const window = loaded.value?.window ?? 0;
  const plan = `${context} ${method?.name} ${window}`;
  useEffect(() => {
    const pen = canvas.current?.getContext('2d');
    if (!pen || !method) return;
    const row = Math.floor((SIDE * read) / context);
    if (drawn.current.plan !== plan || row < drawn.current.row) {
      pen.clearRect(0, 0, SIDE, SIDE);
      drawn.current = { plan, row: 0 };
    }
    const colours = getComputedStyle(pen.canvas);
    for (let y = drawn.current.row; y < row; y++) {
      for (const { part, from, to } of spansOf(Math.floor((y * context) / SIDE), dca?.chunkLen, window)) {
        pen.fillStyle = colours.getPropertyValue(`--${part}`);
        pen.fillRect((SIDE * from) / context, y, (SIDE * (to - from)) / context, 1);
      }
    }
    drawn.current.row = row;
  }, [plan, read, method, dca, context, window]);
  if (!method) return null;
  const windowAt = `${(100 * window) / context}%`;
  return (
    <figure class="attention">
      <div class="frame">
        <canvas ref={canvas} width={SIDE} height={SIDE} role="img" aria-label="The plan of attention" />
        {window < context && <span class="window" style={{ left: windowAt, top: windowAt }} aria-hidden="true" />}
      </div>
      <figcaption>
        {dca ? (
          <>
            Each row is a token that is read, each column one that it looks back to. <b class="intra">Its own chunk</b>{' '}
            of {count(dca.chunkLen)} tokens is at its true distance, <b class="successive">the chunk before</b> near the
            border too, and <b class="inter">all earlier ones</b> as if from place {count(dca.maxDistance)}: no distance
            is larger than those of the trained window ({count(window)}, dashed).
          </>
        ) : (
          <>
            Each row is a token that is read, each column one that it looks back to, at its true distance.{' '}
            {window < context && (
              <>
                Beyond the window of {count(window)} tokens (dashed) these are{' '}
                <b class="untrained">distances that the model never saw</b>.
              </>
            )}
          </>
        )}
      </figcaption>
    </figure>
  );
}

/** The keys that a query sees, by part: with DCA in chunks, without in the trained window and beyond it. */
function spansOf(query: number, chunkLen: number | undefined, window: number) {
  const parts: { part: 'inter' | 'successive' | 'intra' | 'untrained'; from: number; to: number }[] = [];
  if (chunkLen === undefined || chunkLen === Number.POSITIVE_INFINITY) {
    const from = Math.max(0, query + 1 - window);
    parts.push({ part: 'untrained', from: 0, to: from }, { part: 'intra', from, to: query + 1 });
    return parts;
  }
  const own = query - (query % chunkLen);
  const before = Math.max(0, own - chunkLen);
  parts.push({ part: 'inter', from: 0, to: before }, { part: 'successive', from: before, to: own });
  parts.push({ part: 'intra', from: own, to: query + 1 });
  return parts;
}
