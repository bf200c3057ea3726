/**
 * Puts Vega, its interpreter of expressions and Vega-Lite as text into `src/eval/chartLibrary.ts`, so that a report draws its charts in any
 * browser without a network. Their licences travel along.
 */
import { readFileSync, writeFileSync } from 'node:fs';

/** D3, of many packages with one licence, and the others below are inside Vega. */
const LICENSED = [
  'vega',
  'vega-lite',
  'vega-interpreter',
  'd3-array',
  'topojson-client',
  'delaunator',
  'robust-predicates',
];

const read = (file: string) => readFileSync(`node_modules/${file}`, 'utf8').trim();
const licences = LICENSED.map((name) => `${name}\n\n${read(`${name}/LICENSE`)}`).join('\n\n');
/** The interpreter comes as a module only; `vega` has what it imports, and gets what it exports. */
const asScript = (module: string) =>
  `{ ${module
    .replace(/^import (\{.*\}) from 'vega-util';$/m, 'const $1 = vega;')
    .replace(/^export \{ (\w+) as (\w+) \};$/m, 'vega.$2 = $1;')}\n}`;
const library = [
  `/*! ${licences.replaceAll('*/', '* /')} */`,
  read('vega/build/vega.min.js'),
  read('vega-lite/build/vega-lite.min.js'),
  asScript(read('vega-interpreter/build/vega-interpreter.js')),
]
  .join('\n')
  .replace(/^\/\/# sourceMappingURL=.*$/gm, '')
  // A script element ends at the first of these, wherever it stands.
  .replace(/<(?=\/script|!--)/gi, '\\x3c');

writeFileSync(
  'src/eval/chartLibrary.ts',
  [
    '// Made by scripts/bundleCharts.ts from Vega, its interpreter and Vega-Lite.',
    `export const CHART_LIBRARY: string = ${JSON.stringify(library)};\n`,
  ].join('\n'),
);
console.log(`charts: ${library.length} characters`);
