/** A file that comes over HTTP from some byte on (RFC 9110, section 14), as long as it is the version of which a part is here. */
import { fromBase64, hexOf } from '../bytes.ts';
import { FormatError } from '../errors.ts';
import { itemsOf } from '../streams.ts';

export interface Version {
  /** ETag, or else the date of the last change. */
  readonly version?: string;
  /** Bytes of the whole file, where the server says. */
  readonly totalBytes?: number;
}

export interface Download extends Version {
  /** The byte from which on the server sends: 0 where it has another version now, or no ranges. */
  readonly start: number;
  /** The checksum of the whole, where the server says it. */
  readonly sha256?: string;
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** @throws StalledError when nothing comes for half a minute; TypeError when the connection breaks. */
  readonly pieces: AsyncIterable<Uint8Array<ArrayBuffer>>;
}

/** The server is silent. It may go on when it is asked again. */
export class StalledError extends FormatError {}

/** Milliseconds that a server may send nothing. */
const PATIENCE = 30_000;

/** Asks for the version that the server has now. @throws as `openDownload`. */
export async function versionOf(address: URL, signal?: AbortSignal): Promise<Version> {
  const { version, totalBytes, body } = await openDownload(address, 0, undefined, signal, 1);
  await body.cancel();
  return { version, totalBytes };
}

/**
 * Asks for a file from byte `have` on.
 *
 * @param version What the part that is here is of.
 * @param most Bytes to ask for. Default: all.
 * @throws FormatError when the server refuses or sends a page; StalledError when it says nothing; TypeError when it cannot be reached.
 */
export async function openDownload(
  address: URL,
  have: number,
  version: string | undefined,
  signal?: AbortSignal,
  most?: number,
): Promise<Download> {
  const name = address.origin + address.pathname;
  const patience = new AbortController();
  const both = signal ? AbortSignal.any([signal, patience.signal]) : patience.signal;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wait = () => {
    clearTimeout(timer);
    const stall = new StalledError(`${name}: the server sent nothing for ${PATIENCE / 1000} s; try again`);
    timer = setTimeout(() => patience.abort(stall), PATIENCE);
  };
  wait();
  const response = await fetch(address, {
    ...{ headers: rangeOf(have, most), signal: both, cache: 'no-store' },
  }).finally(() => clearTimeout(timer));
  const { headers, status } = response;
  const now = headers.get('etag') ?? headers.get('last-modified') ?? undefined;
  const isOther = have > 0 && (now !== version || now === undefined || status === 416);
  if (isOther && status !== 200) {
    await response.body?.cancel();
    return openDownload(address, 0, undefined, signal, most);
  }
  const body = bodyOf(response, name);
  const [, first, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get('content-range') ?? '') ?? [];
  const isPart = status === 206;
  if (isPart && Number(first) !== have)
    throw new FormatError(`${name}: the server sent another part than was asked for`);
  async function* pieces() {
    try {
      wait();
      for await (const piece of itemsOf(body)) {
        yield piece;
        wait();
      }
    } finally {
      clearTimeout(timer);
    }
  }
  return {
    ...{ version: now, start: isPart ? have : 0, sha256: checksumOf(headers), body, pieces: pieces() },
    totalBytes: isPart ? Number(total) : lengthOf(headers),
  };
}

// --- internal ---

/** The header that asks for bytes from `have` on, at most so many; none where all are wanted. */
function rangeOf(have: number, most: number | undefined): HeadersInit | undefined {
  if (most !== undefined) return { range: `bytes=${have}-${have + most - 1}` };
  return have > 0 ? { range: `bytes=${have}-` } : undefined;
}

/** Of what is packed for its way only the packed length is said. */
function lengthOf(headers: Headers): number | undefined {
  const length = headers.has('content-encoding') ? null : headers.get('content-length');
  return length === null ? undefined : Number(length);
}

/** @throws FormatError where it is not the file that comes. */
function bodyOf({ status, headers, body }: Response, name: string): ReadableStream<Uint8Array<ArrayBuffer>> {
  const refused = (what: string) => new FormatError(`${name}: ${what}`);
  if (status === 404 || status === 410) {
    throw refused(`there is no such file (${status}); look at the address again`);
  }
  if (status === 401 || status === 403) {
    throw refused(`the server refuses it (${status}); it may want a login, download it there and open the file`);
  }
  if (status !== 200 && status !== 206) throw refused(`the server answered ${status}; try again later`);
  if (/^text\/html/i.test(headers.get('content-type') ?? '')) {
    throw refused('an HTML page came: the download asks for a login, or the address is that of a page about the file');
  }
  if (body === null) throw refused('the answer is empty; look at the address again');
  return body;
}

/** Hubs give the checksum as ETag of large files; `repr-digest` is RFC 9530. */
function checksumOf(headers: Headers): string | undefined {
  const tag = /^"?([0-9a-f]{64})"?$/i.exec(headers.get('x-linked-etag') ?? headers.get('etag') ?? '')?.[1];
  const digest = /sha-256=:([A-Za-z0-9+/=]+):/.exec(headers.get('repr-digest') ?? '')?.[1];
  if (digest === undefined) return tag;
  return hexOf(fromBase64(digest));
}
