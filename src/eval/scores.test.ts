import { describe, expect, it } from 'vitest';
import { exactMatch, f1, normalize, rouge, rougeL, rougeN, rougeTokens, stringMatchAll } from './scores.ts';

describe('SCROLLS', () => {
  it('compares without case, punctuation and articles', () => {
    expect(normalize('The  Cat, a dog; an "owl"!')).toBe('cat dog owl');
    expect(exactMatch('the Castle.', 'A castle')).toBe(1);
    expect(exactMatch('the castles', 'castle')).toBe(0);
  });

  it.each([
    ['Count Dracula', 'count dracula', 1],
    ['the count of Transylvania', 'count Dracula', 2 / (3 + 2)], // one word in common of three and two
    ['a b b c', 'b b b d', (2 * 2) / (3 + 4)], // b twice; the article does not count
    ['', 'count', 0],
    ['Mina', 'Lucy', 0],
  ])('f1 of "%s" and "%s"', (answer, reference, expected) => {
    expect(f1(answer, reference)).toBeCloseTo(expected, 12);
  });
});

describe('ROUGE', () => {
  /** ROUGE-1, -2 and -L of Python's rouge-score 0.1.2 with its stemmer. */
  const KNOWN: [answer: string, reference: string, one: number, two: number, longest: number][] = [
    ['the cat was found under the bed', 'the cat was under the bed', 0.923077, 0.727273, 0.923077],
    ['Police killed the gunman.', 'the gunman was shot down by police', 0.545455, 0.222222, 0.363636],
    [
      'He was running quickly through the forests, singing songs',
      'He runs through a forest and sings a song quickly',
      0.736842,
      0.0,
      0.631579,
    ],
    [
      'Generalizations and organizations were happily considered',
      'The organization considered generalization happily',
      0.727273,
      0.0,
      0.363636,
    ],
    ['a b c d e f', 'f e d c b a', 1.0, 0.0, 0.166667],
    ['', 'nothing here', 0, 0, 0],
    ['word word word', 'word', 0.5, 0, 0.5],
    [
      "The meeting's agenda covered budgets; schedules (2024) and hiring.",
      'Agenda of the meetings: budget, schedule 2024, hires',
      0.777778,
      0.375,
      0.666667,
    ],
    [
      'Jonathan Harker keeps a journal while travelling to Transylvania',
      'Jonathan Harker kept his journal on the travels to Transylvania',
      0.631579,
      0.352941,
      0.631579,
    ],
  ];

  it.each(KNOWN)('of "%s" and "%s"', (answer, reference, one, two, longest) => {
    const [ours, theirs] = [rougeTokens(answer), rougeTokens(reference)];
    expect(rougeN(ours, theirs, 1)).toBeCloseTo(one, 5);
    expect(rougeN(ours, theirs, 2)).toBeCloseTo(two, 5);
    expect(rougeL(ours, theirs)).toBeCloseTo(longest, 5);
    expect(rouge(answer, reference)).toBeCloseTo(Math.cbrt(one * two * longest), 5);
  });
});

it('RULER counts the share of references said, in any case', () => {
  expect(stringMatchAll('The numbers are 12 and 34', ['12', '34', '56', '78'])).toBe(0.5);
  expect(stringMatchAll('ALPHA-beta', ['alpha-BETA'])).toBe(1);
});
