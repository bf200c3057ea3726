/** What people have on disk in place of a file they meant to download, told from its first bytes. */

/** Bytes that suffice to tell. */
export const STAND_IN_BYTES = 200;

/** What stands in the file's place and what to do, for a message; undefined when it may be the file itself. */
export function standIn(start: Uint8Array): string | undefined {
  const text = new TextDecoder().decode(start.subarray(0, STAND_IN_BYTES)).trimStart();
  if (text.startsWith('version https://git-lfs')) {
    return 'a Git LFS pointer, not the file it stands for; fetch the file with: git lfs pull';
  }
  if (/^<(!doctype html|html|head|\?xml)/i.test(text)) {
    return 'an HTML page: the download asked for a login? Download the file again, with access to it';
  }
  return undefined;
}
