import { describe, expect, test, vi } from "vitest";
import { createPresence, PresenceError } from "../src/index";
import { FakeStorage, member, presence, World } from "./world";

describe("what is shown", () => {
  test("before the first answer a user is unknown, not offline", () => {
    const { client } = new World();
    expect(client.get("bob")).toEqual({ user: "bob", status: "unknown", stale: true });
  });

  test("while not connected others are stale, with their last status", async () => {
    const world = new World();
    world.client.watch("bob");
    const socket = await world.online();
    world.answer(presence("bob", "busy", 5));
    expect(world.client.get("bob")).toEqual({ user: "bob", status: "busy", stale: false, changedAt: 5 });
    socket.end(1006);
    expect(world.client.get("bob")).toEqual({ user: "bob", status: "busy", stale: true, changedAt: 5 });
  });

  test("after a reconnect a user is stale until the server has told of that user", async () => {
    const world = new World();
    world.client.watch(["bob", "carol"]);
    const socket = await world.online();
    world.answer(presence("bob", "online", 5), presence("carol", "online", 6));
    socket.end(1006);
    await world.advance(1_000);
    await world.welcome();
    world.socket.receive({ type: "presence", changes: [presence("bob", "online", 5)] });
    expect(["bob", "carol"].map((user) => world.client.get(user).stale)).toEqual([false, true]);
  });

  test("an object stays the same until something of it changes", async () => {
    const world = new World();
    world.client.watch(["bob", "carol"]);
    world.client.join("r1");
    await world.online();
    world.answer(presence("bob", "online", 5), presence("carol", "online", 5));
    world.socket.receive({ type: "room", room: "r1", id: world.sent("join")[0]?.["id"], members: [member("bob", 5)] });
    const before = world.client.snapshot();
    expect(world.client.snapshot()).toBe(before);
    world.socket.receive({ type: "presence", changes: [presence("bob", "away", 6)] });
    const after = world.client.snapshot();
    expect(after.users[0]).toMatchObject({ user: "bob", status: "away" });
    expect(after.users[1]).toBe(before.users[1]);
    expect(after.rooms[0]).toBe(before.rooms[0]);
    expect(after.connection).toBe(before.connection);
    expect(before.users[0]).toMatchObject({ status: "online" });
  });

  test("a room tells who is there, and is stale while not connected", async () => {
    const world = new World();
    world.client.join("r1");
    const socket = await world.online();
    expect(world.client.room("r1")).toEqual({ room: "r1", members: [], count: 0, stale: true });
    socket.receive({ type: "room", room: "r1", id: 1, members: [member("bob", 5)] });
    const bob = { user: "bob", status: "online", joinedAt: 1, metas: [{ connectionId: "c_bob", meta: {} }] };
    expect(world.client.room("r1")).toEqual({ room: "r1", members: [bob], count: 1, stale: false });
    socket.end(1006);
    expect(world.client.room("r1")).toEqual({ room: "r1", members: [bob], count: 1, stale: true });
  });

  test("another user who logs in on the page sees nothing of what the one before was shown", async () => {
    const world = new World();
    world.client.watch("bob");
    await world.online("alice");
    world.answer(presence("bob", "online", 5));
    world.client.disconnect();
    await world.online("mallory");
    expect(world.client.get("bob").status).toBe("unknown");
    expect(world.client.self.user).toBe("mallory");
  });

  test("a network that is gone makes everybody stale until the server is heard again", async () => {
    const world = new World();
    world.client.watch("bob");
    await world.online();
    world.answer(presence("bob", "online", 5));
    world.page("offline");
    expect(world.client.get("bob")).toMatchObject({ status: "online", stale: true });
    expect(world.client.status).toBe("online");
    world.socket.receive({ type: "pong", id: world.sent("ping")[0]?.["id"] });
    expect(world.client.get("bob")).toMatchObject({ status: "online", stale: false });
  });
});

describe("what is sent", () => {
  test("many watches in one task are one message", async () => {
    const world = new World();
    await world.online();
    for (let i = 0; i < 50; i += 1) world.client.watch(`user-${i}`);
    await world.settle();
    expect(world.sent("watch")).toHaveLength(1);
  });

  test("a thousand users go out in messages below the server's bound, not faster than it allows", async () => {
    const world = new World();
    const long = 'ü"'.repeat(84);
    world.client.watch(Array.from({ length: 1_000 }, (_, i) => `${long}${i}`));
    for (let i = 0; i < 20; i += 1) world.client.join(`room-${i}`);
    const socket = await world.online();
    expect(socket.sent.length).toBe(30);
    await world.advance(2_000);
    expect(socket.sent.length).toBe(37);
    const encoder = new TextEncoder();
    for (const message of socket.sent) expect(encoder.encode(JSON.stringify(message)).length).toBeLessThan(32_768);
    expect(new Set(world.sent("watch").flatMap(({ users }) => users)).size).toBe(1_000);
  });

  test("a component that unmounts and mounts again in one breath sends nothing and loses nothing", async () => {
    const world = new World();
    const release = world.client.watch("bob");
    const leave = world.client.join("r1", { seat: 1 });
    const socket = await world.online();
    world.answer(presence("bob", "online", 5));
    const sent = socket.sent.length;
    release();
    leave();
    world.client.watch("bob");
    world.client.join("r1", { seat: 1 });
    await world.settle();
    expect(socket.sent).toHaveLength(sent);
    expect(world.client.get("bob").status).toBe("online");
  });

  test("letting go twice is letting go once", async () => {
    const world = new World();
    const release = world.client.watch("bob");
    world.client.watch("bob");
    await world.online();
    release();
    release();
    await world.settle();
    expect(world.sent("unwatch")).toEqual([]);
  });

  test("a room that is left while not connected is not joined again", async () => {
    const world = new World();
    const leave = world.client.join("r1");
    (await world.online()).end(1006);
    leave();
    await world.advance(1_000);
    await world.welcome();
    expect(world.sent("join")).toEqual([]);
  });

  test("an invisible user says so in the address, also after a reload, until the log-out", async () => {
    const world = new World();
    world.client.setAvailability("invisible");
    await world.online();
    const query = (): string | null => new URL(world.socket.url).searchParams.get("availability");
    expect(query()).toBe("invisible");
    world.page("pagehide");
    const reloaded = new World({ storage: world.storage });
    await reloaded.online();
    expect(new URL(reloaded.socket.url).searchParams.get("availability")).toBe("invisible");
    reloaded.client.disconnect();
    expect(reloaded.client.self.availability).toBe("active");
    expect(new World({ storage: world.storage }).client.self.availability).toBe("active");
  });
});

test.each(["", "online", "ACTIVE", "busy&tab=t-2", "\u2028", "away "])(
  "a kept availability of %j is none, and does not get into the address",
  async (kept) => {
    const storage = new FakeStorage();
    storage.setItem("stillhere.availability", kept);
    const world = new World({ storage, options: { availability: "busy" } });
    expect(world.client.self.availability).toBe("busy");
    await world.online();
    expect(new URL(world.socket.url).searchParams.getAll("availability")).toEqual(["busy"]);
    expect(new URL(world.socket.url).searchParams.getAll("tab")).toHaveLength(1);
  },
);

describe("a host that knows its users by a cookie", () => {
  const options = { getToken: undefined };

  test("is sent no token, neither in the subprotocol nor as a message", async () => {
    const world = new World({ options });
    const socket = await world.online();
    expect(socket.protocols).toEqual(["stillhere.v1"]);
    for (let minute = 0; minute < 61; minute += 1) {
      await world.advance(30_000);
      socket.receive({ type: "probe", n: 1 });
      await world.advance(30_000);
      socket.receive({ type: "probe", n: 2 });
    }
    expect(world.sockets).toHaveLength(1);
    expect(world.sent("auth")).toEqual([]);
    expect(world.noted("problem")).toEqual([]);
  });

  test("is asked again and again while it cannot be reached, and not given a token that nobody has", async () => {
    const world = new World({ options });
    world.client.connect();
    for (let attempt = 0; attempt < 9; attempt += 1) {
      await world.settle();
      world.socket.open();
      world.socket.end(1006);
      await world.advance(10_000);
    }
    expect(world.sockets).toHaveLength(10);
    expect(world.sockets.flatMap(({ sent }) => sent)).toEqual([]);
    expect(world.client.status).toBe("connecting");
    expect(new Set(world.noted("problem"))).toEqual(new Set(["unreachable"]));
  });

  test("may say that the log-in has ended: once more, then it is refused", async () => {
    const world = new World({ options });
    (await world.online()).end(4001, "the session has ended");
    await world.advance(1_000);
    expect(world.client.status).toBe("reconnecting");
    world.socket.open();
    world.socket.end(4001, "the session has ended");
    expect(world.client.status).toBe("refused");
    expect(world.client.connection.error).toMatchObject({ code: "unauthorized", message: "the session has ended" });
  });
});

test("a tab that is never to be away by itself is not", async () => {
  const world = new World({ options: { away: false } });
  const socket = await world.online();
  for (let minute = 0; minute < 60; minute += 1) {
    await world.advance(30_000);
    socket.receive({ type: "probe", n: 1 });
  }
  expect(world.sent("state")).toEqual([]);
  expect(world.client.self.idle).toBe(false);
});

describe("never two sockets of one tab, and none left", () => {
  test("connecting twice opens one", async () => {
    const world = new World();
    world.client.connect();
    world.client.connect();
    await world.settle();
    expect(world.sockets).toHaveLength(1);
  });

  test("a log-out while the token is awaited opens none", async () => {
    const world = new World();
    let give = (_: string): void => {};
    world.token = new Promise<string>((resolve) => {
      give = resolve;
    });
    world.client.connect();
    await world.settle();
    world.client.disconnect();
    give("h.p.s");
    await world.advance(60_000);
    expect(world.sockets).toEqual([]);
    expect(world.client.status).toBe("offline");
  });

  test("what a socket says that was closed is not heard", async () => {
    const world = new World();
    const socket = await world.online();
    world.client.disconnect();
    socket.speakLate();
    expect(world.client.status).toBe("offline");
    world.client.connect();
    await world.settle();
    socket.speakLate();
    expect(world.client.status).toBe("connecting");
    expect(world.runningTimers).toBe(1);
  });

  test("after a log-out nothing is left: no timer, no listener that reconnects", async () => {
    const world = new World();
    await world.online();
    world.client.disconnect();
    expect(world.runningTimers).toBe(0);
    for (const type of ["online", "pageshow", "resume", "visibilitychange"]) world.page(type);
    await world.advance(100_000);
    expect(world.sockets).toHaveLength(1);
  });

  test("a listener may log out, or in again, from within a status event", async () => {
    const world = new World();
    world.client.on("status", ({ status }) => status === "reconnecting" && world.client.disconnect());
    (await world.online()).end(1006);
    await world.advance(60_000);
    expect(world.client.status).toBe("offline");
    expect(world.sockets).toHaveLength(1);
    expect(world.runningTimers).toBe(0);
  });

  test("a page that is loaded ahead of a click does not connect before it is shown", async () => {
    const world = new World();
    world.document.prerendering = true;
    world.client.connect();
    await world.advance(60_000);
    expect(world.sockets).toEqual([]);
    world.document.prerendering = false;
    world.page("prerenderingchange");
    await world.settle();
    expect(world.sockets).toHaveLength(1);
  });
});

describe("bad input and bad luck", () => {
  test.each(["ftp://example.com/ws", "http://[", "mailto:bob@example.com"])("the address %s is refused", (url) => {
    const make = (): unknown => new World({ options: { url } });
    expect(make).toThrow(PresenceError);
    expect(make).toThrow(expect.objectContaining({ code: "bad_url", advice: expect.stringContaining("wss://") }));
  });

  test.each([
    ["/ws", "wss://example.com/ws"],
    ["https://presence.example.com/ws?a=b", "wss://presence.example.com/ws?a=b"],
    ["ws://127.0.0.1:7400/ws", "ws://127.0.0.1:7400/ws"],
  ])("the address %s is %s", async (url, expected) => {
    const world = new World({ options: { url } });
    world.client.connect();
    await world.settle();
    expect(world.socket.url.startsWith(expected)).toBe(true);
  });

  test.each(["", "a\nb", "x".repeat(257), "\ud800", "é".repeat(129)])("the id %j is refused", (id) => {
    const { client } = new World();
    expect(() => client.watch(id)).toThrow(expect.objectContaining({ code: "bad_id" }));
    expect(() => client.join(id)).toThrow(PresenceError);
    expect(client.snapshot().users).toEqual([]);
  });

  test("a browser that refuses the address is an error, not an exception", async () => {
    const WebSocket = class {
      constructor() {
        throw new DOMException("insecure", "SecurityError");
      }
    };
    const client = createPresence({
      url: "ws://x/ws",
      getToken: () => "t",
      environment: { WebSocket: WebSocket as never },
    });
    client.connect();
    await vi.waitFor(() => expect(client.status).toBe("refused"));
    expect(client.connection.error).toMatchObject({ code: "cannot_open", cause: { name: "SecurityError" } });
  });

  test("a token that cannot be fetched is told in a sentence that can be shown, with its cause", async () => {
    const world = new World();
    const problems: PresenceError[] = [];
    world.client.on("problem", (problem) => problems.push(problem));
    world.token = new Error("503");
    world.client.connect();
    await world.settle();
    expect(problems).toEqual([expect.objectContaining({ code: "token_failed", cause: world.token })]);
    expect(problems[0]).toMatchObject({ message: "The token could not be fetched.", advice: "See cause." });
  });

  test("a runtime without WebSocket is an error with advice", () => {
    const client = createPresence({ url: "ws://x/ws", getToken: () => "t", environment: { WebSocket: undefined } });
    client.connect();
    expect(client.connection.error).toMatchObject({ code: "no_websocket", advice: "Pass a WebSocket." });
  });

  test("a listener that throws harms no other, and is reported", async () => {
    const world = new World();
    const reported = vi.spyOn(console, "error").mockImplementation(() => {});
    world.client.on("status", () => {
      throw new Error("a listener's");
    });
    const seen: string[] = [];
    world.client.on("status", ({ status }) => seen.push(status));
    await world.online();
    expect(seen).toEqual(["connecting", "online"]);
    expect(reported).toHaveBeenCalledTimes(2);
  });

  test("a welcome without times is one with the usual ones", async () => {
    const world = new World();
    world.client.connect();
    await world.settle();
    await world.welcome("alice", { heartbeatMs: undefined, expiresAt: undefined });
    await world.advance(29_000);
    expect(world.client.status).toBe("online");
    expect(world.noted("getToken")).toHaveLength(1);
  });

  test("attempts that fail after a welcome are counted anew: the token is not sent as a message", async () => {
    const world = new World();
    world.client.connect();
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await world.settle();
      world.socket.end(1006);
      await world.advance(5_000);
    }
    expect(world.socket.protocols).toEqual(["stillhere.v1"]);
    (await world.welcome()).end(1006);
    await world.advance(10_000);
    expect(world.socket.protocols).toHaveLength(2);
  });

  test("who was away before the connection came back is away from the beginning", async () => {
    const world = new World();
    (await world.online()).end(4100);
    world.page("visibilitychange", "hidden");
    await world.advance(2_000);
    world.socket.end(1006);
    world.now += 60_000;
    await world.advance(60_000);
    expect(new URL(world.socket.url).searchParams.get("availability")).toBe("away");
  });

  test("a clock that is set back does not keep a dead path", async () => {
    const world = new World();
    await world.online();
    world.jumped -= 3_600_000;
    await world.advance(120_000);
    expect(world.sockets.length).toBeGreaterThan(1);
  });

  test("a clock that is set back or forth judges nobody", async () => {
    const world = new World();
    const socket = await world.online();
    world.jumped -= 3_600_000;
    socket.receive({ type: "probe", n: 1 });
    await world.advance(29_000);
    expect(world.sent("ping")).toEqual([]);
    world.jumped += 7_200_000;
    socket.receive({ type: "probe", n: 1 });
    await world.advance(1_000);
    expect(world.client.status).toBe("online");
    expect(world.sockets).toHaveLength(1);
  });
});
