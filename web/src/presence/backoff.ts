/**
 * When to come back after a connection has ended.
 *
 * | close code | advice |
 * |---|---|
 * | 1000 after `bye`; 4000-4099 | `stop` |
 * | 4100-4199 | `back-off`: the server is short of something; at least half of the step is always waited |
 * | 4200-4299, 1001, 1006, 1011, 1012, 1013 and whatever is not listed | `soon`, with full jitter |
 *
 * The server has the same table in `stillhere.wire.codes`.
 */

export type Advice = "stop" | "back-off" | "soon";

const SOON = { firstMs: 1_000, longestMs: 10_000 };
const BACK_OFF = { firstMs: 4_000, longestMs: 60_000 };

/** What a close code asks of the client. */
export function adviceFor(code: number, saidBye: boolean): Advice {
  if (saidBye && code === 1000) return "stop";
  if (code >= 4000 && code <= 4099) return "stop";
  if (code >= 4100 && code <= 4199) return "back-off";
  return "soon";
}

/**
 * How long to wait before the next attempt, in milliseconds.
 *
 * Full jitter spreads the clients of a node that has died evenly; its price, an occasional retry at once, is what a
 * server that is over capacity cannot afford, so `back-off` keeps a floor.
 *
 * @param attempt how many attempts have failed in a row so far, from 0
 * @param random a number in [0, 1)
 */
export function delayMs(advice: "back-off" | "soon", attempt: number, random: number): number {
  const { firstMs, longestMs } = advice === "soon" ? SOON : BACK_OFF;
  // 2 ** 1024 is Infinity, which min() takes in its stride.
  const step = Math.min(longestMs, firstMs * 2 ** attempt);
  return Math.round(advice === "soon" ? random * step : step / 2 + random * (step / 2));
}
