/** A `post_processor` puts tokens in front of a text. What it puts behind one is left out: texts here are continued. */
import { FormatError, isRecord, shown, UnsupportedError } from '../errors.ts';

const SUPPORTED = 'TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing, Sequence';

/** Gives the contents of the tokens. @throws FormatError, UnsupportedError */
export function tokensBefore(postProcessor: unknown, origin: string): string[] {
  if (postProcessor === null || postProcessor === undefined) return [];
  const fault = new FormatError(`${origin}: post_processor is malformed; download tokenizer.json again`);
  if (!isRecord(postProcessor)) throw fault;
  const { type, single, cls, processors } = postProcessor;
  switch (type) {
    case 'ByteLevel':
      return [];
    case 'TemplateProcessing':
      return beforeText(single, fault);
    case 'BertProcessing':
    case 'RobertaProcessing':
      if (!Array.isArray(cls) || typeof cls[0] !== 'string') throw fault;
      return [cls[0]];
    case 'Sequence':
      if (!Array.isArray(processors)) throw fault;
      // Each puts its tokens around what the one before has made.
      return processors.toReversed().flatMap((part) => tokensBefore(part, origin));
    default:
      throw new UnsupportedError(`${origin}: post_processor ${shown(type)}; supported: ${SUPPORTED}`);
  }
}

/** A template lists special tokens and, once, the text: `{ Sequence: { id: 'A' } }`. */
function beforeText(template: unknown, fault: FormatError): string[] {
  if (!Array.isArray(template)) throw fault;
  const tokens = template.map((item: unknown) => {
    if (!isRecord(item)) throw fault;
    const part = item.SpecialToken ?? item.Sequence;
    if (!isRecord(part) || typeof part.id !== 'string') throw fault;
    return { isText: item.SpecialToken === undefined, id: part.id };
  });
  const at = tokens.findIndex(({ isText, id }) => isText && id === 'A');
  if (at < 0) throw fault;
  return tokens.slice(0, at).map(({ id }) => id);
}
