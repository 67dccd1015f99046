/** Automatic `away`: nobody has touched the page for a while, or it has been hidden for a while. */

import type { Environment } from "./environment";

/** After how many milliseconds a tab is away; `Infinity` for never. */
export interface AwayOptions {
  /** Without a key, a click, a scroll or a move of the pointer. 5 minutes unless told. */
  idleMs?: number;
  /** In the background. 1 minute unless told. */
  hiddenMs?: number;
}

const EVENTS = ["pageshow", "visibilitychange", "pointerdown", "pointermove", "keydown", "wheel", "touchstart"];

/** Watches one page. It has no timer: whoever asks compares with the clock. */
export interface AwayWatch {
  /** Follow the page until the signal; `active` is called whenever somebody is at it. */
  start(signal: AbortSignal, active: () => void): void;
  /** From when on the tab is away, if nothing happens; ms since the Unix epoch. */
  dueAt(): number;
}

export function watchAway(env: Environment, { idleMs = 300_000, hiddenMs = 60_000 }: AwayOptions): AwayWatch {
  let touchedAt = Infinity;
  let hiddenAt = Infinity;
  return {
    start: (signal, active) => {
      const look = (): void => {
        if (env.document?.visibilityState === "hidden") {
          hiddenAt = Math.min(hiddenAt, env.now());
        } else {
          hiddenAt = Infinity;
          touchedAt = env.now();
          active();
        }
      };
      for (const type of EVENTS) env.window?.addEventListener(type, look, { capture: true, passive: true, signal });
      hiddenAt = Infinity;
      look();
    },
    dueAt: () => Math.min(touchedAt + idleMs, hiddenAt + hiddenMs),
  };
}
