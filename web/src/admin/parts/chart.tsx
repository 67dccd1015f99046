/** A live chart of a few series. */

import { useEffect } from "preact/hooks";
import type uPlot from "uplot";
import { figure } from "../format";
import type { Columns } from "../history";
import { type Look, upward, usePlot } from "./plot";

export interface Series {
  name: string;
  /** A custom property of the style sheet, e.g. `--online`. */
  colour: string;
}

export function Chart({ title, series, columns }: { title: string; series: Series[]; columns: Columns }) {
  const { place, plot } = usePlot((look) => optionsOf(look, series), columns as uPlot.AlignedData);
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

function optionsOf({ colour, axis, frame }: Look, series: Series[]): uPlot.Options {
  return {
    ...frame,
    cursor: { y: false, points: { size: 7 } },
    scales: { y: { range: upward } },
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
