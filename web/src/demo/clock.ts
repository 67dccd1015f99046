/** The time as the page shows it, once a second. */

import { signal } from "@preact/signals";

export const now = signal(Date.now());

window.setInterval(() => (now.value = Date.now()), 1000);
