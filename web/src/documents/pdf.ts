/** Text of a PDF, page by page. Nothing is drawn, so that fonts and pictures are left alone. */
import { UnsupportedError } from 'dualchunk';
// This build brings what browsers of the last years lack.
import { getDocument, type PDFDocumentProxy, PDFWorker, VerbosityLevel } from 'pdfjs-dist/legacy/build/pdf.mjs';
import PdfThread from 'pdfjs-dist/legacy/build/pdf.worker.mjs?worker';
import { damaged, MOST_TEXT, type Read } from './decoding.ts';

export const readPdf: Read = async (bytes, name) => {
  const thread = new PdfThread();
  // A script that does not start, as where a policy forbids it, is heard of only here.
  const lost = new Promise<never>((_, reject) => {
    thread.onerror = () => reject(new UnsupportedError(`${name}: what reads PDFs did not start; reload the page`));
  });
  const worker = new PDFWorker({ port: thread as unknown as null });
  const task = getDocument({
    ...{ data: bytes, worker, verbosity: VerbosityLevel.ERRORS },
    // The page's policy forbids eval and asks no server for fonts.
    ...{ isEvalSupported: false, useWasm: false, useSystemFonts: true, disableFontFace: true },
  });
  try {
    const document = await Promise.race([task.promise, lost]);
    const { info } = await document.getMetadata();
    const text = await Promise.race([textOfPages(document), lost]);
    if (!/\S/.test(text)) {
      const pages = `${document.numPages} ${document.numPages === 1 ? 'page' : 'pages'}`;
      throw new UnsupportedError(
        `${name}: ${pages} without text, so they are pictures, as scanners make them; recognise their text first (OCR)`,
      );
    }
    return { title: 'Title' in info ? String(info.Title ?? '') : undefined, text };
  } catch (error) {
    if (error instanceof UnsupportedError) throw error;
    const { name: kind, message } = error as Error;
    if (kind !== 'PasswordException') throw damaged(name, message);
    throw new UnsupportedError(`${name}: encrypted with a password; save a copy without one, and choose that`);
  } finally {
    await task.destroy().catch(() => {});
    worker.destroy();
    thread.terminate();
  }
};

async function textOfPages(document: PDFDocumentProxy): Promise<string> {
  const pages: string[] = [];
  let total = 0;
  for (let number = 1; number <= document.numPages && total <= MOST_TEXT; number++) {
    const page = await document.getPage(number);
    const { items } = await page.getTextContent();
    const text = items.map((item) => ('str' in item ? item.str + (item.hasEOL ? '\n' : '') : '')).join('');
    pages.push(text.replace(/[ \t]+$/gm, '').trim());
    total += text.length;
    page.cleanup();
  }
  return joined(pages.filter((page) => page !== '').join('\n\n'));
}

/** A word that a line or page cuts is whole again. One that has a hyphen of its own there loses it: nothing tells them apart. */
const joined = (text: string): string => text.replace(/(\p{L})[-\u2010\u00ad]\n+(?=\p{Ll})/gu, '$1');
