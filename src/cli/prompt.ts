/** From files and a question to a prompt. */
import { readFile, stat } from 'node:fs/promises';
import { FormatError, type Message, type ModelFile, type Tokenizer, UnsupportedError } from '../index.ts';
import type { TextFlags } from './options.ts';
import { count } from './terminal.ts';

/** Bytes. Far more text than any context holds; a bound on what a mistyped path may read into memory. */
const MAX_TEXT_BYTES = 256 * 2 ** 20;

/** Text of a file, or of standard input for `-`. @throws FormatError when it is missing, too large or not UTF-8. */
export async function readText(path: string): Promise<string> {
  const name = path === '-' ? 'standard input' : path;
  const bytes = path === '-' ? await readStdin() : await readBounded(path);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new FormatError(`${name}: not valid UTF-8; convert it first, e.g. iconv -f latin1 -t utf-8`);
  }
}

async function readBounded(path: string): Promise<Uint8Array> {
  const info = await stat(path).catch(() => undefined);
  if (!info) throw new FormatError(`no such file: ${path}`);
  if (!info.isFile()) throw new FormatError(`${path}: a folder; give a text file`);
  if (info.size > MAX_TEXT_BYTES) throw tooLarge(path);
  return readFile(path);
}

async function readStdin(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_TEXT_BYTES) throw tooLarge('standard input');
  }
  return Buffer.concat(chunks);
}

const tooLarge = (name: string) => new FormatError(`${name}: more than ${MAX_TEXT_BYTES / 2 ** 20} MiB of text`);

/** The files' texts in order, a blank line between; only the first `take` tokens where that is given. */
export async function readTexts({ file = [], take }: TextFlags, tokenizer: Tokenizer): Promise<string> {
  const texts: string[] = [];
  for (const path of file) texts.push(await readText(path));
  const text = texts.join('\n\n');
  if (take === undefined || text === '') return text;
  const { ids, complete } = tokenizer.encodePrefix(text, take, { addSpecialTokens: false, allowSpecial: false });
  // A character cut in two by the last token is left out.
  return complete ? text : tokenizer.decode(ids, { skipSpecialTokens: false }).replace(/\ufffd+$/, '');
}

/** The text and the question as the model's chat template has them, or joined as they are. Returns token ids. */
export function makePrompt(
  { tokenizer }: ModelFile,
  text: string,
  question: string | undefined,
  raw: boolean,
): number[] {
  const content = [text, question].filter((part) => part !== undefined && part !== '').join('\n\n');
  if (content === '') throw new UnsupportedError('nothing to read; give a prompt with -p or a text with -f');
  if (raw || tokenizer.chatTemplate === undefined) return tokenizer.encode(content, { allowSpecial: raw });
  return encodeChat(tokenizer, [{ role: 'user', content }]);
}

/** Ids of a conversation. What users and files say cannot pose as the template's special tokens. */
export function encodeChat(tokenizer: Tokenizer, messages: readonly Message[]): number[] {
  const literal = messages.map(({ role, content }) => ({ role, content: tokenizer.asLiteral(content) }));
  return tokenizer.encode(tokenizer.applyChatTemplate(literal), { addSpecialTokens: false });
}

/** @throws UnsupportedError when no token of the answer would fit. */
export function checkPromptFits(promptTokens: number, context: number, hasFiles: boolean): void {
  if (promptTokens < context) return;
  const shorter = hasFiles ? `read only the first part with --take ${count(context / 2).replaceAll(',', '')}, or ` : '';
  throw new UnsupportedError(
    `the prompt has ${count(promptTokens)} tokens, but the context holds ${count(context)}; ${shorter}give a larger --context`,
  );
}
