/** The stretch of time that a picture shows, and how zooming and panning change it. All in milliseconds. */

export interface Span {
  from: number;
  to: number;
}

/** No closer than this, and no farther. */
export const CLOSEST = 50;
export const FARTHEST = 14 * 86_400_000;

/** Zoom so that one instant stays where it is. A factor below 1 shows less time, i.e. more detail. */
export function zoomAt(span: Span, at: number, factor: number): Span {
  const length = span.to - span.from;
  const wanted = Math.min(FARTHEST, Math.max(CLOSEST, length * factor));
  const share = (at - span.from) / length;
  const from = at - wanted * share;
  return { from, to: from + wanted };
}

/** Move by a share of what is shown; positive is later. */
export function panBy(span: Span, share: number): Span {
  const by = (span.to - span.from) * share;
  return { from: span.from + by, to: span.to + by };
}

/** Where an instant stands, from 0 at the left edge to `width`. */
export function place(span: Span, at: number, width: number): number {
  return ((at - span.from) / (span.to - span.from)) * width;
}

/** Which instant stands there. */
export function instantAt(span: Span, x: number, width: number): number {
  return span.from + (x / width) * (span.to - span.from);
}

const STEPS = [
  10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000,
  1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000, 172_800_000,
];

/** Round instants to write at the axis, in local time, at most so many. */
export function ticks(span: Span, most: number): { at: number; step: number }[] {
  const length = span.to - span.from;
  const step = STEPS.find((candidate) => length / candidate <= most) ?? (STEPS.at(-1) as number);
  const shift = new Date(span.from).getTimezoneOffset() * 60_000;
  const found: { at: number; step: number }[] = [];
  for (let at = Math.ceil((span.from - shift) / step) * step + shift; at <= span.to; at += step) {
    found.push({ at, step });
    if (found.length > most) break;
  }
  return found;
}

/** What is written at a tick. */
export function tickLabel(at: number, step: number): string {
  const t = new Date(at);
  const two = (value: number): string => String(value).padStart(2, "0");
  if (step >= 86_400_000) return `${two(t.getDate())}.${two(t.getMonth() + 1)}.`;
  const minutes = `${two(t.getHours())}:${two(t.getMinutes())}`;
  if (step >= 60_000) return minutes;
  const seconds = `${minutes}:${two(t.getSeconds())}`;
  return step >= 1000 ? seconds : `${seconds}.${String(t.getMilliseconds()).padStart(3, "0")}`;
}
