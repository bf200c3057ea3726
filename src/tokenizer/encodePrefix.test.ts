/** The first tokens of a text cost what they are, in texts with and without spaces. */
import { expect, it } from 'vitest';
import { BUNDLED_MODEL } from '../bundled.ts';
import { openModel } from '../node.ts';

const { tokenizer, close } = await openModel(BUNDLED_MODEL);
await close();

it.each([
  ['words', 'The door of the garden is open. '],
  ['no spaces', '里面有一封信，写着花园的门在哪里。'],
  ['no spaces and no marks', 'สวัสดีครับ'],
  ['digits', '0123456789'],
])('%s', (_what, unit) => {
  const text = unit.repeat(Math.ceil(100_000 / unit.length));
  const options = { addSpecialTokens: false };
  const timed = <T>(work: () => T): [result: T, milliseconds: number] => {
    const startedAt = performance.now();
    return [work(), performance.now() - startedAt];
  };
  tokenizer.encodePrefix(text, 500, options); // compiles
  const [prefix, forPrefix] = timed(() => tokenizer.encodePrefix(text, 500, options));
  const [whole, forWhole] = timed(() => tokenizer.encode(text, options));
  expect(prefix).toEqual({ ids: whole.slice(0, 500), complete: false });
  expect(forPrefix).toBeLessThan(forWhole / 4);
});
