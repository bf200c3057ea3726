/** Streams of the web and generators, one made of the other. */

/** A stream that makes an item when it is asked for one, and ends its generator when it is cancelled. */
export function streamOf<T>(items: AsyncGenerator<T>): ReadableStream<T> {
  return new ReadableStream<T>(
    {
      async pull(controller) {
        const { done, value } = await items.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await items.return(undefined);
      },
    },
    { highWaterMark: 0 },
  );
}

/** A stream's items, also where streams cannot be iterated over, as in Safari. A stream that is not read to its end is cancelled. */
export async function* itemsOf<T>(stream: ReadableStream<T>): AsyncGenerator<T> {
  const reader = stream.getReader();
  let isRead = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      isRead = done;
      if (done) return;
      yield value;
    }
  } finally {
    if (!isRead) await reader.cancel().catch(() => {}); // one that failed has said so already
  }
}
