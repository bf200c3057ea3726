/** A model's makers recommend a sampling in `generation_config.json`, or in a GGUF's `general.sampling.*` keys. */
import { SAMPLING_RANGES, type Sampling } from '../sampler.ts';
import { type Fields, fieldsOf, type JsonRecord } from './record.ts';

/** A file has these names for the options. */
type Names = Readonly<Record<keyof Sampling, string>>;

const HF_NAMES: Names = {
  temperature: 'temperature',
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
  repetitionPenalty: 'repetition_penalty',
};

/** These are the keys that llama.cpp's converter writes. */
const GGUF_NAMES: Names = {
  temperature: 'general.sampling.temp',
  topK: 'general.sampling.top_k',
  topP: 'general.sampling.top_p',
  minP: 'general.sampling.min_p',
  repetitionPenalty: 'general.sampling.penalty_repeat',
};

/** A sampler takes values of these ranges; some files write -1 where all tokens are kept. */
const RANGES: Record<keyof Sampling, readonly [min: number, max: number]> = { ...SAMPLING_RANGES, topK: [-1, 2 ** 31] };

/** Reads what a folder recommends. @throws FormatError when a value is out of its range. */
export function hfSampling(generationConfig: JsonRecord, origin: string): Partial<Sampling> {
  const fields = fieldsOf(generationConfig, origin);
  const sampling = saidBy(fields, HF_NAMES);
  // Without `do_sample` transformers is greedy, but a file that gives a temperature means it.
  return fields.boolean('do_sample', true) ? sampling : { ...sampling, temperature: 0 };
}

/** Reads what a GGUF file recommends. @throws FormatError when a value is out of its range. */
export const ggufSampling = (metadata: JsonRecord, origin: string): Partial<Sampling> =>
  saidBy(fieldsOf(metadata, origin), GGUF_NAMES);

function saidBy(fields: Fields, names: Names): Partial<Sampling> {
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
