/** Bytes become text from UTF-8 or UTF-16, with a byte order mark or without; what is neither is told by name. */
import { FormatError } from '../node.ts';

export interface DecodedText {
  text: string;
  /** The last character is cut in two and left out. */
  isCut: boolean;
}

/**
 * @param name Names the text in error messages.
 * @param isWhole Says that the bytes reach the text's end, where a cut character is worth a word.
 * @throws FormatError when the bytes are no text, or in an encoding that they do not tell.
 */
export function decodeText(bytes: Uint8Array, name: string, isWhole = true): DecodedText {
  const refuse = (what: string): never => {
    throw new FormatError(`${name}: ${what.replace('FILE', /^[\w./-]+$/.test(name) ? name : 'FILE')}`);
  };
  const kind = kindOf(bytes);
  if (kind?.isNeverText) return refuse(kind.what);
  if (startsWith(bytes, [0xff, 0xfe, 0, 0]) || startsWith(bytes, [0, 0, 0xfe, 0xff])) {
    return refuse('UTF-32; convert it first: iconv -f utf-32 -t utf-8 FILE');
  }
  const decoded = decodeAs(utf16Of(bytes) ?? 'utf-8', bytes);
  if (decoded === undefined || decoded.text.includes('\0')) return refuse(kind?.what ?? adviceFor(bytes));
  return { text: decoded.text, isCut: decoded.isCut && isWhole };
}

/** These files are often taken for texts, and known by their first bytes. */
const KINDS: readonly [start: string, what: string, isNeverText?: boolean][] = [
  ['%PDF-', 'a PDF; convert it first: pdftotext FILE -', true],
  ['PK\x03\x04', 'a zip archive, as .docx, .xlsx, .odt and .epub are; convert it first: pandoc -t plain FILE'],
  ['\xd0\xcf\x11\xe0', 'an old Office document; convert it first: libreoffice --convert-to txt FILE'],
  ['\x1f\x8b', 'compressed with gzip; unpack it first: gunzip -c FILE'],
  ['BZh', 'compressed with bzip2; unpack it first: bunzip2 -c FILE'],
  ['\xfd7zXZ', 'compressed with xz; unpack it first: xz -dc FILE'],
  ['\x28\xb5\x2f\xfd', 'compressed with zstd; unpack it first: zstd -dc FILE'],
  ['\x89PNG', 'a PNG image; only text is read'],
  ['\xff\xd8\xff', 'a JPEG image; only text is read'],
  ['GIF8', 'a GIF image; only text is read'],
  ['RIFF', 'an image or sound (RIFF); only text is read'],
  ['ID3', 'a sound (MP3); only text is read'],
  ['OggS', 'a sound (Ogg); only text is read'],
  ['GGUF', 'a model (GGUF); give it as the model, before the options, and a text here'],
  ['SQLite format 3', 'a SQLite database; only text is read'],
  ['\x7fELF', 'a program (ELF); only text is read'],
  ['MZ', 'a program (EXE); only text is read'],
];

function kindOf(bytes: Uint8Array): { what: string; isNeverText: boolean } | undefined {
  const start = String.fromCharCode(...bytes.subarray(0, 16));
  const found = KINDS.find(([magic]) => start.startsWith(magic));
  return found && { what: found[1], isNeverText: found[2] ?? false };
}

const startsWith = (bytes: Uint8Array, start: readonly number[]) => start.every((byte, at) => bytes[at] === byte);

/**
 * Gives undefined where a character is impossible in the encoding; one cut by the end of the bytes is only left out.
 */
function decodeAs(encoding: string, bytes: Uint8Array): DecodedText | undefined {
  const decoder = new TextDecoder(encoding, { fatal: true });
  let text: string;
  try {
    text = decoder.decode(bytes, { stream: true });
  } catch {
    return undefined;
  }
  try {
    return { text: text + decoder.decode(), isCut: false };
  } catch {
    return { text, isCut: true };
  }
}

/** So many bytes tell UTF-16 without a byte order mark. */
const SAMPLE_BYTES = 2 ** 16;
/** Two letters of ASCII are such a unit when read as UTF-16; most units are so where the text is not UTF-16. */
const TWO_LETTERS = /[\u2020-\u7e7e]/g;
/** No text is made of controls, or of code points that are reserved or private. */
const STRANGE = /(?!\s)[\p{Cc}\p{Cn}\p{Co}]/gu;

const shareOf = (pattern: RegExp, text: string) => (text.match(pattern)?.length ?? 0) / Math.max(1, text.length);
const isLetter = (byte: number) => byte >= 0x20 && byte <= 0x7e;

/**
 * Tells the byte order by a mark, or by zeros that are all on one side of the units and leave text where they are read
 * so.
 */
export function utf16Of(bytes: Uint8Array): 'utf-16le' | 'utf-16be' | undefined {
  if (startsWith(bytes, [0xff, 0xfe])) return 'utf-16le';
  if (startsWith(bytes, [0xfe, 0xff])) return 'utf-16be';
  const sample = bytes.subarray(0, SAMPLE_BYTES);
  const zeros = [0, 0];
  for (let at = 0; at < sample.length; at++) if (sample[at] === 0) zeros[at % 2]++;
  if (zeros[0] === zeros[1]) return undefined;
  const encoding = zeros[1] > zeros[0] ? 'utf-16le' : 'utf-16be';
  const text = decodeAs(encoding, sample)?.text;
  if (text === undefined || shareOf(STRANGE, text) > 0.001) return undefined;
  const twoLetters = text.match(TWO_LETTERS)?.filter((unit) => isLetter(unit.charCodeAt(0) & 0xff)).length ?? 0;
  return 2 * twoLetters > text.length ? undefined : encoding;
}

/** Says what to do about bytes that are neither UTF-8 nor UTF-16. */
function adviceFor(bytes: Uint8Array): string {
  const zero = bytes.indexOf(0);
  const sample = new TextDecoder().decode(bytes.subarray(0, 16 * SAMPLE_BYTES), { stream: true });
  const text = sample.replaceAll('\0', '');
  const wrong = text.match(/\ufffd/g)?.length ?? 0;
  const right = text.match(/[^\p{ASCII}\ufffd]/gu)?.length ?? 0;
  if (shareOf(/(?!\s)\p{Cc}/gu, text) > 0.01) return 'binary data, not a text';
  if (zero >= 0) {
    return wrong === 0 && text.length > 0.9 * sample.length
      ? `a zero byte at ${zero}, which no text has; take such bytes out: tr -d '\\000' < FILE`
      : 'binary data, not a text';
  }
  if (wrong === 0 || right > 9 * wrong) {
    return 'not valid UTF-8: some bytes are damaged; leave them out: iconv -c -f utf-8 -t utf-8 FILE';
  }
  // Letters beyond ASCII are few in Western European texts, and nearly all in others.
  return wrong < text.length / 4
    ? 'not valid UTF-8; if it is Western European, convert it first: iconv -f windows-1252 -t utf-8 FILE'
    : 'not valid UTF-8; convert it first from the encoding it is in, such as iconv -f gb18030 -t utf-8 FILE (iconv -l lists them)';
}
