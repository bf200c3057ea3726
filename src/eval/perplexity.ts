/**
 * Perplexity says how well a model foresees books. Windows of one length tile the same stretch of every text at every
 * length, so that figures compare the same tokens, and lengths that cannot are refused; or they slide, a stride apart,
 * as the paper's do (arXiv 2402.17463, appendix). Either way a window counts whole, its early tokens too.
 */
import { UnsupportedError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { NamedText, Sample, Task } from './task.ts';

export interface PerplexityOptions {
  /** Windows begin so many tokens apart, `samples` of them in a text. By default they tile the stretch. */
  stride?: number;
  /** The longest window of the evaluation has so many tokens. The stretch is `samples` times as long. */
  longest: number;
}

/** Title pages and tables of contents stand in this share of a text, and are left out where the rest suffices. */
const SKIPPED = 0.1;
/** Losses are reported by so many stretches of positions. */
const BUCKETS = 16;

/**
 * Makes the task whose samples are windows of texts, scored by `nll`, the nats of all tokens together, and `tokens`.
 */
export function perplexityTask({ stride, longest }: PerplexityOptions): Task<Float64Array> {
  return {
    name: 'perplexity',
    setup: stride === undefined ? 'windows side by side' : `stride ${stride}`,
    *makeSamples({ tokenizer, frame: { before }, length, samples, texts }) {
      const step = stride ?? length;
      const nTokens = stride === undefined ? longest * samples : (samples - 1) * stride + length;
      const nWindows = stride === undefined ? nTokens / length : samples;
      if (!Number.isInteger(nWindows)) throw cannotTile(length, longest, nTokens);
      for (const text of texts) {
        const ids = stretchOf(tokenizer, text, nTokens);
        for (let start = 0, n = 0; n < nWindows; start += step, n++) {
          const window = [...before, ...ids.slice(start, start + length - before.length)];
          const sample: Sample = { id: `${text.name} from ${start}`, length, ids: window, maxTokens: 0, answers: [] };
          yield sample;
        }
      }
    },
    score: (losses) => ({ nll: losses.reduce((sum, loss) => sum + loss, 0), tokens: losses.length }),
  };
}

/**
 * Sums losses by position, in equal stretches: first position, nats, squares of nats, tokens. Loss `i` is of token `i +
 * 1`.
 */
export function byPosition(losses: Float64Array): [from: number, sum: number, squares: number, tokens: number][] {
  const width = Math.ceil((losses.length + 1) / BUCKETS);
  return Array.from({ length: Math.ceil((losses.length + 1) / width) }, (_, bucket) => {
    const from = bucket * width;
    const part = losses.subarray(Math.max(0, from - 1), from + width - 1);
    const squares = part.reduce((sum, loss) => sum + loss * loss, 0);
    return [from, part.reduce((sum, loss) => sum + loss, 0), squares, part.length];
  });
}

// --- internal ---

function cannotTile(length: number, longest: number, nTokens: number): UnsupportedError {
  let shared = longest;
  for (let rest = length; rest > 0; [shared, rest] = [rest, shared % rest]);
  return new UnsupportedError(
    `perplexity compares the same ${nTokens} tokens at every length, and windows of ${length} do not fill them; ` +
      `give lengths that divide the longest, ${longest}, or ${length / shared} samples, or a stride`,
  );
}

/** The last stretch of a text is kept, as every length of an evaluation asks for the same. */
const stretches = new WeakMap<NamedText, { tokenizer: Tokenizer; ids: readonly number[] }>();

function stretchOf(tokenizer: Tokenizer, named: NamedText, nTokens: number): readonly number[] {
  const { name, text } = named;
  const known = stretches.get(named);
  if (known?.tokenizer === tokenizer && known.ids.length >= nTokens) return known.ids;
  const skipped = text.indexOf('\n', Math.floor(SKIPPED * text.length)) + 1;
  const options = { addSpecialTokens: false, allowSpecial: false };
  let { ids } = tokenizer.encodePrefix(text.slice(skipped), nTokens, options);
  if (ids.length < nTokens) ids = tokenizer.encode(text, options).slice(-nTokens); // nothing of the text can be spared
  if (ids.length < nTokens) {
    throw new UnsupportedError(
      `${name} has ${ids.length} tokens, but this evaluation reads ${nTokens} of them; ` +
        'give a longer text, shorter lengths or fewer samples',
    );
  }
  stretches.set(named, { tokenizer, ids });
  return ids;
}
