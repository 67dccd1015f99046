/** The messages of `stillhere.v1`, as docs/protocol.md defines them. Times are milliseconds since the Unix epoch. */

export const SUBPROTOCOL = "stillhere.v1";

export type Status = "online" | "away" | "busy" | "offline" | "unknown";
export type Availability = "active" | "away" | "busy" | "invisible";
export type Meta = Record<string, unknown>;

/** What orders two reports about the same user: `version` within an `epoch`. */
export interface Stamp {
  epoch: string;
  version: number;
}

export interface UserPresence extends Stamp {
  user: string;
  status: Status;
  changedAt: number;
  lastSeenAt?: number;
  devices?: unknown;
  info?: Meta;
  meta?: Meta;
}

export interface MemberMeta {
  connectionId: string;
  meta: Meta;
}

/** A user in a room; of one who left, only the stamp, the user and the status are told. */
export interface Member extends Stamp {
  user: string;
  status: Status;
  joinedAt?: number;
  info?: Meta;
  metas?: MemberMeta[];
}

export interface Welcome {
  type: "welcome";
  connectionId: string;
  sessionId: string;
  user: string;
  epoch: string;
  node: string;
  heartbeatMs: number;
  serverAt: number;
  /** When the token ends. */
  expiresAt?: number;
}

/** A room's whole state (`members`), or a change of it. */
export interface RoomMessage {
  type: "room";
  room: string;
  id?: number;
  members?: Member[];
  joins?: Member[];
  leaves?: Member[];
  updates?: Member[];
}

export interface ErrorMessage {
  type: "error";
  id?: number;
  code: string;
  message: string;
}

export type ServerMessage =
  | Welcome
  | { type: "snapshot"; id: number; users: UserPresence[]; complete: boolean }
  | { type: "presence"; changes: UserPresence[] }
  | RoomMessage
  | { type: "ok"; id: number }
  | { type: "pong"; id: number }
  | { type: "probe"; n: number }
  | ErrorMessage
  | { type: "moving"; reconnectInMs: number };

export type ClientMessage =
  | { type: "auth"; token: string }
  | { type: "watch"; id: number; users: string[] }
  | { type: "unwatch"; id: number; users: string[] }
  | { type: "join"; id: number; room: string; meta: Meta }
  | { type: "leave"; id: number; room: string }
  | { type: "state"; id: number; availability: Availability }
  | { type: "bye" }
  | { type: "ping"; id: number }
  | { type: "probe"; n: number };

/** Close codes that a page sends by itself; it may use only 1000 and 3000 to 4999. */
export const CLOSE_NORMAL = 1000;
export const CLOSE_PAGE_HIDDEN = 4900;

/** The server's: the token was refused or ran out. */
export const CLOSE_UNAUTHORIZED = 4001;

/**
 * Parse one text message.
 *
 * @returns the message, or null for anything that is not a JSON object with a `type`: a reader skips what it does not
 *   know, so that an older page survives a newer server.
 */
export function parseServerMessage(text: unknown): ServerMessage | null {
  if (typeof text !== "string") return null;
  try {
    const message: unknown = JSON.parse(text);
    if (typeof message !== "object" || message === null || !("type" in message)) return null;
    return typeof message.type === "string" ? (message as ServerMessage) : null;
  } catch {
    return null;
  }
}
