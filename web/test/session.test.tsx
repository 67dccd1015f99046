import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Connection, EndedNotice } from "../src/demo/parts/connection";
import { People } from "../src/demo/parts/people";
import { Rooms } from "../src/demo/parts/rooms";
import { Self } from "../src/demo/parts/self";
import { Session } from "../src/demo/session";
import { Tap } from "../src/demo/tap";
import { FakeSocket, asked, failing, report, settle, startServer } from "./fake-server";

let session: Session;
const root = document.createElement("div");
document.body.append(root);

const socket = (): FakeSocket => FakeSocket.last;
const shown = (): string[] =>
  session.strip.entries.value.map(({ user, status, origin }) => `${user} ${status} ${origin}`);
const snapshot = (...users: object[]): void => socket().say({ type: "snapshot", id: 1, users, complete: true });
const member = (user: string, version: number) => {
  return { ...report(user, "online", version), joinedAt: version, metas: [] };
};

async function signIn(): Promise<void> {
  session = new Session("alice");
  await settle();
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  startServer();
  sessionStorage.clear();
});

afterEach(() => {
  render(null, root);
  session.logOut();
  session.dispose();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a session", () => {
  test("watches oneself, who was watched before the reload, and whom the server knows", async () => {
    sessionStorage.setItem("stillhere.watch", '["bob"]');
    await signIn();
    socket().welcome();
    expect(socket().request("watch")).toMatchObject({ users: ["alice", "bob"] });
    await settle();
    expect(session.people.value).toEqual(["bob", "carol"]);
    expect(socket().request("watch")).toMatchObject({ users: ["carol"] });
    expect(sessionStorage.getItem("stillhere.watch")).toBe('["bob","carol"]');
  });

  test("shows what is first, live, and after a gap, each with its version", async () => {
    await signIn();
    session.addPerson("bob");
    socket().welcome();
    snapshot(report("alice", "online", 1), report("bob", "online", 2));
    socket().say({ type: "presence", changes: [report("bob", "away", 3)] });
    socket().onclose?.({ code: 1006, reason: "" });
    expect(session.view("bob")).toMatchObject({ status: "away", stale: true });
    await vi.advanceTimersByTimeAsync(500);
    socket().welcome();
    snapshot(report("alice", "online", 1), report("bob", "busy", 9));
    expect(session.view("bob")).toMatchObject({ status: "busy", stale: false });
    expect(shown()).toEqual(["bob busy catch-up", "bob away live", "bob online first", "alice online first"]);
    expect(session.strip.entries.value.map(({ version }) => version)).toEqual([9, 3, 2, 1]);
    expect(session.announcement.value).toBe("bob is busy");
  });

  test("knows of a room's members whether they were there, came, or came in a gap", async () => {
    await signIn();
    session.join("kitchen");
    socket().welcome();
    socket().say({ type: "room", room: "kitchen", id: 1, members: [member("bob", 1)] });
    socket().say({ type: "room", room: "kitchen", joins: [member("carol", 2)] });
    socket().onclose?.({ code: 1006, reason: "" });
    await vi.advanceTimersByTimeAsync(500);
    socket().welcome();
    const members = [member("bob", 1), member("carol", 2), member("dan", 3)];
    socket().say({ type: "room", room: "kitchen", id: 1, members });
    expect(shown()).toEqual(["dan online catch-up", "carol online live", "bob online first"]);
    expect(session.announcement.value).toBe("carol joined kitchen");
  });

  test("is in its rooms again after a reload, until it leaves them", async () => {
    sessionStorage.setItem("stillhere.rooms", '["kitchen","hall"]');
    await signIn();
    session.leave("kitchen");
    socket().welcome();
    expect(socket().sent.filter(({ type }) => type === "join")).toMatchObject([{ room: "hall" }]);
    expect(sessionStorage.getItem("stillhere.rooms")).toBe('["hall"]');
  });

  test("says bye when it ends, and forgets the log-in but not whom it watched", async () => {
    sessionStorage.setItem("stillhere.user", "alice");
    await signIn();
    session.addPerson("bob");
    socket().welcome();
    session.setAvailability("busy");
    session.logOut();
    expect(socket().sent.at(-1)).toEqual({ type: "bye" });
    expect(session.loggedOut.value).toBe(true);
    const kept = ["user", "token", "rooms", "availability"].map((key) => sessionStorage.getItem(`stillhere.${key}`));
    expect(kept).toEqual([null, null, null, null]);
    expect(sessionStorage.getItem("stillhere.watch")).toContain("bob");
  });

  test("asks the server to drop its own connection, and for nothing while there is none", async () => {
    await signIn();
    await session.dropNetwork();
    await session.refresh();
    expect(asked).toEqual(["POST /dev/token"]);
    socket().welcome();
    await session.dropNetwork();
    expect(asked).toContain("POST /dev/drop");
  });
});

describe("what goes wrong", () => {
  test("a log-in that the server refuses is told with its answer, and tried again", async () => {
    await signIn();
    session.logOut();
    session.dispose();
    failing.set("/dev/token", 403);
    await signIn();
    expect(session.trouble.value).toBe("The log-in failed: POST /dev/token answered 403.");
    failing.clear();
    await vi.advanceTimersByTimeAsync(1_000);
    socket().welcome();
    await settle();
    expect(session.trouble.value).toBe("");
  });

  test("a request that the server refuses is told in its words", async () => {
    await signIn();
    session.join("vault");
    socket().welcome();
    socket().say({ type: "error", id: socket().request("join")?.["id"], code: "forbidden", message: "not for you" });
    expect(session.trouble.value).toBe("not for you (forbidden)");
    expect(session.rooms.value).toMatchObject([{ room: "vault", stale: true }]);
  });
});

describe("the page", () => {
  const draw = async (): Promise<void> => {
    const desk = (
      <>
        <Connection session={session} />
        <EndedNotice session={session} />
        <Self session={session} />
        <People session={session} />
        <Rooms session={session} />
      </>
    );
    await act(() => render(desk, root));
  };
  const at = (testId: string): DOMStringMap =>
    root.querySelector<HTMLElement>(`[data-testid="${testId}"]`)?.dataset ?? {};

  test("dims whoever it has not been told of on this connection, and keeps the last status", async () => {
    await signIn();
    session.addPerson("bob");
    session.join("kitchen");
    await draw();
    expect(at("person-bob")).toMatchObject({ status: "unknown", stale: "true" });
    await act(async () => {
      socket().welcome();
      snapshot(report("alice", "online", 1), report("bob", "online", 2));
      socket().say({ type: "room", room: "kitchen", id: 2, members: [member("bob", 2)] });
    });
    expect(at("connection-status")).toMatchObject({ state: "open", stale: "false" });
    expect(root.querySelector(".connection")?.textContent).toContain("to n7");
    expect(at("person-bob")).toMatchObject({ status: "online", stale: "false", version: "2" });
    expect(at("room-kitchen")).toMatchObject({ stale: "false" });
    await act(async () => socket().onclose?.({ code: 1006, reason: "" }));
    expect(at("connection-status")).toMatchObject({ state: "reconnecting", stale: "true" });
    expect(at("person-bob")).toMatchObject({ status: "online", stale: "true" });
    expect(at("room-kitchen")).toMatchObject({ stale: "true" });
    expect(at("room-member-bob")).toMatchObject({ status: "online", version: "2" });
  });

  test("says why the server would not have it, and connects again when asked", async () => {
    await signIn();
    socket().welcome();
    await draw();
    await act(async () => socket().onclose?.({ code: 4004, reason: "kicked" }));
    expect(at("connection-status")).toMatchObject({ state: "refused" });
    expect(root.querySelector(".notice")?.textContent).toContain("administrator. Code 4004.");
    await act(async () => {
      root.querySelector<HTMLElement>(".notice button")?.click();
      await settle();
    });
    expect(FakeSocket.opened).toBe(2);
    expect(root.querySelector(".notice")).toBeNull();
  });

  test("goes away by itself when nobody is at it, and the choice stays Active", async () => {
    await signIn();
    socket().welcome();
    await draw();
    await act(async () => {
      for (let minute = 0; minute < 6; minute += 1) {
        await vi.advanceTimersByTimeAsync(60_000);
        socket().say({ type: "probe", n: minute });
      }
    });
    expect(session.self.value).toMatchObject({ availability: "away", idle: true });
    expect(root.querySelector('[data-testid="btn-active"]')?.getAttribute("aria-pressed")).toBe("true");
    expect(root.textContent).toContain("while nobody is at this tab");
  });
});

describe("the tap", () => {
  test("keeps the newest report of each user, in each room apart", async () => {
    await signIn();
    const tap = new Tap();
    const read = (message: object): void => tap.read(JSON.stringify(message));
    read({ type: "presence", changes: [report("bob", "online", 5)] });
    read({ type: "presence", changes: [report("bob", "away", 4), report("bob", "unknown", 0, "")] });
    read({ type: "room", room: "r1", leaves: [report("bob", "online", 7)] });
    tap.read("no JSON");
    expect(tap.stamp("bob")).toEqual({ epoch: "e1", version: 5 });
    expect(tap.stamp("bob", "r1")).toEqual({ epoch: "e1", version: 7 });
    read({ type: "presence", changes: [report("bob", "online", 1, "e2")] });
    expect(tap.stamp("bob")).toEqual({ epoch: "e2", version: 1 });
  });

  test("knows the tab of its socket", async () => {
    await signIn();
    expect(session.tap.tab).toBe(sessionStorage.getItem("stillhere.tab"));
  });
});
