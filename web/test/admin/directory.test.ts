import { expect, test } from "vitest";
import { Book } from "../../src/admin/directory";
import { History } from "../../src/admin/history";
import type { Presence, Stats } from "../../src/admin/types";

const told = (user: string, version: number, more: Partial<Presence> = {}): Presence => ({
  user,
  status: "online",
  epoch: "1",
  version,
  changedAt: 0,
  ...more,
});

test("what is older than what is known changes nothing, whichever comes first", () => {
  const book = new Book();
  book.take([told("a", 5, { status: "away" })]);
  book.take([told("a", 4)]);
  expect(book.get("a")?.status).toBe("away");
  book.take([told("a", 1, { epoch: "2" })]);
  expect(book.get("a")?.status).toBe("online");
  book.take([told("a", 9, { status: "busy" })]);
  expect(book.get("a")?.status).toBe("online");
});

test("an event keeps the number of devices until it is asked for again; of one who is offline there is none", () => {
  const book = new Book();
  book.take([told("a", 1, { devices: 2 })]);
  book.take([told("a", 2, { status: "busy" })]);
  expect(book.get("a")?.devices).toBe(2);
  book.take([told("a", 3, { status: "offline" })]);
  expect(book.get("a")?.devices).toBeUndefined();
});

test("while the server is not heard everybody is stale and nobody offline; after a gap until told again", () => {
  const book = new Book();
  book.live = true;
  book.take([told("a", 1), told("b", 2, { status: "busy" })]);
  expect(book.doubtful()).toEqual([]);
  book.live = false;
  expect([book.get("a"), book.get("b")]).toMatchObject([
    { status: "online", stale: true },
    { status: "busy", stale: true },
  ]);
  book.live = true;
  expect(book.get("a")?.stale).toBe(false);
  book.doubt();
  book.take([told("a", 1), told("b", 2, { status: "unknown" })]);
  expect(book.get("a")).toMatchObject({ status: "online", stale: false });
  expect(book.get("b")).toMatchObject({ status: "busy", stale: true });
  expect(book.doubtful()).toEqual(["b"]);
});

test("users are found by a part of their id and by their status, in order", () => {
  const book = new Book();
  for (const [n, user] of ["zoe", "Bob", "abby", "<b>x</b>"].entries()) {
    book.take([told(user, n + 1, { status: user === "abby" ? "away" : "online" })]);
  }
  expect(book.find("b", "all")).toEqual(["<b>x</b>", "Bob", "abby"]);
  expect(book.find("B", "away")).toEqual(["abby"]);
  expect(book.find("", "online")).toEqual(["<b>x</b>", "Bob", "zoe"]);
  expect(book.counts()).toEqual({ online: 3, away: 1, busy: 0, offline: 0, unknown: 0 });
});

test("fifty thousand users are searched within the time of a few frames", () => {
  const book = new Book();
  for (let n = 0; n < 50_000; n += 1) book.take([told(`user-${n}`, n)]);
  void book.counts(); // as the page does; whoever changes since is made anew
  const took = [1, 2, 3, 4, 5].map(() => {
    const began = process.cpuUsage().user; // the work, in microseconds: the machine may do other things meanwhile
    expect(book.find("USER-4999", "online")).toHaveLength(11);
    return (process.cpuUsage().user - began) / 1000;
  });
  expect(Math.min(...took)).toBeLessThan(100);
});

test("rates are those between two answers, and begin again with a server that was restarted", () => {
  const stats = (at: number, online: number, startedAt = 1): Stats => ({
    at,
    node: "n1",
    now: { connections: 1, users: 1, usersPresent: 1, usersKnown: 1, windowsPending: 0, rooms: 0, topics: 0 },
    totals: { connects: 0, disconnects: 0, refused: 0, online, offline: 0, updated: 0, messages: 0, frames: 0 },
    perSecond: { overMs: 1, connects: 0, disconnects: 0, transitions: 0, messages: 0, frames: 0 },
    falseOffline: { total: 0, byCause: {}, returns: {}, ghostMs: {} },
    service: {
      startedAt,
      store: "memory",
      storeReachable: true,
      storeBacklog: 0,
      loopLagMs: 0,
      loopStalledMs: 0,
      draining: false,
    },
  });
  const history = new History();
  for (const answer of [stats(1000, 10), stats(3000, 16), stats(5000, 2, 4000), stats(7000, 4, 4000)]) {
    history.take(answer);
  }
  expect(history.columns("transitions")).toEqual([
    [1, 3, 5, 7],
    [null, 3, null, 1],
  ]);
});
