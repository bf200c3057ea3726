/** The package's entry in Node, Deno and Bun. */
import { type Models, modelsOn } from './modelFile.ts';
import { node } from './platform/node.ts';

export * from './index.ts';

const models = modelsOn(node);
export const backendName: Models['backendName'] = models.backendName;
export const loadModel: Models['loadModel'] = models.loadModel;
export const openModel: Models['openModel'] = models.openModel;
export const openSession: Models['openSession'] = models.openSession;
