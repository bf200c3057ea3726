/** Documents as the page reads them, in Chromium and under its policy: small real files made here, and broken ones. */
import { strToU8, zipSync } from 'fflate';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CONTENT_SECURITY_POLICY } from '../src/cli/pageHeaders.ts';
import { isSkipped, type OpenPage, openScript } from './chromium.ts';

/** What the page sees as global. */
declare const textOf: (file: File) => Promise<{ title: string; text: string }>;

const ENTRY = `import { textOf } from '../web/src/documents.ts';
globalThis.violations = [];
addEventListener('securitypolicyviolation', ({ violatedDirective }) => violations.push(violatedDirective));
globalThis.textOf = textOf;`;

/** A PDF of pages with these lines, each shown by itself; without lines it has empty pages, as pictures would be. */
function pdf(pages: string[][], trailed = ''): Uint8Array {
  const objects = ['<< /Type /Catalog /Pages 2 0 R >>', ''];
  const kids: string[] = [];
  objects.push('<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>');
  for (const lines of pages) {
    const drawn = lines.map((line, nth) => `BT /F1 12 Tf 72 ${720 - 16 * nth} Td (${line}) Tj ET`).join('\n');
    objects.push(`<< /Length ${drawn.length} >>\nstream\n${drawn}\nendstream`);
    const contents = objects.length;
    const resources = '<< /Font << /F1 3 0 R >> >>';
    objects.push(
      `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources ${resources} /Contents ${contents} 0 R >>`,
    );
    kids.push(`${objects.length} 0 R`);
  }
  objects[1] = `<< /Type /Pages /Kids [${kids.join(' ')}] /Count ${kids.length} >>`;
  let file = '%PDF-1.4\n';
  const places = objects.map((object, nth) => {
    const at = file.length;
    file += `${nth + 1} 0 obj\n${object}\nendobj\n`;
    return at;
  });
  const table = places.map((at) => `${String(at).padStart(10, '0')} 00000 n \n`).join('');
  const trailer = `trailer\n<< /Size ${objects.length + 1} /Root 1 0 R ${trailed} >>\nstartxref\n${file.length}\n%%EOF`;
  return strToU8(`${file}xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${table}${trailer}`);
}

const chapter = (text: string) =>
  `<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/><style>p {}</style></head><body>${text}</body></html>`;

/** An EPUB whose chapters are packed in another order than they are read in. */
function epub(more: Record<string, Uint8Array> = {}, packagePath = 'OEBPS/book.opf'): Uint8Array {
  const opf = `<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
    <dc:title>The Book</dc:title></metadata><manifest>
    <item id="a" href="text/one.xhtml" media-type="application/xhtml+xml"/>
    <item id="b" href="text/two%20b.xhtml" media-type="application/xhtml+xml"/>
    <item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/></manifest>
    <spine><itemref idref="n"/><itemref idref="a"/><itemref idref="b"/></spine></package>`;
  const container = `<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
    <rootfile full-path="${packagePath}" media-type="application/oebps-package+xml"/></rootfiles></container>`;
  return zipSync({
    mimetype: strToU8('application/epub+zip'),
    'OEBPS/text/two b.xhtml': strToU8(chapter('<h1>Two</h1><p>And then<br/>it ended.</p>')),
    'OEBPS/text/one.xhtml': strToU8(chapter('<h1>One</h1><p>It  began\n with <i>ease</i>.</p>')),
    'OEBPS/nav.xhtml': strToU8(chapter('<p>Contents</p>')),
    [packagePath]: strToU8(opf),
    'META-INF/container.xml': strToU8(container),
    ...more,
  });
}

/** Says that the first chapter is encrypted by this algorithm. */
const encryption = (algorithm: string) =>
  strToU8(`<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><EncryptedData>
  <EncryptionMethod Algorithm="${algorithm}"/><CipherData>
  <CipherReference URI="OEBPS/text/one.xhtml"/></CipherData></EncryptedData></encryption>`);
const DRM = { 'META-INF/encryption.xml': encryption('http://www.w3.org/2001/04/xmlenc#aes128-cbc') };
const OBSCURED = { 'META-INF/encryption.xml': encryption('http://www.idpf.org/2008/embedding') };
const LONG = { 'OEBPS/text/one.xhtml': strToU8(chapter(' '.repeat(129 * 2 ** 20))) };

/** A PDF with a password that nobody gave. */
const LOCKED =
  `/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <${'41'.repeat(32)}> /U <${'42'.repeat(32)}> >> ` +
  `/ID [<${'00'.repeat(16)}> <${'00'.repeat(16)}>]`;

const utf16 = (text: string) => new Uint8Array(Buffer.from(`\uFEFF${text}`, 'utf16le'));

describe.skipIf(isSkipped)('a document', { timeout: 60_000 }, () => {
  let page: Page;
  let faults: string[];
  let close: OpenPage['close'] = async () => {};
  beforeAll(async () => {
    ({ page, faults, close } = await openScript(ENTRY, 'textOf', (_, response) => {
      response.setHeader('content-security-policy', CONTENT_SECURITY_POLICY);
      return false;
    }));
  }, 60_000);
  afterAll(() => close());

  const read = (name: string, bytes: Uint8Array) =>
    page.evaluate(
      async ([name, bytes]) => {
        try {
          return await textOf(new File([Uint8Array.from(bytes)], name));
        } catch (error) {
          return { error: `${(error as Error).name}: ${(error as Error).message}` };
        }
      },
      [name, Array.from(bytes)] as const,
    );

  it.each([
    { name: 'a.txt', bytes: strToU8('Plain words — ünïcode.\n'), title: 'a', text: 'Plain words — ünïcode.\n' },
    { name: 'b.md', bytes: strToU8('# Head\n\n*as it is*'), title: 'b', text: '# Head\n\n*as it is*' },
    { name: 'c.txt', bytes: utf16('Sixteen bits'), title: 'c', text: 'Sixteen bits' },
    {
      name: 'd.html',
      bytes: strToU8(
        '<!doctype html><title>My page</title><nav>menu</nav><h1>Head</h1><p>One\n two</p><p>Three&nbsp;&amp; four<script>no()</script>',
      ),
      title: 'My page',
      text: 'Head\n\nOne two\n\nThree\u00a0& four',
    },
    {
      name: 'e.epub',
      bytes: epub(),
      title: 'The Book',
      text: 'One\n\nIt began with ease.\n\nTwo\n\nAnd then\nit ended.',
    },
    {
      name: 'f.pdf',
      bytes: pdf([['The first line', 'and one that is hy-', 'phenated.'], ['Page two.']]),
      title: 'f',
      text: 'The first line\nand one that is hyphenated.\n\nPage two.',
    },
    {
      name: 'g.epub', // fonts alone are obscured so; a percent sign in a path stands for itself
      bytes: epub(OBSCURED, 'OEBPS/100%.opf'),
      title: 'The Book',
      text: 'One\n\nIt began with ease.\n\nTwo\n\nAnd then\nit ended.',
    },
    {
      name: 'h.html',
      bytes: strToU8('<meta charset="windows-1252"><p>f\xfcr 5 \x80', true),
      title: 'h',
      text: 'für 5 €',
    },
  ])('is read: $name', async ({ name, bytes, title, text }) => {
    const asked: string[] = [];
    page.on('request', (request) => asked.push(request.url()));
    expect(await read(name, bytes)).toEqual({ title, text });
    expect(asked.filter((url) => !url.includes(new URL(page.url()).host))).toEqual([]);
    // Styles of a document are reported as it is parsed, though it is never shown.
    const violations = (await page.evaluate('violations')) as string[];
    expect(violations.filter((directive) => !directive.startsWith('style-src'))).toEqual([]);
  });

  it.each([
    { what: 'nothing', name: 'a.txt', bytes: new Uint8Array(), words: 'FormatError: a.txt: the file is empty' },
    { what: 'blanks', name: 'a.txt', bytes: strToU8(' \n '), words: 'there is no text in it' },
    {
      what: 'bytes',
      name: 'a.txt',
      bytes: new Uint8Array([1, 0, 255, 254, 0]),
      words: 'a.txt: binary data, not a text',
    },
    { what: 'another encoding', name: 'a.txt', bytes: new Uint8Array([72, 228, 116]), words: 'not valid utf-8' },
    {
      what: 'a zip',
      name: 'a.docx',
      bytes: zipSync({ a: strToU8('b') }),
      words: 'a zip archive, as .docx and .odt are',
    },
    {
      what: 'no zip',
      name: 'a.epub',
      bytes: strToU8('hello'),
      words: 'an EPUB is a zip archive, and this file is none',
    },
    { what: 'a cut EPUB', name: 'a.epub', bytes: epub().subarray(0, 300), words: 'a.epub: damaged' },
    {
      what: 'an EPUB without its chapters',
      name: 'a.epub',
      bytes: zipSync({ 'META-INF/container.xml': strToU8('<container/>') }),
      words: 'a.epub: damaged: the path of its package is missing',
    },
    {
      what: 'an encrypted EPUB',
      name: 'a.epub',
      bytes: epub(DRM),
      words: 'a.epub: encrypted (DRM)',
    },
    {
      what: 'an EPUB that unzips to too much',
      name: 'a.epub',
      bytes: epub(LONG),
      words: 'too large once unzipped; wanted at most 128 MiB',
    },
    { what: 'a locked PDF', name: 'a.pdf', bytes: pdf([['a']], LOCKED), words: 'encrypted with a password' },
    { what: 'a PDF of pictures', name: 'a.pdf', bytes: pdf([[], []]), words: '2 pages without text' },
    { what: 'a PDF that is none', name: 'a.pdf', bytes: strToU8('hello'), words: 'a PDF begins with %PDF-' },
    { what: 'a cut PDF', name: 'a.pdf', bytes: pdf([['a']]).subarray(0, 60), words: 'a.pdf: damaged' },
  ])('is refused in words: $what', async ({ name, bytes, words }) => {
    expect(await read(name, bytes)).toEqual({ error: expect.stringContaining(words) });
    expect(faults).toEqual([]);
  });
});
