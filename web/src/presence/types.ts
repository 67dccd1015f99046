/** What the client tells the application, and what it is told at the start. */

import type { PresenceDifference, RoomDifference } from "./book";
import type { Environment } from "./environment";
import type { ClientMessage, ErrorMessage, Welcome } from "./protocol";

export interface Token {
  token: string;
  /** Milliseconds since the Unix epoch; without it the token is never renewed on a live connection. */
  expiresAt?: number;
}

export type ConnectionState =
  | { name: "idle" }
  | { name: "connecting" }
  | { name: "open"; welcome: Welcome }
  | { name: "waiting"; until: number; code: number; advice: "soon" | "back-off" }
  | { name: "hidden" }
  | { name: "ended"; code: number; reason: string };

export type PresenceEvent =
  | { type: "connection"; state: ConnectionState }
  /** Whether what is held of others is known to be current; while it is not, show it dimmed. */
  | { type: "fresh"; fresh: boolean }
  | { type: "presence"; differences: PresenceDifference[] }
  | { type: "room"; room: string; differences: RoomDifference[] }
  | { type: "refused"; request: ClientMessage | undefined; error: ErrorMessage };

export interface PresenceClientOptions {
  /** The server's socket, e.g. `ws://127.0.0.1:7400/ws`. */
  url: string;
  /** This tab's id, see `claimTab`. */
  tab: string;
  /**
   * Gives the token for the next connection or renewal.
   *
   * @param renew true when the last one did not get through, or runs out: a cached one will not do
   */
  token: (renew: boolean) => Promise<Token>;
  environment?: Partial<Environment>;
}
