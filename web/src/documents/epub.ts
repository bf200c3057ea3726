/** An EPUB is a zip archive: a container names a package, whose spine names the chapters in their order. */
import { UnsupportedError } from 'dualchunk';
import { type Unzipped, unzipSync } from 'fflate';
import { damaged, decoded, MOST_TEXT, type Read } from './decoding.ts';
import { parsed, textOfMarkup } from './html.ts';

const CONTAINER = 'META-INF/container.xml';
const ENCRYPTION = 'META-INF/encryption.xml';
/** Fonts may be obscured by these, which keeps nobody from the text. */
const FONT_ALGORITHMS = ['http://www.idpf.org/2008/embedding', 'http://ns.adobe.com/pdf/enc#RC'];

export const readEpub: Read = async (bytes, name) => {
  const meta = unzipped(bytes, name, (path) => path === CONTAINER || path === ENCRYPTION);
  const container = xmlOf(meta, CONTAINER, name);
  const packagePath = elements(container, 'rootfile')[0]?.getAttribute('full-path') ?? '';
  const opf = xmlOf(
    unzipped(bytes, name, (path) => path === packagePath),
    packagePath,
    name,
  );
  const paths = spineOf(opf, packagePath);
  if (paths.length === 0) throw damaged(name, 'its spine names no chapters');
  if (meta[ENCRYPTION] && isLocked(xmlOf(meta, ENCRYPTION, name), paths)) {
    throw new UnsupportedError(
      `${name}: encrypted (DRM), so that only its seller's app can read it; choose a free copy`,
    );
  }
  const wanted = new Set(paths);
  const chapters = unzipped(bytes, name, (path) => wanted.has(path));
  const texts = paths.map((path) => {
    if (!chapters[path]) throw damaged(name, `the chapter ${path} is missing`);
    return textOfMarkup(parsed(chapters[path], `${name}, ${path}`));
  });
  const title = elements(opf, 'title')[0]?.textContent ?? undefined;
  return { title, text: texts.filter((text) => text !== '').join('\n\n') };
};

/** Unzips the files wanted. Their sizes are known before, and hold: what is longer than it says is cut by fflate. */
function unzipped(bytes: Uint8Array, name: string, isWanted: (path: string) => boolean): Unzipped {
  let total = 0;
  const filter = ({ name: path, originalSize }: { name: string; originalSize: number }) => {
    if (!isWanted(path)) return false;
    total += originalSize;
    if (total > 2 * MOST_TEXT) {
      const most = `wanted at most ${(2 * MOST_TEXT) / 2 ** 20} MiB`;
      throw new UnsupportedError(`${name}: its chapters are too large once unzipped; ${most}; choose a part of it`);
    }
    return true;
  };
  try {
    return unzipSync(bytes, { filter });
  } catch (error) {
    if (error instanceof UnsupportedError) throw error;
    throw damaged(name, `it cannot be unzipped (${error instanceof Error ? error.message : error})`);
  }
}

function xmlOf(files: Unzipped, path: string, name: string): Document {
  if (!files[path]) throw damaged(name, `${path || 'the path of its package'} is missing`);
  const document = new DOMParser().parseFromString(decoded(files[path], name), 'application/xml');
  if (document.querySelector('parsererror')) throw damaged(name, `${path} is no XML`);
  return document;
}

const elements = (document: Document, name: string) => [...document.getElementsByTagNameNS('*', name)];

/** Paths of chapters in the archive, in reading order; the table of contents is left out. */
function spineOf(opf: Document, packagePath: string): string[] {
  const items = new Map(elements(opf, 'item').map((item) => [item.getAttribute('id'), item]));
  return elements(opf, 'itemref').flatMap((reference) => {
    const item = items.get(reference.getAttribute('idref'));
    const isChapter = /html/.test(item?.getAttribute('media-type') ?? '');
    const isContents = /\bnav\b/.test(item?.getAttribute('properties') ?? '');
    return item && isChapter && !isContents ? [pathOf(item.getAttribute('href') ?? '', packagePath)] : [];
  });
}

/** Hrefs are addresses relative to the package's file. */
function pathOf(href: string, packagePath: string): string {
  const { pathname } = new URL(href, `http://epub/${packagePath.split('/').map(encodeURIComponent).join('/')}`);
  try {
    return decodeURIComponent(pathname.slice(1));
  } catch {
    return pathname.slice(1); // a % that stands for itself
  }
}

/** Tells whether any chapter is encrypted. */
const isLocked = (encryption: Document, paths: readonly string[]) =>
  elements(encryption, 'EncryptedData').some((data) => {
    const algorithm = data.getElementsByTagNameNS('*', 'EncryptionMethod')[0]?.getAttribute('Algorithm') ?? '';
    const uri = data.getElementsByTagNameNS('*', 'CipherReference')[0]?.getAttribute('URI') ?? '';
    return !FONT_ALGORITHMS.includes(algorithm) && paths.includes(pathOf(uri, ''));
  });
