/** Kernels that take one number at a time; definitions in `elementwise.ts`. */
import { type Activation, SIGMOID_OF } from './elementwise.ts';
import { eachItem, type WgslKernel } from './wgsl.ts';

const elementwise = (
  name: string,
  inputs: readonly string[],
  body: (names: Readonly<Record<string, string>>) => string,
): WgslKernel => ({
  name,
  buffers: { out: 'f32', ...Object.fromEntries(inputs.map((input) => [input, 'f32'])) },
  nWritten: 1,
  params: ['length', 'outAt', ...inputs.map((input) => `${input}At`)],
  text: (names) => eachItem(body(names)),
});

export const add = elementwise('add', ['y'], ({ y }) => `out[p.outAt + i] += ${y}[p.yAt + i];`);

export const copy = elementwise('copy', ['x'], ({ x }) => `out[p.outAt + i] = ${x}[p.xAt + i];`);

/** Beyond 80 `exp` only has to be large: the quotient is 0 beside any number, and stays clear of infinity, as all here. */
const gluOf = (activation: Activation): WgslKernel => {
  const [a, b] = SIGMOID_OF[activation];
  return elementwise(
    `glu ${activation}`,
    ['gate', 'up'],
    ({ gate, up }) => `
  let g = ${gate}[p.gateAt + i];
  let x = clamp(g, -1e9, 1e9);
  out[p.outAt + i] = g / (1 + exp(min(-x * (${a} + ${b} * x * x), 80))) * ${up}[p.upAt + i];`,
  );
};

export const glu: Readonly<Record<Activation, WgslKernel>> = { silu: gluOf('silu'), gelu: gluOf('gelu') };
