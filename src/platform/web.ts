/** Models from addresses and from files that a page holds. Nothing here needs more than the web's own interfaces. */
import { blobSource, type Source } from '../checkpoint/source.ts';
import { FormatError, isOptions, isRecord, shown, UnsupportedError } from '../errors.ts';
import { openHttp } from './http.ts';
import type { FileSource, Folder, Platform } from './platform.ts';
import { webMachine } from './webMachine.ts';

const WANTED =
  'wanted the address (in Node also the path) of a .gguf file or of a Hugging Face folder, where a folder ends in /; ' +
  "a Blob or a file handle; or a map from the names of a folder's files to these";

export const web: Platform = {
  machine: webMachine,
  async openFiles(source) {
    if (typeof source === 'string' || source instanceof URL) return openUrl(urlOf(source));
    if (isFile(source)) return openFileSource(source, 'the given file');
    const files = new Map<unknown, unknown>(
      source instanceof Map ? source : isOptions(source) ? Object.entries(source) : [],
    );
    if (files.size > 0) return namedFiles(files);
    throw new UnsupportedError(`the model is ${shown(source)}; ${WANTED}`);
  },
};

/** A page may name what is beside it. */
function urlOf(source: string | URL): URL {
  const base = globalThis.location?.href;
  if (source === '' || !URL.canParse(source, base)) {
    throw new UnsupportedError(`the model is ${shown(source)}, which is no address; ${WANTED}`);
  }
  const url = new URL(source, base);
  if (url.protocol === 'http:' || url.protocol === 'https:') return url;
  throw new UnsupportedError(
    `the model is at a ${url.protocol} address; wanted http: or https:, or the file itself as a Blob`,
  );
}

async function openUrl(url: URL): Promise<Source | Folder> {
  const name = url.origin + url.pathname;
  if (url.pathname.endsWith('/')) return { name, open: (file) => openHttp(within(url, file)) };
  const file = await openHttp(url);
  if (file) return file;
  throw new FormatError(`${name}: there is no such file (404); ${WANTED}`);
}

function within(folder: URL, name: string): URL {
  const url = new URL(folder);
  url.pathname += encodeURIComponent(name);
  return url;
}

const isSource = (value: object): value is Source => 'read' in value && typeof value.read === 'function';

const isFile = (value: unknown): value is FileSource =>
  value instanceof Blob ||
  (isRecord(value) && (('getFile' in value && typeof value.getFile === 'function') || isSource(value)));

async function openFileSource(file: FileSource, name: string): Promise<Source> {
  if (isSource(file)) return file;
  try {
    const blob = file instanceof Blob ? file : await file.getFile();
    return blobSource(blob, 'name' in blob && typeof blob.name === 'string' ? blob.name : name);
  } catch (error) {
    throw new FormatError(`${name}: cannot be read (${(error as Error).message}); choose it again`, { cause: error });
  }
}

function namedFiles(files: ReadonlyMap<unknown, unknown>): Folder {
  for (const [name, file] of files) {
    if (typeof name !== 'string' || !isFile(file)) {
      throw new UnsupportedError(`the model has ${shown(file)} as file ${shown(name)}; wanted a Blob or a file handle`);
    }
  }
  return {
    name: 'the given files',
    names: [...files.keys()].map(String),
    async open(name) {
      const file = files.get(name);
      return isFile(file) ? openFileSource(file, name) : undefined;
    },
  };
}
