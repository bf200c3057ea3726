import type { Machine } from './machine.ts';

/** A page has shared memory where it is cross-origin isolated. */
const isIsolated = typeof SharedArrayBuffer !== 'undefined';

export const webMachine: Machine = {
  cores: globalThis.navigator?.hardwareConcurrency ?? 1,
  availableMemory: () => Infinity,
  ...(isIsolated && {
    startThread(source, data, { onError }) {
      const start = new Blob([`onmessage = ({ data }) => (${source})(data)`], { type: 'text/javascript' });
      const url = URL.createObjectURL(start);
      const thread = new Worker(url);
      URL.revokeObjectURL(url); // the thread has taken it
      // An event without a message is of a script that did not start.
      thread.onerror = ({ message }) =>
        onError(new Error(message || "the page's policy forbids threads; allow worker-src blob:"));
      thread.postMessage(data);
      return thread;
    },
  }),
};
