import { beforeEach, describe, expect, test } from "vitest";
import { World, member, presence } from "./fake-world";

let world: World;

beforeEach(() => {
  world = new World();
});

describe("connecting", () => {
  test("the token travels as a subprotocol and the tab as a parameter", async () => {
    world.client.connect();
    await world.settle();
    expect(world.socket.url).toBe("ws://127.0.0.1/ws?tab=t_1&probe=1");
    expect(world.socket.protocols).toEqual(["stillhere.v1", "bearer.token1"]);
  });

  test("a welcome is followed by what others should see, then by what this tab wants to see", async () => {
    world.client.setAvailability("busy");
    world.client.watch(["bob"]);
    world.client.join("r1", { note: "hi" });
    const socket = await world.open();
    expect(socket.sent.map(({ type }) => type)).toEqual(["state", "watch", "join"]);
  });

  test("a hundred users fit in one watch, more take more of them", async () => {
    world.client.watch(Array.from({ length: 250 }, (_, n) => `user${n}`));
    const socket = await world.open();
    expect(socket.sentOf("watch").map(({ users }) => (users as string[]).length)).toEqual([100, 100, 50]);
  });

  test("a token that did not get through is not used again", async () => {
    world.client.connect();
    await world.settle();
    world.socket.end(1006);
    await world.advance(1_000);
    world.socket.welcome();
    world.socket.end(1006);
    await world.advance(1_000);
    expect(world.tokenCalls).toEqual([false, true, false]);
  });

  test("no welcome within ten seconds is a failed attempt", async () => {
    world.client.connect();
    await world.settle();
    const first = world.socket;
    await world.advance(10_000);
    expect(first.closedWith).not.toBeNull();
    expect(world.client.state.name).toBe("waiting");
  });

  test("a token that cannot be had is waited for, longer each time", async () => {
    world.tokenFails = true;
    world.client.connect();
    await world.settle();
    const waits: number[] = [];
    for (let attempt = 0; attempt < 5; attempt += 1) {
      const state = world.client.state;
      if (state.name !== "waiting") throw new Error(`state is ${state.name}`);
      waits.push(state.until - world.now);
      await world.advance(state.until - world.now);
    }
    expect(waits).toEqual([500, 1_000, 2_000, 4_000, 5_000]);
  });

  test("a message that is no JSON or of an unknown type is skipped", async () => {
    const socket = await world.open();
    for (const text of ["{", "null", "[]", "7", '{"type":7}', '{"type":"from the future"}']) socket.receive(text);
    expect(world.client.state.name).toBe("open");
  });
});

describe("after an end", () => {
  test.each([4000, 4001, 4004, 4005, 4099])("%i is final", async (code) => {
    (await world.open()).end(code, "why");
    await world.advance(600_000);
    expect(world.client.state).toEqual({ name: "ended", code, reason: "why" });
    expect(world.sockets).toHaveLength(1);
    expect(world.runningTimers).toBe(0);
  });

  test.each([1000, 1001, 1006, 1011, 1012, 1013, 4201])("%i is followed by another within a second", async (code) => {
    world.dice = 0.999;
    (await world.open()).end(code);
    await world.advance(1_000);
    expect(world.sockets).toHaveLength(2);
  });

  test.each([4100, 4101, 4102])("%i is followed by none for two seconds", async (code) => {
    world.dice = 0;
    (await world.open()).end(code);
    await world.advance(1_999);
    expect(world.sockets).toHaveLength(1);
    await world.advance(1);
    expect(world.sockets).toHaveLength(2);
  });

  test("a welcome makes the next wait short again", async () => {
    (await world.open()).end(1006);
    for (let attempt = 0; attempt < 4; attempt += 1) {
      await world.advance(10_000);
      world.socket.end(1006);
    }
    await world.advance(10_000);
    world.socket.welcome();
    world.socket.end(1006);
    expect(world.client.state).toMatchObject({ name: "waiting", until: world.now + 500 });
  });

  test("connect comes back from an end, with a new token if the old one was refused", async () => {
    (await world.open()).end(4001);
    world.client.connect();
    await world.settle();
    expect(world.tokenCalls).toEqual([false, true]);
    expect(world.sockets).toHaveLength(2);
  });

  test("what an old socket still says is not heard", async () => {
    world.client.watch(["bob"]);
    const old = await world.open();
    old.answerWatches([presence("bob", "online", 1)]);
    old.end(1006);
    await world.advance(1_000);
    old.receive({ type: "presence", changes: [presence("bob", "offline", 9)] });
    old.end(4005);
    expect(world.client.state.name).toBe("connecting");
    expect(world.client.book.users.get("bob")?.status).toBe("online");
  });
});

describe("watching across a reconnect", () => {
  test("nobody flashes offline: only the difference is shown", async () => {
    world.client.watch(["bob", "carol"]);
    const first = await world.open();
    first.answerWatches([presence("bob", "online", 1), presence("carol", "online", 1)]);
    first.end(1006);
    expect(world.client.book.users.get("bob")?.status).toBe("online");
    await world.advance(1_000);
    world.socket.welcome();
    world.socket.answerWatches([presence("bob", "online", 1), presence("carol", "away", 2)]);
    expect(world.shown).toEqual(["bob:online:first", "carol:online:first", "carol:away:catch-up"]);
  });

  test("what is held counts as stale from the end of the connection to the fresh snapshot", async () => {
    world.client.watch(["bob"]);
    const first = await world.open();
    expect(world.client.fresh).toBe(false);
    first.answerWatches([presence("bob", "online", 1)]);
    expect(world.client.fresh).toBe(true);
    first.end(1006);
    expect(world.client.fresh).toBe(false);
    await world.advance(1_000);
    world.socket.welcome();
    expect(world.client.fresh).toBe(false);
    world.socket.answerWatches([presence("bob", "online", 1)]);
    expect(world.client.fresh).toBe(true);
  });

  test("rooms are joined again", async () => {
    world.client.join("r1");
    const first = await world.open();
    first.receive({ type: "room", room: "r1", id: first.sentOf("join")[0]?.["id"], members: [member("bob", 1)] });
    first.end(1006);
    await world.advance(1_000);
    world.socket.welcome();
    expect(world.socket.sentOf("join")).toMatchObject([{ room: "r1" }]);
    expect(world.client.book.members("r1")?.has("bob")).toBe(true);
  });

  test("a new epoch asks once more for all that is watched", async () => {
    world.client.watch(["bob", "carol"]);
    const socket = await world.open();
    socket.answerWatches([presence("bob", "online", 8), presence("carol", "online", 8)]);
    socket.receive({ type: "presence", changes: [presence("bob", "online", 1, "e2")] });
    expect(socket.sentOf("watch").at(-1)).toMatchObject({ users: ["bob", "carol"] });
    socket.answerWatches([presence("bob", "online", 1, "e2"), presence("carol", "offline", 2, "e2")]);
    expect(socket.sentOf("watch")).toHaveLength(2);
    expect(world.client.book.users.get("carol")?.status).toBe("offline");
  });

  test("an answer with unknowns is asked for again, only for those", async () => {
    world.client.watch(["bob", "carol"]);
    const socket = await world.open();
    const users = [presence("bob", "online", 1), presence("carol", "unknown", 0, "")];
    socket.receive({ type: "snapshot", id: socket.sentOf("watch")[0]?.["id"], users, complete: false });
    await world.advance(3_000);
    expect(socket.sentOf("watch").at(-1)).toMatchObject({ users: ["carol"] });
  });

  test("a refused room is given up, a rate-limited one tried again", async () => {
    world.client.join("closed");
    world.client.join("full");
    const socket = await world.open();
    const [closed, full] = socket.sentOf("join");
    socket.receive({ type: "error", id: closed?.["id"], code: "forbidden", message: "no" });
    socket.receive({ type: "error", id: full?.["id"], code: "rate_limited", message: "slowly" });
    await world.advance(3_000);
    expect(socket.sentOf("join").map(({ room }) => room)).toEqual(["closed", "full", "full"]);
    expect(world.events.filter(({ type }) => type === "refused")).toHaveLength(1);
  });
});

describe("moving", () => {
  test("the client waits for the node's own 1012 and comes back when it was told to", async () => {
    const socket = await world.open();
    socket.receive({ type: "moving", reconnectInMs: 5_000 });
    await world.advance(4_000);
    expect(socket.closedWith).toBeNull();
    socket.end(1012);
    await world.advance(999);
    expect(world.sockets).toHaveLength(1);
    await world.advance(1);
    expect(world.sockets).toHaveLength(2);
  });

  test("a 1012 after the time is followed at once", async () => {
    const socket = await world.open();
    socket.receive({ type: "moving", reconnectInMs: 5_000 });
    await world.advance(5_500);
    socket.end(1012);
    await world.advance(0);
    expect(world.sockets).toHaveLength(2);
  });

  test("a node that does not close is left, the old socket before the new one", async () => {
    const socket = await world.open();
    socket.receive({ type: "moving", reconnectInMs: 5_000 });
    await world.advance(7_000);
    expect(socket.closedWith).toEqual({ code: 4900, reason: "moving" });
    expect(world.sockets).toHaveLength(2);
  });

  test("if the new node is not there yet, the ordinary jitter follows", async () => {
    const socket = await world.open();
    socket.receive({ type: "moving", reconnectInMs: 100 });
    socket.end(1012);
    await world.advance(100);
    world.socket.end(1006);
    expect(world.client.state).toMatchObject({ name: "waiting", until: world.now + 1_000 });
  });
});

describe("leaving and waking", () => {
  test("a hidden page says so with 4900 and leaves no timer behind", async () => {
    const socket = await world.open();
    world.client.hide();
    expect(socket.closedWith).toEqual({ code: 4900, reason: "page_hidden" });
    expect(world.runningTimers).toBe(0);
    await world.advance(600_000);
    expect(world.sockets).toHaveLength(1);
  });

  test("a page that is shown again connects at once", async () => {
    await world.open();
    world.client.hide();
    world.client.show();
    await world.settle();
    expect(world.sockets).toHaveLength(2);
  });

  test("a page hidden while its token was on the way opens no socket", async () => {
    world.client.connect();
    world.client.hide();
    await world.settle();
    expect(world.sockets).toHaveLength(0);
  });

  test("an answered ping changes nothing", async () => {
    const socket = await world.open();
    world.client.verify();
    socket.receive({ type: "pong", id: socket.sentOf("ping")[0]?.["id"] });
    await world.advance(60_000);
    expect(world.sockets).toHaveLength(1);
  });

  test("an unanswered ping replaces the connection, the old socket closed first", async () => {
    const socket = await world.open();
    world.client.verify();
    await world.advance(2_000);
    expect(socket.closedWith?.code).toBe(4900);
    expect(world.sockets).toHaveLength(2);
  });

  test("without a network the socket is kept and everybody stale, until the server is heard again", async () => {
    const socket = await world.open();
    world.client.doubt();
    await world.advance(60_000);
    expect(world.client.fresh).toBe(false);
    expect(socket.closedWith).toBeNull();
    socket.receive({ type: "pong", id: socket.sentOf("ping")[0]?.["id"] });
    expect(world.client.fresh).toBe(true);
  });

  test("waking cuts a wait short, unless the server asked for it", async () => {
    world.tokenFails = true;
    world.client.connect();
    await world.advance(30_000);
    world.client.verify();
    expect(world.client.state).toMatchObject({ name: "waiting" });
    const soon = world.client.state.name === "waiting" ? world.client.state.until - world.now : NaN;
    expect(soon).toBeLessThanOrEqual(500);

    const other = new World();
    (await other.open()).end(4100);
    const before = other.client.state;
    other.client.verify();
    expect(other.client.state).toEqual(before);
  });

  test("a probe is answered in the message handler", async () => {
    const socket = await world.open();
    socket.receive({ type: "probe", n: 3 });
    expect(socket.sent.at(-1)).toEqual({ type: "probe", n: 3 });
  });

  test("a bye is sent, its 1000 is final", async () => {
    const socket = await world.open();
    world.client.bye();
    expect(socket.sent.at(-1)).toEqual({ type: "bye" });
    expect(socket.closedWith).toBeNull();
    socket.end(1000);
    expect(world.client.state).toEqual({ name: "ended", code: 1000, reason: "bye" });
  });

  test("a bye that nobody answers ends after two seconds", async () => {
    const socket = await world.open();
    world.client.bye();
    await world.advance(2_000);
    expect(socket.closedWith?.code).toBe(1000);
    expect(world.client.state.name).toBe("ended");
  });

  test("a page hidden during its bye does not come back", async () => {
    await world.open();
    world.client.bye();
    world.client.hide();
    world.client.show();
    await world.advance(60_000);
    expect(world.sockets).toHaveLength(1);
  });
});

describe("the token's life", () => {
  test("it is renewed on the live connection before it runs out", async () => {
    world.expiresAt = world.now + 100_000;
    const socket = await world.open();
    await world.advance(79_999);
    expect(socket.sentOf("auth")).toEqual([]);
    world.expiresAt = world.now + 100_000;
    await world.advance(1);
    expect(socket.sentOf("auth")).toEqual([{ type: "auth", token: "token2" }]);
  });

  test("a renewal that fails is tried again while there is time", async () => {
    world.expiresAt = world.now + 100_000;
    const socket = await world.open();
    world.tokenFails = true;
    await world.advance(80_000);
    world.tokenFails = false;
    await world.advance(16_000);
    expect(socket.sentOf("auth")).toHaveLength(1);
  });
});
