/** The script of the worker that `startWorker` starts. */
import { modelsOn } from '../modelFile.ts';
import { web } from '../platform/web.ts';
import { hostModels } from './host.ts';
import type { Channel } from './protocol.ts';
import { Storage } from './storage.ts';

hostModels(globalThis as unknown as Channel, { ...modelsOn(web), storage: new Storage() });
