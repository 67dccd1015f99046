import { beforeEach, describe, expect, test } from "vitest";
import type { PresenceChange, UserView } from "stillhere";
import { nameProblem } from "../src/demo/names";
import { Strip, originOf } from "../src/demo/strip";
import { ago, clockTime } from "../src/demo/time";

describe("names", () => {
  test.each(["alice", "Zoë Müller", "用户", "<script>", "a".repeat(256)])("%s is taken", (name) => {
    expect(nameProblem("A name", name)).toBeNull();
  });

  test("what is refused is told with the value and the rule", () => {
    expect(nameProblem("A name", "")).toBe("A name needs at least one character.");
    expect(nameProblem("A name", "a\u0007")).toContain("U+0007");
    expect(nameProblem("A name", "a\u2028b")).toContain("U+2028");
    expect(nameProblem("A name", "é".repeat(129))).toContain("258");
  });
});

describe("times", () => {
  test("a time of day has its milliseconds", () => {
    expect(clockTime(new Date(2026, 0, 1, 9, 5, 7, 8).getTime())).toBe("09:05:07.008");
  });

  test.each([
    [0, "just now"],
    [-5_000, "just now"],
    [42_000, "42 s ago"],
    [3 * 60_000, "3 min ago"],
    [59 * 60_000, "59 min ago"],
    [5 * 3_600_000, "5 h ago"],
    [3 * 86_400_000, "3 d ago"],
  ])("%i ms are %s", (ms, words) => {
    expect(ago(1_000_000_000, 1_000_000_000 + ms)).toBe(words);
  });
});

describe("the strip", () => {
  let strip: Strip;
  let version: number | undefined;
  const bob = (stale: boolean): UserView => ({ user: "bob", status: "online", stale, changedAt: 1 });
  const change = (before?: UserView): PresenceChange => ({ user: "bob", before, now: bob(false) });
  const show = (at: number): void => {
    version = at;
    strip.showPresence([change(bob(false))], at);
  };

  beforeEach(() => {
    version = undefined;
    strip = new Strip(() => (version === undefined ? undefined : { version }));
  });

  test("the newest stands first, in the list and within one message", () => {
    const carol: PresenceChange = { ...change(), user: "carol" };
    strip.showPresence([change(), carol], 10);
    show(20);
    expect(strip.entries.value.map(({ user, at }) => `${user} ${at}`)).toEqual(["bob 20", "carol 10", "bob 10"]);
  });

  test("it keeps two hundred; the records for tests keep more, oldest first", () => {
    for (let at = 1; at <= 250; at += 1) show(at);
    expect(strip.entries.value).toHaveLength(200);
    expect(window.__stillhereStrip).toHaveLength(250);
    expect(window.__stillhereStrip[0]).toMatchObject({ at: 1, user: "bob", status: "online", version: 1 });
  });

  test("a leave of a room is no offline", () => {
    version = 4;
    const member = { user: "bob", status: "offline", metas: [] } as const;
    strip.showRoom("r1", [{ kind: "left", member }], "live", 5);
    expect(window.__stillhereStrip).toEqual([
      { at: 5, user: "bob", status: "left", version: 4, origin: "live", room: "r1" },
    ]);
  });

  test("what was stale before was learnt after a gap", () => {
    expect([change(), change(bob(false)), change(bob(true))].map(originOf)).toEqual(["first", "live", "catch-up"]);
  });

  test("clearing it clears the records too", () => {
    show(10);
    strip.clear();
    expect(strip.entries.value).toEqual([]);
    expect(window.__stillhereStrip).toEqual([]);
  });
});
