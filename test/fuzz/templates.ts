/** Chat templates by a grammar, right and wrong ones, some of them without end. */
import type { Random } from '../../src/eval/random.ts';

const NAMES = ['messages', 'message', 'x', 'loop', 'bos_token', 'tools', 'ns', 'missing', 'enable_thinking'];
const FILTERS = [
  'trim',
  'upper',
  'length',
  'tojson',
  'join(",")',
  'list',
  'first',
  'last',
  'min',
  'sum',
  'groupby("role")',
  'float',
  'tojson(indent=2, sort_keys=true)',
  'items',
  'int',
  'default("d")',
];
const MORE_FILTERS = [
  'replace("a", "bb")',
  'indent(4)',
  'string',
  'title',
  'sort',
  'unique',
  'reverse',
  'nosuch',
  'abs',
];
const TESTS = ['defined', 'none', 'string', 'mapping', 'iterable', 'number', 'true', 'odd', 'nosuch'];
const METHODS = [
  'strip()',
  'split("a")',
  'upper()',
  'get("role")',
  'items()',
  'startswith("a")',
  'title()',
  'copy()',
  'swapcase()',
  'rsplit(none, 1)',
  'center(40, "*")',
  'format(1, role=2)',
  'nosuch()',
];
const OPERATORS = ['+', '-', '*', '/', '//', '%', '**', '~', '==', '!=', '<', '>=', 'and', 'or', 'in', 'not in'];

export function randomTemplate(random: Random): string {
  const text = statements(random, 3);
  if (random.uniform() < 0.7) return text;
  const at = random.integer(0, text.length);
  return text.slice(0, at) + random.pick(['{{', '}}', '{%', '%}', '"', '(', '\r\n', '\u0000', '']) + text.slice(at + 1);
}

function statements(random: Random, depth: number): string {
  return Array.from({ length: random.integer(1, 3) }, () => statement(random, depth)).join('');
}

function statement(random: Random, depth: number): string {
  const value = () => expression(random, 2);
  const call = () =>
    random.pick(['', value(), `y=${value()}`, `*${value()}`, `1, **{'k': ${value()}}`, `**${value()}`]);
  if (depth === 0 || random.uniform() < 0.4) return random.pick(['text\n', `{{ ${value()} }}`, `{{- ${value()} -}}`]);
  const body = statements(random, depth - 1);
  const kinds = [
    `{% for x in ${value()} %}${body}{% endfor %}`,
    `{% for message in messages %}${body}{{ message.content }}{% else %}${body}{% endfor %}`,
    `{% for x in range(${random.pick(['3', '1000', '10**9', '-1', value()])}) %}${body}{% endfor %}`,
    `{% if ${value()} %}${body}{% elif ${value()} %}${body}{% else %}${body}{% endif %}`,
    `{% set x = ${value()} %}${body}`,
    `{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}`,
    `{% macro m(x) %}${body}{{ ${random.pick(['x', 'm(x)'])} }}{% endmacro %}{{ m(${value()}) }}`,
    `{% macro m(x, y=${value()}) %}${body}{{ varargs }}{{ kwargs }}{{ caller(x) if caller }}{% endmacro %}{{ m(${call()}) }}`,
    `{% macro m() %}{{ caller(${value()}) }}{% endmacro %}{% call(x) m(${call()}) %}${body}{{ x }}{% endcall %}`,
    `{% set x = ${longText(random)} %}${body}{{ x | ${random.pick([...FILTERS, ...MORE_FILTERS])} | length }}`,
    `{% generation %}${body}{% endgeneration %}`,
    `{% for x in range(9) %}${body}{% ${random.pick(['break', 'continue'])} %}{% endfor %}`,
    `{% filter ${random.pick(FILTERS)} %}${body}{% endfilter %}`,
    `{{ raise_exception(${value()}) }}`,
  ];
  return random.pick(kinds);
}

function expression(random: Random, depth: number): string {
  const leaf = () => random.pick([...NAMES, '0', '1', '7', '"a b"', "'</think>'", '[]', '{}', 'none', 'true', '10**9']);
  if (depth === 0) return leaf();
  const part = () => expression(random, depth - 1);
  const kinds = [
    leaf(),
    `${part()} ${random.pick(OPERATORS)} ${part()}`,
    `(${part()}) | ${random.pick([...FILTERS, ...MORE_FILTERS])}`,
    `${leaf()} is ${random.pick(['', 'not '])}${random.pick(TESTS)}`,
    `(${part()}).${random.pick(METHODS)}`,
    `messages[${random.pick(['0', '-1', '1:', '::-1', '::0', part()])}]`,
    `[${part()}, ${part()}]`,
    `{'role': ${part()}}`,
    `(${part()} if ${part()} else ${part()})`,
    `dict(${part()}, k=${part()})`,
    `dict(**{'k': ${part()}}).copy()`,
    `${random.pick(['"%s %5.1f"', '"%(" * 9999', longText(random)])} % (${part()}, ${part()})`,
    `${longText(random)}.${random.pick(METHODS)}`,
    `'x' * ${random.pick(['3', '10**9', part()])}`,
    `strftime_now(${part()})`,
  ];
  return random.pick(kinds);
}

/** Of tens of thousands of characters, which a search that goes back over them would take minutes for. */
function longText(random: Random): string {
  const pieces = ['1', 'a ', ' ', "'", '%(', '{0', '\\u4e00', '\\n', '<', '1_', '😀'];
  const [piece, end] = [random.pick(pieces), random.pick(['', '_', 'x', '\\n'])];
  return `("${piece}" * ${random.integer(1e4, 9e4)} ~ "${end}")`;
}
