/**
 * When to come back after a connection has ended.
 *
 * | close code | advice |
 * |---|---|
 * | 4000-4099 | `stop` |
 * | 4100-4199; 1002, 1003, 1007, 1009 | `back-off`: an equal jitter, so that at least half of the step is waited |
 * | 4200-4299, 1001, 1006, 1011, 1012, 1013 and whatever is not listed | `soon`: full jitter |
 *
 * 1002 to 1009 mean that something on the way does not like what is sent: trying again at once would not help it.
 */

/** What a close code asks of the client. */
export type Advice = "stop" | "back-off" | "soon";

/** Somebody who was online for so long starts from the first step again, in milliseconds. */
export const STABLE_MS = 10_000;

/** What a close code asks of the client. */
export function adviceFor(code: number): Advice {
  const hundred = Math.floor(code / 100);
  if (hundred === 40) return "stop";
  if (hundred === 41 || [1002, 1003, 1007, 1009].includes(code)) return "back-off";
  return "soon";
}

/**
 * How long to wait before the next attempt, in milliseconds.
 *
 * Full jitter spreads the clients of a node that died evenly; its price, an occasional retry at once, is what a server
 * that is over capacity cannot afford.
 *
 * @param attempt how many attempts have failed in a row, from 0
 * @param random a number in [0, 1)
 */
export function delayMs(advice: Advice, attempt: number, random: number): number {
  // "Soon" stays below every grace window that the server opens for a lost path (10 s and more): the first attempts after
  // a network loss still come in time.
  const [firstMs, longestMs] = advice === "soon" ? [500, 10_000] : [4_000, 60_000];
  const step = Math.min(longestMs, firstMs * 2 ** attempt);
  return Math.round(advice === "soon" ? random * step : (step * (1 + random)) / 2);
}
