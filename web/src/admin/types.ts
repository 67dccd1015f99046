/** What the HTTP API answers, as far as these pages read it. Times are milliseconds since the Unix epoch. */

export type Status = "online" | "away" | "busy" | "offline" | "unknown";

export interface Presence {
  user: string;
  status: Status;
  epoch: string;
  version: number;
  changedAt: number;
  lastSeenAt?: number;
  /** Only from the HTTP API, not in events. */
  devices?: number;
}

export interface PresencePage {
  users: Presence[];
  cursor: string | null;
}

export interface Connection {
  connectionKey: string;
  readyState: "CONNECTING" | "OPEN" | "CLOSING";
  openedAt: number;
  lastHeardAt: number | null;
  node: string;
  tab: string;
  client: string;
  availability: string;
  cause?: string;
}

export interface Grace {
  cause: string;
  startedAt: number;
  windowMs: number;
  deadline: number;
}

export interface Diagnostics {
  user: string;
  online: boolean;
  status: Status;
  activeConnectionCount: number;
  connectionKeys: string[];
  connections: Connection[];
  grace: Grace | null;
  epoch: string;
  version: number;
  lastTransition: { type: string; at: number; cause: string } | null;
  complete: boolean;
}

/** An item of a timeline. Which fields there are depends on its type. */
export interface TimelineEntry {
  type: string;
  /** When the store learned of it. */
  at: number;
  connectionKey?: string;
  node?: string;
  tab?: string;
  client?: string;
  what?: string[];
  availability?: string;
  cause?: string;
  code?: number;
  by?: string;
  reason?: string;
  /** When the connection itself ended. */
  endedAt?: number;
  windowMs?: number;
  deadline?: number;
  gapMs?: number;
  ghostMs?: number;
  falseOffline?: boolean;
  tooShortMs?: number;
  room?: string;
  version?: number;
  status?: Status;
}

export interface Timeline {
  items: TimelineEntry[];
  cursor: string | null;
  more: boolean;
  /** It no longer reaches back to its beginning. */
  cut: boolean;
}

export interface Explanation {
  at: number;
  status: Status;
  rule: string;
  sentence: string;
  since?: number | null;
  advice?: string | null;
}

export interface Stats {
  at: number;
  node: string;
  now: {
    connections: number;
    users: number;
    usersPresent: number;
    usersKnown: number;
    windowsPending: number;
    rooms: number;
    topics: number;
  };
  totals: {
    connects: number;
    disconnects: number;
    refused: number;
    online: number;
    offline: number;
    updated: number;
    messages: number;
    frames: number;
  };
  perSecond: {
    overMs: number;
    connects: number;
    disconnects: number;
    transitions: number;
    messages: number;
    frames: number;
  };
  falseOffline: {
    total: number;
    byCause: Record<string, number>;
    returns: Record<string, number>;
    ghostMs: Record<string, number>;
    /** The windows in force; absent from an older server. */
    windowMs?: Record<string, number>;
  };
  service: {
    startedAt: number;
    store: string;
    storeReachable: boolean;
    storeBacklog: number;
    loopLagMs: number;
    loopStalledMs: number;
    draining: boolean;
  };
}

export interface NodeInfo {
  node: string;
  incarnation: string;
  startedAt: number;
  connections: number;
  users: number;
  leaseMs: number;
  ready: boolean;
  draining: boolean;
  isolated: boolean;
}

export interface RoomCount {
  room: string;
  members: number;
}

export interface Member {
  user: string;
  status: Status;
  version: number;
  changedAt: number;
  metas?: { connectionId: string; meta: Record<string, unknown> }[];
}

export interface RoomMembers {
  room: string;
  count: number;
  members?: Member[];
}

/** The data of an event of `/v1/events`. */
export interface EventData {
  user: string;
  change: string;
  version: number;
  epoch: string;
  at: number;
  cause: string;
  room?: string;
  presence?: Presence;
}
