/**
 * What other windows would have led to, by cause, from what a node counted: how long its users took to come back.
 *
 * A return after a longer time than the window is a false offline. Whoever does not come back is a ghost for as long as
 * the window lasts, and whoever comes back too late as well. Returns are counted in buckets, so the curve has its
 * points at their bounds; `stillhere advise` computes the same from single returns.
 */

export interface CurvePoint {
  /** Milliseconds. */
  windowMs: number;
  falseOfflines: number;
  ghostSeconds: number;
}

export interface CauseCurve {
  cause: string;
  closes: number;
  returns: number;
  points: CurvePoint[];
}

/** Causes that never have a window: the departure is the message. */
const FINAL = new Set(["bye", "kicked", "revoked", "superseded"]);

type Buckets = { le: number; count: number }[];

/**
 * @param closes connections that ended, by cause
 * @param gaps returns by cause, cumulative by their bound in seconds
 */
export function curvesOf(closes: Record<string, number>, gaps: Record<string, Buckets>): CauseCurve[] {
  const causes = [...new Set([...Object.keys(closes), ...Object.keys(gaps)])].filter((cause) => !FINAL.has(cause));
  return causes.sort().map((cause) => {
    const buckets = gaps[cause] ?? [];
    const returns = buckets.at(-1)?.count ?? 0;
    const ends = Math.max(closes[cause] ?? 0, returns);
    const bounds = buckets.filter((bucket) => Number.isFinite(bucket.le));
    const points = bounds.map(({ le, count }) => ({
      windowMs: le * 1000,
      falseOfflines: returns - count,
      ghostSeconds: (ends - count) * le,
    }));
    return { cause, closes: ends, returns, points };
  });
}

/** Where a window stands on a curve: between two points in proportion; null outside of it. */
export function onCurve(curve: CauseCurve, windowMs: number): CurvePoint | null {
  const next = curve.points.findIndex((point) => point.windowMs >= windowMs);
  const after = curve.points[next];
  if (after === undefined) return null;
  const before = curve.points[next - 1];
  if (before === undefined || after.windowMs === windowMs) return after;
  const share = (windowMs - before.windowMs) / (after.windowMs - before.windowMs);
  const between = (a: number, b: number): number => a + (b - a) * share;
  return {
    windowMs,
    falseOfflines: between(before.falseOfflines, after.falseOfflines),
    ghostSeconds: between(before.ghostSeconds, after.ghostSeconds),
  };
}
