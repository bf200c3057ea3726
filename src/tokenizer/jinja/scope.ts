/** Names stand for what scopes within each other say, or the variable of a loop. */
import { fail, type Meter } from './limits.ts';
import { equals, Namespace, present, Undefined, type Value } from './values.ts';

/** A scope has names, and those of the scope around where a name is not set here. */
export class Scope {
  readonly names = new Map<string, Value>();
  readonly #outer: Scope | undefined;

  constructor(outer?: Scope) {
    this.#outer = outer;
  }

  find(name: string): Value | undefined {
    for (let scope: Scope | undefined = this; scope; scope = scope.#outer) {
      const value = scope.names.get(name);
      if (value !== undefined) return value;
    }
    return undefined;
  }
}

export interface LoopState {
  items: readonly Value[];
  at: number;
  /** `loop.changed` was last asked for this. */
  changed: Value | undefined;
}

/** This is the variable `loop`. */
export class Loop extends Namespace {
  readonly #state: LoopState;
  readonly #meter: Meter;

  constructor(state: LoopState, meter: Meter) {
    super();
    this.#state = state;
    this.#meter = meter;
  }

  attribute(name: string): Value {
    const { items, at } = this.#state;
    const n = items.length;
    const values: Record<string, Value> = {
      index: at + 1,
      index0: at,
      revindex: n - at,
      revindex0: n - at - 1,
      length: n,
    };
    if (Object.hasOwn(values, name)) return values[name];
    if (name === 'first') return at === 0;
    if (name === 'last') return at === n - 1;
    if (name === 'previtem') return present(items[at - 1], () => new Undefined('there is no previous item'));
    if (name === 'nextitem') return present(items[at + 1], () => new Undefined('there is no next item'));
    if (name === 'depth') return 1;
    if (name === 'depth0') return 0;
    if (name === 'cycle')
      return ({ positional }) => present(positional[at % positional.length], () => fail('cycle wants items'));
    if (name !== 'changed') return new Undefined(name);
    return ({ positional }) => {
      const last = this.#state.changed;
      this.#state.changed = positional;
      return last === undefined || !equals(last, positional, this.#meter);
    };
  }
}
