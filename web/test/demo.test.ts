import { beforeEach, describe, expect, test } from "vitest";
import { nameProblem } from "../src/demo/names";
import { Strip } from "../src/demo/strip";
import { ago, clockTime } from "../src/demo/time";
import { member, presence } from "./fake-world";

describe("names", () => {
  test.each(["alice", "Zoë Müller", "用户", "<script>", "a".repeat(256)])("%s is taken", (name) => {
    expect(nameProblem("A name", name)).toBeNull();
  });

  test("what is refused is told with the value and the rule", () => {
    expect(nameProblem("A name", "")).toBe("A name needs at least one character.");
    expect(nameProblem("A name", "a\u0007")).toContain("U+0007");
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
  const shown = (version: number) => {
    const change = presence("bob", "online", version);
    return { user: "bob", presence: change, before: undefined, origin: "live" as const };
  };

  beforeEach(() => {
    strip = new Strip();
  });

  test("the newest stands first, in the list and within one message", () => {
    strip.showPresence([shown(1), shown(2)], 10);
    strip.showPresence([shown(3)], 20);
    expect(strip.entries.value.map(({ version }) => version)).toEqual([3, 2, 1]);
  });

  test("it keeps two hundred; the records for tests keep more, oldest first", () => {
    for (let version = 1; version <= 250; version += 1) strip.showPresence([shown(version)], version);
    expect(strip.entries.value).toHaveLength(200);
    expect(window.__stillhereStrip).toHaveLength(250);
    expect(window.__stillhereStrip[0]).toMatchObject({ at: 1, user: "bob", status: "online", version: 1 });
  });

  test("a leave of a room is no offline", () => {
    strip.showRoom([{ room: "r1", user: "bob", kind: "left", member: member("bob", 4, "offline"), origin: "live" }], 5);
    expect(window.__stillhereStrip).toEqual([
      { at: 5, user: "bob", status: "left", version: 4, origin: "live", room: "r1" },
    ]);
  });

  test("clearing it clears the records too", () => {
    strip.showPresence([shown(1)], 10);
    strip.clear();
    expect(strip.entries.value).toEqual([]);
    expect(window.__stillhereStrip).toEqual([]);
  });
});
