/** What the application gives and gets. */

import type { AwayOptions } from "./away";
import type { PresenceChange, RoomChange, RoomView, UserView } from "./book";
import type { Environment } from "./environment";
import type { PresenceError } from "./errors";
import type { Availability, Meta } from "./wire";

/**
 * How the connection stands: `connecting` for the first time, `reconnecting` after it was `online`, `offline` when
 * nobody wants one, `refused` when the server asked not to come back.
 */
export type ConnectionStatus = "connecting" | "online" | "reconnecting" | "offline" | "refused";

/** The connection; a new object for each change. */
export interface ConnectionView {
  readonly status: ConnectionStatus;
  /** Why it is `refused`, or what the server said last about the token. */
  readonly error?: PresenceError | undefined;
  /** When the next attempt begins; ms since the Unix epoch. */
  readonly retryAt?: number | undefined;
}

/** This tab and its user; a new object for each change. */
export interface SelfView {
  /** Who the token says that this is; missing before the first welcome. */
  readonly user?: string;
  readonly connectionId?: string;
  readonly sessionId?: string;
  /** What is said to others: what was set, or `away` if that was `active` and nobody is at the page. */
  readonly availability: Availability;
  /** Whether it is `away` by itself. */
  readonly idle: boolean;
  /** What was said with `setMeta`. */
  readonly meta: Meta;
}

/** All that is known, for showing or for a bug report; the same object until something changes. */
export interface Snapshot {
  readonly connection: ConnectionView;
  readonly self: SelfView;
  /** Everybody who is watched. */
  readonly users: readonly UserView[];
  /** Every room that was joined. */
  readonly rooms: readonly RoomView[];
}

/** Event names and what their listeners are given. */
export interface PresenceEvents {
  /** The connection's status has changed. */
  status: ConnectionView;
  /** Users whom a person would see differently. Never a difference that only a reconnect made. */
  presence: readonly PresenceChange[];
  /** The same for the members of a room. */
  room: { readonly room: string; readonly changes: readonly RoomChange[] };
  /** Something went wrong that the application may want to know; the client goes on by itself. */
  problem: PresenceError;
}

/** What `createPresence` takes. */
export interface PresenceOptions {
  /** The server's socket: `wss://example.com/ws`, `https:` as well, or a path such as `/ws` of the page's own host. */
  url: string;
  /**
   * Give the token, or null if nobody is logged in. Called before each connection, and before the token ends. Leave it
   * out where the server knows its users without one, by a cookie that goes along with the request.
   *
   * @param why `renew`: the last one ends or did not get through, so a cached one will not do
   */
  getToken?: ((why: { renew: boolean }) => string | null | Promise<string | null>) | undefined;
  /** When a tab is `away` by itself; false for never. */
  away?: AwayOptions | false;
  /** What this tab says of itself at first, unless the tab said something else before it was reloaded. */
  availability?: Availability;
  /** Another clock, socket, page: for tests and for runtimes that are no browser. */
  environment?: Partial<Environment>;
}
