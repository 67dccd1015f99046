/** Presence that does not flicker: see README.md. */

import { Presence } from "./client";
import type { PresenceOptions } from "./types";

/**
 * Make a presence client. It does nothing before `connect()`, so it may be made anywhere, also where web pages are
 * rendered on a server.
 *
 * @throws {PresenceError} `bad_url`
 */
export function createPresence(options: PresenceOptions): Presence {
  return new Presence(options);
}

export type { AwayOptions } from "./away";
export type { MemberView, PresenceChange, RoomChange, RoomView, UserView } from "./book";
export type { DocumentLike, Environment, LocksLike, SocketLike } from "./environment";
export { PresenceError, type ProblemCode } from "./errors";
export type {
  ConnectionStatus,
  ConnectionView,
  PresenceEvents,
  PresenceOptions,
  SelfView,
  Snapshot,
} from "./types";
export type { Availability, MemberMeta, Meta, Status } from "./wire";
export type { Presence };
