/**
 * A timeline of what this page itself sees, for servers without a flight recorder: two answers of the diagnostics are
 * compared, and what differs becomes entries. What comes and goes between two looks is not seen.
 */

import type { Diagnostics, TimelineEntry } from "./types";

/** How many entries are kept. */
const MOST = 400;

export class Observer {
  entries: TimelineEntry[] = [];
  #before: Diagnostics | null = null;

  /** Take an answer, and the time at which it was given, milliseconds since the Unix epoch. */
  take(seen: Diagnostics, at: number): void {
    if (!seen.complete) return;
    const found = this.#before === null ? first(seen) : compare(this.#before, seen, at);
    this.#before = seen;
    if (found.length === 0) return;
    found.sort((a, b) => a.at - b.at);
    this.entries = [...this.entries, ...found].slice(-MOST);
  }
}

function first(seen: Diagnostics): TimelineEntry[] {
  const found = seen.connections.map(opened);
  if (seen.grace !== null) found.push(windowOf(seen.grace));
  const last = seen.lastTransition;
  if (last !== null) found.push(transition(seen, last));
  return found;
}

function compare(before: Diagnostics, seen: Diagnostics, at: number): TimelineEntry[] {
  const found: TimelineEntry[] = [];
  const had = new Map(before.connections.map((connection) => [connection.connectionKey, connection]));
  const has = new Map(seen.connections.map((connection) => [connection.connectionKey, connection]));
  for (const [key, connection] of has) {
    const old = had.get(key);
    if (old === undefined) found.push(opened(connection));
    if (connection.readyState === "CLOSING" && old?.readyState !== "CLOSING") {
      found.push({ type: "closing", at, connectionKey: key, ...(connection.cause && { cause: connection.cause }) });
    }
  }
  const cause = seen.grace?.cause ?? seen.lastTransition?.cause;
  for (const key of had.keys()) {
    if (has.has(key)) continue;
    // the window begins with the end of the last connection
    const ended = seen.grace?.startedAt ?? at;
    const known = had.get(key)?.cause ?? (seen.activeConnectionCount === 0 ? cause : undefined);
    found.push({ type: "closed", at: ended, connectionKey: key, ...(known !== undefined && { cause: known }) });
  }
  if (seen.grace !== null && seen.grace.startedAt !== before.grace?.startedAt) found.push(windowOf(seen.grace));
  if (before.grace !== null && seen.grace === null) {
    const back = Math.min(at, ...seen.connections.map((connection) => connection.openedAt));
    const type = seen.activeConnectionCount > 0 ? "grace_cancelled" : "grace_expired";
    found.push({ type, at: type === "grace_cancelled" ? back : Math.min(at, before.grace.deadline) });
  }
  if (seen.lastTransition !== null && seen.version !== before.version) {
    found.push(transition(seen, seen.lastTransition));
  }
  return found;
}

function opened(connection: Diagnostics["connections"][number]): TimelineEntry {
  const { connectionKey, openedAt, node, tab, client } = connection;
  return { type: "opened", at: openedAt, connectionKey, node, tab, client };
}

function windowOf(grace: NonNullable<Diagnostics["grace"]>): TimelineEntry {
  const { startedAt, cause, windowMs, deadline } = grace;
  return { type: "grace_started", at: startedAt, endedAt: startedAt, cause, windowMs, deadline };
}

function transition(seen: Diagnostics, last: NonNullable<Diagnostics["lastTransition"]>): TimelineEntry {
  const status = last.type === "PRESENCE_OFFLINE" || seen.grace !== null || seen.online ? seen.status : undefined;
  return {
    type: last.type,
    at: last.at,
    cause: last.cause,
    version: seen.version,
    ...(status !== undefined && { status }),
  };
}
