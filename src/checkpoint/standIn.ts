/** People may have something else on disk than the file they meant to download: its first bytes tell. */

/** So many bytes suffice to tell. */
export const STAND_IN_BYTES = 200;

/** Says what stands in the file's place and what to do; undefined when it may be the file itself. */
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
