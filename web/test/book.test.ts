import { beforeEach, describe, expect, test } from "vitest";
import { PresenceBook } from "../src/presence/book";
import { member, presence } from "./fake-world";

let book: PresenceBook;
const status = (user: string): string | undefined => book.users.get(user)?.status;

beforeEach(() => {
  book = new PresenceBook();
});

describe("newness", () => {
  test("a report that is not greater is dropped", () => {
    book.applySnapshot([presence("bob", "online", 7)]);
    expect(book.applyChanges([presence("bob", "offline", 7)]).differences).toEqual([]);
    expect(book.applyChanges([presence("bob", "offline", 6)]).differences).toEqual([]);
    expect(status("bob")).toBe("online");
  });

  test("versions may jump", () => {
    book.applySnapshot([presence("bob", "online", 7)]);
    expect(book.applyChanges([presence("bob", "offline", 90)]).differences).toHaveLength(1);
    expect(status("bob")).toBe("offline");
  });

  test("a new epoch is always newer, whatever its version", () => {
    book.applySnapshot([presence("bob", "online", 90)]);
    const { differences, newEpoch } = book.applyChanges([presence("bob", "away", 1, "e2")]);
    expect(differences).toHaveLength(1);
    expect(newEpoch).toBe(true);
  });

  test("an epoch that was replaced does not come back on the same connection", () => {
    book.applySnapshot([presence("bob", "online", 90)]);
    book.applyChanges([presence("bob", "away", 1, "e2")]);
    expect(book.applyChanges([presence("bob", "offline", 91, "e1")]).differences).toEqual([]);
    expect(status("bob")).toBe("away");
  });

  test("on another connection it may: the client was on another node in between", () => {
    book.applySnapshot([presence("bob", "online", 90)]);
    book.applySnapshot([presence("bob", "online", 1, "e2")]);
    book.startConnection();
    book.applySnapshot([presence("bob", "busy", 91, "e1")]);
    expect(status("bob")).toBe("busy");
  });

  test("somebody seen for the first time is no new epoch", () => {
    expect(book.applyChanges([presence("bob", "online", 3, "e9")]).newEpoch).toBe(false);
  });
});

describe("snapshots", () => {
  test("the same snapshot again shows nothing", () => {
    const all = [presence("bob", "online", 3), presence("carol", "offline", 5)];
    expect(book.applySnapshot(all).map((d) => d.origin)).toEqual(["first", "first"]);
    expect(book.applySnapshot(all)).toEqual([]);
  });

  test("after a gap only who differs is shown", () => {
    book.applySnapshot([presence("bob", "online", 3), presence("carol", "online", 5)]);
    const differences = book.applySnapshot([presence("bob", "online", 3), presence("carol", "offline", 6)]);
    expect(differences.map((d) => [d.user, d.presence.status, d.origin])).toEqual([["carol", "offline", "catch-up"]]);
  });

  test("who left and came back during the gap shows nothing, but is held at the newer version", () => {
    book.applySnapshot([presence("bob", "online", 3)]);
    const back = { ...presence("bob", "online", 5), lastSeenAt: 123 };
    expect(book.applySnapshot([back])).toEqual([]);
    expect(book.users.get("bob")?.version).toBe(5);
  });

  test("a rebuilt store in which nobody changed shows nothing", () => {
    book.applySnapshot([presence("bob", "online", 30), presence("carol", "away", 9)]);
    expect(book.applySnapshot([presence("bob", "online", 1, "e2"), presence("carol", "away", 1, "e2")])).toEqual([]);
  });
});

describe("unknown", () => {
  test("it never replaces what was known, it casts doubt on it", () => {
    book.applySnapshot([presence("bob", "online", 3)]);
    expect(book.applySnapshot([presence("bob", "unknown", 0, "")])).toEqual([]);
    expect(status("bob")).toBe("online");
    expect(book.unsure.has("bob")).toBe(true);
  });

  test("the same report again takes the doubt away", () => {
    book.applySnapshot([presence("bob", "online", 3)]);
    book.applySnapshot([presence("bob", "unknown", 0, "")]);
    book.applySnapshot([presence("bob", "online", 3)]);
    expect(book.unsure.has("bob")).toBe(false);
  });

  test("it is shown of somebody of whom nothing was known, and gives way to any answer", () => {
    book.applySnapshot([presence("bob", "unknown", 4)]);
    expect(status("bob")).toBe("unknown");
    book.applySnapshot([presence("bob", "offline", 0)]);
    expect(status("bob")).toBe("offline");
  });

  test("it is no new epoch", () => {
    book.applySnapshot([presence("bob", "online", 3)]);
    expect(book.applyChanges([presence("bob", "unknown", 0, "other")]).newEpoch).toBe(false);
  });
});

describe("rooms", () => {
  const names = (): string[] => [...(book.members("r1")?.keys() ?? [])].sort();
  const room = { type: "room", room: "r1" } as const;

  test("a change is applied as leaves, then joins, then updates", () => {
    book.applyRoom({ ...room, members: [member("bob", 1), member("carol", 1)] });
    const differences = book.applyRoom({
      ...room,
      updates: [member("carol", 2, "away")],
      joins: [member("bob", 3)],
      leaves: [member("bob", 2)],
    });
    expect(differences.map((d) => `${d.user} ${d.kind}`)).toEqual(["bob left", "bob joined", "carol updated"]);
    expect(names()).toEqual(["bob", "carol"]);
  });

  test("a late leave does not remove who has joined again", () => {
    book.applyRoom({ ...room, members: [member("bob", 5)] });
    expect(book.applyRoom({ ...room, leaves: [member("bob", 4)] })).toEqual([]);
    expect(names()).toEqual(["bob"]);
  });

  test("a late state does not bring back who has left", () => {
    book.applyRoom({ ...room, members: [member("bob", 5)] });
    book.applyRoom({ ...room, leaves: [member("bob", 6)] });
    expect(book.applyRoom({ ...room, members: [member("bob", 5)] })).toEqual([]);
    expect(names()).toEqual([]);
  });

  test("the state after a gap shows only differences, whoever is missing from it has left", () => {
    book.applyRoom({ ...room, members: [member("bob", 1), member("carol", 1), member("dave", 1)] });
    const differences = book.applyRoom({ ...room, members: [member("bob", 1), member("carol", 4), member("eve", 1)] });
    expect(differences.map((d) => `${d.user} ${d.kind} ${d.origin}`)).toEqual([
      "dave left catch-up",
      "eve joined catch-up",
    ]);
  });
});
