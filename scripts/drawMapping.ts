/**
 * Draws `docs/mapping.svg`: the distances RoPE sees, for the paper's figure 2 (chunkLen 6, maxDistance 9, 18 tokens),
 * taken from the code that the engine runs on.
 */
import { writeFileSync } from 'node:fs';
import { dualChunk, PLAIN } from '../src/dualChunk.ts';
import { type Placement, relativePosition } from '../src/placement.ts';

const N_TOKENS = 18;
const CELL = 22; // pixels
const TRAINED = 10;
const dca = dualChunk({ chunkLen: 6, maxDistance: 9, parts: 'full', scale: 'none', trainedLen: TRAINED });

// chunks behind: own, before, earlier; and distances the model never saw
const COLORS = ['#cfe8d5', '#fde6b3', '#cfdcf5'];
const UNSEEN = '#f4b6b0';

function matrix(left: number, top: number, title: string, method: Placement): string {
  const cells: string[] = [`<text x="${left}" y="${top - 14}" class="title">${title}</text>`];
  for (let i = 0; i < N_TOKENS; i++) {
    const begins = method.spans(i).map(({ from }) => from);
    for (let j = 0; j <= i; j++) {
      const distance = relativePosition(i, j, method) as number;
      const color = distance >= TRAINED ? UNSEEN : COLORS[begins.toReversed().findIndex((from) => j >= from)];
      const [x, y] = [left + j * CELL, top + i * CELL];
      cells.push(`<rect x="${x}" y="${y}" width="${CELL}" height="${CELL}" fill="${color}"/>`);
      cells.push(`<text x="${x + CELL / 2}" y="${y + CELL / 2 + 4}">${distance}</text>`);
    }
  }
  return cells.join('\n');
}

const side = N_TOKENS * CELL;
const [margin, gap, top] = [24, 56, 56];
const width = 2 * side + gap + 2 * margin;
const height = top + side + 64;
const legend = [
  [COLORS[0], 'own chunk: exact'],
  [COLORS[1], 'chunk before: exact near the border'],
  [COLORS[2], 'earlier chunks: query put at position 9'],
  [UNSEEN, 'never seen in training'],
];
let at = margin;
const legendMarks = legend.map(([color, label]) => {
  const mark = `<rect x="${at}" y="${height - 36}" width="14" height="14" fill="${color}"/><text x="${at + 20}" y="${height - 24}" class="legend">${label}</text>`;
  at += 44 + label.length * 6;
  return mark;
});

writeFileSync(
  'docs/mapping.svg',
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">
<title>Relative positions of plain RoPE and of Dual Chunk Attention</title>
<style>text{font:11px system-ui,sans-serif;fill:#333;text-anchor:middle}.title{font-size:15px;font-weight:600;text-anchor:start}.legend{font-size:12px;text-anchor:start}rect{stroke:#fff}</style>
<rect width="${width}" height="${height}" fill="#fff"/>
${matrix(margin, top, 'Plain RoPE: distances grow without end', PLAIN)}
${matrix(margin + side + gap, top, 'DCA: chunks of 6, no distance above 9', dca)}
${legendMarks.join('\n')}
</svg>
`,
);
console.log('docs/mapping.svg');
