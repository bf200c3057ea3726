/** The bytes are not what they claim to be: a truncated, corrupt or hostile file. */
export class FormatError extends Error {
  override name = 'FormatError';
}

/** The request is well formed, but outside what this library does or what this machine can hold. */
export class UnsupportedError extends Error {
  override name = 'UnsupportedError';
}
