/** A template is a tree of these statements and expressions. */
import type { Value } from './values.ts';

export interface Parameters {
  positional: Expression[];
  named: [string, Expression][];
  /** Arguments are spread by `*list` and `**dict`. */
  spread?: Expression;
  namedSpread?: Expression;
}

export type Expression =
  | { type: 'constant'; value: Value }
  | { type: 'name'; name: string }
  | { type: 'list' | 'tuple' | 'concat'; items: Expression[] }
  | { type: 'dict'; entries: [Expression, Expression][] }
  | { type: 'attribute'; object: Expression; name: string }
  | { type: 'item'; object: Expression; index: Expression }
  | { type: 'slice'; object: Expression; bounds: (Expression | undefined)[] }
  | { type: 'call'; callee: Expression; parameters: Parameters }
  | { type: 'unary'; operator: string; operand: Expression }
  | { type: 'binary'; operator: string; left: Expression; right: Expression }
  | { type: 'compare'; left: Expression; rest: [string, Expression][] }
  | { type: 'choice'; test: Expression; then: Expression; otherwise?: Expression }
  | { type: 'filter' | 'test'; operand: Expression; name: string; parameters: Parameters };

/** A value is bound to a name, the attribute of a namespace, or several of them. */
export type Target = string | { object: string; name: string } | Target[];

/** A routine is a macro's parameters and body, or a call block's. */
export interface Routine {
  name: string;
  parameters: { name: string; fallback?: Expression }[];
  body: Statement[];
}

export type Statement =
  | { type: 'text'; value: string }
  | { type: 'output'; value: Expression }
  | { type: 'if'; branches: { test?: Expression; body: Statement[] }[] }
  | { type: 'for'; target: Target; items: Expression; test?: Expression; body: Statement[]; otherwise: Statement[] }
  | { type: 'set'; target: Target; value: Expression }
  | { type: 'capture'; target?: Target; body: Statement[]; filter: (text: Expression) => Expression }
  | { type: 'with'; bindings: [Target, Expression][]; body: Statement[] }
  | { type: 'macro'; routine: Routine }
  | { type: 'callBlock'; call: Expression; caller: Routine }
  | { type: 'break' | 'continue' };
