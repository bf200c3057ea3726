/** From a path to a checkpoint: a GGUF file, or a folder in Hugging Face's layout. Nothing but headers is read yet. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FormatError, isRecord, UnsupportedError } from '../errors.ts';
import { familyOf } from '../families.ts';
import { ggufTokenizer } from '../tokenizer/ggufTokenizer.ts';
import type { Checkpoint, TensorEntry } from './checkpoint.ts';
import { folderTokenizer } from './folderTokenizer.ts';
import { readGguf } from './gguf.ts';
import { ggufConfig, ggufTensors } from './ggufConfig.ts';
import { hfConfig } from './hfConfig.ts';
import { decodeFile, describe, type JsonRecord, parseRecord } from './record.ts';
import { readSafetensors } from './safetensors.ts';
import { ggufSampling, hfSampling } from './sampling.ts';
import { openFile, type Source } from './source.ts';
import { standIn } from './standIn.ts';

/** Bytes. The largest tokenizers have some 30 MB, other files far less; hostile JSON takes sixty times its size. */
const MAX_TOKENIZER_BYTES = 48 * 2 ** 20;
const MAX_JSON_BYTES = 16 * 2 ** 20;

/** Opens a file that stays open as long as the checkpoint. */
type Open = (path: string) => Promise<Source>;

/**
 * Opens a model for reading.
 *
 * @param path A .gguf file, or a folder with config.json, tokenizer.json and safetensors.
 * @throws FormatError, UnsupportedError
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const sources: Source[] = [];
  const close = async () => {
    await Promise.all(sources.map((source) => source.close()));
  };
  try {
    const open: Open = async (file) => {
      const source = await openFile(file).catch(unreadable(file));
      sources.push(source);
      return source;
    };
    return { name: path, ...(await read(path, open)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function read(path: string, open: Open): Promise<Omit<Checkpoint, 'name' | 'close'>> {
  const info = await stat(path).catch(() => undefined);
  if (info?.isFile()) return readGgufFile(path, open);
  if (info?.isDirectory()) return readFolder(path, open);
  const fault = info ? 'neither a file nor a folder' : 'no such file or folder';
  throw new FormatError(`${fault}: ${path}; give the path of a .gguf file or of a Hugging Face folder`);
}

async function readGgufFile(path: string, open: Open) {
  if (path.endsWith('.safetensors') || path.endsWith('.json')) {
    throw new FormatError(`${path}: one file of a Hugging Face folder; give the path of the folder`);
  }
  const source = await open(path);
  const gguf = await readGguf(source);
  const config = await ggufConfig(gguf, source);
  const tensors = ggufTensors(gguf, config, source);
  const sampling = ggufSampling(gguf.metadata, path);
  return { format: 'GGUF' as const, config, tensors, ...ggufTokenizer(gguf.metadata), sampling };
}

async function readFolder(folder: string, open: Open) {
  const listing = await readdir(folder, { withFileTypes: true }).catch(unreadable(folder));
  const names = listing.filter((entry) => entry.isFile() || entry.isSymbolicLink()).map(({ name }) => name);
  const shards = await shardsOf(folder, names);
  if (!shards) return readGgufFile(onlyGguf(folder, names), open);
  for (const needed of ['config.json', 'tokenizer.json']) {
    if (!names.includes(needed)) {
      throw new FormatError(`${folder}: ${needed} is missing; download the whole repository of the model`);
    }
  }
  const configPath = join(folder, 'config.json');
  const configJson = await readJson(configPath);
  const config = hfConfig(configJson, configPath);
  const { normsAboveOne } = familyOf(config.modelType);
  const tensors = await readShards(folder, shards, open, normsAboveOne);
  const optional = async (name: string): Promise<JsonRecord> =>
    names.includes(name) ? readJson(join(folder, name)) : {};
  const generationConfig = await optional('generation_config.json');
  const template = names.includes('chat_template.jinja')
    ? await readText(join(folder, 'chat_template.jinja'))
    : undefined;
  const tokenizer = folderTokenizer({
    tokenizerJson: await readJson(join(folder, 'tokenizer.json'), MAX_TOKENIZER_BYTES),
    tokenizerConfig: await optional('tokenizer_config.json'),
    specialTokensMap: await optional('special_tokens_map.json'),
    addedTokens: await optional('added_tokens.json'),
    ...(template !== undefined && { template }),
    eosTokenId: generationConfig.eos_token_id ?? configJson.eos_token_id,
  });
  const sampling = hfSampling(generationConfig, join(folder, 'generation_config.json'));
  return { format: 'safetensors' as const, config, tensors, ...tokenizer, sampling };
}

/** The GGUF file of a folder without safetensors. */
function onlyGguf(folder: string, names: string[]): string {
  const ggufs = names.filter((name) => name.endsWith('.gguf')).sort();
  if (ggufs.length === 1) return join(folder, ggufs[0]);
  if (ggufs.length > 1) {
    throw new FormatError(`${folder}: has ${ggufs.length} GGUF files; name one of them, such as ${ggufs[0]}`);
  }
  if (names.some((name) => name.endsWith('.bin'))) {
    throw new UnsupportedError(`${folder}: weights in PyTorch's .bin format; supported: safetensors and GGUF`);
  }
  throw new FormatError(
    `${folder}: has no model.safetensors, no model.safetensors.index.json and no .gguf file; ` +
      'give the path of a .gguf file or of a Hugging Face folder',
  );
}

/** Names of the weight files, each with the tensors it must have; undefined when the folder has none. */
async function shardsOf(folder: string, names: string[]): Promise<Map<string, string[]> | undefined> {
  const index = 'model.safetensors.index.json';
  if (names.includes(index)) return shardsOfIndex(await readJson(join(folder, index)), join(folder, index), names);
  return names.includes('model.safetensors') ? new Map([['model.safetensors', []]]) : undefined;
}

function shardsOfIndex({ weight_map: weightMap }: JsonRecord, origin: string, names: string[]): Map<string, string[]> {
  if (!isRecord(weightMap)) throw new FormatError(`${origin}: weight_map is ${describe(weightMap)}; wanted an object`);
  const shards = new Map<string, string[]>();
  for (const [tensor, shard] of Object.entries(weightMap)) {
    // A name may not lead out of the folder.
    if (typeof shard !== 'string' || !/^[^/\\]+\.safetensors$/.test(shard)) {
      throw new FormatError(`${origin}: tensor ${tensor} is in ${describe(shard)}; wanted the plain name of a file`);
    }
    if (!names.includes(shard)) throw new FormatError(`${origin}: ${shard} is missing; download it into the folder`);
    const tensors = shards.get(shard);
    if (tensors) tensors.push(tensor);
    else shards.set(shard, [tensor]);
  }
  return shards;
}

async function readShards(folder: string, shards: Map<string, string[]>, open: Open, normsAboveOne = false) {
  const entries = new Map<string, TensorEntry>();
  for (const [shard, expected] of shards) {
    const source = await open(join(folder, shard));
    for (const tensor of await readSafetensors(source)) {
      if (entries.has(tensor.name)) throw new FormatError(`${source.name}: tensor ${tensor.name} is in two files`);
      entries.set(tensor.name, { ...tensor, source, isAboveOne: normsAboveOne && tensor.name.endsWith('norm.weight') });
    }
    const missing = expected.find((name) => entries.get(name)?.source !== source);
    if (missing) throw new FormatError(`${source.name}: tensor ${missing} is missing, though the index lists it here`);
  }
  return entries;
}

const readJson = async (path: string, maxBytes = MAX_JSON_BYTES): Promise<JsonRecord> =>
  parseRecord(await readSmall(path, maxBytes), path);

async function readText(path: string): Promise<string> {
  try {
    return decodeFile(await readSmall(path));
  } catch (error) {
    if (error instanceof FormatError) throw error;
    throw new FormatError(`${path}: not valid UTF-8; download it again`, { cause: error });
  }
}

async function readSmall(path: string, maxBytes = MAX_JSON_BYTES): Promise<Uint8Array> {
  const source = await openFile(path).catch(unreadable(path));
  try {
    if (source.size > maxBytes) throw new FormatError(`${path}: has ${source.size} bytes; wanted at most ${maxBytes}`);
    const bytes = await source.read(0, source.size).catch(unreadable(path));
    const inPlace = standIn(bytes);
    if (inPlace) throw new FormatError(`${path}: ${inPlace}`);
    return bytes;
  } finally {
    await source.close();
  }
}

/** The system's error as one of ours. */
const unreadable =
  (path: string) =>
  (error: NodeJS.ErrnoException): never => {
    if (error instanceof FormatError) throw error;
    throw new FormatError(`${path}: cannot be read (${error.code ?? error.message})`, { cause: error });
  };
