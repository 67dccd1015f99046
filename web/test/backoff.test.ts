import { describe, expect, test } from "vitest";
import { adviceFor, delayMs } from "../src/presence/backoff";

describe("what a close code asks for", () => {
  test.each([4000, 4001, 4003, 4004, 4005, 4099])("after %i nobody comes back", (code) => {
    expect(adviceFor(code, false)).toBe("stop");
  });

  test.each([4100, 4101, 4102, 4199])("after %i a client backs off", (code) => {
    expect(adviceFor(code, false)).toBe("back-off");
  });

  test.each([4200, 4201, 4299, 1001, 1005, 1006, 1011, 1012, 1013])("after %i a client comes back soon", (code) => {
    expect(adviceFor(code, false)).toBe("soon");
  });

  test("a 1000 is final only after a bye", () => {
    expect(adviceFor(1000, true)).toBe("stop");
    expect(adviceFor(1000, false)).toBe("soon");
  });

  test.each([1002, 1009, 3000, 4300, 4900])("a code that nobody promised, %i, keeps nobody away", (code) => {
    expect(adviceFor(code, false)).toBe("soon");
  });
});

describe("how long a client waits", () => {
  test("soon is full jitter: anything from at once to the whole step", () => {
    expect(delayMs("soon", 0, 0)).toBe(0);
    expect(delayMs("soon", 0, 0.999)).toBe(999);
    expect(delayMs("soon", 2, 0.5)).toBe(2_000);
  });

  test("back-off never comes back at once", () => {
    expect(delayMs("back-off", 0, 0)).toBe(2_000);
    expect(delayMs("back-off", 3, 0)).toBe(16_000);
  });

  test("every wait has a longest, however often it failed", () => {
    expect(delayMs("soon", 5_000, 0.9999)).toBeLessThanOrEqual(10_000);
    expect(delayMs("back-off", 5_000, 0.9999)).toBeLessThanOrEqual(60_000);
  });
});
