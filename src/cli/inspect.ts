/** `dualchunk inspect` says what a checkpoint is, how it would be read, and what it would take. It loads no weights. */
import { Command } from 'commander';
import { layersInWords } from '../method.ts';
import { backendName, type MemoryPlan, openModel, resolveMethod, trainedWindow } from '../node.ts';
import { addModelFlags, loadOptionsOf, type ModelFlags, OPTIONAL_MODEL_ARGUMENT } from './options.ts';
import { count, size, visible } from './terminal.ts';

interface InspectFlags extends ModelFlags {
  json?: boolean;
}

export const inspectCommand = (): Command =>
  addModelFlags(new Command('inspect').addArgument(OPTIONAL_MODEL_ARGUMENT))
    .description('Shows config, tensors, trained window, chunk plan and memory of a model, without loading it.')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ dualchunk inspect model.gguf
  $ dualchunk inspect model.gguf --context 64k --method dca:chunkllama`,
    )
    .action(inspect);

async function inspect(path: string, flags: InspectFlags): Promise<void> {
  const file = await openModel(path);
  const { format, config, tokenizer } = file;
  const window = trainedWindow(config);
  const context = flags.context ?? window;
  const method = resolveMethod(flags.method, flags.scale, config, context);
  const { name, description, dca } = method;
  // Only a backend that is asked for is opened, to tell what it would compute on.
  const backend = flags.backend ? await backendName(flags.backend, loadOptionsOf(flags, context)) : 'wasm';
  const { backend: kind, kvType, threads } = flags;
  const memory = file.memoryPlan(context, { backend: kind, kvType, threads, method });
  const tensors = Object.fromEntries(file.tensorTypes);
  await file.close();

  if (flags.json) {
    const { chunkLen = Infinity, maxDistance } = dca ?? {};
    const plan = {
      method: name,
      description,
      ...(dca && { chunkLen, maxDistance }),
      chunks: chunksIn(context, chunkLen),
    };
    const hasChatTemplate = tokenizer.chatTemplate !== undefined;
    const facts = {
      path,
      format,
      config,
      tensors,
      trainedWindow: window,
      hasChatTemplate,
      context,
      backend,
      plan,
      memory,
    };
    process.stdout.write(`${visible(JSON.stringify(facts))}\n`); // an escape in JSON means the same
    return;
  }
  const section = (title: string, rows: [string, unknown][]) => {
    const width = Math.max(...rows.map(([name]) => name.length));
    const lines = rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}\n`);
    process.stdout.write(visible(`${title}\n${lines.join('')}`));
  };
  const shown = (value: unknown) => (typeof value === 'object' ? JSON.stringify(value) : value);
  section(`${path} (${format})`, [
    ...Object.entries(config).flatMap(([name, value]): [string, unknown][] =>
      value === undefined ? [] : [[name, shown(value)]],
    ),
    ['chat template', tokenizer.chatTemplate === undefined ? 'no' : 'yes'],
  ]);
  section(
    'tensors',
    [...file.tensorTypes].map(([type, { count: n, bytes }]) => [type, `${count(n).padStart(4)}  ${size(bytes)}`]),
  );
  const chunkRows: [string, string][] =
    dca === undefined
      ? [['in words', description]]
      : [
          ['chunk', `${count(dca.chunkLen)} tokens, ${count(chunksIn(context, dca.chunkLen))} chunks`],
          ['distances', `at most ${count(dca.maxDistance)}`],
          ['exact across a border', `up to ${count(dca.maxDistance - dca.chunkLen)}`],
          ['in', layersInWords(config) ?? 'all layers'],
        ];
  section(`reading ${count(context)} tokens (trained window ${count(window)})`, [
    ['backend', backend],
    ['method', name],
    ...chunkRows,
    ['weights', size(memory.weights)],
    ['KV cache', `${size(memory.kvCache)} (${size(memory.kvCache / context)} a token)`],
    ['scratch', size(memory.scratch)],
    ['together', size(memory.total)],
    ...memoryRows(memory),
  ]);
}

/** Says which layers go to which memory, where one does not hold them all. */
const memoryRows = ({ stageOf, stageBytes }: MemoryPlan): [string, string][] =>
  stageBytes.length === 1
    ? []
    : stageBytes.map((bytes, stage) => [
        `memory ${stage + 1} of ${stageBytes.length}`,
        `${size(bytes)}, ${stageOf.filter((of) => of === stage).length} of ${stageOf.length} layers`,
      ]);

const chunksIn = (context: number, chunkLen: number) => Math.max(1, Math.ceil(context / chunkLen));
