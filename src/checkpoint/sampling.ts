/** The sampling that a model's makers recommend: of `generation_config.json`, or of a GGUF's `general.sampling.*` keys. */
import { type Fields, fieldsOf, type JsonRecord } from './record.ts';

/** Options of a sampler, each absent where the files do not say. */
export interface Sampling {
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
}

/** The names a file has for the options. */
type Names = Readonly<Record<keyof Sampling, string>>;

const HF_NAMES: Names = {
  temperature: 'temperature',
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
  repetitionPenalty: 'repetition_penalty',
};

/** As llama.cpp's converter writes them. */
const GGUF_NAMES: Names = {
  temperature: 'general.sampling.temp',
  topK: 'general.sampling.top_k',
  topP: 'general.sampling.top_p',
  minP: 'general.sampling.min_p',
  repetitionPenalty: 'general.sampling.penalty_repeat',
};

/** What a sampler takes; -1 is how some files write that all tokens are kept. */
const RANGES: Record<keyof Sampling, readonly [min: number, max: number]> = {
  temperature: [0, 100],
  topK: [-1, 2 ** 31],
  topP: [0, 1],
  minP: [0, 1],
  repetitionPenalty: [0.01, 100],
};

/** @throws FormatError when a value is out of its range. */
export function hfSampling(generationConfig: JsonRecord, origin: string): Sampling {
  const fields = fieldsOf(generationConfig, origin);
  const sampling = samplingOf(fields, HF_NAMES);
  // Without `do_sample` transformers is greedy, but a file that gives a temperature means it.
  return fields.boolean('do_sample', true) ? sampling : { ...sampling, temperature: 0 };
}

/** @throws FormatError when a value is out of its range. */
export const ggufSampling = (metadata: JsonRecord, origin: string): Sampling =>
  samplingOf(fieldsOf(metadata, origin), GGUF_NAMES);

function samplingOf(fields: Fields, names: Names): Sampling {
  const given = Object.entries(names).flatMap(([option, key]): [string, number][] => {
    if (fields.get(key) === undefined) return [];
    const value = fields.number(key);
    const [min, max] = RANGES[option as keyof Sampling];
    if (!(value >= min && value <= max)) throw fields.fault(key, `a number from ${min} to ${max}`);
    if (option !== 'topK') return [[option, value]];
    if (!Number.isInteger(value)) throw fields.fault(key, 'a whole number');
    return [[option, Math.max(0, value)]];
  });
  return Object.fromEntries(given);
}
