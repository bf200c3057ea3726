/** Reads the bundled book with keys hidden in it, scores it as it goes, and asks for the keys at each length. */
import { UnsupportedError } from 'dualchunk';
import { type RemoteModel, startWorker } from 'dualchunk/browser';
import { BUNDLED_BOOK, BUNDLED_MODEL } from './bundled.ts';
import { drawKeys, lineOf, OPENING, type PassKey, questionOf } from './passKeys.ts';

/** Tokens. The bundled model was trained on 1,024. */
export const LENGTHS = [512, 1024, 2048, 4096, 8192] as const;
/** Keys in the stretch behind each length, so that every one but the first has as many more. */
const HOLDERS = ['Alice', 'Daniel', 'Florence', 'Harold', 'Martha', 'Oscar', 'Sylvia', 'Walter'];
const CONTEXT = 8192 + 128;
const ANSWER_TOKENS = 8;

export interface Figure {
  /** Of the half of the text that ends at this length. */
  readonly perplexity: number;
  /** Share of the keys before this length. */
  readonly found?: number;
}
/** By method, a figure for each length that was reached. */
export type Figures = Readonly<Record<'none' | 'dca', readonly Figure[]>>;

export interface Watching {
  onFigures(figures: Figures): void;
  onStep(what: string): void;
}

/** @throws UnsupportedError when the model cannot be loaded; the reason of `signal`. */
export async function measure(signal: AbortSignal, { onFigures, onStep }: Watching): Promise<void> {
  const models = startWorker(); // a worker of its own, so that what the page has loaded stays
  try {
    const response = await fetch(BUNDLED_BOOK, { signal });
    if (!response.ok) throw new UnsupportedError(`${BUNDLED_BOOK}: the server answered ${response.status}`);
    const book = await response.text();
    let figures: Figures = { none: [], dca: [] };
    for (const method of ['dca', 'none'] as const) {
      onStep(`${method}: loading`);
      const model = await models.loadModel(BUNDLED_MODEL, { context: CONTEXT, method, backend: 'wasm', signal });
      const { ids, keys } = await hide(model, book);
      const losses: number[] = [];
      const onProgress = (done: number, total: number) => onStep(`${method}: ${done} of ${total} tokens`);
      for await (const block of model.score(ids, { signal, onProgress })) {
        losses.push(...block);
        const reached = LENGTHS.filter((length) => losses.length >= length - 1);
        figures = { ...figures, [method]: reached.map((length) => ({ perplexity: perplexity(losses, length) })) };
        onFigures(figures);
      }
      for (const [nth, length] of LENGTHS.entries()) {
        onStep(`${method}: asking for keys at ${length} tokens`);
        const found = await foundAt(
          model,
          ids.slice(0, length),
          keys.filter(({ end }) => end <= length),
          signal,
        );
        const of = figures[method].map((figure, at) => (at === nth ? { ...figure, found } : figure));
        figures = { ...figures, [method]: of };
        onFigures(figures);
      }
      await model.dispose();
    }
  } finally {
    models.terminate();
  }
}

// --- internal ---

interface Hidden extends Omit<PassKey, 'depth'> {
  /** Tokens up to its end. */
  readonly end: number;
}

/** Two keys in each stretch between two lengths but the first, which has one; `ids` are as many as the largest length. */
async function hide({ tokenizer }: RemoteModel, book: string): Promise<{ ids: number[]; keys: Hidden[] }> {
  const plain = { addSpecialTokens: false };
  const most = LENGTHS[LENGTHS.length - 1];
  const prose = await tokenizer.encodePrefix(book, most, plain);
  const at = [0.3, 0.7].flatMap((share) => LENGTHS.slice(0, 4).map((length) => Math.round(length * share)));
  at.sort((a, b) => a - b);
  const keys: Hidden[] = [];
  const ids = await tokenizer.encode(OPENING);
  let from = 0;
  for (const [nth, one] of drawKeys(HOLDERS).entries()) {
    ids.push(...prose.ids.slice(from, at[nth]));
    from = at[nth];
    ids.push(...(await tokenizer.encode(lineOf(one), plain)));
    keys.push({ ...one, end: ids.length });
  }
  ids.push(...prose.ids.slice(from));
  return { ids: ids.slice(0, most), keys };
}

async function foundAt(model: RemoteModel, ids: number[], keys: readonly Hidden[], signal: AbortSignal) {
  let found = 0;
  for (const { holder, key } of keys) {
    const question = `\n\n${questionOf({ holder })}`;
    const prompt = [...ids, ...(await model.tokenizer.encode(question, { addSpecialTokens: false }))];
    let text = '';
    const options = { maxTokens: ANSWER_TOKENS, temperature: 0, signal };
    for await (const piece of model.generate(prompt, options)) text += piece.text;
    if (text.trimStart().startsWith(key)) found++;
  }
  return keys.length === 0 ? undefined : found / keys.length;
}

/** Of the half that ends at a length, where loss `i` is that of token `i + 1`. */
function perplexity(losses: readonly number[], length: number): number {
  const part = losses.slice(length / 2, length - 1);
  return Math.exp(part.reduce((sum, loss) => sum + loss, 0) / part.length);
}
