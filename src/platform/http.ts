/**
 * A file behind an http address, read by Range requests (RFC 9110, section 14). Short reads come out of blocks, of which a
 * few are kept; a long one is a request of its own. Every answer is held against what was asked for.
 */
import { blobSource, checkRange, type Source } from '../checkpoint/source.ts';
import { FormatError, UnsupportedError } from '../errors.ts';

const BLOCK_BYTES = 2 ** 20;
const KEPT_BLOCKS = 4;
/** Bytes of a file that is held as a whole, where a server has no ranges: no tokenizer is larger, but weights are. */
const MAX_WHOLE_BYTES = 64 * 2 ** 20;
/** Milliseconds that a server may send nothing. */
const PATIENCE = 30_000;

/** What to do where a server is no help. */
const ELSEWHERE = 'take another server, or download the file and open that';

/**
 * Opens the file at an address; undefined where there is none.
 *
 * @param patience Milliseconds without a byte until a read is given up.
 * @throws FormatError when the server refuses, fails, stalls or answers with something else than was asked for;
 *   UnsupportedError when it has no ranges and the file is too large to be held as a whole.
 */
export async function openHttp(url: URL, patience = PATIENCE): Promise<Source | undefined> {
  const name = url.origin + url.pathname; // what stands behind it, and before the host, may be secret
  if (url.username !== '' || url.password !== '') {
    throw new UnsupportedError(`${name}: the address has a user name or password; wanted one without`);
  }
  const file = new HttpFile(url, name, patience);
  const start = await file.begin();
  return start?.length === file.size ? blobSource(new Blob([start]), name) : start && file;
}

class HttpFile implements Source {
  readonly name: string;
  size = 0;
  readonly #url: URL;
  readonly #patience: number;
  /** ETag or date of the file, so that its parts are of one version. */
  #version: string | undefined;
  /** By first byte; the last used is last. */
  readonly #blocks = new Map<number, Promise<Uint8Array>>();
  readonly #requests = new Set<AbortController>();
  #isClosed = false;

  constructor(url: URL, name: string, patience: number) {
    this.#url = url;
    this.name = name;
    this.#patience = patience;
  }

  /** Reads the first block, or the whole file where the server has no ranges; undefined where there is no file. */
  async begin(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const start = await this.#request(0, BLOCK_BYTES, true);
    if (start) this.#blocks.set(0, Promise.resolve(start));
    return start;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    checkRange(this, offset, length);
    if (length > BLOCK_BYTES) return this.#range(offset, offset + length);
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const from = (offset + done) % BLOCK_BYTES;
      const block = await this.#block(offset + done - from);
      const part = block.subarray(from, from + length - done);
      bytes.set(part, done);
      done += part.length;
    }
    return bytes;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#blocks.clear();
    for (const request of this.#requests) request.abort(this.#fault('was closed while being read'));
  }

  #fault(what: string, cause?: unknown): FormatError {
    return new FormatError(`${this.name}: ${what}`, { cause });
  }

  #block(start: number): Promise<Uint8Array> {
    const block = this.#blocks.get(start) ?? this.#range(start, Math.min(start + BLOCK_BYTES, this.size));
    this.#blocks.delete(start);
    this.#blocks.set(start, block);
    block.catch(() => this.#blocks.delete(start));
    for (const oldest of this.#blocks.keys()) {
      if (this.#blocks.size > KEPT_BLOCKS) this.#blocks.delete(oldest);
    }
    return block;
  }

  async #range(start: number, end: number): Promise<Uint8Array> {
    const bytes = await this.#request(start, end, false);
    if (!bytes) throw this.#fault('is no longer there (404); open the model again');
    return bytes;
  }

  /** One request, given up where nothing comes for long. Undefined where there is no file. */
  async #request(start: number, end: number, isFirst: boolean): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (this.#isClosed) throw this.#fault('was closed');
    const request = new AbortController();
    const { signal } = request;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const wait = () => {
      clearTimeout(timer);
      const stall = `the server sent nothing for ${this.#patience / 1000} s; check the connection and try again`;
      timer = setTimeout(() => request.abort(this.#fault(stall)), this.#patience);
    };
    this.#requests.add(request);
    try {
      wait();
      const response = await fetch(this.#url, { headers: { range: `bytes=${start}-${end - 1}` }, signal });
      if (response.status === 404 || response.status === 410) return undefined;
      const length = this.#expectedLength(response, start, end, isFirst);
      const bytes = await this.#body(response, length ?? MAX_WHOLE_BYTES, wait);
      if (length === undefined) this.size = bytes.length;
      else if (bytes.length < length) {
        throw this.#fault(`sent ${bytes.length} of ${length} bytes from byte ${start} on; try again`);
      }
      return bytes;
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (error instanceof FormatError || error instanceof UnsupportedError) throw error;
      const { message, cause } = error as Error;
      const why = cause instanceof Error ? `${message}: ${cause.message}` : message;
      const advice = 'check the address, the connection and whether the server lets this page read it (CORS)';
      throw this.#fault(`cannot be fetched (${why}); ${advice}`, error);
    } finally {
      clearTimeout(timer);
      this.#requests.delete(request);
      request.abort(); // ends the body where it was not read
    }
  }

  /** Bytes that the body must have; undefined where it is the whole file, of a length that may not be known. */
  #expectedLength({ status, headers }: Response, start: number, end: number, isFirst: boolean): number | undefined {
    const asked = `bytes ${start} to ${end - 1}`;
    if (status === 401 || status === 403) {
      throw this.#fault(`the server refuses access (${status}); download the file with a login and open that`);
    }
    if (status === 200) {
      if (isFirst && Number(headers.get('content-length')) <= MAX_WHOLE_BYTES) return undefined;
      throw this.#withoutRanges();
    }
    if (status !== 206) throw this.#fault(`the server answers ${status} to a request for ${asked}; ${ELSEWHERE}`);
    const range = headers.get('content-range');
    if (range === null) {
      const exposed = 'a server of another origin must send Access-Control-Expose-Headers: Content-Range';
      throw this.#fault(`the server sends a part without Content-Range; wanted ${asked}; ${exposed}`);
    }
    const [, from, to, size] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range)?.map(Number) ?? [];
    if (Number.isNaN(size)) throw this.#fault(`the server does not tell the file's size (${range}); ${ELSEWHERE}`);
    const last = (isFirst && size < end ? size : end) - 1;
    if (from !== start || to !== last) {
      throw this.#fault(`the server sends ${JSON.stringify(range)}; wanted bytes ${start}-${last}; ${ELSEWHERE}`);
    }
    const version = headers.get('etag') ?? headers.get('last-modified') ?? undefined;
    if (isFirst) {
      this.size = size;
      this.#version = version;
    } else if (size !== this.size || version !== this.#version) {
      const [was, is] = [`${this.size} bytes, ${this.#version}`, `${size} bytes, ${version}`];
      throw this.#fault(`changed while it was read (${was}; now ${is}); open the model again`);
    }
    return last + 1 - start;
  }

  /** @param limit Bytes of the longest body. @param wait Called when some have come. */
  async #body(response: Response, limit: number, wait: () => void): Promise<Uint8Array<ArrayBuffer>> {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    const reader = response.body?.getReader();
    for (let length = 0; reader; ) {
      const { done, value } = await reader.read();
      if (done) break;
      wait();
      chunks.push(value);
      length += value.length;
      if (length <= limit) continue;
      throw response.status === 200
        ? this.#withoutRanges()
        : this.#fault(`sent more than ${limit} bytes; ${ELSEWHERE}`);
    }
    return new Uint8Array(await new Blob(chunks).arrayBuffer());
  }

  #withoutRanges(): UnsupportedError {
    const most = `${MAX_WHOLE_BYTES / 2 ** 20} MiB`;
    return new UnsupportedError(
      `${this.name}: the server sends the whole file (200) where a part was asked for (206), and holding more than ${most} is ` +
        `out of reach; wanted a server with Range requests; ${ELSEWHERE}`,
    );
  }
}
