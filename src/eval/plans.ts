/**
 * A plan says what is measured: which tasks, at which lengths, from how many samples. It names no model, and is put to
 * any.
 */
import { UnsupportedError } from '../errors.ts';
import { perplexityTask } from './perplexity.ts';
import type { Job } from './run.ts';
import type { Making, Task } from './task.ts';
import { TASKS, taskNamed } from './tasks.ts';

/** A plan has what `runEvaluation` wants to know, but for the model, the texts and the ways to read. */
export interface Plan extends Pick<Making, 'samples' | 'depths' | 'filler' | 'form'> {
  jobs: Job[];
}

export interface PlanOptions {
  /** Samples have so many tokens. */
  lengths: readonly number[];
  /** So many samples are made at each length, and at each depth where a task has depths. Default 1. */
  samples?: number;
  /** Depths are the middles of so many equal parts of the text. Default 1. */
  depths?: number;
  /** Things are hidden in this. Default `book`. */
  filler?: Making['filler'];
  /** A model is asked like this. Default `raw`. */
  form?: Making['form'];
  /** Windows of perplexity begin so many tokens apart. By default they tile the text. */
  stride?: number;
}

/** Gives lengths that show how far a model reads: 1, 2, 4 and 8 of its trained windows. */
export const usualLengths = (window: number): number[] => [1, 2, 4, 8].map((n) => n * window);

/** Plans tasks, such as those of `TASKS`, all at the same lengths. */
export function planOf(tasks: readonly (Task | Task<Float64Array>)[], options: PlanOptions): Plan {
  const { lengths, samples = 1, depths = 1, filler = 'book', form = 'raw' } = options;
  const jobs = tasks.map(({ name: task, setup = `filler ${filler}, prompts ${form}`, makeSamples, score }) => ({
    ...{ task, setup, makeSamples, score, lengths },
  }));
  return { jobs, samples, depths, filler, form };
}

/** Plans how well a model foresees texts. */
export const perplexityPlan = (options: PlanOptions): Plan => planOf([perplexityOf(options)], options);

/** Plans perplexity and all tasks of `TASKS`. */
export const allPlan = (options: PlanOptions): Plan =>
  planOf([perplexityOf(options), ...Object.values(TASKS)], options);

/** A sweep or a search for a limit is measured by these tasks. */
export const MEASURES = ['perplexity', 'passkey'] as const;

/**
 * Plans tasks under names of their own, such as `limit passkey`, so that a report keeps them apart.
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
 * Sets DCA's two lengths against each other, as names for `modelMethods`; also such as put distances beyond what was
 * trained, as the risk is to be seen.
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
