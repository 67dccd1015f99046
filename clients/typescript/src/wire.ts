/** The messages of `stillhere.v1`. Times are milliseconds since the Unix epoch, named `…At`; durations end in `…Ms`. */

/** The subprotocol that this client speaks, and no other. */
export const SUBPROTOCOL = "stillhere.v1";

/** What a watcher is shown of a user. `unknown`: the server cannot tell now, or this client has not been told yet. */
export type Status = "online" | "away" | "busy" | "offline" | "unknown";

/** What a tab may say of itself. */
export const AVAILABILITIES = ["active", "away", "busy", "invisible"] as const;

/** What a tab says of itself. `invisible`, said by any tab, hides the user as a whole. */
export type Availability = (typeof AVAILABILITIES)[number];

/** A JSON object of the application; the server takes at most 2 KiB of it. */
export type Meta = Readonly<Record<string, unknown>>;

/** What orders two reports about the same user: `version` within an `epoch`; another epoch is always newer. */
export interface Stamp {
  epoch: string;
  version: number;
}

/** A user as the server reports it. */
export interface UserPresence extends Stamp {
  user: string;
  status: Status;
  changedAt: number;
  lastSeenAt?: number;
  info?: Meta;
  meta?: Meta;
}

/** What one connection says of itself in a room. */
export interface MemberMeta {
  connectionId: string;
  meta: Meta;
}

/** A user in a room; of one who left, only user, status and stamp are told. */
export interface Member extends Stamp {
  user: string;
  status: Status;
  joinedAt?: number;
  info?: Meta;
  metas?: MemberMeta[];
}

/** The first message of a connection: the store has acknowledged it. */
export interface Welcome {
  type: "welcome";
  connectionId: string;
  sessionId: string;
  user: string;
  node: string;
  heartbeatMs: number;
  serverAt: number;
  expiresAt: number;
}

/** A room's whole state (`members`), or a change of it: leaves, then joins, then updates. */
export interface RoomMessage {
  type: "room";
  room: string;
  id?: number;
  members?: Member[];
  joins?: Member[];
  leaves?: Member[];
  updates?: Member[];
  /** Of a room that is too large to name its members. */
  count?: number;
}

/** A request was refused; the connection stays. Without `id` the server had not read which request it was. */
export interface ErrorMessage {
  type: "error";
  id?: number;
  code: string;
  message: string;
}

/** Anything that the server may send. */
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

/** A request that is answered; it is numbered when it is sent. */
export type Request =
  | { type: "auth"; token: string }
  | { type: "watch"; users: string[] }
  | { type: "unwatch"; users: string[] }
  | { type: "join"; room: string; meta: Meta }
  | { type: "leave"; room: string }
  | { type: "state"; availability?: Availability; meta?: Meta }
  | { type: "ping" };

/** Anything that this client sends. */
export type ClientMessage = (Request & { id: number }) | { type: "bye" } | { type: "probe"; n: number };

/** What a page closes with in `pagehide`, and before it replaces a dead path: the user may be back at once. */
export const CLOSE_PAGE_HIDDEN = 4900;
/** The server's: the token was refused, or has ended. */
export const CLOSE_UNAUTHORIZED = 4001;
/** What a browser reports of an end without a close frame. */
export const CLOSE_ABNORMAL = 1006;

const ALLOWED = /^[^\p{Cc}\p{Zl}\p{Zp}\p{Cs}]+$/u;

/** Whether this may be a user id or a room name: 1 to 256 bytes of UTF-8 without control characters. */
export function isId(text: unknown): text is string {
  return typeof text === "string" && ALLOWED.test(text) && new TextEncoder().encode(text).length <= 256;
}
