/** Bytes that lie one part behind the other. */

/** A copy of all parts. */
export function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  for (const [nth, part] of cut(bytes, parts).entries()) part.set(parts[nth]);
  return bytes;
}

/** Cuts bytes into pieces as long as the parts, without a copy. */
export function cut(bytes: Uint8Array, parts: readonly { readonly length: number }[]): Uint8Array[] {
  let end = 0;
  return parts.map(({ length }) => {
    end += length;
    return bytes.subarray(end - length, end);
  });
}

/** The bytes of a text in base64. @throws DOMException when it is none. */
export const fromBase64 = (base64: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));

/** Each byte as two digits. */
export const hexOf = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
