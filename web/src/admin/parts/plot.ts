/** What all charts have in common: a place to draw in, the height, and the looks of the style sheet. */

import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

export interface Look {
  /** What the style sheet says of a custom property, e.g. `--online`. */
  colour: (name: string) => string;
  /** What all axes share. */
  axis: uPlot.Axis;
  /** What all options share. */
  frame: { width: number; height: number; legend: { show: false } };
}

const HEIGHT = 170;
const dark = window.matchMedia("(prefers-color-scheme: dark)");

/** From 0, with some room above the highest. */
export const upward: uPlot.Range.Function = (_, low, high) => [Math.min(0, low), high <= 0 ? 1 : high * 1.1];

/** A chart in an element: drawn anew where the colours change, as wide as its place.
 *
 * @param options made for each drawing; the first ones that are passed stay.
 * @param data what is drawn at first, and after a change of colours.
 */
export function usePlot(
  options: (look: Look) => uPlot.Options,
  data: uPlot.AlignedData,
): { place: RefObject<HTMLDivElement | null>; plot: RefObject<uPlot | null> } {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const newest = useRef(data);
  newest.current = data;
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const draw = (): void => {
      plot.current?.destroy();
      plot.current = new uPlot(options(lookOf(element)), newest.current, element);
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
  return { place, plot };
}

function lookOf(element: HTMLElement): Look {
  const style = getComputedStyle(element);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  return {
    colour,
    axis: {
      stroke: colour("--muted"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      font: "12px ui-sans-serif, system-ui, sans-serif",
    },
    frame: { width: element.clientWidth, height: HEIGHT, legend: { show: false } },
  };
}
