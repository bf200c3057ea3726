/**
 * This is `dualchunk/eval`, the public API of evaluation: plans say which tasks are measured at which lengths,
 * `runEvaluation` puts them to ways to read, and results, tables and reports are made of the samples that it gives.
 * Nothing here opens a file.
 */
export { frameOf } from './frame.ts';
export type { Limit } from './limit.ts';
export { findLimit, LEAST_FOUND, MOST_PERPLEXITY } from './limit.ts';
export { modelMethods, serverMethod } from './methods.ts';
export type { PerplexityOptions } from './perplexity.ts';
export { perplexityTask } from './perplexity.ts';
export type { Plan, PlanOptions } from './plans.ts';
export { allPlan, MEASURES, measuredBy, perplexityPlan, planOf, sweepMethods, usualLengths } from './plans.ts';
export type { Metric, Question } from './questions.ts';
export { METRICS, questionsTask, readQuestions } from './questions.ts';
export type { Result, RunFacts, SampleRecord } from './records.ts';
export { parseRecord } from './records.ts';
export { reportHtml } from './report.ts';
export type { Position, SweepCell } from './results.ts';
export {
  csvOf,
  effectiveLength,
  longestHeld,
  lossByPosition,
  RULER_THRESHOLD,
  resultsByLength,
  resultsOf,
  rulerMeans,
  sweepCells,
} from './results.ts';
export type { EvalRun, Job, MethodRun, OnTokens, Reader } from './run.ts';
export { runEvaluation } from './run.ts';
export { tableOf } from './table.ts';
export type { Frame, Making, MakingOptions, NamedText, Sample, Scores, Task } from './task.ts';
export { TASKS, taskNamed } from './tasks.ts';
