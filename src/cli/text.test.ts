/** Text as people have it: the encodings it comes in, and what is said of bytes that are none. */
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { decodeText } from './text.ts';

const utf8 = (text: string) => new TextEncoder().encode(text);
const utf16 = (text: string, isBigEndian = false) => {
  const bytes = Buffer.from(text, 'utf16le');
  return isBigEndian ? bytes.swap16() : bytes;
};
const decode = (bytes: Uint8Array) => decodeText(bytes, 'notes.txt');
const ENGLISH = 'The blue box is in the garden.\r\nIt holds “letters”.\n';
const CHINESE = '盒子在花园里。\n里面有信。\n'.repeat(20);

describe('text is read', () => {
  it.each([
    ['UTF-8', utf8(ENGLISH), ENGLISH],
    ['UTF-8 with a mark', utf8(`\ufeff${ENGLISH}`), ENGLISH],
    ['UTF-16, little end first, with a mark', utf16(`\ufeff${ENGLISH}`), ENGLISH],
    ['UTF-16, big end first, with a mark', utf16(`\ufeff${ENGLISH}`, true), ENGLISH],
    ['UTF-16, little end first', utf16(ENGLISH), ENGLISH],
    ['UTF-16, big end first', utf16(ENGLISH, true), ENGLISH],
    ['Chinese in UTF-16, little end first', utf16(CHINESE), CHINESE],
    ['Chinese in UTF-16, big end first', utf16(CHINESE, true), CHINESE],
    ['nothing', utf8(''), ''],
  ])('%s', (_what, bytes, text) => expect(decode(bytes)).toEqual({ text, isCut: false }));

  it.each([
    ['UTF-8', utf8('garden €').subarray(0, -1), 'garden '],
    ['UTF-16', utf16('\ufeffgarden €').subarray(0, -1), 'garden '],
    ['a pair of UTF-16', utf16('\ufeffgarden 🌷').subarray(0, -2), 'garden '],
  ])('the last character cut in two: %s', (_what, bytes, text) => expect(decode(bytes)).toEqual({ text, isCut: true }));
});

describe('what is no text is told by name, with advice that is right', () => {
  const latin1 = (text: string) => Buffer.from(text, 'latin1');
  it.each<[string, Uint8Array, RegExp]>([
    [
      'Latin-1',
      latin1('Le garçon était là.'),
      /not valid UTF-8; if it is Western European, .*-f windows-1252 .*notes\.txt$/,
    ],
    [
      'GB 18030',
      Buffer.from('bad0d7d3d4dabba8d4b0c0efa1a3'.repeat(9), 'hex'),
      /convert it first from the encoding it is in/,
    ],
    [
      'damaged UTF-8',
      Buffer.concat([utf8('é'.repeat(50)), latin1('é'), utf8(' à')]),
      /damaged; .*iconv -c -f utf-8 -t utf-8/,
    ],
    ['UTF-32', Buffer.from('fffe000041000000', 'hex'), /UTF-32; .*iconv -f utf-32/],
    ['one zero byte', utf8(`${ENGLISH}\0${ENGLISH}`), /a zero byte at 5\d, .*tr -d '\\000' < notes\.txt/],
    ['only zeros', new Uint8Array(4096), /binary data, not a text/],
    [
      'noise',
      Uint8Array.from({ length: 4096 }, (_, at) => (at * at * 31 + at * 7) % 256),
      /binary data|not valid UTF-8/,
    ],
    ['a PDF', utf8('%PDF-1.7\n1 0 obj'), /a PDF; convert it first: pdftotext notes\.txt -$/],
    ['a zip', latin1('PK\x03\x04\x14\0\0\0'), /zip archive, as \.docx/],
    ['gzip', gzipSync(ENGLISH), /gzip; unpack it first: gunzip -c notes\.txt/],
    ['a PNG', latin1('\x89PNG\r\n\x1a\n\0\0\0\rIHDR'), /a PNG image/],
    ['a model', latin1('GGUF\x03\0\0\0\0\0'), /a model \(GGUF\); give it as the model/],
  ])('%s', (_what, bytes, message) => {
    expect(() => decode(bytes)).toThrow(message);
    expect(() => decode(bytes)).toThrow(/^notes\.txt: /);
  });

  it('a text that begins like another kind of file stays one', () => {
    expect(decode(utf8('GGUF is a format of files.')).text).toBe('GGUF is a format of files.');
  });
});
