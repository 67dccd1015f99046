/**
 * Many users in one process: the built client with Node's own WebSocket.
 *
 *     node --experimental-websocket test/crowd.mjs URL < tokens
 *
 * One client per line of the input, which is its token. What happens to each is a line of JSON on the output, with the
 * client's number `who` and the time `at` in milliseconds since the Unix epoch: `status` (of the connection), `open` (an
 * attempt begins), `moving` (the server's announcement, in milliseconds), `close` (the code of a socket that was online).
 * The end of the process is that of its input.
 */

import { createInterface } from "node:readline";
import { createPresence } from "../dist/index.js";

const [url] = process.argv.slice(2);
let count = 0;

/** Write down that something happened. */
function note(who, what) {
  process.stdout.write(`${JSON.stringify({ who, at: Date.now(), ...what })}\n`);
}

/** A client of its own, as a tab of its own would have it. */
function enter(token) {
  const who = count;
  count += 1;
  class Observed extends WebSocket {
    constructor(address, protocols) {
      super(address, protocols);
      note(who, { open: true });
      this.addEventListener("message", ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "moving") note(who, { moving: message.reconnectInMs });
      });
      this.addEventListener("close", ({ code }) => note(who, { close: code }));
    }
  }
  const client = createPresence({ url, getToken: () => token, away: false, environment: { WebSocket: Observed } });
  client.on("status", ({ status }) => note(who, { status }));
  client.connect();
}

const lines = createInterface({ input: process.stdin });
lines.on("line", enter);
lines.on("close", () => process.exit(0));
