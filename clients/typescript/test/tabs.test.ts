import { describe, expect, test } from "vitest";
import { CLAIM_MS } from "../src/tabs";
import { FakeLocks, FakeStorage, World } from "./world";

/** A page that connects; with its tab's id as it stands in the address. */
async function load(locks: FakeLocks | null, storage: FakeStorage): Promise<World> {
  const world = new World({ locks, storage });
  world.client.connect();
  await world.advance(CLAIM_MS);
  return world;
}

const tabOf = (world: World): string | null => new URL(world.socket.url).searchParams.get("tab");

describe.each([
  ["with Web Locks", () => new FakeLocks()],
  ["without Web Locks", () => null],
])("%s", (_, browser) => {
  test("a reload keeps the id of the tab", async () => {
    const [locks, storage] = [browser(), new FakeStorage()];
    const before = await load(locks, storage);
    before.page("pagehide");
    const after = await load(locks, storage);
    expect(tabOf(after)).toBe(tabOf(before));
  });

  test("a duplicated tab copies the storage and gets an id of its own, which its reload keeps", async () => {
    const [locks, storage] = [browser(), new FakeStorage()];
    const original = await load(locks, storage);
    const copied = new FakeStorage(storage);
    const duplicate = await load(locks, copied);
    expect(tabOf(duplicate)).not.toBe(tabOf(original));
    duplicate.page("pagehide");
    expect(tabOf(await load(locks, copied))).toBe(tabOf(duplicate));
  });

  test("a page that returns from the back/forward cache has its id again", async () => {
    const [locks, storage] = [browser(), new FakeStorage()];
    const world = await load(locks, storage);
    await world.welcome();
    const before = tabOf(world);
    world.page("pagehide");
    await world.advance(60_000);
    world.page("pageshow");
    await world.advance(CLAIM_MS);
    expect(world.sockets).toHaveLength(2);
    expect(tabOf(world)).toBe(before);
  });

  test("two pages of one tab, one of them in the back/forward cache, are the same tab", async () => {
    const [locks, storage] = [browser(), new FakeStorage()];
    const first = await load(locks, storage);
    first.page("pagehide");
    const second = await load(locks, storage);
    second.page("pagehide");
    first.page("pageshow");
    await first.advance(CLAIM_MS);
    expect(tabOf(second)).toBe(tabOf(first));
    expect(first.sockets).toHaveLength(2);
  });

  test("a page that is hidden and shown while it waits for its id gets that id", async () => {
    const [locks, storage] = [browser(), new FakeStorage()];
    const before = await load(locks, storage);
    before.page("pagehide");
    const world = new World({ locks, storage });
    world.client.connect();
    world.page("pagehide");
    world.page("pageshow");
    await world.advance(CLAIM_MS);
    expect(world.sockets).toHaveLength(1);
    expect(tabOf(world)).toBe(tabOf(before));
  });

  test("a log-out lets go of the id", async () => {
    const [locks, storage] = [browser(), new FakeStorage()];
    const world = await load(locks, storage);
    await world.welcome();
    world.client.disconnect();
    await world.settle();
    expect(tabOf(await load(locks, storage))).toBe(tabOf(world));
  });
});

test("a page whose predecessor crashed has the id at once", async () => {
  const [locks, storage] = [new FakeLocks(), new FakeStorage()];
  const before = await load(locks, storage);
  locks.crash(before);
  const after = new World({ locks, storage });
  after.client.connect();
  await after.settle();
  expect(tabOf(after)).toBe(tabOf(before));
});

test("a predecessor that is just dying is waited for", async () => {
  const [locks, storage] = [new FakeLocks(), new FakeStorage()];
  const before = await load(locks, storage);
  const after = new World({ locks, storage });
  after.client.connect();
  await after.advance(CLAIM_MS / 2);
  expect(after.sockets).toEqual([]);
  before.page("pagehide");
  await after.settle();
  expect(tabOf(after)).toBe(tabOf(before));
});

test("a page that may use neither storage nor locks connects as a tab of its own", async () => {
  const refuse = (): never => {
    throw new DOMException("denied", "SecurityError");
  };
  const storage = Object.assign(new FakeStorage(), { getItem: refuse, setItem: refuse, removeItem: refuse });
  const locks = Object.assign(new FakeLocks(), { of: () => ({ request: () => Promise.reject(new Error("denied")) }) });
  const world = await load(locks, storage);
  expect(tabOf(world)).not.toBe("");
  await world.welcome();
  expect(world.client.status).toBe("online");
});
