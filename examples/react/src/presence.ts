/** The presence client of whoever is logged in. It is made outside of the components, once for each log-in. */

import { createPresence, type Presence } from "stillhere";

/** What your own back end does: log the user in, and sign a token for the presence server. */
async function getToken(user: string): Promise<string> {
  const answer = await fetch("/dev/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user }),
  });
  if (!answer.ok) throw new Error(`the log-in answered ${answer.status}`);
  return ((await answer.json()) as { token: string }).token;
}

/** A client for this user; the provider connects it. */
export function presenceOf(user: string): Presence {
  return createPresence({ url: "/ws", getToken: () => getToken(user) });
}
