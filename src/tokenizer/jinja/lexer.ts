/**
 * The text of a Jinja template becomes tokens, with white space cut as transformers sets it: trim_blocks and
 * lstrip_blocks.
 */
import { fail, type Meter } from './limits.ts';

export interface Token {
  /** `text` lies outside of all tags; `{%` and `%}`, `{{` and `}}` are themselves, and so is each operator. */
  kind: 'text' | 'name' | 'string' | 'integer' | 'float' | 'operator' | 'end';
  value: string;
  line: number;
}

const TAG = /\{[{%#]/g;
const RAW = /\{%[-+]?\s*raw\s*(-%\}\s*|%\})/y;
const END_OF_RAW = /\{%([-+]?)\s*endraw\s*(-%\}\s*|\+%\}|%\}\n?)/g;
const END_OF_COMMENT = /([-+]?)#\}/g;
const SPACE = /\s+/y;
const FLOAT = /(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy;
const INTEGER = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy;
const NAME = /[\p{L}_][\p{L}\p{N}\p{M}_]*/uy;
const STRING = /'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*"/sy;
const OPERATOR = /\*\*|\/\/|==|!=|>=|<=|[-+/*%~[\](){}<>=.:|,;]/y;
const ESCAPE = /\\(\n|x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|N\{[^}]*\}|[0-7]{1,3}|.)/gs;
const NAMED_ESCAPES: Record<string, string> = {
  ...{ n: '\n', t: '\t', r: '\r', a: '\x07', b: '\b', f: '\f', v: '\v', "'": "'", '"': '"', '\\': '\\', '\n': '' },
};

/** Cuts a template into tokens. @throws TemplateError where the template is not Jinja. */
export function tokenize(template: string, meter: Meter): Token[] {
  const source = template.replace(/\r\n?/g, '\n').replace(/\n$/, '');
  const tokens: Token[] = [];
  let at = 0;
  let line = 1;
  let counted = 0;
  /** A tag before this place took the line end with it, or all white space. */
  let startsLine = true;

  function push(kind: Token['kind'], value: string): void {
    meter.step();
    for (; counted < at; counted++) if (source.charCodeAt(counted) === 10) line++;
    tokens.push({ kind, value, line });
  }

  function match(pattern: RegExp): string | undefined {
    pattern.lastIndex = at;
    return pattern.exec(source)?.[0];
  }

  /**
   * Cuts the text before a tag as the tag's sign wants: `-` all white space, `+` nothing, else the indent of a block.
   */
  function pushText(text: string, sign: string, isBlock: boolean): void {
    let kept = text;
    if (sign === '-') kept = text.trimEnd();
    else if (isBlock && sign !== '+') {
      const start = text.lastIndexOf('\n') + 1;
      if ((start > 0 || startsLine) && /^[ \t]*$/.test(text.slice(start))) kept = text.slice(0, start);
    }
    if (kept !== '') push('text', kept);
  }

  /** Moves behind the end of a tag that was just read up to `end`. */
  function endTag(end: number, isTrimmed: boolean, takesLineEnd: boolean): void {
    at = end;
    if (isTrimmed) at += match(SPACE)?.length ?? 0;
    else if (takesLineEnd && source[at] === '\n') at++;
    startsLine = source[at - 1] === '\n';
  }

  function readComment(): void {
    END_OF_COMMENT.lastIndex = at + 2;
    const found = END_OF_COMMENT.exec(source);
    if (!found) fail(`line ${line}: a comment has no end`, 'cannot be read');
    endTag(found.index + found[0].length, found[1] === '-', found[1] !== '+');
  }

  function readRaw(opening: string): void {
    const begin = at + opening.length;
    END_OF_RAW.lastIndex = begin;
    const found = END_OF_RAW.exec(source);
    if (!found && begin < source.length) fail(`line ${line}: {% raw %} has no end`, 'cannot be read');
    if (!found) {
      at = begin;
      return;
    }
    startsLine = source[begin - 1] === '\n';
    pushText(source.slice(begin, found.index), found[1], true);
    at = found.index + found[0].length;
    startsLine = source[at - 1] === '\n';
  }

  function readTag(closing: string, isBlock: boolean): void {
    const open: string[] = [];
    for (;;) {
      at += match(SPACE)?.length ?? 0;
      if (at >= source.length) fail(`line ${line}: a tag has no end`, 'cannot be read');
      const sign = source[at] === '-' || (isBlock && source[at] === '+') ? source[at] : '';
      if (open.length === 0 && source.startsWith(closing, at + sign.length)) {
        push('operator', closing);
        endTag(at + sign.length + 2, sign === '-', isBlock && sign !== '+');
        return;
      }
      readToken(open);
    }
  }

  function readToken(open: string[]): void {
    const afterDot = source[at - 1] === '.';
    const kinds = [
      ['name', NAME],
      ['float', FLOAT],
      ['integer', INTEGER],
      ['string', STRING],
    ] as const;
    for (const [kind, pattern] of kinds) {
      const value = kind === 'float' && afterDot ? undefined : match(pattern);
      if (value === undefined) continue;
      push(
        kind,
        kind === 'string' ? unescaped(value.slice(1, -1), meter) : value.replaceAll(kind === 'name' ? '\0' : '_', ''),
      );
      at += value.length;
      return;
    }
    const operator = match(OPERATOR);
    if (operator === undefined) fail(`line ${line}: unexpected ${JSON.stringify(source[at])}`, 'cannot be read');
    if ('([{'.includes(operator)) open.push(operator);
    else if (')]}'.includes(operator)) open.pop();
    push('operator', operator);
    at += operator.length;
  }

  while (at < source.length) {
    TAG.lastIndex = at;
    const begin = TAG.exec(source)?.index ?? source.length;
    const sign = /[-+]/.test(source[begin + 2] ?? '') ? source[begin + 2] : '';
    const kind = source[begin + 1];
    const text = source.slice(at, begin);
    at = begin;
    pushText(text, sign, kind === '%' || kind === '#');
    if (begin === source.length) break;
    const raw = match(RAW);
    if (raw !== undefined) readRaw(raw);
    else if (kind === '#') readComment();
    else {
      push('operator', source.slice(at, at + 2));
      at += 2 + sign.length;
      readTag(kind === '%' ? '%}' : '}}', kind === '%');
    }
  }
  push('end', '');
  return tokens;
}

function unescaped(text: string, meter: Meter): string {
  return text.replace(ESCAPE, (whole, code: string) => {
    meter.step();
    if (Object.hasOwn(NAMED_ESCAPES, code)) return NAMED_ESCAPES[code];
    if (/^[0-7]/.test(code)) return String.fromCharCode(Number.parseInt(code, 8));
    if (/^[xuU]./.test(code)) {
      const point = Number.parseInt(code.slice(1), 16);
      if (point > 0x10ffff) fail(`${whole} is no character`, 'cannot be read');
      return String.fromCodePoint(point);
    }
    if (/^[xuUN]$/.test(code)) fail(`the escape ${whole} is cut off`, 'cannot be read');
    if (code.startsWith('N{')) fail('a character by its name, \\N{…}, which is not supported here', 'uses');
    return whole;
  });
}
