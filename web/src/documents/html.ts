/** Markup becomes text: a line for each paragraph and heading; nothing that is run, drawn or clicked. */
import { decoded, type Read } from './decoding.ts';

export const readHtml: Read = async (bytes, name) => {
  const document = parsed(bytes, name);
  return { title: document.querySelector('title, h1')?.textContent ?? undefined, text: textOfMarkup(document) };
};

/** Reads XHTML by its own rules where it keeps them, since HTML takes `<title/>` for a beginning. @throws FormatError */
export function parsed(bytes: Uint8Array, name: string): Document {
  const head = new TextDecoder('latin1').decode(bytes.subarray(0, 1024));
  const markup = decoded(bytes, name, encodingOf(head));
  const parser = new DOMParser();
  if (/^\W{0,3}\s*<\?xml|<html[^>]+xmlns/.test(head)) {
    const document = parser.parseFromString(markup, 'application/xhtml+xml');
    if (!document.querySelector('parsererror')) return document;
  }
  return parser.parseFromString(markup, 'text/html');
}

/** A page or an XML file may name its encoding within itself. */
function encodingOf(head: string): string | undefined {
  const named = /<meta[^>]+charset\s*=\s*["']?([\w-]+)|^\W{0,3}<\?xml[^>]+encoding\s*=\s*["']([\w-]+)/i.exec(head);
  const label = named?.[1] ?? named?.[2];
  try {
    return label && new TextDecoder(label).encoding.replace(/^utf-16.*/, 'utf-8'); // it was read as ASCII a moment ago
  } catch {
    return undefined;
  }
}

const SKIPPED = new Set(
  'head script style nav template noscript iframe object svg canvas audio video button select textarea rp rt'.split(
    ' ',
  ),
);
/** They stand apart, with an empty line around them. */
const PARAGRAPHS = new Set('p h1 h2 h3 h4 h5 h6 blockquote pre ul ol dl table figure hr'.split(' '));
const LINES = new Set(
  'div section article main header footer aside li dt dd tr caption figcaption address body'.split(' '),
);

/** The text of a document as it would be read aloud, in its order. */
export function textOfMarkup(document: Document): string {
  let text = '';
  const visit = (node: Node, isKept: boolean): void => {
    if (node.nodeType === Node.TEXT_NODE || node.nodeType === Node.CDATA_SECTION_NODE) {
      text += isKept ? node.nodeValue : (node.nodeValue ?? '').replace(/[ \t\r\n\f]+/g, ' ');
      return;
    }
    const name = node instanceof Element ? node.localName : '';
    if (SKIPPED.has(name) || (node instanceof HTMLElement && node.hidden)) return;
    const around = PARAGRAPHS.has(name) ? '\n\n' : LINES.has(name) ? '\n' : '';
    text += name === 'br' ? '\n' : around;
    for (const child of node.childNodes) visit(child, isKept || name === 'pre');
    text += name === 'td' || name === 'th' ? '\t' : around;
  };
  visit(document.body ?? document.documentElement, false);
  return text
    .replace(/[ \t]+$/gm, '')
    .replace(/^ (?=\S)/gm, '') // what was a line's end in the markup
    .replace(/ {2,}(?=\S)/g, (blanks, at: number) => (text[at - 1] === '\n' ? blanks : ' '))
    .replace(/\n{3,}/g, '\n\n')
    .trim();
}
