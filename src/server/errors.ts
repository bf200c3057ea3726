/** A request is refused, or fails, with a status and what protocols say of it. */
import { LostError, UnsupportedError } from '../errors.ts';

export class RequestError extends Error {
  readonly status: number;
  /** OpenAI's kind of error, such as `invalid_request_error`. */
  readonly type: string;
  readonly code: string | number | null;
  /** The field of the request that is at fault. */
  readonly param: string | null;
  /** Further fields of the error's body. */
  readonly more: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    message: string,
    {
      type,
      code,
      param,
      more,
      headers,
    }: Partial<Pick<RequestError, 'type' | 'code' | 'param' | 'more' | 'headers'>> = {},
  ) {
    super(message);
    this.status = status;
    this.type = type ?? TYPES[status] ?? (status < 500 ? 'invalid_request_error' : 'server_error');
    this.code = code ?? null;
    this.param = param ?? null;
    this.more = more ?? {};
    this.headers = headers ?? {};
  }

  /** OpenAI's shape. */
  body(): { error: Record<string, unknown> } {
    const { message, type, code, param, more } = this;
    return { error: { message, type, code, param, ...more } };
  }
}

/** Refuses a field by its name. */
export const refused = (param: string, message: string, status = 400): RequestError =>
  new RequestError(status, `${param} ${message}`, { param });

/**
 * What the library refuses becomes an answer with a status; all else, and that a model is lost, stays what it is, for the app to
 * deal with.
 */
export const refusal = (error: unknown, status = 400): unknown =>
  error instanceof UnsupportedError && !(error instanceof LostError) ? new RequestError(status, error.message) : error;

const TYPES: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  429: 'rate_limit_error',
  501: 'not_supported_error',
  503: 'unavailable_error',
};
