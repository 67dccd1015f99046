/** A tick for what shows how much time has passed. */

import { signal } from "@preact/signals";

export const tick = signal(0);

/** Twice a second: often enough for a countdown, and cheap. */
setInterval(() => {
  if (!document.hidden) tick.value += 1;
}, 500);
