/** The options of the public calls are checked before anything is done with them. */
import { MAX_THREADS } from './backends/wasmScratch.ts';
import { isOptions, shown, UnsupportedError } from './errors.ts';
import { KV_TYPES } from './kvTypes.ts';
import { SAMPLING_RANGES } from './sampler.ts';

interface Kind {
  /** The words end "wanted …". */
  readonly wanted: string;
  fits(value: unknown): boolean;
}

const numberFrom = ([min, max]: readonly [min: number, max: number]): Kind => ({
  wanted: `a number from ${min} to ${max}`,
  fits: (value) => typeof value === 'number' && value >= min && value <= max,
});
const wholeFrom = (min: number, max = Number.MAX_SAFE_INTEGER): Kind => ({
  wanted: `a whole number ${max === Number.MAX_SAFE_INTEGER && min >= 0 ? `of at least ${min}` : `from ${min} to ${max}`}`,
  fits: (value) => Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max,
});
const oneOf = (...names: string[]): Kind => ({
  wanted: names.join(', ').replace(/, ([^,]*)$/, ' or $1'),
  fits: (value) => names.includes(value as string),
});
const text = (example: string): Kind => ({
  wanted: `a text such as "${example}"`,
  fits: (value) => typeof value === 'string' && value !== '',
});
const isText = (value: unknown) => typeof value === 'string' && value !== '';

function isJson(value: unknown): boolean {
  try {
    return JSON.stringify(value) !== undefined;
  } catch {
    return false; // a circle, or a bigint
  }
}

const READING: Record<string, Kind> = {
  signal: { wanted: 'an AbortSignal', fits: (value) => value instanceof AbortSignal },
  onProgress: { wanted: 'a function', fits: (value) => typeof value === 'function' },
};
const TEMPLATE: Record<string, Kind> = {
  templateVariables: { wanted: 'an object, such as { enable_thinking: false }', fits: isOptions },
};

const OPTIONS = {
  load: {
    context: wholeFrom(1),
    sequences: wholeFrom(1, 256),
    method: text('dca'),
    scale: oneOf('none', 'yarn', 'logn'),
    backend: oneOf('auto', 'wasm', 'webgpu', 'reference'),
    threads: wholeFrom(1, MAX_THREADS),
    precision: oneOf('int8', 'int16', 'f32'),
    kvType: oneOf(...Object.keys(KV_TYPES)),
    cacheDir: text('pages'),
    cacheBytes: wholeFrom(1),
    ...READING,
  },
  generate: {
    maxTokens: wholeFrom(1),
    stop: {
      wanted: 'a text or a list of texts, none of them empty',
      fits: (value) => isText(value) || (Array.isArray(value) && value.every(isText)),
    },
    stopTokens: {
      wanted: 'token ids, as a list or a set',
      fits: (value) => typeof value === 'object' && value !== null && Symbol.iterator in value,
    },
    logprobs: wholeFrom(0),
    temperature: numberFrom(SAMPLING_RANGES.temperature),
    topK: wholeFrom(0),
    topP: numberFrom(SAMPLING_RANGES.topP),
    minP: numberFrom(SAMPLING_RANGES.minP),
    repetitionPenalty: numberFrom(SAMPLING_RANGES.repetitionPenalty),
    frequencyPenalty: numberFrom(SAMPLING_RANGES.frequencyPenalty),
    presencePenalty: numberFrom(SAMPLING_RANGES.presencePenalty),
    logitBias: {
      wanted: 'an object of numbers from -100 to 100 by token ids, such as { 42: -100 }',
      fits: (value) =>
        isOptions(value) &&
        Object.entries(value).every(
          ([id, bias]) => /^\d{1,9}$/.test(id) && numberFrom(SAMPLING_RANGES.logitBias).fits(bias),
        ),
    },
    seed: wholeFrom(-Number.MAX_SAFE_INTEGER),
    jsonSchema: { wanted: 'an object, a JSON Schema such as { type: "object" }', fits: isOptions },
    ...TEMPLATE,
    ...READING,
  },
  score: READING,
  read: { about: { wanted: 'what JSON holds', fits: isJson }, ...TEMPLATE, ...READING },
  loadSession: READING,
  encode: TEMPLATE,
} satisfies Record<string, Record<string, Kind>>;

/** Options are called so elsewhere, in small letters without `_` and `-`. */
const ELSEWHERE: Record<string, string> = {
  maxnewtokens: 'maxTokens',
  maxcompletiontokens: 'maxTokens',
  maxoutputtokens: 'maxTokens',
  maxlength: 'maxTokens',
  npredict: 'maxTokens',
  numpredict: 'maxTokens',
  stopsequences: 'stop',
  stopstrings: 'stop',
  stoptokenids: 'stopTokens',
  eostokens: 'stopTokens',
  eostokenid: 'stopTokens',
  toplogprobs: 'logprobs',
  nprobs: 'logprobs',
  temp: 'temperature',
  repeatpenalty: 'repetitionPenalty',
  reppen: 'repetitionPenalty',
  randomseed: 'seed',
  responseformat: 'jsonSchema',
  responseschema: 'jsonSchema',
  responsejsonschema: 'jsonSchema',
  guidedjson: 'jsonSchema',
  schema: 'jsonSchema',
  chattemplatekwargs: 'templateVariables',
  abortsignal: 'signal',
  progresscallback: 'onProgress',
  onloadprogress: 'onProgress',
  nctx: 'context',
  numctx: 'context',
  ctxsize: 'context',
  contextsize: 'context',
  contextlength: 'context',
  maxseqlen: 'context',
  maxmodellen: 'context',
  nparallel: 'sequences',
  parallel: 'sequences',
  maxnumseqs: 'sequences',
  nthreads: 'threads',
  numthreads: 'threads',
  device: 'backend',
  dtype: 'precision',
  cachetype: 'kvType',
  cachetypek: 'kvType',
  kvcachedtype: 'kvType',
  ropescaling: 'method',
};
const plain = (name: string) => name.toLowerCase().replace(/[_-]/g, '');

/**
 * Checks options.
 * @throws UnsupportedError for one that `call` does not have, naming the right one, or a value that does not fit.
 */
export function checkOptions(call: keyof typeof OPTIONS, options: unknown): void {
  if (!isOptions(options)) {
    throw new UnsupportedError(`the options of ${call} are ${shown(options)}; wanted an object`);
  }
  const known: Record<string, Kind> = OPTIONS[call];
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(known, name)) throw unknownOption(call, name, Object.keys(known));
    if (value !== undefined && !known[name].fits(value)) {
      throw new UnsupportedError(`${name} is ${shown(value)}; wanted ${known[name].wanted}`);
    }
  }
}

/** Makes a set of `ids`. @throws UnsupportedError when one is no token id. */
export function idSet(ids: Iterable<unknown>): Set<number> {
  const set = new Set(ids);
  for (const id of set) {
    if (!wholeFrom(0).fits(id)) throw new UnsupportedError(`stopTokens has ${shown(id)}; wanted token ids`);
  }
  return set as Set<number>;
}

/** Finds which of the known names a strange one stands for, if it is called so elsewhere or is misspelt. */
export function meantBy(name: string, known: readonly string[]): string | undefined {
  const elsewhere = ELSEWHERE[plain(name)];
  if (elsewhere !== undefined) return known.find((right) => right === elsewhere);
  return known.find((right) => isAlike(plain(name), plain(right)));
}

// --- internal ---

function unknownOption(call: string, name: string, known: readonly string[]): UnsupportedError {
  const advice = `wanted ${meantBy(name, known) ?? known.join(', ')}`;
  return new UnsupportedError(`${call} has no option ${shown(name)}; ${advice}`);
}

/** Tells whether two names differ in nothing, in the order of letters, or by a letter too many. */
function isAlike(a: string, b: string): boolean {
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  if (short.length === long.length) return [...a].sort().join() === [...b].sort().join();
  return short.length > 3 && [...long].some((_, at) => long.slice(0, at) + long.slice(at + 1) === short);
}
