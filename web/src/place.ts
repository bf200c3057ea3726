/** What computes, and why it is not something faster. */
import type { LoadOptions } from 'dualchunk';
import { models } from './doing.ts';
import * as state from './state.ts';
import { placeInWords } from './words.ts';

const asked = new URLSearchParams(location.search).get('backend');
/** `?backend=wasm` or `?backend=webgpu` chooses what computes. */
export const BACKEND: LoadOptions['backend'] = asked === 'wasm' || asked === 'webgpu' ? asked : 'auto';

export async function findPlace(): Promise<void> {
  const name = await models.backendName(BACKEND);
  state.place.value = { name: placeInWords(name), why: await whyNot(name) };
}

// --- internal ---

/** Says why it is not something faster that computes. */
async function whyNot(name: string): Promise<string> {
  const reasons: string[] = [];
  if (!name.startsWith('webgpu')) {
    const gpu = await models.backendName('webgpu').then(
      (found) => (BACKEND === 'auto' ? `the only GPU is one in software: ${found}` : 'the address asks for the CPU'),
      (error: Error) => error.message,
    );
    reasons.push(`No GPU: ${gpu}.`);
    if (!crossOriginIsolated) {
      reasons.push(
        'One thread: the page is not cross-origin isolated (its server does not send COOP and COEP headers).',
      );
    }
  }
  return reasons.join(' ');
}
