import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { CallError, type AdminApi } from "../../src/admin/api";
import { Directory } from "../../src/admin/directory";
import { Feed } from "../../src/admin/feed";
import type { Presence } from "../../src/admin/types";

const presence = (user: string, version: number, more: Partial<Presence> = {}): Presence => ({
  user,
  status: "online",
  epoch: "1",
  version,
  changedAt: 0,
  devices: 1,
  ...more,
});

/** A server as the pages see it: what it lists, what it answers by name, and the streams that it has given. */
class Server {
  users: Presence[] = [];
  queried: string[][] = [];
  up = true;
  asked: (string | null)[] = [];
  #streams: ReadableStreamDefaultController<Uint8Array>[] = [];

  readonly api = {
    users: async () => {
      if (!this.up) throw new CallError(0, "The server cannot be reached.");
      return { users: this.users, cursor: null };
    },
    query: async (users: string[]) => {
      if (!this.up) throw new CallError(0, "The server cannot be reached.");
      this.queried.push(users);
      const known = new Map(this.users.map((user) => [user.user, user]));
      return users.map((user) => known.get(user) ?? presence(user, 0, { status: "offline", epoch: "2" }));
    },
    events: async (after: string | null, signal: AbortSignal) => {
      this.asked.push(after);
      if (!this.up) throw new CallError(0, "The server cannot be reached.");
      const body = new ReadableStream<Uint8Array>({ start: (stream) => void this.#streams.push(stream) });
      signal.addEventListener("abort", () => this.lose());
      return new Response(body);
    },
  } as unknown as AdminApi;

  say(text: string): void {
    this.#streams.at(-1)?.enqueue(new TextEncoder().encode(text));
  }

  lose(): void {
    for (const stream of this.#streams.splice(0)) stream.error(new TypeError("network error"));
  }
}

let server: Server;
let feed: Feed;
let directory: Directory;

const state = (user: string): [string, boolean] | undefined => {
  const { status, stale } = directory.book.get(user) ?? {};
  return status === undefined || stale === undefined ? undefined : [status, stale];
};

beforeEach(async () => {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  server = new Server();
  server.users = [presence("alice", 1), presence("bob", 2, { status: "busy" })];
  feed = new Feed(server.api);
  directory = new Directory(server.api, feed);
  void feed.start().then(() => directory.load());
  await vi.advanceTimersByTimeAsync(0);
  server.say("retry: 2000\nid: 1-2\n: listening\n\n");
  await vi.advanceTimersByTimeAsync(0);
});

afterEach(() => {
  directory.close();
  feed.close();
  vi.useRealTimers();
});

test("a stream is live from the first word of the server on, and what it listed is not stale", () => {
  expect(feed.state.value).toBe("live");
  expect([state("alice"), state("bob")]).toEqual([
    ["online", false],
    ["busy", false],
  ]);
});

test("a lost stream makes everybody stale and nobody offline; one that goes on where it ended makes all right", async () => {
  server.lose();
  await vi.advanceTimersByTimeAsync(0);
  expect(feed.state.value).toBe("lost");
  expect([state("alice"), state("bob")]).toEqual([
    ["online", true],
    ["busy", true],
  ]);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(server.asked).toEqual([null, "1-2"]);
  expect(state("alice")).toEqual(["online", true]);
  server.say("id: 1-2\n: listening\n\n");
  await vi.advanceTimersByTimeAsync(0);
  expect(state("alice")).toEqual(["online", false]);
  expect(server.queried).toEqual([]);
});

test("after a gap everybody is stale until told again, and whom the server does not list is asked for", async () => {
  server.lose();
  await vi.advanceTimersByTimeAsync(1_000);
  server.users = [presence("alice", 1, { epoch: "2" })];
  server.up = false;
  server.say('id: 2-0\n: listening\n\nid: 2-0\nevent: gap\ndata: {"cursor":"2-0"}\n\n');
  await vi.advanceTimersByTimeAsync(0);
  expect(feed.state.value).toBe("live");
  expect(state("alice")).toEqual(["online", true]);
  server.up = true;
  await vi.advanceTimersByTimeAsync(5_000);
  expect(state("alice")).toEqual(["online", false]);
  expect(state("bob")).toEqual(["offline", false]);
  expect(server.queried).toEqual([["bob"]]);
});

test("a stream that says nothing for forty seconds is given up", async () => {
  await vi.advanceTimersByTimeAsync(39_000);
  server.say("id: 1-2\n: still here\n\n");
  await vi.advanceTimersByTimeAsync(39_000);
  expect(feed.state.value).toBe("live");
  await vi.advanceTimersByTimeAsync(1_100);
  expect(feed.state.value).toBe("lost");
});

test("attempts back off as the client's do", async () => {
  server.up = false;
  server.lose();
  await vi.advanceTimersByTimeAsync(60_000);
  // half of 0.5, 1, 2, 4, 8, 10, 10… seconds
  expect(server.asked.length).toBeGreaterThan(10);
  expect(server.asked.length).toBeLessThan(17);
});
