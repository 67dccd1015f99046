/** From a timeline to what is drawn: a lane for each connection, the windows, and the marks of what was shown. */

import { length } from "./format";
import type { Diagnostics, Status, TimelineEntry } from "./types";

export interface Lane {
  key: string;
  node: string;
  tab: string;
  client: string;
  /** When it was opened; null for one that is older than the timeline. */
  openedAt: number | null;
  /** When its end began, where that was seen. */
  closingAt: number | null;
  /** When it was over; null for one that is still there. */
  closedAt: number | null;
  cause: string;
  code: number | null;
  by: string;
  reason: string;
}

export type Outcome = "running" | "cancelled" | "expired";

/** A grace window: the user is shown as before although no connection is active. */
export interface GraceWindow {
  cause: string;
  from: number;
  deadline: number;
  /** When it was over; null while it runs. */
  until: number | null;
  outcome: Outcome;
}

export interface Mark {
  at: number;
  type: string;
  kind: "transition" | "note";
  status: Status | null;
  version: number | null;
  text: string;
}

export interface Picture {
  lanes: Lane[];
  windows: GraceWindow[];
  marks: Mark[];
  /** Of the first and the last entry; both `now` where there is none. */
  from: number;
  to: number;
}

type Kind = "there" | "closing" | "closed" | "window" | "cancelled" | "expired" | "transition" | "note";

/** The types of timeline items that say something of a connection or a window; what else there is is a note. */
const KINDS: Record<string, Kind> = {
  upgrade: "there",
  opened: "there",
  changed: "there",
  closing: "closing",
  closed: "closed",
  upgrade_failed: "closed",
  superseded: "closed",
  kicked: "closed",
  revoked: "closed",
  token_expired: "closed",
  node_lost: "closed",
  node_drained: "closed",
  grace_started: "window",
  windows_prolonged: "window",
  grace_cancelled: "cancelled",
  grace_expired: "expired",
};

export function kindOf(type: string): Kind {
  return /^(PRESENCE|ROOM)_/.test(type) ? "transition" : (KINDS[type] ?? "note");
}

/**
 * @param entries oldest first
 * @param now the server's time; what runs is drawn up to here
 * @param known what is true now: connections that are older than the timeline, and the window that runs
 */
export function pictureOf(entries: readonly TimelineEntry[], now: number, known: Diagnostics | null = null): Picture {
  const drawing = new Drawing();
  for (const entry of entries) drawing.take(entry);
  if (known !== null) drawing.complete(known, now);
  const lanes = [...drawing.lanes.values()].sort((a, b) => (a.openedAt ?? 0) - (b.openedAt ?? 0));
  const opened = lanes.map((lane) => lane.openedAt).filter((at) => at !== null);
  return {
    lanes,
    windows: drawing.windows,
    marks: drawing.marks,
    from: Math.min(entries[0]?.at ?? now, ...opened),
    to: Math.max(entries.at(-1)?.at ?? now, ...drawing.windows.map((w) => w.until ?? w.deadline)),
  };
}

class Drawing {
  readonly lanes = new Map<string, Lane>();
  readonly windows: GraceWindow[] = [];
  readonly marks: Mark[] = [];

  take(entry: TimelineEntry): void {
    const kind = kindOf(entry.type);
    if (kind === "there" || kind === "closing" || kind === "closed") this.#connection(kind, entry);
    else if (kind === "window") this.#open(entry);
    else if (kind === "cancelled" || kind === "expired") this.#over(kind, entry);
    else this.#mark(kind, entry);
  }

  /** Add what is there now and the entries do not tell. */
  complete(known: Diagnostics, now: number): void {
    const there = new Set(known.connections.map((connection) => connection.connectionKey));
    for (const connection of known.connections) {
      const lane = this.#lane(connection.connectionKey);
      lane.openedAt ??= connection.openedAt;
      lane.node ||= connection.node;
      lane.tab ||= connection.tab;
      lane.client ||= connection.client;
      if (connection.readyState === "CLOSING") lane.closingAt ??= now;
    }
    if (known.complete) {
      // an end that no entry tells of
      for (const lane of this.lanes.values()) if (!there.has(lane.key)) lane.closedAt ??= lane.closingAt ?? now;
    }
    const running = this.windows.find((window) => window.until === null);
    if (known.grace === null && running !== undefined && known.complete) {
      running.until = Math.min(now, running.deadline);
      running.outcome = running.deadline <= now ? "expired" : "cancelled";
    } else if (known.grace !== null && running === undefined) {
      const { cause, startedAt, deadline } = known.grace;
      this.windows.push({ cause, from: startedAt, deadline, until: null, outcome: "running" });
    }
  }

  #connection(kind: "there" | "closing" | "closed", entry: TimelineEntry): void {
    // a kick of somebody who has no connection
    if (entry.connectionKey === undefined) return this.#mark("note", entry);
    const lane = this.#lane(entry.connectionKey);
    lane.node = entry.node ?? lane.node;
    lane.tab = entry.tab ?? lane.tab;
    lane.client = entry.client ?? lane.client;
    if (kind === "there") {
      if (entry.type === "opened") lane.openedAt ??= entry.at;
      return;
    }
    if (kind === "closing") lane.closingAt ??= entry.at;
    else lane.closedAt ??= Math.min(entry.at, entry.endedAt ?? entry.at);
    lane.cause = entry.cause ?? (entry.type === "upgrade_failed" ? entry.type : lane.cause);
    lane.code = entry.code ?? lane.code;
    lane.by = entry.by ?? lane.by;
    lane.reason = entry.reason ?? lane.reason;
  }

  #lane(key: string): Lane {
    let lane = this.lanes.get(key);
    if (lane === undefined) {
      lane = {
        key,
        node: "",
        tab: "",
        client: "",
        openedAt: openedOf(key),
        closingAt: null,
        closedAt: null,
        cause: "",
        code: null,
        by: "",
        reason: "",
      };
      this.lanes.set(key, lane);
    }
    return lane;
  }

  #open(entry: TimelineEntry): void {
    const from = entry.endedAt ?? entry.at;
    const deadline = entry.deadline ?? from + (entry.windowMs ?? 0);
    const running = this.windows.find((window) => window.until === null);
    if (running === undefined) {
      const window = { cause: entry.cause ?? "", from, deadline, until: null, outcome: "running" as const };
      this.windows.push(window);
    } else {
      running.deadline = Math.max(running.deadline, deadline);
    }
  }

  #over(outcome: "cancelled" | "expired", entry: TimelineEntry): void {
    const running = this.windows.find((window) => window.until === null);
    if (running === undefined) return this.#mark("note", entry);
    running.until = entry.at;
    running.outcome = outcome;
  }

  #mark(kind: "transition" | "note", entry: TimelineEntry): void {
    this.marks.push({
      at: entry.at,
      type: entry.type,
      kind,
      status: entry.type.startsWith("PRESENCE_") ? (entry.status ?? statusOf(entry.type)) : null,
      version: entry.version ?? null,
      text: sayEntry(entry),
    });
  }
}

/** A connection key is `user:session:openedAt:connection`, with `?` where the time is not known. */
function openedOf(key: string): number | null {
  const at = Number(key.split(":").at(-2));
  return Number.isSafeInteger(at) && at > 0 ? at : null;
}

function statusOf(type: string): Status | null {
  if (type === "PRESENCE_ONLINE") return "online";
  return type === "PRESENCE_OFFLINE" ? "offline" : null;
}

/** An entry in a line: what it is, and the fields that matter. */
export function sayEntry(entry: TimelineEntry): string {
  const said = [entry.type];
  if (entry.version !== undefined) said.push(`version ${entry.version}`);
  if (entry.status !== undefined) said.push(entry.status);
  if (entry.room !== undefined && entry.room !== null) said.push(`in ${entry.room}`);
  if (entry.cause !== undefined) said.push(entry.code ? `${entry.cause} (${entry.code})` : entry.cause);
  if (entry.by !== undefined && entry.by !== "") said.push(`by ${entry.by}`);
  if (entry.reason !== undefined && entry.reason !== "") said.push(`“${entry.reason}”`);
  if (entry.what !== undefined && entry.what.length > 0) said.push(entry.what.join(", "));
  if (entry.availability !== undefined) said.push(`says ${entry.availability}`);
  if (entry.windowMs !== undefined) said.push(`window of ${length(entry.windowMs)}`);
  if (entry.gapMs !== undefined) said.push(`after ${length(entry.gapMs)}`);
  if (entry.falseOffline === true) said.push("a false offline");
  if (entry.tooShortMs !== undefined) said.push(`window too short by ${length(entry.tooShortMs)}`);
  if (entry.ghostMs !== undefined) said.push(`ghost for ${length(entry.ghostMs)}`);
  if (entry.tab !== undefined) said.push(`tab ${entry.tab}`);
  if (entry.node !== undefined) said.push(`node ${entry.node}`);
  return said.join(" · ");
}

/** How things stood at an instant, as far as the picture shows. */
export interface Standing {
  open: Lane[];
  closing: Lane[];
  window: GraceWindow | null;
  /** The last mark before it that says a status. */
  shown: Mark | null;
}

export function standingAt(picture: Picture, at: number): Standing {
  const there = picture.lanes.filter((l) => (l.openedAt ?? -Infinity) <= at && (l.closedAt ?? Infinity) > at);
  const closing = there.filter((lane) => lane.closingAt !== null && lane.closingAt <= at);
  return {
    open: there.filter((lane) => !closing.includes(lane)),
    closing,
    window: picture.windows.find((w) => w.from <= at && at < (w.until ?? w.deadline)) ?? null,
    shown: picture.marks.findLast((mark) => mark.at <= at && mark.status !== null) ?? null,
  };
}

/** Lanes that have something to show in a stretch of time. */
export function lanesIn(picture: Picture, from: number, to: number): Lane[] {
  return picture.lanes.filter((l) => (l.openedAt ?? -Infinity) <= to && (l.closedAt ?? Infinity) >= from);
}
