/** The package's entry in browsers. */
import { type Models, modelsOn } from './modelFile.ts';
import { web } from './platform/web.ts';

export * from './index.ts';

const models = modelsOn(web);
export const backendName: Models['backendName'] = models.backendName;
export const loadModel: Models['loadModel'] = models.loadModel;
export const openModel: Models['openModel'] = models.openModel;
export const openSession: Models['openSession'] = models.openSession;
