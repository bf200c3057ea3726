/** Files of readers become text: plain text, Markdown, HTML, EPUB and PDF. What reads a kind is imported when one is met. */
import { FormatError, UnsupportedError } from 'dualchunk';
import { damaged, decoded, MOST_TEXT, type Read } from './documents/decoding.ts';

export interface Text {
  /** From the file's own metadata, else its name without the ending. */
  title: string;
  text: string;
}

/** A file may have so many bytes; books with pictures are large. */
const MOST_FILE_BYTES = 512 * 2 ** 20;
/**
 * Gives a file's text; nothing leaves the browser.
 *
 * @throws FormatError where the file is damaged; UnsupportedError where it holds no text that can be read here.
 */
export async function textOf(file: File): Promise<Text> {
  const { name, size } = file;
  if (size === 0) throw new FormatError(`${name}: the file is empty; choose one with a text in it`);
  if (size > MOST_FILE_BYTES) throw tooLarge(name, size, MOST_FILE_BYTES);
  const start = new Uint8Array(await file.slice(0, 1024).arrayBuffer());
  const kind = kindOf(name, start);
  const isPlain = kind === 'plain' || kind === 'html';
  if (isPlain && size > MOST_TEXT) throw tooLarge(name, size, MOST_TEXT);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const { title, text } = await read(kind, bytes, name);
  if (text.length > MOST_TEXT) throw tooLarge(name, text.length, MOST_TEXT);
  if (/\S/.test(text)) return { title: title?.trim() || name.replace(/\.\w+$/, ''), text };
  throw new UnsupportedError(`${name}: there is no text in it; choose another file`);
}

type Kind = 'plain' | 'html' | 'epub' | 'pdf';

const READERS: Readonly<Record<Kind, () => Promise<Read>>> = {
  plain: async () => async (bytes, name) => ({ text: decoded(bytes, name) }),
  html: async () => (await import('./documents/html.ts')).readHtml,
  epub: async () => (await import('./documents/epub.ts')).readEpub,
  pdf: async () => (await import('./documents/pdf.ts')).readPdf,
};

const read = async (kind: Kind, bytes: Uint8Array, name: string) => (await READERS[kind]())(bytes, name);

const tooLarge = (name: string, size: number, most: number) =>
  new UnsupportedError(
    `${name}: too large, ${Math.ceil(size / 2 ** 20)} MiB; wanted at most ${most / 2 ** 20} MiB; choose a part of it`,
  );

/** The first bytes tell a kind sooner than the name does. */
function kindOf(name: string, start: Uint8Array): Kind {
  const head = new TextDecoder('latin1').decode(start);
  const ending = /\.(\w+)$/.exec(name.toLowerCase())?.[1] ?? '';
  if (head.includes('%PDF-')) return 'pdf';
  if (ending === 'pdf') throw damaged(name, 'a PDF begins with %PDF-, and this file does not');
  if (head.startsWith('PK\x03\x04')) {
    if (ending === 'epub' || head.includes('application/epub+zip')) return 'epub';
    throw new UnsupportedError(
      `${name}: a zip archive, as .docx and .odt are; wanted txt, md, html, epub or pdf; save it as one of those`,
    );
  }
  if (ending === 'epub') throw damaged(name, 'an EPUB is a zip archive, and this file is none');
  return /^x?html?$/.test(ending) || /^\W{0,3}\s*<(!doctype html|html)\b/i.test(head) ? 'html' : 'plain';
}
