/** The figures of the last minutes, for the charts. */

import type { Stats } from "./types";

/** Columns of a chart: seconds since the Unix epoch, then each series; null where there is a gap. */
export type Columns = [number[], ...(number | null)[][]];

export interface Point {
  at: number;
  connections: number;
  users: number;
  windows: number;
  connects: number | null;
  disconnects: number | null;
  transitions: number | null;
  loopLagMs: number;
  backlog: number;
}

/** How many are kept: ten minutes at one every two seconds. */
const KEPT = 300;

export class History {
  points: Point[] = [];
  #before: Stats | null = null;

  /** Take an answer. Rates are those since the one before, so that a burst is seen when it happens. */
  take(stats: Stats): void {
    const before = this.#before;
    // counters of a node that was restarted begin again
    const same = before !== null && before.service.startedAt === stats.service.startedAt && before.node === stats.node;
    const seconds = before === null ? 0 : (stats.at - before.at) / 1000;
    const rate = (pick: (totals: Stats["totals"]) => number): number | null =>
      same && seconds > 0 ? Math.max(0, pick(stats.totals) - pick(before.totals)) / seconds : null;
    this.#before = stats;
    const point: Point = {
      at: stats.at,
      connections: stats.now.connections,
      users: stats.now.usersPresent,
      windows: stats.now.windowsPending,
      connects: rate((totals) => totals.connects),
      disconnects: rate((totals) => totals.disconnects),
      transitions: rate((totals) => totals.online + totals.offline + totals.updated),
      loopLagMs: stats.service.loopLagMs,
      backlog: stats.service.storeBacklog,
    };
    this.points = [...this.points, point].slice(-KEPT);
  }

  columns(...names: Exclude<keyof Point, "at">[]): Columns {
    return [this.points.map((p) => p.at / 1000), ...names.map((name) => this.points.map((p) => p[name]))];
  }
}
