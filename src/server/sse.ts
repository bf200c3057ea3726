/** Frames become server-sent events, with a comment now and then while nothing else is sent, so that no proxy hangs up. */
import { RequestError } from './errors.ts';
import type { Frame } from './exchange.ts';

const utf8 = new TextEncoder();

export interface StreamOptions {
  /** A comment is sent after so much silence. */
  keepAliveMs: number;
  /** A client that reads nothing for so long is not waited for. */
  stallMs: number;
  /** The last frame where `frames` fails. */
  failed(error: unknown): Frame;
  /** Ends `frames`: it is aborted where the client leaves, or by whoever wants an end. */
  abort: AbortController;
  /** Is called once, when nothing more is sent. */
  ended(): void;
}

export function eventStream(
  frames: AsyncGenerator<Frame>,
  { keepAliveMs, stallMs, failed, abort, ended }: StreamOptions,
): Response {
  let isQuiet = true;
  let isPulling = false;
  let restsSince = performance.now();
  let timer: ReturnType<typeof setInterval> | undefined;
  const { signal } = abort;
  let isEnded = false;
  const release = () => {
    if (isEnded) return;
    isEnded = true;
    clearInterval(timer);
    signal.removeEventListener('abort', aborted);
    // Frames that were never asked for would not notice.
    frames.return(undefined).catch(() => {});
    ended();
  };
  /** A client that reads nothing does not ask for the frame that would tell it of the end. */
  let aborted = () => {};
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      timer = setInterval(() => {
        if (isQuiet && (controller.desiredSize ?? 0) > 0) controller.enqueue(utf8.encode(': keep-alive\n\n'));
        isQuiet = true;
        if (!isPulling && performance.now() - restsSince > stallMs) {
          abort.abort(new RequestError(408, `the client reads nothing for ${stallMs / 1000} seconds`));
        }
      }, keepAliveMs);
      aborted = () => {
        if (isPulling || isEnded) return; // a frame that is waited for fails by itself
        controller.enqueue(utf8.encode(written(failed(signal.reason))));
        controller.close();
        release();
      };
      signal.addEventListener('abort', aborted);
    },
    async pull(controller) {
      let frame: Frame | undefined;
      let isEnd = false;
      isPulling = true;
      try {
        const { value, done = false } = await frames.next();
        frame = value;
        isEnd = done;
      } catch (error) {
        frame = failed(error);
        isEnd = true;
      }
      isPulling = false;
      restsSince = performance.now();
      isQuiet = false;
      try {
        if (frame) controller.enqueue(utf8.encode(written(frame)));
        if (isEnd) controller.close();
      } catch {} // the client has left meanwhile
      if (isEnd) release();
      else if (signal.aborted) aborted();
    },
    cancel() {
      release();
      abort.abort();
    },
  });
  return new Response(body, {
    headers: {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
    },
  });
}

function written({ event, data }: Frame): string {
  const text = typeof data === 'string' ? data : JSON.stringify(data);
  return `${event === undefined ? '' : `event: ${event}\n`}data: ${text}\n\n`;
}
