/** `dualchunk/browser`: models in a worker, so that a page never waits, and files that the browser keeps. */
export type { WorkerLike, WorkerModels } from './client.ts';
export { startWorker } from './client.ts';
export type {
  RemoteModel,
  RemoteModelFile,
  RemoteSession,
  RemoteSessionFile,
  RemoteStorage,
  RemoteTokenizer,
} from './protocol.ts';
export type { DownloadOptions, KeepOptions, StoredFile } from './storage.ts';
