/** Perplexity and pass keys against length, drawn while the bundled model reads the bundled book, with DCA and without. */
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { type Figures, LENGTHS, measure } from './measuring.ts';
import * as state from './state.ts';
import { count } from './words.ts';

const METHODS = [
  { name: 'none', title: 'plain RoPE', colour: '--untrained' },
  { name: 'dca', title: 'with DCA', colour: '--intra' },
] as const;

export default function Measure() {
  const figures = useSignal<Figures>({ none: [], dca: [] });
  const abort = useSignal<AbortController | undefined>(undefined);
  const said = useSignal('');
  const start = async () => {
    abort.value = new AbortController();
    figures.value = { none: [], dca: [] };
    try {
      await measure(abort.value.signal, {
        onFigures(now) {
          figures.value = now;
        },
        onStep(what) {
          said.value = what;
        },
      });
      said.value = 'done';
    } catch (error) {
      said.value = abort.value.signal.aborted ? 'stopped' : (error as Error).message;
    } finally {
      abort.value = undefined;
    }
  };
  return (
    <>
      <div class="row">
        {abort.value ? (
          <button type="button" onClick={() => abort.value?.abort()}>
            Stop measuring
          </button>
        ) : (
          <button type="button" class="primary" disabled={state.isBusy.value} onClick={start}>
            Start measuring
          </button>
        )}
        <span class="hint" role="status">
          {said.value}
        </span>
      </div>
      <div class="charts">
        <Chart title="perplexity of the last half (less is better)" figures={figures.value} of="perplexity" isLog />
        <Chart title="pass keys found, of those before" figures={figures.value} of="found" />
      </div>
      <Table figures={figures.value} />
    </>
  );
}

interface ChartParts {
  title: string;
  figures: Figures;
  of: 'perplexity' | 'found';
  isLog?: boolean;
}

function Chart({ title, figures, of, isLog = false }: ChartParts) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | undefined>(undefined);
  useEffect(() => {
    const node = place.current as HTMLDivElement;
    const style = getComputedStyle(node);
    const stroke = style.getPropertyValue('--text');
    const grid = { stroke: style.getPropertyValue('--line'), width: 1 };
    chart.current = new uPlot(
      {
        ...{ width: Math.min(440, node.clientWidth), height: 240, title },
        scales: { x: { time: false, distr: 3, log: 2 }, y: isLog ? { distr: 3 } : { range: [0, 1.05] } },
        axes: [
          { stroke, grid, values: (_, lengths) => lengths.map((length) => (length ? `${length / 1024}k` : '')) },
          { stroke, grid },
        ],
        series: [
          { label: 'tokens' },
          ...METHODS.map(({ title: label, colour }) => ({ label, width: 2, stroke: style.getPropertyValue(colour) })),
        ],
        cursor: { show: false },
        legend: { live: false }, // the table has the numbers
      },
      [[...LENGTHS], ...METHODS.map(() => LENGTHS.map(() => null))],
      node,
    );
    return () => chart.current?.destroy();
  }, [title, isLog]);
  useEffect(() => {
    const values = METHODS.map(({ name }) => LENGTHS.map((_, nth) => figures[name][nth]?.[of] ?? null));
    chart.current?.setData([[...LENGTHS], ...values]);
  }, [figures, of]);
  return <div ref={place} class="chart" aria-hidden="true" />;
}

/** The same in numbers, for those who do not see the charts. */
function Table({ figures }: { figures: Figures }) {
  return (
    <table>
      <caption>Perplexity, and pass keys found of those before</caption>
      <thead>
        <tr>
          <th scope="col">tokens</th>
          {METHODS.map(({ title }) => (
            <th scope="col" key={title}>
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {LENGTHS.map((length, nth) => (
          <tr key={length}>
            <th scope="row">{count(length)}</th>
            {METHODS.map(({ name }) => {
              const { perplexity, found } = figures[name][nth] ?? {};
              const keys = found === undefined ? '' : `, keys ${Math.round(100 * found)}%`;
              return <td key={name}>{perplexity === undefined ? '' : `${perplexity.toFixed(1)}${keys}`}</td>;
            })}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
