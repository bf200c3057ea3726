import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { BUNDLED_BOOK, BUNDLED_MODEL } from '../bundled.ts';
import { UnsupportedError } from '../errors.ts';
import { openModel } from '../node.ts';
import { makeTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import { perplexityTask } from './perplexity.ts';
import { questionsTask, readQuestions } from './questions.ts';
import type { Making, Sample, Task } from './task.ts';
import { RULER, TASKS, taskNamed } from './tasks.ts';

const golden = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../test/golden/tokenizers/${name}.json`, import.meta.url), 'utf8'));

const TOKENIZERS: Record<string, Tokenizer> = {};
const DRACULA = { name: 'dracula.txt', text: readFileSync(BUNDLED_BOOK, 'utf8') };

beforeAll(async () => {
  const file = await openModel(BUNDLED_MODEL);
  TOKENIZERS['books-16m'] = file.tokenizer;
  await file.close();
  for (const name of ['smollm', 'spm']) {
    const { tokenizerJson, tokenizerConfig } = golden(name);
    TOKENIZERS[name] = makeTokenizer(tokenizerJson, tokenizerConfig ?? {}, name);
  }
});

const making = (more: Partial<Making> = {}): Making => {
  const tokenizer = more.tokenizer ?? TOKENIZERS['books-16m'];
  return {
    ...{ tokenizer, frame: { before: tokenizer.encode(''), after: [] }, length: 2048, samples: 2, depths: 3 },
    ...{ seed: 5, texts: [DRACULA], filler: 'book', form: 'raw' },
    ...more,
  };
};

const textOf = (sample: Sample, { tokenizer }: Making) => tokenizer.decode(sample.ids);
const scoreOf = (task: Task, answer: string, sample: Sample) => task.score(answer, sample).accuracy;

describe.each(Object.keys(TASKS))('%s', (name) => {
  const task = TASKS[name];

  it.each([
    ['books-16m', 1500],
    ['books-16m', 8192],
    ['smollm', 4096],
    ['spm', 6001],
  ])('of %s: exactly %i tokens with the answer, whatever is around the prompt', (tokenizer, length) => {
    for (const filler of ['book', 'sentences'] as const) {
      const frame = { before: [1, 2, 3], after: [4] };
      const of = making({ tokenizer: TOKENIZERS[tokenizer], length, frame, filler });
      const samples = [...task.makeSamples(of)];
      expect(samples.length).toBeGreaterThan(1);
      for (const { ids, maxTokens, length: said } of samples) {
        expect(ids.length + maxTokens).toBe(length);
        expect(said).toBe(length);
        expect(maxTokens).toBeGreaterThan(0);
        expect([ids.slice(0, 3), ids.slice(-1)]).toEqual([[1, 2, 3], [4]]);
      }
      expect(new Set(samples.map(({ id }) => id)).size).toBe(samples.length);
    }
  });

  it('asks for something in a text without English words, or refuses it', () => {
    const of = making({ texts: [{ name: 'zh.txt', text: '从前有一座山，山上有一座庙。'.repeat(500) }] });
    let samples: Sample[] = [];
    try {
      samples = [...task.makeSamples(of)];
    } catch (error) {
      expect(error).toBeInstanceOf(UnsupportedError);
      expect((error as Error).message).toMatch(/^zh.txt: 0 different words .*give a longer text in English$/);
    }
    for (const sample of samples) {
      expect(sample.answers.length).toBeGreaterThan(0);
      expect(textOf(sample, of)).not.toContain('undefined');
    }
  });

  it('is the same for the same seed, and another for another', () => {
    const of = (seed: number) => JSON.stringify([...task.makeSamples(making({ seed }))]);
    expect(of(5)).toBe(of(5));
    expect(of(6)).not.toBe(of(5));
  });

  it('scores a right answer 1 and a wrong one 0, and the right one is in the text', () => {
    for (const filler of ['book', 'sentences'] as const) {
      const of = making({ filler });
      for (const sample of task.makeSamples(of)) {
        expect(scoreOf(task, ` ${sample.answers.join(', ')}.`, sample)).toBe(1);
        expect(scoreOf(task, ' I do not know', sample)).toBe(0);
        for (const answer of sample.answers) expect(textOf(sample, of).toLowerCase()).toContain(answer.toLowerCase());
      }
    }
  });

  it('says so where it does not fit', () => {
    expect(() => [...task.makeSamples(making({ length: 20 }))]).toThrow(UnsupportedError);
  });
});

describe('passkey', () => {
  it('is the public script, but for where the filler is cut', () => {
    const of = making({ filler: 'sentences', length: 700 });
    const garbage = Array(99)
      .fill('The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.')
      .join(' ');
    for (const sample of taskNamed('passkey').makeSamples(of)) {
      const [key] = sample.answers;
      const lines = textOf(sample, of).trim().split('\n');
      expect(lines).toHaveLength(5);
      expect(lines[0]).toBe(
        'There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you about the important information there.',
      );
      expect(lines[2]).toBe(`The pass key is ${key}. Remember it. ${key} is the pass key.`);
      expect(lines[4]).toBe('What is the pass key? The pass key is');
      expect(garbage.startsWith(lines[1]) && garbage.startsWith(lines[3])).toBe(true);
      expect(lines[1].length / (lines[1].length + lines[3].length)).toBeCloseTo(sample.depth as number, 1);
      expect(Number(key)).toBeGreaterThanOrEqual(1);
      expect(Number(key)).toBeLessThanOrEqual(50000);
    }
  });

  it('a longer number is wrong, and a comma is none of its digits', () => {
    const task = taskNamed('passkey');
    const sample: Sample = { id: '', length: 9, ids: [], maxTokens: 9, answers: ['1234'] };
    for (const [answer, right] of [
      [' 1234', 1],
      [' 1,234.', 1],
      ['The pass key is 1234.', 1],
      [' 12345', 0],
      [' 123', 0],
    ] as const) {
      expect(scoreOf(task, answer, sample), answer).toBe(right);
    }
  });

  it('samples share what comes before their keys', () => {
    for (const filler of ['book', 'sentences'] as const) {
      const samples = [...taskNamed('passkey').makeSamples(making({ filler, samples: 1, depths: 4 }))];
      samples.slice(1).forEach((sample, at) => {
        const common = sample.ids.findIndex((id, i) => id !== samples[at].ids[i]);
        expect(common / sample.ids.length).toBeGreaterThan((sample.depth as number) - 0.05);
      });
    }
  });
});

it.each(['needle', 'passkey'])('%s lies at its depth in a book', (name) => {
  const of = making({ length: 8192, depths: 5, samples: 1 });
  for (const sample of taskNamed(name).makeSamples(of)) {
    const text = textOf(sample, of);
    const at = text.indexOf(name === 'needle' ? 'The best thing' : 'The pass key is');
    expect(at / text.length).toBeCloseTo(sample.depth as number, 1);
  }
});

describe('RULER', () => {
  const samplesOf = (name: string, of: Making) => [...taskNamed(name).makeSamples(of)];

  it('has eleven tasks', () => {
    expect(RULER).toHaveLength(11);
    expect(() => taskNamed('qa_1')).toThrow(/unknown task "qa_1"; wanted passkey, needle, niah_single_1/);
  });

  it.each([
    ['niah_single_1', 1, 1, /^\d{7}$/],
    ['niah_single_2', 1, 1, /^\d{7}$/],
    ['niah_single_3', 1, 1, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/],
    ['niah_multikey_1', 4, 1, /^\d{7}$/],
    ['niah_multivalue', 4, 4, /^\d{7}$/],
    ['niah_multiquery', 4, 4, /^\d{7}$/],
  ])('%s hides %i needles and asks for %i', (name, nNeedles, nAsked, form) => {
    const of = making();
    for (const sample of samplesOf(name, of)) {
      const text = textOf(sample, of);
      const needles = [...text.matchAll(/One of the special magic \w+ for (\S+) is: (\S+)\./g)];
      expect(needles).toHaveLength(nNeedles);
      expect(sample.answers).toHaveLength(nAsked);
      const question = text.slice(text.lastIndexOf('\nWhat '));
      for (const answer of sample.answers) {
        expect(answer).toMatch(form);
        const [, key] = needles.find(([, , value]) => value === answer) ?? [];
        expect(question).toContain(key);
      }
    }
  });

  it.each(['niah_multikey_2', 'niah_multikey_3'])('%s hides one among many of its kind', (name) => {
    const of = making({ length: 4096 });
    for (const sample of samplesOf(name, of)) {
      const text = textOf(sample, of);
      const needles = [...text.matchAll(/One of the special magic \w+ for (\S+) is: (\S+)\./g)];
      expect(needles.length).toBeGreaterThan(20);
      const key = /mentioned in the provided text\? The special magic \w+ for (\S+)/.exec(text)?.[1];
      expect(needles.filter(([, name]) => name === key).map(([, , value]) => value)).toEqual(sample.answers);
    }
  });

  it('vt: following the chain gives the answer', () => {
    const of = making();
    for (const sample of samplesOf('vt', of)) {
      const text = textOf(sample, of);
      const value = [...text.matchAll(/assigned the value (\d+) in the text above/g)].at(-1)?.[1];
      const values = new Map<string, string>();
      for (const [, name, from] of text.matchAll(/VAR ([A-Z]+) = (?:VAR )?(\w+)/g)) {
        values.set(name, values.get(from) ?? from);
      }
      const found = [...values.keys()].filter((name) => values.get(name) === value);
      expect(found.sort()).toEqual([...sample.answers].sort());
      expect(found).toHaveLength(5);
    }
  });

  it.each([
    ['cwe', 10, 2048],
    ['cwe', 10, 8192],
    ['fwe', 3, 2048],
    ['fwe', 3, 8192],
  ])('%s: the answers are the %i most frequent words of %i tokens', (name, nAsked, length) => {
    const of = making({ length });
    for (const sample of samplesOf(name, of)) {
      const text = textOf(sample, of);
      const list = name === 'cwe' ? text.slice(text.lastIndexOf('Below is')) : text;
      const body = list.slice(0, list.lastIndexOf('Question:')).slice(140);
      const counts = new Map<string, number>();
      for (const word of body.match(/[a-z]{4,9}/g) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
      const ranked = [...counts].sort((a, b) => b[1] - a[1]);
      expect(new Set(ranked.slice(0, nAsked).map(([word]) => word))).toEqual(new Set(sample.answers));
      expect(ranked[nAsked - 1][1]).toBeGreaterThan(ranked[nAsked][1]);
    }
  });
});

it('kv: all samples of one number share the object, and each asks for the pair at its depth', () => {
  const of = making({ length: 4096, depths: 4, samples: 1 });
  const samples = [...taskNamed('kv').makeSamples(of)];
  for (const sample of samples) {
    const text = textOf(sample, of);
    const object: Record<string, string> = JSON.parse(text.slice(text.indexOf('{'), text.indexOf('}') + 1));
    const key = /Key: "([^"]+)"/.exec(text)?.[1] as string;
    expect(object[key]).toBe(sample.answers[0]);
    const keys = Object.keys(object);
    expect((keys.indexOf(key) + 0.5) / keys.length).toBeCloseTo(sample.depth as number, 1);
    const common = sample.ids.findIndex((id, i) => id !== samples[0].ids[i]);
    if (sample !== samples[0]) expect(common / sample.ids.length).toBeGreaterThan(0.95);
  }
});

describe('perplexity', () => {
  const idsOf = (task: Task<Float64Array>, of: Making) =>
    [...task.makeSamples(of)].map(({ id, ids }) => ({ start: Number(/\d+$/.exec(id)?.[0]), ids }));

  it('tiles the same stretch at every length, behind what begins a prompt', () => {
    const task = perplexityTask({ longest: 1024 });
    const long = idsOf(task, making({ length: 1024 }));
    const short = idsOf(task, making({ length: 256 }));
    expect(long.map(({ start }) => start)).toEqual([0, 1024]);
    expect(short.map(({ start }) => start)).toEqual([0, 256, 512, 768, 1024, 1280, 1536, 1792]);
    for (const { ids } of long) expect(ids).toHaveLength(1024);
    for (const { ids } of short) expect(ids).toHaveLength(256);
    expect(short[0].ids).toEqual(long[0].ids.slice(0, 256));
    expect(short[4].ids).toEqual(long[1].ids.slice(0, 256));
  });

  it('refuses lengths of which no windows tile the stretch, and tells what would', () => {
    const task = perplexityTask({ longest: 1024 });
    const of = { length: 384, samples: 1 };
    expect(() => idsOf(task, making(of))).toThrow(
      'perplexity compares the same 1024 tokens at every length, and windows of 384 do not fill them; ' +
        'give lengths that divide the longest, 1024, or 3 samples, or a stride',
    );
    expect(idsOf(task, making({ ...of, samples: 3 }))).toHaveLength(8);
    expect(idsOf(perplexityTask({ longest: 1024, stride: 50 }), making(of))).toHaveLength(1);
  });

  it('slides by a stride', () => {
    const windows = idsOf(perplexityTask({ longest: 512, stride: 100 }), making({ length: 512, samples: 3 }));
    expect(windows.map(({ start }) => start)).toEqual([0, 100, 200]);
    expect(windows[1].ids.slice(1, -100)).toEqual(windows[0].ids.slice(101));
  });

  it('takes all of a text that is just long enough, and refuses a shorter one', () => {
    const { tokenizer } = making();
    const ids = tokenizer.encode(DRACULA.text.slice(0, 4000), { addSpecialTokens: false });
    const texts = [{ name: 'short.txt', text: tokenizer.decode(ids) }];
    const task = perplexityTask({ longest: ids.length });
    expect([...task.makeSamples(making({ texts, length: ids.length, samples: 1 }))]).toHaveLength(1);
    expect(() => [...task.makeSamples(making({ texts, length: ids.length, samples: 9 }))]).toThrow(
      new RegExp(`short.txt has ${ids.length} tokens, but this evaluation reads ${9 * ids.length} of them`),
    );
  });
});

describe('questions', () => {
  const LINES = [
    { context: 'Mina lives in Exeter.', question: 'Where does Mina live?', answers: ['Exeter'] },
    { file: 'book.txt', question: 'Who is the count?', answers: 'Dracula' },
    { context: 'Lucy sleeps.', question: 'Who sleeps?', answers: ['Lucy', 'Miss Lucy'] },
  ];
  const opened: string[] = [];
  const read = (text: string) =>
    readQuestions(
      'qa.jsonl',
      async (path) => {
        opened.push(path);
        if (path === 'qa.jsonl') return text;
        if (path === '/texts/book.txt') return 'The count is Dracula. '.repeat(400);
        throw new Error(`no such file: ${path}`);
      },
      (file) => `/texts/${file}`,
    );
  const lines = (records: readonly object[]) => `${records.map((line) => JSON.stringify(line)).join('\n')}\n\n`;

  it('are read from lines, texts from files', async () => {
    const questions = await read(lines(LINES));
    expect(questions.map(({ origin, answers }) => [origin, answers])).toEqual([
      ['qa.jsonl:1', ['Exeter']],
      ['qa.jsonl:2', ['Dracula']],
      ['qa.jsonl:3', ['Lucy', 'Miss Lucy']],
    ]);
    expect(questions[1].context).toContain('The count is Dracula. The count');
  });

  it('about one text have one copy of it', async () => {
    opened.length = 0;
    expect(await read(lines(Array(1000).fill(LINES[1])))).toHaveLength(1000);
    expect(opened).toEqual(['qa.jsonl', '/texts/book.txt']);
  });

  it.each([
    ['{"question": "x"', 'qa.jsonl:2: not JSON'],
    ['[]', 'qa.jsonl:2: not an object'],
    ['{"context": "c", "answers": ["a"]}', 'qa.jsonl:2: no question'],
    ['{"context": "c", "question": "q"}', 'qa.jsonl:2: answers are not texts'],
    ['{"context": "c", "question": "q", "answers": []}', 'qa.jsonl:2: answers are not texts'],
    ['{"question": "q", "answers": "a"}', 'qa.jsonl:2: neither context nor file, or both'],
    ['{"file": "none.txt", "question": "q", "answers": "a"}', 'qa.jsonl:2: no such file: /texts/none.txt'],
  ])('a bad line is named: %s', async (line, message) => {
    await expect(read(`${JSON.stringify(LINES[0])}\n${line}\n`)).rejects.toThrow(message);
  });

  it('are asked behind their examples, and lose the middle of a long text', async () => {
    const questions = await read(lines(LINES));
    const of = making({ length: 400 });
    const samples = [...questionsTask(questions, 1, 'f1').makeSamples(of)];
    expect(samples).toHaveLength(2);
    expect(samples[0].ids.length + samples[0].maxTokens).toBe(400);
    const [long, short] = samples.map((sample) => textOf(sample, of));
    expect(long).toMatch(/^Mina lives in Exeter\.\n\nQuestion: Where does Mina live\?\nAnswer: Exeter\n\nThe count/);
    expect(long).toMatch(/Dracula\.\s+Question: Who is the count\?\nAnswer:$/);
    expect(short).toContain('Lucy sleeps.\n\nQuestion: Who sleeps?\nAnswer:');
    expect(() => [...questionsTask(questions, 3, 'f1').makeSamples(of)]).toThrow('none are left to ask');
    expect(() => [...questionsTask(questions, 1, 'f1').makeSamples(making({ length: 90 }))]).toThrow('qa.jsonl:2');
  });

  it('are scored by the best of their answers, on the first line', async () => {
    const questions = await read(lines(LINES));
    const sample = { answers: ['Lucy', 'Miss Lucy'] } as unknown as Sample;
    const scores = questionsTask(questions, 0, 'em').score(' Miss Lucy\n\nQuestion: …', sample);
    expect(scores).toMatchObject({ f1: 1, em: 1, accuracy: 1 });
    expect(questionsTask(questions, 0, 'f1').score(' Miss Mina', sample)).toMatchObject({
      f1: 0.5,
      em: 0,
      accuracy: 0.5,
    });
  });
});
