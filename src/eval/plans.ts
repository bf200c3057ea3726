/** What is measured: which tasks, at which lengths, from how many samples. A plan names no model, and is put to any. */
import { UnsupportedError } from '../errors.ts';
import { perplexityTask } from './perplexity.ts';
import type { Job } from './run.ts';
import type { Making, Task } from './task.ts';
import { TASKS, taskNamed } from './tasks.ts';

export interface Plan {
  jobs: Job[];
  /** The ways to read, where the plan is about them. */
  methods?: string[];
  making: Pick<Making, 'samples' | 'depths' | 'filler' | 'form'>;
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
  return { jobs, making: { samples, depths, filler, form } };
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

export interface SweepOptions extends Omit<PlanOptions, 'lengths'> {
  /** Tokens that the model was trained on. */
  window: number;
  /** Default: 8 windows. */
  lengths?: readonly number[];
  /** Chunk lengths. Default: 2 to 8 eighths of the window. */
  chunks?: readonly number[];
  /** Distances that stay exact over a chunk border. Default: 1, 2, 4 and 6 sixteenths of the window. */
  locals?: readonly number[];
  /** Which of `MEASURES`. Default: perplexity. */
  tasks?: readonly string[];
}

/** DCA's two lengths against each other, also such as put distances beyond what was trained: the risk is to be seen. */
export function sweepPlan({ window, tasks = ['perplexity'], ...options }: SweepOptions): Plan {
  const share = (parts: readonly number[], of: number) => parts.map((part) => Math.floor((part * window) / of));
  const {
    lengths = [8 * window],
    chunks = share([2, 3, 4, 5, 6, 7, 8], 8),
    locals = share([1, 2, 4, 6], 16),
  } = options;
  const methods = chunks.flatMap((chunkLen) =>
    locals.filter((local) => local <= chunkLen).map((local) => `dca:${chunkLen}/${chunkLen + local}`),
  );
  return { ...measuredBy('sweep', tasks, { ...options, lengths }), methods };
}

// --- internal ---

const perplexityOf = ({ lengths, stride }: PlanOptions) => perplexityTask({ stride, longest: Math.max(...lengths) });
