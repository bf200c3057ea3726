/**
 * Users ask their own questions about their own texts, in few-shot prompts: `examples, text, question, Answer:`. A text
 * that does not fit loses its middle (LongBench, arXiv 2308.14508), so that both its ends and the question stay.
 */
import { FormatError, UnsupportedError } from '../errors.ts';
import { encodePiece } from './haystack.ts';
import { exactMatch, f1, rouge } from './scores.ts';
import type { Making, Task } from './task.ts';

export interface Question {
  /** It was asked there, such as `questions.jsonl:17`. */
  origin: string;
  context: string;
  question: string;
  answers: readonly string[];
}

export const METRICS = ['f1', 'em', 'rouge'] as const;
export type Metric = (typeof METRICS)[number];
const SCORES: Record<Metric, (answer: string, reference: string) => number> = { f1, em: exactMatch, rouge };

const ANSWER_TOKENS = 64;

/**
 * Reads JSONL: `{"context" or "file", "question", "answers"}` a line, `answers` a string or several; other fields are
 * let be.
 *
 * @param pathOf Turns what a line calls its file into a path.
 * @throws FormatError that names file and line, where a line is none of these.
 */
export async function readQuestions(
  path: string,
  readText: (path: string) => Promise<string>,
  pathOf: (file: string) => string,
): Promise<Question[]> {
  const questions: Question[] = [];
  const texts = new Map<string, string>(); // many lines may ask about one book
  const lines = (await readText(path)).split('\n');
  for (const [at, line] of lines.entries()) {
    if (line.trim() === '') continue;
    const origin = `${path}:${at + 1}`;
    const refuse = (what: string): never => {
      throw new FormatError(`${origin}: ${what}; wanted {"context" or "file", "question", "answers"}`);
    };
    let record: Record<string, unknown> = {};
    try {
      record = JSON.parse(line);
    } catch (error) {
      refuse(`not JSON (${(error as Error).message})`);
    }
    if (typeof record !== 'object' || record === null || Array.isArray(record)) refuse('not an object');
    const { context, file, question } = record;
    const answers = [record.answers].flat();
    if (typeof question !== 'string' || question === '') refuse('no question');
    const isText = (answer: unknown) => typeof answer === 'string' && answer !== '';
    if (answers.length === 0 || !answers.every(isText)) refuse('answers are not texts');
    if ((typeof context === 'string') === (typeof file === 'string')) refuse('neither context nor file, or both');
    let text = context as string;
    if (typeof file === 'string') {
      const target = pathOf(file);
      text = texts.get(target) ?? (await readText(target).catch((error: Error) => refuse(error.message)));
      texts.set(target, text);
    }
    questions.push({ origin, context: text, question: question as string, answers: answers as string[] });
  }
  if (questions.length === 0) throw new FormatError(`${path}: no questions in it`);
  return questions;
}

/**
 * Makes the task of answering questions; a text that is too long loses its middle.
 *
 * @param shots The first so many questions are shown with their answers, and not asked.
 * @param metric What counts as accuracy; all three are kept.
 */
export function questionsTask(questions: readonly Question[], shots: number, metric: Metric): Task {
  return {
    name: 'questions',
    *makeSamples(making) {
      const { tokenizer, frame, length } = making;
      const asked = questions.slice(shots);
      if (asked.length === 0) {
        throw new UnsupportedError(`${questions.length} questions, of which ${shots} are shown; none are left to ask`);
      }
      const piece = (text: string) => encodePiece(tokenizer, text);
      const examples = questions.slice(0, shots);
      for (const { origin, context, question, answers } of asked) {
        const tail = piece(`\n\nQuestion: ${question}\nAnswer:`);
        const ends = examples.map((example) =>
          piece(`\n\nQuestion: ${example.question}\nAnswer: ${example.answers[0]}\n\n`),
        );
        const fixed = [frame.before, frame.after, tail, ...ends].reduce(
          (sum, { length }) => sum + length,
          ANSWER_TOKENS,
        );
        // Every text, shown or asked about, may take the same.
        const room = Math.floor((length - fixed) / (examples.length + 1));
        if (room < 1) throw noRoom(making, origin, fixed);
        const shown = examples.flatMap((example, at) => [...cutMiddle(piece(example.context), room), ...ends[at]]);
        const text = cutMiddle(piece(context), length - fixed - (shown.length - ends.flat().length));
        const ids = [...frame.before, ...shown, ...text, ...tail, ...frame.after];
        // A short text stays short: `length` is then the most it could have been.
        yield { id: `${origin} ${question}`, length, ids, maxTokens: ANSWER_TOKENS, answers };
      }
    },
    score(answer, { answers }) {
      const said = answer.trim().split('\n')[0];
      const best = (of: Metric) => Math.max(...answers.map((reference) => SCORES[of](said, reference)));
      return { ...{ f1: best('f1'), em: best('em'), rouge: best('rouge') }, accuracy: best(metric) };
    },
  };
}

// --- internal ---

/** Keeps at most `room` ids: the first and the last of them, as many of each. */
function cutMiddle(ids: readonly number[], room: number): readonly number[] {
  if (ids.length <= room) return ids;
  const head = Math.ceil(room / 2);
  return [...ids.slice(0, head), ...ids.slice(ids.length - (room - head))];
}

const noRoom = ({ length }: Making, origin: string, fixed: number) =>
  new UnsupportedError(
    `${origin}: question and examples take ${fixed} tokens of ${length}; give longer lengths or fewer shots`,
  );
