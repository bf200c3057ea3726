/** Answers of whole models, trained and untrained, held to schemas. */
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, describe, expect, it } from 'vitest';
import { loadModel, type Model, type Piece, type TextOptions } from '../node.ts';

const trained = await loadModel('books-16m/books-16m.Q8_0.gguf', { context: 512, sequences: 2, threads: 1 });
const random = await loadModel('test/golden/llama/model.gguf', { context: 64, sequences: 2, backend: 'reference' });
afterAll(async () => {
  await trained.dispose();
  await random.dispose();
});

const PERSON = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 12 },
    age: { type: 'integer', minimum: 0, maximum: 130 },
    tags: { type: 'array', items: { enum: ['old', 'young', 'kind'] }, maxItems: 3 },
  },
  required: ['name', 'age'],
  additionalProperties: false,
};

async function answer(model: Model, options: TextOptions): Promise<Piece & { count: number }> {
  const pieces: Piece[] = [];
  for await (const piece of model.generate('It was a dark', options)) pieces.push(piece);
  const tokens = pieces.flatMap((piece) => piece.tokens);
  return { ...(pieces.at(-1) as Piece), text: pieces.map(({ text }) => text).join(''), tokens, count: tokens.length };
}

describe('generate with jsonSchema', { timeout: 60_000 }, () => {
  const validate = new Ajv2020().compile(PERSON);

  it('gives JSON that fits, whatever is drawn', async () => {
    for (let seed = 0; seed < 12; seed++) {
      const options = { jsonSchema: PERSON, temperature: 1.5, topK: 0, topP: 1, minP: 0, seed, maxTokens: 200 };
      const { text, finishReason } = await answer(trained, options);
      expect(finishReason).toBe('stop');
      expect(validate(JSON.parse(text)), text).toBe(true);
    }
  });

  it('does so with random weights, a GPU-like draw of the likeliest, a penalty, or greedily', async () => {
    const ways = [{ topK: 40, temperature: 1 }, { repetitionPenalty: 1.3 }, { temperature: 0 }];
    const jsonSchema = { type: 'array', items: { type: 'boolean' }, minItems: 2, maxItems: 4 };
    for (const way of ways) {
      const { text, finishReason } = await answer(random, { jsonSchema, seed: 1, maxTokens: 40, ...way });
      expect(finishReason).toBe('stop');
      expect(JSON.parse(text)).toEqual(expect.arrayContaining([expect.any(Boolean)]));
    }
  });

  it('ends as soon as nothing may follow, and says when it was cut', async () => {
    const jsonSchema = { const: 'An owl flew by.' };
    const whole = await answer(trained, { jsonSchema });
    expect(whole).toMatchObject({ finishReason: 'stop' });
    expect(whole.text.trimStart()).toBe('"An owl flew by."');
    const { seed, count } = whole;
    expect(await answer(trained, { jsonSchema, seed, maxTokens: count })).toMatchObject({
      finishReason: 'stop',
      count,
    });
    const cut = await answer(trained, { jsonSchema, seed, maxTokens: count - 1 });
    expect(cut).toMatchObject({ finishReason: 'length', text: expect.stringMatching(/^ ?"An owl/) });
  });

  it('ends a value that might go on where the model ends it', async () => {
    for (let seed = 0; seed < 5; seed++) {
      const { text, finishReason } = await answer(trained, { jsonSchema: { type: 'integer' }, seed, temperature: 1 });
      expect(finishReason).toBe('stop');
      expect(Number.isInteger(JSON.parse(text))).toBe(true);
    }
  });

  it('leaves other texts alone that are written at once', async () => {
    const free = { temperature: 0.9, seed: 5, maxTokens: 30 };
    const held = {
      jsonSchema: { type: 'array', items: { type: 'null' }, minItems: 3, maxItems: 3 },
      temperature: 1,
      seed: 6,
      maxTokens: 60,
    };
    const alone = [await answer(random, free), await answer(random, held)];
    const together = await Promise.all([answer(random, free), answer(random, held)]);
    expect(together.map(({ text }) => text)).toEqual(alone.map(({ text }) => text));
    expect(JSON.parse(together[1].text)).toEqual([null, null, null]);
  });

  it('leaves them alone where it fails, as for want of a token', async () => {
    const { vocabSize, bytesOf } = random.tokenizer;
    const stopTokens = [...Array(vocabSize).keys()].filter((id) => bytesOf(id).includes(0x22));
    const free = { temperature: 0.9, seed: 5, maxTokens: 30 };
    const alone = await answer(random, free);
    const failing = answer(random, { jsonSchema: { const: 'x' }, stopTokens });
    const [together, failed] = await Promise.allSettled([answer(random, free), failing]);
    expect(together).toMatchObject({ value: { text: alone.text } });
    expect(failed).toMatchObject({
      reason: { name: 'UnsupportedError', message: expect.stringMatching(/no token of the vocabulary/) },
    });
  });

  it("reports the model's own log-probabilities", async () => {
    const [free, held] = [undefined, { type: 'null' }].map((jsonSchema) =>
      answer(random, { jsonSchema, temperature: 0, maxTokens: 1, logprobs: 3 }),
    );
    expect((await held).tokens[0].topLogprobs).toEqual((await free).tokens[0].topLogprobs);
    expect((await held).tokens[0].logprob).toBeLessThan((await free).tokens[0].logprob as number);
  });

  it('refuses what it cannot keep to', async () => {
    const refused = (options: object) => answer(random, options as TextOptions);
    await expect(refused({ jsonSchema: { not: {} } })).rejects.toThrow(/\/not: not cannot be enforced/);
    await expect(refused({ jsonSchema: 'object' })).rejects.toThrow(/jsonSchema is "object"; wanted an object/);
    await expect(refused({ jsonSchema: {}, stop: 'x' })).rejects.toThrow(/stop may cut the JSON/);
    await expect(refused({ response_format: {} })).rejects.toThrow(/wanted jsonSchema/);
  });
});
