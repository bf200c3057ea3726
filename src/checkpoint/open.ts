/** From files to a checkpoint: a GGUF file, or a folder in Hugging Face's layout. Nothing but headers is read yet. */
import { FormatError, isRecord, UnsupportedError } from '../errors.ts';
import { familyOf } from '../families.ts';
import type { Folder, ModelSource, Platform } from '../platform/platform.ts';
import { ggufTokenizer } from '../tokenizer/ggufTokenizer.ts';
import type { Checkpoint, TensorEntry } from './checkpoint.ts';
import { folderTokenizer } from './folderTokenizer.ts';
import { readGguf } from './gguf.ts';
import { ggufConfig, ggufTensors } from './ggufConfig.ts';
import { hfConfig } from './hfConfig.ts';
import { decodeFile, describe, type JsonRecord, parseRecord } from './record.ts';
import { readSafetensors } from './safetensors.ts';
import { ggufSampling, hfSampling } from './sampling.ts';
import type { Source } from './source.ts';
import { standIn } from './standIn.ts';

/** Bytes. The largest tokenizers have some 30 MB, other files far less; hostile JSON takes sixty times its size. */
const MAX_TOKENIZER_BYTES = 48 * 2 ** 20;
const MAX_JSON_BYTES = 16 * 2 ** 20;

/** Keeps a file open as long as the checkpoint. */
type Keep = (source: Source) => Source;

/**
 * Opens a model for reading.
 *
 * @param source A GGUF file, or a folder with config.json, tokenizer.json and safetensors.
 * @throws FormatError, UnsupportedError
 */
export async function openCheckpoint(source: ModelSource, platform: Platform): Promise<Checkpoint> {
  const files = await platform.openFiles(source);
  const kept: Source[] = [];
  const keep: Keep = (file) => {
    kept.push(file);
    return file;
  };
  const close = async () => {
    await Promise.all(kept.map((file) => file.close()));
  };
  try {
    const content = 'read' in files ? await readGgufFile(keep(files)) : await readFolder(files, keep);
    return { name: files.name, ...content, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function readGgufFile(source: Source) {
  const { name } = source;
  if (name.endsWith('.safetensors') || name.endsWith('.json')) {
    throw new FormatError(`${name}: one file of a Hugging Face folder; give the folder`);
  }
  const gguf = await readGguf(source);
  const config = await ggufConfig(gguf, source);
  const tensors = ggufTensors(gguf, config, source);
  const sampling = ggufSampling(gguf.metadata, name);
  return { format: 'GGUF' as const, config, tensors, ...ggufTokenizer(gguf.metadata), sampling };
}

async function readFolder(folder: Folder, keep: Keep) {
  const shards = await openShards(folder, keep);
  if (!shards) return readGgufFile(keep(await onlyGguf(folder)));
  const needed = async (name: string): Promise<Source> => {
    const source = await folder.open(name);
    if (source) return source;
    throw new FormatError(`${folder.name}: ${name} is missing; download the whole repository of the model`);
  };
  const optional = async <T>(name: string, read: (source: Source) => Promise<T>): Promise<T | undefined> => {
    const source = await folder.open(name);
    return source && read(source);
  };
  const configFile = await needed('config.json');
  const configJson = await readJson(configFile);
  const config = hfConfig(configJson, configFile.name);
  const tokenizerJson = await readJson(await needed('tokenizer.json'), MAX_TOKENIZER_BYTES);
  const tensors = await readShards(shards, familyOf(config.modelType).normsAboveOne);
  const generationFile = await folder.open('generation_config.json');
  const generationConfig = generationFile ? await readJson(generationFile) : {};
  const template = await optional('chat_template.jinja', readText);
  const tokenizer = folderTokenizer({
    tokenizerJson,
    tokenizerConfig: (await optional('tokenizer_config.json', readJson)) ?? {},
    specialTokensMap: (await optional('special_tokens_map.json', readJson)) ?? {},
    addedTokens: (await optional('added_tokens.json', readJson)) ?? {},
    ...(template !== undefined && { template }),
    eosTokenId: generationConfig.eos_token_id ?? configJson.eos_token_id,
  });
  const sampling = hfSampling(generationConfig, generationFile?.name ?? folder.name);
  return { format: 'safetensors' as const, config, tensors, ...tokenizer, sampling };
}

/** The GGUF file of a folder without safetensors. */
async function onlyGguf({ name: folder, names, open }: Folder): Promise<Source> {
  const ggufs = names?.filter((name) => name.endsWith('.gguf')).sort() ?? [];
  const only = ggufs.length === 1 ? await open(ggufs[0]) : undefined;
  if (only) return only;
  if (ggufs.length > 1) {
    throw new FormatError(`${folder}: has ${ggufs.length} GGUF files; name one of them, such as ${ggufs[0]}`);
  }
  if (names?.some((name) => name.endsWith('.bin'))) {
    throw new UnsupportedError(`${folder}: weights in PyTorch's .bin format; supported: safetensors and GGUF`);
  }
  throw new FormatError(
    `${folder}: has no model.safetensors${names ? ', no' : ' and no'} model.safetensors.index.json` +
      `${names ? ' and no .gguf file' : ''}; give a .gguf file or a Hugging Face folder`,
  );
}

/** A weight file and the tensors it must have. */
interface Shard {
  source: Source;
  expected: readonly string[];
}

/** The weight files; undefined when the folder has none. */
async function openShards(folder: Folder, keep: Keep): Promise<Shard[] | undefined> {
  const index = await folder.open('model.safetensors.index.json');
  if (!index) {
    const source = await folder.open('model.safetensors');
    return source && [{ source: keep(source), expected: [] }];
  }
  const shards: Shard[] = [];
  for (const [name, expected] of shardsOfIndex(await readJson(index), index.name)) {
    const source = await folder.open(name);
    if (!source) throw new FormatError(`${index.name}: ${name} is missing; download it into the folder`);
    shards.push({ source: keep(source), expected });
  }
  return shards;
}

function shardsOfIndex({ weight_map: weightMap }: JsonRecord, origin: string): Map<string, string[]> {
  if (!isRecord(weightMap)) throw new FormatError(`${origin}: weight_map is ${describe(weightMap)}; wanted an object`);
  const shards = new Map<string, string[]>();
  for (const [tensor, shard] of Object.entries(weightMap)) {
    // A name may not lead out of the folder.
    if (typeof shard !== 'string' || !/^[^/\\]+\.safetensors$/.test(shard)) {
      throw new FormatError(`${origin}: tensor ${tensor} is in ${describe(shard)}; wanted the plain name of a file`);
    }
    const tensors = shards.get(shard);
    if (tensors) tensors.push(tensor);
    else shards.set(shard, [tensor]);
  }
  return shards;
}

async function readShards(shards: readonly Shard[], normsAboveOne = false) {
  const entries = new Map<string, TensorEntry>();
  for (const { source, expected } of shards) {
    for (const tensor of await readSafetensors(source)) {
      if (entries.has(tensor.name)) throw new FormatError(`${source.name}: tensor ${tensor.name} is in two files`);
      entries.set(tensor.name, { ...tensor, source, isAboveOne: normsAboveOne && tensor.name.endsWith('norm.weight') });
    }
    const missing = expected.find((name) => entries.get(name)?.source !== source);
    if (missing) throw new FormatError(`${source.name}: tensor ${missing} is missing, though the index lists it here`);
  }
  return entries;
}

const readJson = async (source: Source, maxBytes?: number): Promise<JsonRecord> =>
  parseRecord(await readSmall(source, maxBytes), source.name);

async function readText(source: Source): Promise<string> {
  const bytes = await readSmall(source);
  try {
    return decodeFile(bytes);
  } catch (error) {
    throw new FormatError(`${source.name}: not valid UTF-8; download it again`, { cause: error });
  }
}

/** Reads a whole file and closes it. */
async function readSmall(source: Source, maxBytes = MAX_JSON_BYTES): Promise<Uint8Array> {
  const { name, size } = source;
  try {
    if (size > maxBytes) throw new FormatError(`${name}: has ${size} bytes; wanted at most ${maxBytes}`);
    const bytes = await source.read(0, size);
    const inPlace = standIn(bytes);
    if (inPlace) throw new FormatError(`${name}: ${inPlace}`);
    return bytes;
  } finally {
    await source.close();
  }
}
