/** Rooms that are so large that the server tells their count and not their members. */

import { describe, expect, test } from "vitest";
import { member, World } from "./world";

describe("large rooms", () => {
  test("a room too large to be told by names has its count and no members until it is told by names again", async () => {
    const world = new World();
    world.client.join("r1");
    const changes: string[] = [];
    world.client.on("room", (told) => {
      for (const { kind, member } of told.changes) changes.push(`${kind} ${member.user}`);
    });
    const socket = await world.online();
    socket.receive({ type: "room", room: "r1", id: 1, members: [member("bob", 5)] });
    socket.receive({ type: "room", room: "r1", count: 1001, statuses: { online: 1001 } });
    const large = world.client.room("r1");
    expect(large).toEqual({ room: "r1", members: [], count: 1001, stale: false });
    expect(world.client.room("r1")).toBe(large);
    socket.receive({ type: "room", room: "r1", count: 0, statuses: {} });
    expect(world.client.room("r1")).toMatchObject({ members: [], count: 0, stale: false });
    socket.receive({ type: "room", room: "r1", members: [member("carol", 9)] });
    expect(world.client.room("r1")).toMatchObject({ members: [{ user: "carol" }], count: 1, stale: false });
    expect(changes).toEqual(["joined bob", "left bob", "joined carol"]);
  });

  test("a count is stale while not connected, and until it is told again", async () => {
    const world = new World();
    world.client.join("r1");
    const socket = await world.online();
    socket.receive({ type: "room", room: "r1", id: 1, count: 1500, statuses: { online: 1500 } });
    socket.end(1006);
    expect(world.client.room("r1")).toMatchObject({ members: [], count: 1500, stale: true });
  });
});
