import { describe, expect, test } from "vitest";
import { lanesIn, pictureOf, standingAt } from "../../src/admin/lanes";
import type { Diagnostics, TimelineEntry } from "../../src/admin/types";

const NOW = 1_000_000;

const diagnostics = (more: Partial<Diagnostics> = {}): Diagnostics => ({
  user: "alice",
  online: false,
  status: "offline",
  activeConnectionCount: 0,
  connectionKeys: [],
  connections: [],
  grace: null,
  epoch: "1",
  version: 3,
  lastTransition: null,
  complete: true,
  ...more,
});

/** One reload: the old page goes, its window opens, the new page comes and cancels it. */
const RELOAD: TimelineEntry[] = [
  { type: "opened", at: 1000, connectionKey: "a", node: "n1", tab: "t", client: "Chrome 156" },
  { type: "PRESENCE_ONLINE", at: 1000, cause: "connection_open", version: 7, status: "online" },
  { type: "closing", at: 5000, connectionKey: "a", cause: "going_away", code: 1001, by: "client" },
  { type: "closed", at: 5020, connectionKey: "a", cause: "going_away", code: 1001 },
  { type: "grace_started", at: 5000, cause: "going_away", windowMs: 8000, deadline: 13_000 },
  { type: "opened", at: 5600, connectionKey: "b", node: "n2", tab: "t" },
  { type: "grace_cancelled", at: 5600, cause: "going_away" },
];

describe("a picture", () => {
  test("has one lane for each connection, with its end and why", () => {
    const { lanes } = pictureOf(RELOAD, NOW);
    expect(lanes.map((lane) => [lane.key, lane.openedAt, lane.closingAt, lane.closedAt])).toEqual([
      ["a", 1000, 5000, 5020],
      ["b", 5600, null, null],
    ]);
    expect(lanes[0]).toMatchObject({ node: "n1", client: "Chrome 156", cause: "going_away", code: 1001, by: "client" });
  });

  test("shows that a window was opened and cancelled, and until when it would have run", () => {
    expect(pictureOf(RELOAD, NOW).windows).toEqual([
      { cause: "going_away", from: 5000, deadline: 13_000, until: 5600, outcome: "cancelled" },
    ]);
  });

  test("a window that ran out is expired, one without an end runs", () => {
    const opened: TimelineEntry = { type: "grace_started", at: 10, cause: "abnormal", windowMs: 50 };
    const expired = pictureOf([opened, { type: "grace_expired", at: 61 }], NOW).windows[0];
    expect(expired).toMatchObject({ from: 10, deadline: 60, until: 61, outcome: "expired" });
    expect(pictureOf([opened], NOW).windows[0]).toMatchObject({ until: null, outcome: "running" });
  });

  test("the longest of several windows decides", () => {
    const { windows } = pictureOf(
      [
        { type: "grace_started", at: 10, cause: "abnormal", deadline: 60 },
        { type: "windows_prolonged", at: 20, cause: "node_lost", deadline: 90 },
      ],
      NOW,
    );
    expect(windows).toHaveLength(1);
    expect(windows[0]?.deadline).toBe(90);
  });

  test("an end counts from when it was, not from when the store heard of it", () => {
    const { lanes, windows } = pictureOf(
      [
        { type: "node_lost", at: 9000, connectionKey: "ali…:s…:4000:c…", cause: "node_lost", endedAt: 6000 },
        { type: "grace_started", at: 9000, cause: "node_lost", windowMs: 30_000, endedAt: 6000, deadline: 36_000 },
      ],
      NOW,
    );
    expect(lanes).toMatchObject([{ openedAt: 4000, closedAt: 6000, cause: "node_lost" }]);
    expect(windows).toMatchObject([{ from: 6000, deadline: 36_000 }]);
  });

  test("a change in a room is a mark, and no change of how the user is shown", () => {
    const joined: TimelineEntry = { type: "ROOM_JOINED", at: 5, room: "lobby", version: 2, status: "online" };
    const picture = pictureOf([joined], NOW);
    expect(picture.marks).toMatchObject([{ kind: "transition", status: null, version: 2 }]);
    expect(standingAt(picture, 6).shown).toBeNull();
  });

  test("each transition is a mark with its version", () => {
    const { marks } = pictureOf(RELOAD, NOW);
    expect(marks).toMatchObject([{ at: 1000, kind: "transition", version: 7, status: "online" }]);
  });

  test("what a timeline of another version calls by an unknown word is a note, and is not lost", () => {
    const { marks } = pictureOf([{ type: "told_again", at: 5, node: "n1" }], NOW);
    expect(marks).toMatchObject([{ at: 5, kind: "note", status: null, text: "told_again · node n1" }]);
  });

  test("connections that are older than the timeline come from the diagnostics", () => {
    const known = diagnostics({
      activeConnectionCount: 1,
      connections: [
        {
          connectionKey: "old",
          readyState: "OPEN",
          openedAt: 3,
          lastHeardAt: null,
          node: "n1",
          tab: "t",
          client: "",
          availability: "active",
        },
      ],
    });
    const { lanes, from } = pictureOf([], NOW, known);
    expect(lanes).toMatchObject([{ key: "old", openedAt: 3, closedAt: null }]);
    expect(from).toBe(3);
  });

  test("a connection that the diagnostics no longer have is over, unless the store could not be asked", () => {
    expect(pictureOf(RELOAD, NOW, diagnostics()).lanes[1]?.closedAt).toBe(NOW);
    expect(pictureOf(RELOAD, NOW, diagnostics({ complete: false })).lanes[1]?.closedAt).toBeNull();
  });

  test("of an empty timeline it is empty", () => {
    expect(pictureOf([], NOW)).toEqual({ lanes: [], windows: [], marks: [], from: NOW, to: NOW });
  });
});

describe("an instant in it", () => {
  const picture = pictureOf(RELOAD, NOW);

  test.each([
    [2000, 1, 0, false],
    [5010, 0, 1, true],
    [5300, 0, 0, true],
    [5600, 1, 0, false],
  ])("at %i: %i open, %i closing, in a window: %s", (at, open, closing, inWindow) => {
    const standing = standingAt(picture, at);
    expect([standing.open.length, standing.closing.length]).toEqual([open, closing]);
    expect(standing.window !== null).toBe(inWindow);
    expect(standing.shown?.status).toBe("online");
  });

  test("only lanes with something to show take room", () => {
    expect(lanesIn(picture, 0, 500)).toEqual([]);
    expect(lanesIn(picture, 6000, 7000).map((lane) => lane.key)).toEqual(["b"]);
  });
});
