import { describe, expect, test } from "vitest";
import { adviceFor, delayMs } from "../src/backoff";

describe("what a close code asks for", () => {
  test.each([
    ["stop", [4000, 4001, 4003, 4004, 4005, 4050, 4099]],
    ["back-off", [4100, 4101, 4102, 4199, 1002, 1003, 1007, 1009]],
    ["soon", [4200, 4201, 4299, 1000, 1001, 1005, 1006, 1011, 1012, 1013, 3000, 4300, 4900]],
  ])("%s", (advice, codes) => {
    for (const code of codes) expect(adviceFor(code), `${code}`).toBe(advice);
  });
});

test("soon is a full jitter below a step that doubles up to ten seconds", () => {
  expect([0, 1, 2, 3, 4, 5, 99].map((attempt) => delayMs("soon", attempt, 0.999999))).toEqual([
    500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000,
  ]);
  expect(delayMs("soon", 5, 0)).toBe(0);
});

test("back-off waits at least half of its step, up to a minute", () => {
  expect([0, 1, 99].map((attempt) => delayMs("back-off", attempt, 0))).toEqual([2_000, 4_000, 30_000]);
  expect(delayMs("back-off", 2_000, 0.999999)).toBe(60_000);
});
