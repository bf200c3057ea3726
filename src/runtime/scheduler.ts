/** What the next forward reads: a pure function of the texts that wait. */

/** A text that waits to be read on. */
export interface Waiting {
  /** Tokens that are to be read before it can give anything. */
  readonly unread: number;
  /** Whether no other text may be read with it. */
  readonly isAlone: boolean;
}

/** Rows of a forward for one of the waiting, by its place among them. */
export interface Share {
  readonly nth: number;
  readonly nRows: number;
}

/** While texts wait for their next token, prompts get only so many rows of a block, so that these do not wait long. */
const PROMPT_SHARE = 1 / 2;

/** Of the time that texts and prompts share, texts that are being written have so much to themselves. */
const TOKENS_SHARE = 0.325;

/**
 * After a step of so many milliseconds that read prompts beside texts that are being written, these go on alone for as many: so a
 * short answer is written at a third of its pace or more while a book is read, and the book at two thirds.
 */
export const owedAfter = (milliseconds: number): number => (milliseconds * TOKENS_SHARE) / (1 - TOKENS_SHARE);

/**
 * First a row for each text that has but one token to read, as those have that generate; then prompts in the order in which
 * they wait, up to `blockLen` rows together.
 * @param isTurnOfTokens Prompts that take more than one share of a block wait, as long as there are such texts.
 */
export function schedule(waiting: readonly Waiting[], blockLen: number, isTurnOfTokens = false): Share[] {
  const alone = waiting.findIndex(({ isAlone }) => isAlone);
  if (alone >= 0) return [{ nth: alone, nRows: Math.min(waiting[alone].unread, blockLen) }];
  const all = waiting.map(({ unread }, nth) => ({ nth, unread }));
  const shares: Share[] = all
    .filter(({ unread }) => unread === 1)
    .slice(0, blockLen)
    .map(({ nth }) => ({ nth, nRows: 1 }));
  const share = Math.ceil(PROMPT_SHARE * blockLen);
  const most = isTurnOfTokens && shares.length > 0 ? share : Infinity;
  let left = shares.length === 0 ? blockLen : Math.min(share, blockLen - shares.length);
  for (const { nth, unread } of all.filter(({ unread }) => unread > 1 && unread <= most)) {
    const nRows = Math.min(unread, left);
    if (nRows > 0) shares.push({ nth, nRows });
    left -= nRows;
  }
  return shares;
}
