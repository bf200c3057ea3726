/**
 * Token ids become text. A token is bytes, and text is the UTF-8 of the bytes: so a character may be spread over
 * tokens, a stream holds back only an unfinished character, and its pieces always join to the decoded whole.
 */
import { shown, UnsupportedError } from '../errors.ts';
import type { Component, TokenizerJson } from './tokenizerJson.ts';

export interface DecodeOptions {
  /** Leaves out control tokens. Default true. */
  skipSpecialTokens?: boolean;
  /**
   * The ids go on from other text, so a space before their first word stands. Default false: SentencePiece
   * vocabularies then drop it, as it is one that encoding puts in front of every text.
   */
  midText?: boolean;
}

export interface StreamDecoder {
  /** Gives the text that is complete with this token, often the token's own, sometimes none. */
  push(id: number): string;
  /** Ends the text, and gives what is left of an unfinished character as U+FFFD. */
  flush(): string;
}

export interface Decoder {
  /** Gives the bytes of one token, none when the vocabulary has no such id. */
  bytesOf(id: number): Uint8Array;
  /** Tells tokens that stand for themselves and are not made of others, such as control tokens. */
  isAdded(id: number): boolean;
  stream(options?: DecodeOptions): StreamDecoder;
}

const NO_BYTES = new Uint8Array();
const utf8 = new TextEncoder();

export function makeDecoder({ model, added_tokens, decoder }: TokenizerJson, origin: string): Decoder {
  const steps = flatten(decoder);
  const unsupported = steps.find(({ type }) => !SUPPORTED.has(type));
  if (unsupported) {
    throw new UnsupportedError(`${origin}: decoder ${unsupported.type}; supported: ${[...SUPPORTED].join(', ')}`);
  }
  const isByteLevel = steps.some(({ type }) => type === 'ByteLevel');
  const dropsFirstSpace = steps.some(
    ({ type, start, prepend_scheme }) =>
      (type === 'Metaspace' && prepend_scheme !== 'never') || (type === 'Strip' && start === 1),
  );
  const tokenBytes = isByteLevel ? byteLevelBytes : sentencePieceBytes;
  const addedBytes = isByteLevel ? (content: string) => utf8.encode(content) : sentencePieceBytes;

  const vocab = new Map(Array.from(model.vocab, ([token, id]) => [id, token]));
  const added = new Map(added_tokens.map((token) => [token.id, token]));

  function bytesOf(id: number): Uint8Array {
    const content = added.get(id)?.content;
    if (content !== undefined) return addedBytes(content);
    const token = vocab.get(id);
    return token === undefined ? NO_BYTES : tokenBytes(token);
  }

  function stream({ skipSpecialTokens = true, midText = false }: DecodeOptions = {}): StreamDecoder {
    const text = new TextDecoder('utf-8', { ignoreBOM: true });
    let dropsSpace = dropsFirstSpace && !midText;
    const emit = (piece: string): string => {
      const dropped = dropsSpace && piece.startsWith(' ') ? piece.slice(1) : piece;
      dropsSpace &&= piece === '';
      return dropped;
    };
    return {
      push(id) {
        if (!Number.isSafeInteger(id) || id < 0) throw new UnsupportedError(`${shown(id)} is no token id`);
        return skipSpecialTokens && added.get(id)?.special ? '' : emit(text.decode(bytesOf(id), { stream: true }));
      },
      flush: () => emit(text.decode()),
    };
  }

  return { bytesOf, isAdded: (id) => added.has(id), stream };
}

/** The two kinds of vocabulary, byte level and SentencePiece, have these decoder steps. */
const SUPPORTED = new Set(['ByteLevel', 'Replace', 'ByteFallback', 'Fuse', 'Strip', 'Metaspace']);

function flatten(decoder: Component | null): Component[] {
  if (decoder?.type !== 'Sequence') return decoder ? [decoder] : [];
  return (Array.isArray(decoder.decoders) ? (decoder.decoders as Component[]) : []).flatMap(flatten);
}

/** GPT-2 has letters for bytes: Latin-1's printable characters stand for themselves, the other 68 follow U+00FF. */
const BYTE_OF_LETTER: ReadonlyMap<string, number> = (() => {
  const bytes = Array.from({ length: 256 }, (_, byte) => byte);
  const isPrintable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
  const others = bytes.filter((byte) => !isPrintable(byte));
  return new Map([
    ...bytes.filter(isPrintable).map((byte) => [String.fromCharCode(byte), byte] as const),
    ...others.map((byte, i) => [String.fromCharCode(0x100 + i), byte] as const),
  ]);
})();

function byteLevelBytes(token: string): Uint8Array {
  const bytes = Array.from(token, (letter) => BYTE_OF_LETTER.get(letter));
  return bytes.every((byte) => byte !== undefined) ? Uint8Array.from(bytes) : utf8.encode(token);
}

/** `<0x0A>` is a byte; in all else `▁` is a space. */
function sentencePieceBytes(token: string): Uint8Array {
  const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
  return byte === undefined ? utf8.encode(token.replaceAll('▁', ' ')) : Uint8Array.of(Number.parseInt(byte, 16));
}
