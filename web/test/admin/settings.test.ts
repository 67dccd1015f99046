import { describe, expect, test } from "vitest";
import { asJson, sectionsOf, valueText, type Setting } from "../../src/admin/settings";
import { columnsOf, fewer, shorter, spokenStep, stepOf, type ReplayedCause } from "../../src/admin/whatif";

const setting = (key: string, value: unknown, more: Partial<Setting> = {}): Setting => ({
  key,
  variable: `STILLHERE_${key.toUpperCase().replace(".", "__")}`,
  value,
  default: value,
  changed: false,
  source: "default",
  secret: false,
  ...more,
});

const ALL = [
  setting("server.port", 7400),
  setting("server.host", "0.0.0.0", { changed: true, source: "stillhere.toml" }),
  setting("auth.secret", "***", { changed: true, secret: true, source: "STILLHERE_AUTH__SECRET" }),
  setting("webhooks", []),
];

describe("settings", () => {
  test("are grouped by section, in the order in which they came", () => {
    expect(sectionsOf(ALL, "", false).map(({ name, rows }) => [name, rows.length])).toEqual([
      ["server", 2],
      ["auth", 1],
      ["webhooks", 1],
    ]);
  });

  test("are found by every word, in key, variable, value or source, whatever the case", () => {
    const keys = (text: string): string[] => sectionsOf(ALL, text, false).flatMap(({ rows }) => rows.map((r) => r.key));
    expect(keys("TOML")).toEqual(["server.host"]);
    expect(keys("server 7400")).toEqual(["server.port"]);
    expect(keys("__SECRET")).toEqual(["auth.secret"]);
    expect(keys("nothing like it")).toEqual([]);
  });

  test("those that were changed can be looked at alone", () => {
    expect(sectionsOf(ALL, "", true).map(({ name }) => name)).toEqual(["server", "auth"]);
  });

  test("are copied as they stand in the file", () => {
    expect(JSON.parse(asJson(ALL))).toEqual({
      server: { port: 7400, host: "0.0.0.0" },
      auth: { secret: "***" },
      webhooks: [],
    });
  });

  test.each([
    [null, "unset"],
    ["", '""'],
    ["<b>", "<b>"],
    [false, "false"],
    [["a"], '["a"]'],
  ])("a value of %j is shown as %s", (value, text) => expect(valueText(value)).toBe(text));
});

describe("what if", () => {
  const cause: ReplayedCause = {
    cause: "going_away",
    windowMs: 2000,
    ends: 4,
    recordedMs: [2000],
    recorded: { falseOfflines: 2, ghostMs: 4000 },
    tried: [
      { windowMs: 0, falseOfflines: 3, rate: 0.75, ghostMs: 0 },
      { windowMs: 2000, falseOfflines: 2, rate: 0.5, ghostMs: 4000 },
      { windowMs: 5000, falseOfflines: 1, rate: 0.25, ghostMs: 5000 },
    ],
  };

  test("the slider begins at the window in force, or the nearest that was tried", () => {
    expect([2000, 0, 4900, 1e9].map((ms) => stepOf(cause.tried, ms))).toEqual([1, 0, 2, 2]);
    expect(stepOf([], 5)).toBe(0);
  });

  test("a step is told with how it differs from what was recorded", () => {
    expect(spokenStep(cause, 2)).toBe("window 5 s: 1 false offline (1 fewer), 5 s of ghost time (1 s more)");
    expect(spokenStep(cause, 1)).toContain("2 false offlines (the same), 4 s of ghost time (the same)");
    expect(spokenStep(cause, 0)).toContain("3 false offlines (1 more), 0 ms of ghost time (4 s less)");
    expect(spokenStep(cause, 9)).toBe("");
    expect([fewer(1, 4), shorter(500, 1500)]).toEqual(["3 fewer", "1 s less"]);
  });

  test("the curve has the figures of each step, and nothing in between", () => {
    expect(columnsOf(cause.tried)).toEqual([
      [0, 1, 2],
      [3, 2, 1],
      [0, 4, 5],
    ]);
  });
});
