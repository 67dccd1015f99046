/** A live chart of a few series. */

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { figure } from "../format";
import type { Columns } from "../history";

export interface Series {
  name: string;
  /** A custom property of the style sheet, e.g. `--online`. */
  colour: string;
}

const HEIGHT = 170;
const dark = window.matchMedia("(prefers-color-scheme: dark)");

export function Chart({ title, series, columns }: { title: string; series: Series[]; columns: Columns }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const draw = (): void => {
      plot.current?.destroy();
      plot.current = new uPlot(optionsOf(element, series), columns as uPlot.AlignedData, element);
    };
    draw();
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    dark.addEventListener("change", draw);
    return () => {
      dark.removeEventListener("change", draw);
      observer.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, []);
  useEffect(() => plot.current?.setData(columns as uPlot.AlignedData), [columns]);
  const last = series.map((one, n) => `${one.name} ${figure(columns[n + 1]?.at(-1) ?? NaN)}`);
  return (
    <figure class="card chart">
      <figcaption>
        <h2>{title}</h2>
        <ul class="legend">
          {series.map((one, n) => (
            <li key={one.name}>
              <span class="legend-line" style={{ background: `var(${one.colour})` }} aria-hidden="true" />
              {last[n]}
            </li>
          ))}
        </ul>
      </figcaption>
      <div ref={place} role="img" aria-label={`${title} over the last minutes; now: ${last.join(", ")}`} />
    </figure>
  );
}

function timeOfDay(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

function optionsOf(element: HTMLElement, series: Series[]): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: colour("--muted"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
    font: "12px ui-sans-serif, system-ui, sans-serif",
  };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, points: { size: 7 } },
    scales: { y: { range: (_, low, high) => [Math.min(0, low), high <= 0 ? 1 : high * 1.1] } },
    axes: [
      { ...axis, size: 28, space: 80, values: (_, splits) => splits.map(timeOfDay) },
      { ...axis, size: 52, values: (_, splits) => splits.map((value) => figure(value)) },
    ],
    series: [
      {},
      ...series.map((one) => ({ label: one.name, stroke: colour(one.colour), width: 2, points: { show: false } })),
    ],
  };
}
