import { expect, test } from "vitest";
import { pictureOf } from "../../src/admin/lanes";
import { Observer } from "../../src/admin/observe";
import type { Connection, Diagnostics } from "../../src/admin/types";

const connection = (key: string, openedAt: number, more: Partial<Connection> = {}): Connection => ({
  connectionKey: key,
  readyState: "OPEN",
  openedAt,
  lastHeardAt: null,
  node: "n1",
  tab: "t",
  client: "Chrome 156",
  availability: "active",
  ...more,
});

const seen = (connections: Connection[], more: Partial<Diagnostics> = {}): Diagnostics => ({
  user: "alice",
  online: true,
  status: "online",
  activeConnectionCount: connections.length,
  connectionKeys: connections.map((c) => c.connectionKey),
  connections,
  grace: null,
  epoch: "1",
  version: 1,
  lastTransition: { type: "PRESENCE_ONLINE", at: 100, cause: "connection_open" },
  complete: true,
  ...more,
});

const grace = { cause: "page_hidden", startedAt: 2000, windowMs: 8000, deadline: 10_000 };

test("somebody who goes and comes back has a window that was cancelled by the return", () => {
  const observer = new Observer();
  observer.take(seen([connection("a", 100)]), 1000);
  observer.take(seen([], { grace }), 2500);
  observer.take(seen([connection("b", 3000)]), 3500);
  expect(observer.entries.map((entry) => [entry.type, entry.at])).toEqual([
    ["opened", 100],
    ["PRESENCE_ONLINE", 100],
    ["closed", 2000],
    ["grace_started", 2000],
    ["opened", 3000],
    ["grace_cancelled", 3000],
  ]);
  expect(pictureOf(observer.entries, 4000).windows).toMatchObject([{ outcome: "cancelled", from: 2000, until: 3000 }]);
});

test("somebody who does not come back has a window that expired, and is shown offline", () => {
  const observer = new Observer();
  observer.take(seen([connection("a", 100)]), 1000);
  observer.take(seen([], { grace }), 2500);
  const offline = { type: "PRESENCE_OFFLINE", at: 10_000, cause: "page_hidden" };
  observer.take(seen([], { online: false, status: "offline", version: 2, lastTransition: offline }), 10_400);
  expect(observer.entries.slice(-2)).toMatchObject([
    { type: "grace_expired", at: 10_000 },
    { type: "PRESENCE_OFFLINE", at: 10_000, version: 2, status: "offline" },
  ]);
});

test("a connection that is CLOSING says why", () => {
  const observer = new Observer();
  observer.take(seen([connection("a", 100)]), 1000);
  observer.take(seen([connection("a", 100, { readyState: "CLOSING", cause: "going_away" })]), 1500);
  expect(observer.entries.at(-1)).toEqual({ type: "closing", at: 1500, connectionKey: "a", cause: "going_away" });
});

test("an answer without the store is no news: nothing is taken for an end", () => {
  const observer = new Observer();
  observer.take(seen([connection("a", 100)]), 1000);
  observer.take(seen([], { complete: false }), 1500);
  expect(observer.entries.some((entry) => entry.type === "closed")).toBe(false);
});
