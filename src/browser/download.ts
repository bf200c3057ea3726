/** A file that comes over HTTP from some byte on (RFC 9110, section 14), as long as it is the version of which a part is here. */
import { FormatError } from '../errors.ts';

export interface Version {
  /** ETag, or else the date of the last change. */
  readonly version?: string;
  /** Bytes of the whole file, where the server says. */
  readonly totalBytes?: number;
}

export interface Download extends Version {
  /** The byte from which on the server sends: 0 where it has another version now, or no ranges. */
  readonly start: number;
  /** What the server says that the checksum of the whole is. */
  readonly sha256?: string;
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** @throws FormatError when nothing comes for half a minute; TypeError when the connection breaks. */
  readonly pieces: AsyncIterable<Uint8Array<ArrayBuffer>>;
}

/** Milliseconds that a server may send nothing. */
const PATIENCE = 30_000;

/** What the server has now. @throws as `openDownload`. */
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
 * @throws FormatError when the server refuses or sends a page; TypeError when it cannot be reached.
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
    const stall = new FormatError(`${name}: the server sent nothing for ${PATIENCE / 1000} s; try again`);
    timer = setTimeout(() => patience.abort(stall), PATIENCE);
  };
  wait();
  const range = most === undefined ? (have > 0 ? `bytes=${have}-` : undefined) : `bytes=${have}-${have + most - 1}`;
  const headers = range === undefined ? undefined : { range };
  let response: Response;
  try {
    response = await fetch(address, { headers, signal: both, cache: 'no-store' });
    const now = response.headers.get('etag') ?? response.headers.get('last-modified') ?? undefined;
    const isOther = have > 0 && (now !== version || now === undefined || response.status === 416);
    if (isOther && response.status !== 200) {
      await response.body?.cancel();
      return await openDownload(address, 0, undefined, signal, most);
    }
  } finally {
    clearTimeout(timer);
  }
  const { headers: said, status } = response;
  check(response, name);
  const [, first, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(said.get('content-range') ?? '') ?? [];
  if (status === 206 && Number(first) !== have)
    throw new FormatError(`${name}: the server sent another part than was asked for`);
  // Of what is packed for its way only the packed length is said.
  const length = said.has('content-encoding') ? null : said.get('content-length');
  const totalBytes = status === 206 ? Number(total) : length === null ? undefined : Number(length);
  const body = response.body as ReadableStream<Uint8Array<ArrayBuffer>>;
  async function* pieces() {
    const reader = body.getReader();
    try {
      for (;;) {
        wait();
        const { done, value } = await reader.read();
        if (done) return;
        yield value;
      }
    } finally {
      clearTimeout(timer);
      await reader.cancel().catch(() => {});
      reader.releaseLock();
    }
  }
  return {
    version: said.get('etag') ?? said.get('last-modified') ?? undefined,
    ...{ totalBytes, start: status === 206 ? have : 0, sha256: checksumOf(said), body },
    pieces: pieces(),
  };
}

// --- internal ---

function check({ status, headers, body }: Response, name: string): void {
  const wrong =
    status === 404 || status === 410
      ? `there is no such file (${status}); look at the address again`
      : status === 401 || status === 403
        ? `the server refuses it (${status}); it may want a login, download it there and open the file`
        : status !== 200 && status !== 206
          ? `the server answered ${status}; try again later`
          : /^text\/html/i.test(headers.get('content-type') ?? '')
            ? 'an HTML page came: the download asks for a login, or the address is that of a page about the file'
            : body === null
              ? 'the answer is empty; look at the address again'
              : undefined;
  if (wrong !== undefined) throw new FormatError(`${name}: ${wrong}`);
}

/** Hubs give the checksum as ETag of large files; `repr-digest` is RFC 9530. */
function checksumOf(headers: Headers): string | undefined {
  const tag = /^"?([0-9a-f]{64})"?$/i.exec(headers.get('x-linked-etag') ?? headers.get('etag') ?? '')?.[1];
  const digest = /sha-256=:([A-Za-z0-9+/=]+):/.exec(headers.get('repr-digest') ?? '')?.[1];
  if (digest === undefined) return tag;
  return Array.from(atob(digest), (byte) => byte.charCodeAt(0).toString(16).padStart(2, '0')).join('');
}
