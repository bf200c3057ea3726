/**
 * A command of `dualchunk eval` works with a model or a server, texts, and the folder where finished samples are. It
 * puts plans to them with a progress bar, and prints figures at the end.
 */
import { createHash } from 'node:crypto';
import { cpus, totalmem } from 'node:os';
import { basename, join } from 'node:path';
import { BUNDLED_BOOK, PACKAGE } from '../bundled.ts';
import { modelMethods, serverMethod } from '../eval/methods.ts';
import type { Plan } from '../eval/plans.ts';
import type { RunFacts, SampleRecord } from '../eval/records.ts';
import { resultsOf } from '../eval/results.ts';
import { type EvalRun, type Job, runEvaluation } from '../eval/run.ts';
import { tableOf } from '../eval/table.ts';
import type { NamedText } from '../eval/task.ts';
import { backendName, openModel, trainedWindow, UnsupportedError } from '../node.ts';
import { openServer } from './endpoint.ts';
import { fileNameOf, openFolder } from './evalFolder.ts';
import type { SpeedFlags } from './options.ts';
import { readText } from './prompt.ts';
import { evaluatingBar, size, visible } from './terminal.ts';

/** All commands have these flags. */
export interface SessionFlags extends SpeedFlags {
  model: string;
  seed: number;
  text?: string[];
  out?: string;
  json?: boolean;
  endpoint?: string;
  endpointModel?: string;
}

/** Plans are put to a session, which is a model or a server with its folder. */
export interface Session {
  /** The model was trained on so many tokens. */
  window: number;
  /**
   * Gives the samples that a plan asks for, of which the folder may have some.
   * @throws UnsupportedError when nothing can be asked, or what cannot may not be left out.
   */
  put(plan: Plan, methods: readonly string[], onLeftOut?: EvalRun['onLeftOut']): Promise<SampleRecord[]>;
  /** Writes the folder's report, and prints figures. */
  finish(command: string, records: readonly SampleRecord[]): Promise<void>;
}

export async function openSession(flags: SessionFlags): Promise<Session> {
  const file = await openModel(flags.model);
  const { config, tokenizer } = file;
  const window = trainedWindow(config);
  const texts = await readBooks(flags.text ?? [BUNDLED_BOOK]);
  const { seed, threads, backend, precision, kvType, endpoint } = flags;
  const server = endpoint === undefined ? undefined : await openServer(endpoint, flags.endpointModel);
  const model = server?.model ?? basename(flags.model);
  const setup = [
    texts.map(({ name, text }) => `${name} (${hash(text)})`).join(', '),
    server ? `lengths by the tokenizer of ${basename(flags.model)}` : await computing(flags),
  ].join('; ');
  const folder = openFolder(flags.out ?? join('dualchunk-eval', `${fileNameOf(model)}-${hash(setup)}`));
  const modelFacts: Record<string, string | number> = endpoint
    ? { server: endpoint }
    : {
        format: file.format,
        'trained window': window,
        layers: config.numHiddenLayers,
        'hidden size': config.hiddenSize,
      };
  const asked: Job[] = [];
  const methodFacts: RunFacts['methods'] = {};
  return {
    window,
    async put(plan, names, onLeftOut) {
      const jobs = plan.jobs.map((job) => ({ ...job, setup: `${setup}; ${job.setup}` }));
      folder.checkSetups(model, jobs);
      const lengths = [...new Set(jobs.flatMap((job) => job.lengths))];
      const methods = server
        ? [serverMethod(server.client, model, tokenizer, plan.form, lengths)]
        : modelMethods(file, names, lengths, { threads, backend, precision, kvType });
      const records = await runEvaluation({
        ...{ ...plan, model, jobs, methods, tokenizer, texts, seed },
        frame: server && { before: [], after: [] }, // the server has a template of its own
        finished: folder.records,
        onRecord: folder.append,
        ...{ onProgress: evaluatingBar(), onLeftOut },
      });
      if (records.length === 0) {
        throw new UnsupportedError('no task can be made; give other --lengths or a longer --text');
      }
      asked.push(...jobs);
      for (const { method, description = '' } of methods) methodFacts[method] = description;
      return records;
    },
    async finish(command, records) {
      await file.close();
      const results = resultsOf(records);
      const tasks = Object.fromEntries(
        asked.flatMap(({ task, setup }) => {
          const measured = results.find((one) => one.task === task);
          return measured ? [[task, { setup, samples: measured.samples }]] : [];
        }),
      );
      await folder.finish({ ...machine(), models: { [model]: modelFacts }, methods: methodFacts, tasks, seed });
      if (flags.json) process.stdout.write(`${visible(JSON.stringify({ task: command, model, results }))}\n`);
      else process.stdout.write(tableOf(results));
    },
  };
}

/** Gives eight digits that tell one text from another. */
export const hash = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 8);

// --- internal ---

async function readBooks(paths: readonly string[]): Promise<NamedText[]> {
  const books: NamedText[] = [];
  for (const path of paths) books.push({ name: basename(path), text: await readText(path) });
  return books;
}

/** Names what rounds a model's figures. */
async function computing({ backend, precision, kvType }: SpeedFlags): Promise<string> {
  const name = await backendName(backend, { precision, kvType });
  return name.startsWith('wasm') ? `wasm, ${precision ?? 'int8'}, ${kvType ?? 'bf16'} cache` : name;
}

function machine(): Pick<RunFacts, 'dualchunk' | 'date' | 'hardware' | 'runtime'> {
  const [{ model }, ...others] = cpus();
  return {
    dualchunk: PACKAGE.version,
    date: new Date().toISOString().slice(0, 10),
    hardware: `${1 + others.length} x ${model.trim()}, ${size(totalmem())}`,
    runtime: `Node ${process.versions.node}`,
  };
}
