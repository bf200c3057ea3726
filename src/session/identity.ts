/** What keys and values of a text depend on besides its tokens. A session is of use only where all of it is the same. */
import { hexOf, joined } from '../bytes.ts';
import type { ModelConfig } from '../config.ts';
import { UnsupportedError } from '../errors.ts';

/** Each entry is compared, and named where it differs. Digests are SHA-256, in hexadecimal. */
export interface Identity {
  /** Of the config, of the names, types and shapes of all tensors, and of the first bytes of each. */
  readonly model: string;
  /** Of `tokenizer.json`, or what stands for it. */
  readonly tokenizer: string;
  /** The fields of the config that rotate keys. */
  readonly rope: string;
  /** The method, with the length that it was settled for where that counts. */
  readonly method: string;
  /** How the backend's pages lie in memory. */
  readonly cache: string;
}

/** @param read A checkpoint, and the first bytes of its tensors as they were loaded. */
export async function modelIdentity(read: {
  readonly config: ModelConfig;
  readonly tensors: Iterable<{
    readonly name: string;
    readonly type: string;
    readonly rows: number;
    readonly cols: number;
  }>;
  readonly samples: readonly Uint8Array[];
  readonly tokenizerJson: unknown;
}): Promise<Pick<Identity, 'model' | 'tokenizer' | 'rope'>> {
  const { ropeTheta, ropeLocalTheta, ropeScaling, layersWithoutRope, ...others } = read.config;
  const headers = Array.from(read.tensors, ({ name, type, rows, cols }) => [name, type, rows, cols]);
  return {
    model: await digestOf([utf8(JSON.stringify([others, headers])), ...read.samples]),
    tokenizer: await digestOf([utf8(JSON.stringify(read.tokenizerJson))]),
    rope: JSON.stringify({ ropeTheta, ropeLocalTheta, ropeScaling, layersWithoutRope }),
  };
}

const WHAT: Record<keyof Identity, string> = {
  model: 'another model',
  tokenizer: 'another tokenizer',
  rope: 'another RoPE',
  method: 'another method',
  cache: 'another type of cache',
};

/** @throws UnsupportedError that names what differs. */
export function checkIdentity(name: string, saved: Identity, wanted: Identity): void {
  for (const key of Object.keys(WHAT) as (keyof Identity)[]) {
    if (saved[key] === wanted[key]) continue;
    const [has, is] = [saved[key], wanted[key]].map((text) => (/^[0-9a-f]{64}$/.test(text) ? text.slice(0, 12) : text));
    const advice: Partial<Record<keyof Identity, string>> = {
      method: `load the model with method ${has}`,
      cache: `load the model with the backend and kvType of ${has}`,
    };
    throw new UnsupportedError(
      `${name}: the session was made with ${WHAT[key]} (${has}; this is ${is}); ${advice[key] ?? 'read the text again'}`,
    );
  }
}

export const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

/** Computes SHA-256 of bytes one behind the other. @throws UnsupportedError on a page that is not secure, which has no digests. */
export async function sha256(...parts: readonly Uint8Array[]): Promise<Uint8Array<ArrayBuffer>> {
  const { subtle } = globalThis.crypto;
  if (!subtle) {
    throw new UnsupportedError('sessions need SHA-256, which pages have on https: and localhost only; serve it so');
  }
  return new Uint8Array(await subtle.digest('SHA-256', joined(parts)));
}

const digestOf = async (parts: readonly Uint8Array[]): Promise<string> => hexOf(await sha256(...parts));
