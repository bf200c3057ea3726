/** A cursor is a place in the tokens of a template, of which a parser asks what comes next. */
import type { Token } from './lexer.ts';
import { fail } from './limits.ts';

/** Parentheses, blocks and the like may be so deep within each other; each takes some frames of the stack. */
export const MAX_DEPTH = 100;

export class Cursor {
  protected readonly tokens: Token[];
  protected at = 0;
  #depth = 0;

  constructor(tokens: Token[]) {
    this.tokens = tokens;
  }

  protected get now(): Token {
    return this.tokens[this.at];
  }

  protected unexpected(wanted?: string): never {
    const { kind, value, line } = this.now;
    const got = kind === 'end' ? 'the end' : JSON.stringify(value.slice(0, 40));
    return fail(`line ${line}: unexpected ${got}${wanted === undefined ? '' : `; wanted ${wanted}`}`, 'cannot be read');
  }

  protected is(kind: Token['kind'], ...values: string[]): boolean {
    return this.now.kind === kind && (values.length === 0 || values.includes(this.now.value));
  }

  protected isOperator(...values: string[]): boolean {
    return this.is('operator', ...values);
  }

  protected skip(kind: Token['kind'], value: string): boolean {
    const found = this.is(kind, value);
    if (found) this.at++;
    return found;
  }

  protected take(kind: Token['kind'], value?: string): string {
    if (!(value === undefined ? this.is(kind) : this.is(kind, value))) this.unexpected(value ?? `a ${kind}`);
    return this.tokens[this.at++].value;
  }

  protected deeper<T>(work: () => T): T {
    if (++this.#depth > MAX_DEPTH) fail(`line ${this.now.line}: nested deeper than ${MAX_DEPTH}`, 'cannot be read');
    const result = work();
    this.#depth--;
    return result;
  }
}
