/** One WebSocket, from its opening to its end; after `close` nothing more is heard of it. */

import type { Environment } from "./environment";
import { CLOSE_ABNORMAL, type ClientMessage } from "./wire";

/** What the client does about a link's news. */
export interface LinkEvents {
  open(protocol: string): void;
  text(text: string): void;
  /** It has ended, by itself or by the server; nothing more comes. */
  end(code: number, reason: string): void;
}

/** An open or opening WebSocket. */
export interface Link {
  /** What is said before it has opened, or after it was closed, is lost. */
  send(message: ClientMessage): void;
  close(code: number, reason: string): void;
}

/**
 * Open one.
 *
 * @throws whatever the browser throws on an address or a subprotocol that it does not take
 */
export function openLink(env: Environment, url: string, protocols: string[], events: LinkEvents): Link {
  // biome-ignore lint/style/noNonNullAssertion: connect() has looked
  const socket = new env.WebSocket!(url, protocols);
  let opened = false;
  const forget = (): void => {
    opened = false;
    socket.onopen = socket.onmessage = socket.onclose = null;
  };
  socket.onopen = () => {
    opened = true;
    events.open(socket.protocol);
  };
  socket.onmessage = ({ data }) => events.text(data as string);
  socket.onclose = ({ code, reason }) => {
    forget();
    events.end(code || CLOSE_ABNORMAL, reason);
  };
  return {
    send: (message) => {
      if (opened) socket.send(JSON.stringify(message));
    },
    close: (code, reason) => {
      forget();
      socket.close(code, reason);
    },
  };
}
