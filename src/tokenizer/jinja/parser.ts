/** Tokens of a template become its tree, with the precedence of Jinja's own parser. */
import { Cursor, MAX_DEPTH } from './cursor.ts';
import { type Token, tokenize } from './lexer.ts';
import { fail, lacks, type Meter } from './limits.ts';
import type { Expression, Parameters, Routine, Statement, Target } from './tree.ts';
import { real, type Value, whole } from './values.ts';

const NO_PARAMETERS: Parameters = { positional: [], named: [] };
const CONSTANTS: Record<string, Value> = { true: true, false: false, none: null, True: true, False: false, None: null };
const ENDS_TEST = ['else', 'or', 'and', 'if', 'in', 'not', 'is', 'recursive'];

/** Parses a template. @throws TemplateError where it is not Jinja, or uses a tag that is not known here. */
export function parse(template: string, meter: Meter): Statement[] {
  return new Parser(tokenize(template, meter)).parseAll();
}

class Parser extends Cursor {
  /** So many loops are around the place, as far as they may be left from there. */
  #loops = 0;

  parseAll(): Statement[] {
    const body = this.#body([]);
    if (this.now.kind !== 'end') this.unexpected();
    return body;
  }

  /** Parses statements up to one of the tags named, whose name is then the next token, or up to the template's end. */
  #body(ends: string[]): Statement[] {
    return this.deeper(() => {
      const body: Statement[] = [];
      for (;;) {
        if (this.is('text')) body.push({ type: 'text', value: this.take('text') });
        else if (this.skip('operator', '{{')) {
          body.push({ type: 'output', value: this.#tuple() });
          this.take('operator', '}}');
        } else if (this.skip('operator', '{%')) {
          if (this.is('name', ...ends) && ends.length > 0) return body;
          body.push(...this.#statement());
        } else if (ends.length === 0) return body;
        else this.unexpected(`{% ${ends.at(-1)} %}`);
      }
    });
  }

  #bodyTo(end: string): Statement[] {
    this.take('operator', '%}');
    const body = this.#body([end]);
    this.take('name', end);
    this.take('operator', '%}');
    return body;
  }

  #statement(): Statement[] {
    const tag = this.take('name');
    switch (tag) {
      case 'if':
        return [this.#if()];
      case 'for':
        return [this.#for()];
      case 'set':
        return [this.#set()];
      case 'with':
        return [this.#with()];
      case 'macro':
        return [{ type: 'macro', routine: this.#routine(this.#newName()) }];
      case 'call': {
        const parameters = this.isOperator('(') ? this.#signature() : [];
        const call = this.#expression();
        if (call.type !== 'call') this.unexpected('a call');
        return [
          {
            type: 'callBlock',
            call,
            caller: { name: 'caller', parameters, body: this.#apart(() => this.#bodyTo('endcall')) },
          },
        ];
      }
      case 'filter': {
        const filter = this.#filters(true);
        return [{ type: 'capture', body: this.#bodyTo('endfilter'), filter }];
      }
      case 'generation': // transformers has it, and notes where answers lie
        return [{ type: 'with', bindings: [], body: this.#apart(() => this.#bodyTo('endgeneration')) }];
      case 'break':
      case 'continue':
        if (this.#loops === 0) this.unexpected('a loop around it');
        this.take('operator', '%}');
        return [{ type: tag }];
      default:
        if (/^(end|else|elif)/.test(tag)) this.unexpected(`no {% ${tag} %} here`);
        return lacks(`the tag "${tag}"`);
    }
  }

  #if(): Statement {
    const branches: { test?: Expression; body: Statement[] }[] = [];
    let test: Expression | undefined = this.#tuple();
    for (;;) {
      this.take('operator', '%}');
      branches.push({ ...(test && { test }), body: this.#body(test ? ['elif', 'else', 'endif'] : ['endif']) });
      const tag = this.take('name');
      if (tag === 'endif') break;
      test = tag === 'elif' ? this.#tuple() : undefined;
    }
    this.take('operator', '%}');
    return { type: 'if', branches };
  }

  #for(): Statement {
    const target = this.#target();
    this.take('name', 'in');
    const items = this.#tuple(false);
    const test = this.skip('name', 'if') ? this.#expression() : undefined;
    if (this.is('name', 'recursive')) lacks('a recursive loop');
    this.take('operator', '%}');
    this.#loops++;
    const body = this.#body(['else', 'endfor']);
    this.#loops--;
    let otherwise: Statement[] = [];
    if (this.take('name') === 'else') otherwise = this.#bodyTo('endfor');
    else this.take('operator', '%}');
    return { type: 'for', target, items, ...(test && { test }), body, otherwise };
  }

  #set(): Statement {
    const target = this.#target();
    if (this.skip('operator', '=')) {
      const value = this.#tuple();
      this.take('operator', '%}');
      return { type: 'set', target, value };
    }
    const filter = this.#filters(false);
    return { type: 'capture', target, body: this.#bodyTo('endset'), filter };
  }

  #with(): Statement {
    const bindings: [Target, Expression][] = [];
    while (!this.isOperator('%}')) {
      if (bindings.length > 0) this.take('operator', ',');
      const target = this.#target();
      this.take('operator', '=');
      bindings.push([target, this.#expression()]);
    }
    return { type: 'with', bindings, body: this.#bodyTo('endwith') };
  }

  #routine(name: string): Routine {
    return { name, parameters: this.#signature(), body: this.#apart(() => this.#bodyTo('endmacro')) };
  }

  /** Parses what is a function of its own to Jinja: a loop around is none that may be left from within. */
  #apart<T>(work: () => T): T {
    const loops = this.#loops;
    this.#loops = 0;
    const result = work();
    this.#loops = loops;
    return result;
  }

  /** Parses a name that is set. */
  #newName(): string {
    if (Object.hasOwn(CONSTANTS, this.now.value)) this.unexpected('a name that can be set');
    return this.take('name');
  }

  #signature(): Routine['parameters'] {
    const parameters: Routine['parameters'] = [];
    this.take('operator', '(');
    while (!this.skip('operator', ')')) {
      if (parameters.length > 0) this.take('operator', ',');
      const name = this.#newName();
      const isOptional = this.skip('operator', '=');
      if (!isOptional && parameters.at(-1)?.fallback)
        this.unexpected('"=" behind a parameter that follows one with it');
      parameters.push({ name, ...(isOptional && { fallback: this.#expression() }) });
    }
    return parameters;
  }

  #target(): Target {
    const first = this.#targetPart();
    if (!this.isOperator(',')) return first;
    const targets = [first];
    while (this.skip('operator', ',') && !this.isOperator(')', '%}')) {
      targets.push(this.#targetPart());
    }
    return targets;
  }

  #targetPart(): Target {
    if (this.skip('operator', '(')) {
      const target = this.deeper(() => this.#target());
      this.take('operator', ')');
      return target;
    }
    const name = this.#newName();
    return this.skip('operator', '.') ? { object: name, name: this.take('name') } : name;
  }

  /** Parses filters as a function of what they are applied to. @param isFirst The first one has no `|` in front. */
  #filters(isFirst: boolean): (text: Expression) => Expression {
    const chain: { name: string; parameters: Parameters }[] = [];
    while ((isFirst && chain.length === 0) || this.skip('operator', '|')) {
      chain.push({ name: this.take('name'), parameters: this.isOperator('(') ? this.#parameters() : NO_PARAMETERS });
    }
    return (text) => chain.reduce<Expression>((operand, filter) => ({ type: 'filter', operand, ...filter }), text);
  }

  /** Parses one expression, or several with commas between, which are a tuple. */
  #tuple(allowsChoice = true): Expression {
    const next = () => (allowsChoice ? this.#expression() : this.deeper(() => this.#or()));
    const first = next();
    if (!this.isOperator(',')) return first;
    const items = [first];
    while (this.skip('operator', ',') && !this.isOperator('%}', '}}', ')')) items.push(next());
    return { type: 'tuple', items };
  }

  #expression(): Expression {
    return this.deeper(() => {
      const then = this.#or();
      if (!this.skip('name', 'if')) return then;
      const test = this.#or();
      const otherwise = this.skip('name', 'else') ? this.#expression() : undefined;
      return { type: 'choice', test, then, ...(otherwise && { otherwise }) };
    });
  }

  #chain(next: () => Expression, kind: Token['kind'], ...operators: string[]): Expression {
    let left = next();
    for (let n = 0; this.is(kind, ...operators); n++) {
      if (n === MAX_DEPTH * 10) fail(`line ${this.now.line}: more than ${n} operands in a row`, 'cannot be read');
      const operator = this.take(kind);
      left = { type: 'binary', operator, left, right: next() };
    }
    return left;
  }

  #or = (): Expression => this.#chain(this.#and, 'name', 'or');
  #and = (): Expression => this.#chain(this.#not, 'name', 'and');

  #not = (): Expression => {
    if (!this.skip('name', 'not')) return this.#compare();
    return this.deeper(() => ({ type: 'unary', operator: 'not', operand: this.#not() }));
  };

  #compare(): Expression {
    const left = this.#sum();
    const rest: [string, Expression][] = [];
    for (;;) {
      const isNotIn = this.is('name', 'not') && this.tokens[this.at + 1].value === 'in';
      if (isNotIn) this.at++;
      if (!isNotIn && !this.isOperator('==', '!=', '<', '<=', '>', '>=') && !this.is('name', 'in')) break;
      const operator = this.tokens[this.at++].value;
      rest.push([isNotIn ? 'not in' : operator, this.#sum()]);
    }
    return rest.length === 0 ? left : { type: 'compare', left, rest };
  }

  #sum = (): Expression => this.#chain(this.#concat, 'operator', '+', '-');

  #concat = (): Expression => {
    const items = [this.#product()];
    while (this.skip('operator', '~')) items.push(this.#product());
    return items.length === 1 ? items[0] : { type: 'concat', items };
  };

  #product = (): Expression => this.#chain(this.#power, 'operator', '*', '/', '//', '%');
  #power = (): Expression => this.#chain(() => this.#unary(true), 'operator', '**');

  #unary(takesFilters: boolean): Expression {
    let operand: Expression;
    if (this.isOperator('-', '+')) {
      const operator = this.take('operator');
      operand = { type: 'unary', operator, operand: this.deeper(() => this.#unary(false)) };
    } else operand = this.#primary();
    operand = this.#postfix(operand);
    return takesFilters ? this.#filtered(operand) : operand;
  }

  #filtered(operand: Expression): Expression {
    let result = operand;
    for (let n = 0; ; n++) {
      if (n === MAX_DEPTH * 10) fail(`line ${this.now.line}: more than ${n} filters in a row`, 'cannot be read');
      if (this.isOperator('|')) result = this.#filters(false)(result);
      else if (this.skip('name', 'is')) result = this.#test(result);
      else if (this.isOperator('(')) result = { type: 'call', callee: result, parameters: this.#parameters() };
      else return result;
    }
  }

  #test(operand: Expression): Expression {
    const isNegated = this.skip('name', 'not');
    const name = this.take('name');
    let parameters = NO_PARAMETERS;
    if (this.isOperator('(')) parameters = this.#parameters();
    else if (
      (this.is('name') && !ENDS_TEST.includes(this.now.value)) ||
      this.is('string') ||
      this.is('integer') ||
      this.is('float') ||
      this.isOperator('[', '{')
    ) {
      parameters = { positional: [this.#postfix(this.#primary())], named: [] };
    }
    const test: Expression = { type: 'test', operand, name, parameters };
    return isNegated ? { type: 'unary', operator: 'not', operand: test } : test;
  }

  #postfix(operand: Expression): Expression {
    let result = operand;
    for (let n = 0; ; n++) {
      if (n === MAX_DEPTH * 10) fail(`line ${this.now.line}: more than ${n} attributes in a row`, 'cannot be read');
      if (this.skip('operator', '.')) {
        result = this.is('integer')
          ? { type: 'item', object: result, index: this.#primary() }
          : { type: 'attribute', object: result, name: this.take('name') };
      } else if (this.skip('operator', '[')) result = this.#subscript(result);
      else if (this.isOperator('(')) result = { type: 'call', callee: result, parameters: this.#parameters() };
      else return result;
    }
  }

  #subscript(object: Expression): Expression {
    const bounds: (Expression | undefined)[] = [undefined];
    while (!this.isOperator(']')) {
      if (this.skip('operator', ':')) bounds.push(undefined);
      else if (bounds.at(-1) === undefined) bounds[bounds.length - 1] = this.#expression();
      else this.unexpected(']');
    }
    this.at++;
    if (bounds.length > 3) this.unexpected('at most three bounds');
    if (bounds.length > 1) return { type: 'slice', object, bounds };
    return { type: 'item', object, index: bounds[0] ?? this.unexpected('an index') };
  }

  #parameters(): Parameters {
    const parameters: Parameters = { positional: [], named: [] };
    this.take('operator', '(');
    for (let isFirst = true; !this.skip('operator', ')'); isFirst = false) {
      if (!isFirst) this.take('operator', ',');
      if (this.skip('operator', ')')) break;
      if (parameters.namedSpread) this.unexpected(')');
      if (!parameters.spread && this.skip('operator', '*')) parameters.spread = this.#expression();
      else if (this.skip('operator', '**')) parameters.namedSpread = this.#expression();
      else if (this.is('name') && this.tokens[this.at + 1].value === '=') {
        const name = this.take('name');
        if (parameters.named.some(([other]) => other === name)) this.unexpected(`one argument "${name}"`);
        this.at++;
        parameters.named.push([name, this.#expression()]);
      } else if (parameters.named.length > 0 || parameters.spread) this.unexpected('a named argument');
      else parameters.positional.push(this.#expression());
    }
    return parameters;
  }

  #primary(): Expression {
    const { kind, value } = this.now;
    if (kind === 'name') {
      this.at++;
      return Object.hasOwn(CONSTANTS, value)
        ? { type: 'constant', value: CONSTANTS[value] }
        : { type: 'name', name: value };
    }
    if (kind === 'string') {
      let text = '';
      while (this.is('string')) text += this.take('string');
      return { type: 'constant', value: text };
    }
    if (kind === 'integer' || kind === 'float') {
      this.at++;
      return { type: 'constant', value: kind === 'float' ? real(Number(value)) : whole(Number(value)) };
    }
    if (this.skip('operator', '(')) {
      const isEmpty = this.isOperator(')');
      const inner: Expression = isEmpty ? { type: 'tuple', items: [] } : this.deeper(() => this.#tuple());
      this.take('operator', ')');
      return inner;
    }
    if (this.skip('operator', '[')) return { type: 'list', items: this.#sequence(']', () => this.#expression()) };
    if (this.skip('operator', '{')) {
      const entry = (): [Expression, Expression] => {
        const key = this.#expression();
        this.take('operator', ':');
        return [key, this.#expression()];
      };
      return { type: 'dict', entries: this.#sequence('}', entry) };
    }
    return this.unexpected('an expression');
  }

  #sequence<T>(end: string, next: () => T): T[] {
    const items: T[] = [];
    while (!this.skip('operator', end)) {
      if (items.length > 0) this.take('operator', ',');
      if (this.skip('operator', end)) break;
      items.push(next());
    }
    return items;
  }
}
