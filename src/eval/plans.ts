/** What is measured: which tasks, at which lengths, from how many samples. A plan names no model, and is put to any. */
import { UnsupportedError } from '../errors.ts';
import { perplexityTask } from './perplexity.ts';
import type { Job } from './run.ts';
import type { Making, Task } from './task.ts';
import { TASKS, taskNamed } from './tasks.ts';

/** All of what `runEvaluation` wants to know but the model, the texts and, for the most part, the ways to read. */
export interface Plan extends Pick<Making, 'samples' | 'depths' | 'filler' | 'form'> {
  jobs: Job[];
}

export interface PlanOptions {
  /** Tokens of the samples. */
  lengths: readonly number[];
  /** Samples at each length, and at each depth where a task has depths. Default 1. */
  samples?: number;
  /** How many depths; they are the middles of so many equal parts of the text. Default 1. */
  depths?: number;
  /** What things are hidden in. Default `book`. */
  filler?: Making['filler'];
  /** How a model is asked. Default `raw`. */
  form?: Making['form'];
  /** Tokens from one window of perplexity to the next. By default windows tile the text. */
  stride?: number;
}

/** Lengths that show how far a model reads: 1, 2, 4 and 8 of its trained windows. */
export const usualLengths = (window: number): number[] => [1, 2, 4, 8].map((n) => n * window);

/** Puts tasks to a model, such as those of `TASKS`, all at the same lengths. */
export function planOf(tasks: readonly (Task | Task<Float64Array>)[], options: PlanOptions): Plan {
  const { lengths, samples = 1, depths = 1, filler = 'book', form = 'raw' } = options;
  const jobs = tasks.map(({ name: task, setup = `filler ${filler}, prompts ${form}`, makeSamples, score }) => ({
    ...{ task, setup, makeSamples, score, lengths },
  }));
  return { jobs, samples, depths, filler, form };
}

/** How well a model foresees texts. */
export const perplexityPlan = (options: PlanOptions): Plan => planOf([perplexityOf(options)], options);

/** Perplexity and all tasks of `TASKS`. */
export const allPlan = (options: PlanOptions): Plan =>
  planOf([perplexityOf(options), ...Object.values(TASKS)], options);

/** The tasks that a sweep or a search for a limit is measured by. */
export const MEASURES = ['perplexity', 'passkey'] as const;

/**
 * Tasks under names of their own, such as `limit passkey`, so that a report keeps them apart.
 * @throws UnsupportedError when one is none of `MEASURES`.
 */
export function measuredBy(prefix: string, names: readonly string[], options: PlanOptions): Plan {
  const tasks = names.map((name) => {
    if (!MEASURES.some((measure) => measure === name)) {
      throw new UnsupportedError(`unknown task "${name}" for ${prefix}; wanted ${MEASURES.join(', ')}`);
    }
    const task = name === 'perplexity' ? perplexityOf(options) : taskNamed(name);
    return { ...task, name: `${prefix} ${name}` };
  });
  return planOf(tasks, options);
}

/**
 * DCA's two lengths against each other, for `modelMethods`; also such as put distances beyond what was trained, as the risk is
 * to be seen.
 *
 * @param window Tokens that the model was trained on.
 * @param chunks Chunk lengths, tokens. By default 2 to 8 eighths of the window.
 * @param locals Distances that stay exact over a chunk border. By default 1, 2, 4 and 6 sixteenths of the window.
 */
export function sweepMethods(
  window: number,
  chunks: readonly number[] = [2, 3, 4, 5, 6, 7, 8].map((n) => Math.floor((n * window) / 8)),
  locals: readonly number[] = [1, 2, 4, 6].map((n) => Math.floor((n * window) / 16)),
): string[] {
  return chunks.flatMap((chunkLen) =>
    locals.filter((local) => local <= chunkLen).map((local) => `dca:${chunkLen}/${chunkLen + local}`),
  );
}

// --- internal ---

const perplexityOf = ({ lengths, stride }: PlanOptions) => perplexityTask({ stride, longest: Math.max(...lengths) });
