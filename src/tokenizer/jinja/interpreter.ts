/** The tree of a template runs with scopes, loops, macros and operators as Jinja has them, and each step is counted. */
import { applyFilter } from './filters.ts';
import { dateText } from './format.ts';
import { fail, lacks, type Meter, TemplateError } from './limits.ts';
import { methodOf, unknownAttribute } from './methods.ts';
import { binary, compared, pick, unary } from './operators.ts';
import { Loop, type LoopState, Scope } from './scope.ts';
import { applyTest } from './tests.ts';
import type { Expression, Parameters, Routine, Statement, Target } from './tree.ts';
import {
  type Arguments,
  bind,
  type Callable,
  type Context,
  characters,
  Group,
  isIndexed,
  isPlain,
  isTrue,
  isUnhashable,
  itemsOf,
  keyOf,
  Markup,
  Namespace,
  present,
  Range,
  soughtKey,
  Tuple,
  text,
  typeName,
  Undefined,
  type Value,
  wholeOf,
} from './values.ts';

type Jump = 'break' | 'continue' | undefined;

/** Macros may call each other so deep; each takes some twenty frames of the stack. */
const MAX_CALLS = 200;
/** The sandbox of Jinja allows as many. */
const MAX_RANGE = 1e5;
const MAX_DATE_PATTERN = 200;
/** A date costs so many characters of the meter, as a few thousand take a second. */
const COST_OF_DATE = 2 ** 14;

export class Interpreter {
  readonly #meter: Meter;
  readonly #context: Context;
  #calls = 0;

  constructor(meter: Meter) {
    this.#meter = meter;
    this.#context = {
      meter,
      item: (value, name) => this.#item(value, name),
      attribute: (value, name) => this.#attribute(value, name),
    };
  }

  /** Writes what a body writes. @throws TemplateError */
  run(body: readonly Statement[], variables: ReadonlyMap<string, Value>): string {
    const globals = new Scope();
    for (const [name, value] of Object.entries(this.#functions())) globals.names.set(name, value);
    for (const [name, value] of variables) globals.names.set(name, value);
    return this.#rendered(body, new Scope(globals));
  }

  #functions(): Record<string, Callable> {
    const meter = this.#meter;
    return {
      raise_exception: (given) => {
        const [message] = bind(given, 'message!', 'raise_exception()');
        throw new TemplateError(`refused the messages: ${text(message!, meter)}`);
      },
      strftime_now: (given) => {
        const [format] = bind(given, 'format!', 'strftime_now()');
        const pattern = text(format!, meter);
        if (pattern.length > MAX_DATE_PATTERN) fail(`strftime_now() wants at most ${MAX_DATE_PATTERN} characters`);
        meter.count(COST_OF_DATE);
        return dateText(pattern, new Date());
      },
      range: ({ positional }) => {
        const [from, to, step = 1] = positional.map((value) => wholeOf(value, 'an argument of range()'));
        const [start, end] = to === undefined ? [0, from] : [from, to];
        if (step === 0 || start === undefined)
          return fail('range() wants one to three numbers, and a step that is not 0');
        const count = Math.max(0, Math.ceil((end - start) / step));
        if (count > MAX_RANGE) fail(`range() gives at most ${MAX_RANGE} numbers`);
        meter.count(count);
        const range = Range.from<Value>(Array.from({ length: count }, (_, i) => start + i * step)) as Range;
        range.bounds = step === 1 ? [start, end] : [start, end, step];
        return range;
      },
      dict: ({ positional: [given], named }) => new Map<Value, Value>([...this.#pairs(given), ...named]),
      namespace: ({ positional: [given], named }) => {
        const entries = this.#pairs(given).map(([key, value]) => [String(key), value] as const);
        return new Namespace([...entries, ...named]);
      },
    };
  }

  /** A dictionary is made of another, of pairs, or of nothing. */
  #pairs(value: Value | undefined): [Value, Value][] {
    if (value === undefined) return [];
    if (value instanceof Map) return [...value];
    if (value instanceof Undefined) return fail(`'${value.name}' is undefined`);
    return itemsOf(value, this.#meter).map((pair) => {
      const [key, item, ...rest] = itemsOf(pair, this.#meter);
      if (item === undefined || rest.length > 0) fail('a dict is made of pairs');
      return [keyOf(key), item];
    });
  }

  #rendered(body: readonly Statement[], scope: Scope): string {
    const out: string[] = [];
    this.#run(body, scope, out);
    return out.join('');
  }

  #run(body: readonly Statement[], scope: Scope, out: string[]): Jump {
    for (const statement of body) {
      const jump = this.#step(statement, scope, out);
      if (jump) return jump;
    }
    return undefined;
  }

  #write(piece: string, out: string[]): void {
    this.#meter.count(piece.length);
    out.push(piece);
  }

  #step(statement: Statement, scope: Scope, out: string[]): Jump {
    this.#meter.step();
    switch (statement.type) {
      case 'text':
        this.#write(statement.value, out);
        return undefined;
      case 'output':
        this.#write(text(this.#result(statement.value, scope), this.#meter), out);
        return undefined;
      case 'if': {
        const branch = statement.branches.find(({ test }) => !test || isTrue(this.#value(test, scope)));
        return branch && this.#run(branch.body, scope, out);
      }
      case 'for':
        return this.#loop(statement, scope, out);
      case 'set':
        this.#assign(statement.target, this.#result(statement.value, scope), scope);
        return undefined;
      case 'capture': {
        const captured: string[] = [];
        const jump = this.#run(statement.body, new Scope(scope), captured);
        if (jump) return jump;
        const value = this.#result(statement.filter({ type: 'constant', value: captured.join('') }), scope);
        if (statement.target !== undefined) this.#assign(statement.target, value, scope);
        else if (typeof value === 'string' || value instanceof Markup) this.#write(text(value, this.#meter), out);
        else fail(`a filter block makes a ${typeName(value)}; wanted a str`);
        return undefined;
      }
      case 'with': {
        const inner = new Scope(scope);
        for (const [target, value] of statement.bindings) this.#assign(target, this.#value(value, scope), inner);
        return this.#run(statement.body, inner, out);
      }
      case 'macro':
        scope.names.set(statement.routine.name, this.#macro(statement.routine, scope));
        return undefined;
      case 'callBlock': {
        const { call, caller } = statement;
        if (call.type !== 'call') return undefined;
        const given = this.#arguments(call.parameters, scope);
        given.named.set('caller', this.#macro(caller, scope));
        this.#write(text(this.#call(this.#value(call.callee, scope), given), this.#meter), out);
        return undefined;
      }
      default:
        return statement.type;
    }
  }

  #assign(target: Target, value: Value, scope: Scope): void {
    if (typeof target === 'string') scope.names.set(target, value);
    else if (Array.isArray(target)) {
      const items = itemsOf(value, this.#meter);
      if (items.length !== target.length) fail(`${items.length} values for ${target.length} names`);
      for (const [i, part] of target.entries()) this.#assign(part, items[i], scope);
    } else {
      const object = scope.find(target.object);
      if (!(object instanceof Namespace) || object instanceof Loop)
        fail(`"${target.object}" is no namespace, so its "${target.name}" cannot be set`);
      object.set(target.name, value);
    }
  }

  #loop(statement: Statement & { type: 'for' }, scope: Scope, out: string[]): Jump {
    const { target, test, body, otherwise } = statement;
    const bound = (item: Value): Scope => {
      this.#meter.step();
      const inner = new Scope(scope);
      this.#assign(target, item, inner);
      return inner;
    };
    let items = itemsOf(this.#value(statement.items, scope), this.#meter);
    if (test) items = items.filter((item) => isTrue(this.#value(test, bound(item))));
    const state: LoopState = { items, at: 0, changed: undefined };
    const loop = new Loop(state, this.#meter);
    // As Jinja has it, `else` also goes for a loop whose body was never run to its end.
    let hasPassed = false;
    for (; state.at < items.length; state.at++) {
      const inner = bound(items[state.at]);
      inner.names.set('loop', loop);
      const jump = this.#run(body, inner, out);
      if (jump === 'break') break;
      if (jump === undefined) hasPassed = true;
    }
    return hasPassed ? undefined : this.#run(otherwise, new Scope(scope), out);
  }

  #macro({ name, parameters, body }: Routine, scope: Scope): Callable {
    let source: string | undefined;
    const uses = (special: string) => {
      source ??= JSON.stringify(body);
      return source.includes(`"name":"${special}"`);
    };
    return ({ positional, named }) => {
      if (++this.#calls > MAX_CALLS) fail(`macros call each other more than ${MAX_CALLS} deep`);
      const inner = new Scope(scope);
      const rest = new Map(named);
      // A fallback sees no parameter that comes later, and none of that name outside.
      for (const { name } of parameters) inner.names.set(name, new Undefined(name));
      for (const [i, parameter] of parameters.entries()) {
        const given = positional[i] === undefined ? rest.get(parameter.name) : positional[i];
        rest.delete(parameter.name);
        const { fallback } = parameter;
        const otherwise = () => (fallback ? this.#value(fallback, inner) : new Undefined(parameter.name));
        inner.names.set(parameter.name, present(given, otherwise));
      }
      inner.names.set('caller', rest.get('caller') ?? new Undefined('caller'));
      if (rest.delete('caller') && !uses('caller')) fail(`macro ${name} does not use its caller`);
      inner.names.set('varargs', Tuple.from<Value>(positional.slice(parameters.length)) as Tuple);
      inner.names.set('kwargs', new Map<Value, Value>(rest));
      if (positional.length > parameters.length && !uses('varargs'))
        fail(`macro ${name} takes ${parameters.length} arguments`);
      if (rest.size > 0 && !uses('kwargs')) fail(`macro ${name} takes no argument "${[...rest.keys()][0]}"`);
      const result = this.#rendered(body, inner);
      this.#calls--;
      return result;
    };
  }

  #call(callee: Value, given: Arguments): Value {
    if (typeof callee === 'function') return callee(given);
    if (callee instanceof Undefined) return fail(`'${callee.name}' is undefined`);
    return fail(`a value of type ${typeName(callee)} cannot be called`);
  }

  #arguments(parameters: Parameters, scope: Scope): Arguments {
    const positional = parameters.positional.map((value) => this.#value(value, scope));
    const named = new Map(parameters.named.map(([name, value]) => [name, this.#value(value, scope)]));
    if (parameters.spread) {
      const items = itemsOf(this.#value(parameters.spread, scope), this.#meter);
      this.#meter.count(items.length);
      for (const item of items) positional.push(item);
    }
    const spread = parameters.namedSpread && this.#value(parameters.namedSpread, scope);
    if (spread !== undefined && !(spread instanceof Map)) fail('** wants a dict');
    for (const [name, value] of spread ?? []) {
      if (typeof name !== 'string') fail('** wants a dict whose keys are of type str');
      if (named.has(name)) fail(`two values for the argument "${name}"`);
      named.set(name, value);
    }
    return { positional, named };
  }

  #value(node: Expression, scope: Scope): Value {
    const result = this.#result(node, scope);
    return result instanceof Markup ? lacks('the filter "safe" or "escape" within an expression') : result;
  }

  /** Computes what may have been marked as safe, which only matters to what works with it. */
  #result(node: Expression, scope: Scope): Value {
    const meter = this.#meter;
    meter.step();
    switch (node.type) {
      case 'constant':
        return node.value;
      case 'name':
        return present(scope.find(node.name), () => unknownName(node.name));
      case 'list':
        return node.items.map((item) => this.#value(item, scope));
      case 'tuple':
        return Tuple.from<Value>(node.items.map((item) => this.#value(item, scope))) as Tuple;
      case 'concat': {
        const parts = node.items.map((item) => text(this.#result(item, scope), meter));
        meter.count(parts.reduce((sum, part) => sum + part.length, 0));
        return parts.join('');
      }
      case 'dict':
        return new Map(node.entries.map(([key, value]) => [keyOf(this.#value(key, scope)), this.#value(value, scope)]));
      case 'attribute':
        return this.#attribute(this.#value(node.object, scope), node.name);
      case 'item':
        return this.#item(this.#value(node.object, scope), this.#value(node.index, scope));
      case 'slice':
        return this.#slice(
          this.#value(node.object, scope),
          node.bounds.map((bound) => bound && this.#value(bound, scope)),
        );
      case 'call':
        return this.#call(this.#value(node.callee, scope), this.#arguments(node.parameters, scope));
      case 'unary':
        return unary(node.operator, this.#value(node.operand, scope));
      case 'binary':
        return this.#binary(node, scope);
      case 'compare':
        return this.#compare(node, scope);
      case 'choice':
        if (isTrue(this.#value(node.test, scope))) return this.#result(node.then, scope);
        return node.otherwise ? this.#result(node.otherwise, scope) : new Undefined('the other choice');
      case 'filter':
      case 'test': {
        const apply = node.type === 'filter' ? applyFilter : applyTest;
        const operand = this.#value(node.operand, scope);
        return apply(node.name, operand, this.#arguments(node.parameters, scope), this.#context);
      }
    }
  }

  #attribute(object: Value, name: string): Value {
    if (object instanceof Undefined) return fail(`'${object.name}' is undefined`);
    if (object instanceof Loop) return object.attribute(name);
    if (object instanceof Namespace) return present(object.entries.get(name), () => new Undefined(name));
    const method = methodOf(object, name, this.#meter);
    if (method) return method;
    if (object instanceof Group && GROUP.includes(name)) return object[GROUP.indexOf(name)];
    return present(object instanceof Map ? object.get(name) : undefined, () => unknownAttribute(object, name));
  }

  #item(object: Value, index: Value): Value {
    if (object instanceof Undefined) return fail(`'${object.name}' is undefined`);
    const key = typeof index === 'boolean' ? Number(index) : index;
    if (object instanceof Map) {
      const value = isUnhashable(key) ? undefined : object.get(soughtKey(key));
      if (value !== undefined || typeof key !== 'string') return present(value, () => new Undefined('the item'));
    }
    if (typeof key === 'number' && isIndexed(object))
      return present(object.at(key), () => new Undefined(`item ${key}`));
    if (typeof key === 'number' && typeof object === 'string') {
      const character = (isPlain(object) ? object : characters(object, this.#meter)).at(key);
      return character ?? new Undefined(`item ${key}`);
    }
    return typeof key === 'string' ? this.#attribute(object, key) : new Undefined(text(index, this.#meter));
  }

  #slice(object: Value, bounds: (Value | undefined)[]): Value {
    const [from, to, step = 1] = bounds.map((bound) =>
      bound === undefined || bound === null ? undefined : wholeOf(bound, 'a bound'),
    );
    if (object instanceof Undefined) return fail(`'${object.name}' is undefined`);
    if (step === 0) return fail('the step of a slice is 0');
    if (typeof object === 'string') {
      if (step === 1 && isPlain(object)) return object.slice(from, to);
      return pick(characters(object, this.#meter), from, to, step).join('');
    }
    if (object instanceof Range) return lacks('a slice of a range');
    if (!isIndexed(object)) return fail(`a ${typeName(object)} has no slices`);
    this.#meter.count(object.length);
    const picked = pick(object, from, to, step);
    return object instanceof Tuple ? (Tuple.from<Value>(picked) as Tuple) : picked;
  }

  #binary({ operator, left, right }: Expression & { type: 'binary' }, scope: Scope): Value {
    const a = this.#value(left, scope);
    if (operator === 'and') return isTrue(a) ? this.#value(right, scope) : a;
    if (operator === 'or') return isTrue(a) ? a : this.#value(right, scope);
    return binary(operator, a, this.#value(right, scope), this.#meter);
  }

  #compare({ left, rest }: Expression & { type: 'compare' }, scope: Scope): boolean {
    let a = this.#value(left, scope);
    for (const [operator, right] of rest) {
      const b = this.#value(right, scope);
      if (!compared(operator, a, b, this.#meter)) return false;
      a = b;
    }
    return true;
  }
}

/** Refuses a name that Jinja has and is lacking here; any other is undefined. */
function unknownName(name: string): Value {
  return ['lipsum', 'cycler', 'joiner', 'self'].includes(name) ? lacks(`the function "${name}"`) : new Undefined(name);
}

const GROUP = ['grouper', 'list'];
