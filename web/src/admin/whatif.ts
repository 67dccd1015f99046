/**
 * What other windows would have led to, as the server found it by replaying recorded timelines.
 *
 * Each step of the slider is a window that was really replayed: nothing in between is guessed.
 */

import { counted, length } from "./format";

export interface TriedWindow {
  windowMs: number;
  falseOfflines: number;
  rate: number;
  ghostMs: number;
}

export interface ReplayedCause {
  cause: string;
  /** The window in force now; one of `tried` has it. */
  windowMs: number;
  ends: number;
  recordedMs: number[];
  recorded: { falseOfflines: number; ghostMs: number };
  tried: TriedWindow[];
}

export interface PolicyReplay {
  at: number;
  users: number;
  usersKnown: number;
  complete: boolean;
  entries: number;
  skipped: number;
  unfaithful: number;
  oldestAt: number | null;
  horizonMs: number;
  causes: ReplayedCause[];
}

/** The step at which a window stands, or the nearest one. */
export function stepOf(tried: readonly TriedWindow[], windowMs: number): number {
  let best = 0;
  for (const [step, { windowMs: at }] of tried.entries()) {
    if (Math.abs(at - windowMs) < Math.abs((tried[best]?.windowMs ?? Infinity) - windowMs)) best = step;
  }
  return best;
}

/** How a figure differs from what was recorded: `3 fewer`, `2 more`, `the same`. */
export function fewer(now: number, recorded: number): string {
  if (now === recorded) return "the same";
  return now < recorded ? `${counted(recorded - now, "fewer", "fewer")}` : `${counted(now - recorded, "more", "more")}`;
}

/** The same for lengths of time, in milliseconds. */
export function shorter(now: number, recorded: number): string {
  if (now === recorded) return "the same";
  return now < recorded ? `${length(recorded - now)} less` : `${length(now - recorded)} more`;
}

/** A step in words, for whoever hears the slider. */
export function spokenStep({ recorded, tried }: ReplayedCause, step: number): string {
  const at = tried[step];
  if (at === undefined) return "";
  const false_ = `${counted(at.falseOfflines, "false offline")} (${fewer(at.falseOfflines, recorded.falseOfflines)})`;
  const ghost = `${length(at.ghostMs)} of ghost time (${shorter(at.ghostMs, recorded.ghostMs)})`;
  return `window ${length(at.windowMs)}: ${false_}, ${ghost}`;
}

/** Columns of the chart: steps side by side at equal distances, false offlines, ghost seconds. */
export function columnsOf(tried: readonly TriedWindow[]): [number[], number[], number[]] {
  return [
    tried.map((_, step) => step),
    tried.map((at) => at.falseOfflines),
    tried.map((at) => at.ghostMs / 1000),
  ];
}
