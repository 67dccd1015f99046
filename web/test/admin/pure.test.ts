import { describe, expect, test } from "vitest";
import { credentialOf, isSendable } from "../../src/admin/credential";
import { histograms, samplesOf } from "../../src/admin/exposition";
import { ago, counted, figure, instant, length } from "../../src/admin/format";
import { curvesOf, onCurve } from "../../src/admin/policy";
import { hashOfPath, hrefOf, routeOf } from "../../src/admin/route";
import { CLOSEST, instantAt, panBy, place, tickLabel, ticks, zoomAt } from "../../src/admin/scale";
import { EventParser } from "../../src/admin/sse";
import { passes } from "../../src/admin/tail";
import { rowWindow } from "../../src/admin/window";

describe("a window of a long list", () => {
  test("draws what is in sight and a little more, whatever the length", () => {
    expect(rowWindow(5000, 50, 100_000, 600, 8)).toEqual({ first: 1992, end: 2021, offset: 99_600, height: 250_000 });
  });

  test("ends with the list, also when the list became shorter under it", () => {
    expect(rowWindow(20, 50, 900_000, 600, 2)).toMatchObject({ first: 6, end: 20 });
    expect(rowWindow(0, 50, 300, 600)).toEqual({ first: 0, end: 0, offset: 0, height: 0 });
  });
});

describe("what is written", () => {
  test.each([
    [0, "0 ms"],
    [799.6, "800 ms"],
    [1800, "1.8 s"],
    [45_000, "45 s"],
    [303_000, "5 min 3 s"],
    [7_500_000, "2 h 5 min"],
    [273_600_000, "3 d 4 h"],
  ])("a length of %d ms is %s", (ms, text) => expect(length(ms)).toBe(text));

  test.each([
    [0, "0"],
    [0.1234, "0.12"],
    [12.34, "12.3"],
    [1234.5, "1,235"],
    [NaN, "–"],
  ])("a figure of %d is %s", (value, text) => expect(figure(value)).toBe(text));

  test("an instant of another day has its date", () => {
    const at = new Date(2026, 2, 4, 5, 6, 7, 89).getTime();
    expect(instant(at)).toBe("05:06:07.089");
    expect(instant(at, at + 86_400_000)).toBe("2026-03-04 05:06:07.089");
  });

  test("how long ago, and how many", () => {
    expect([ago(0, 3000), ago(0, 59_000), ago(0, 3_599_000), ago(0, 90_000_000)]).toEqual([
      "just now",
      "59 s ago",
      "59 min ago",
      "25 h ago",
    ]);
    expect([counted(1, "entry", "entries"), counted(0, "entry", "entries")]).toEqual(["1 entry", "0 entries"]);
  });
});

describe("an address", () => {
  test.each(["alice", "a/b", "<img src=x onerror=alert(1)>", "ünï", "50%"])("leads to the user %s and back", (user) => {
    expect(routeOf(hrefOf("users", user))).toEqual({ view: "users", id: user });
  });

  test("that is not understood leads to the overview or to the list", () => {
    expect(routeOf("#/nowhere/x")).toEqual({ view: "overview", id: null });
    expect(routeOf("#/users/%zz")).toEqual({ view: "users", id: null });
    expect(routeOf("")).toEqual({ view: "overview", id: null });
  });

  test("may be a path as well", () => {
    expect(hashOfPath("/admin/users/a%2Fb")).toBe("/admin#/users/a%2Fb");
    expect(hashOfPath("/presence/admin/users/admin")).toBe("/presence/admin#/users/admin");
    expect([hashOfPath("/admin"), hashOfPath("/admin/")]).toEqual([null, null]);
  });
});

describe("a credential", () => {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = (claims: unknown): string => `${part({ alg: "HS256" })}.${part(claims)}.c2ln`;

  test("a token with the scope read may not change anything, one with admin may", () => {
    const read = credentialOf(token({ sub: "zoë", scope: "read" }));
    expect(read).toMatchObject({ kind: "a token", name: "zoë", mayChange: false });
    expect(read.headers["Authorization"]).toMatch(/^Bearer /);
    expect(credentialOf(token({ scope: ["read", "admin"] })).mayChange).toBe(true);
    expect(credentialOf(token({ scope: "administer" })).mayChange).toBe(false);
  });

  test("anything else is an API key, dots or not", () => {
    for (const key of ["secret", "a.b.c", "…"]) expect(credentialOf(` ${key} `).headers).toEqual({ "X-API-Key": key });
  });

  test("what no header can carry is told before it is sent", () => {
    expect([isSendable(" abc "), isSendable("a b"), isSendable("schlüssel"), isSendable("")]).toEqual([
      true,
      false,
      false,
      false,
    ]);
  });
});

describe("a stream of events", () => {
  const text = [
    "retry: 2000\nid: 1-4\n: listening\n\n",
    'id: 1-5\nevent: PRESENCE_ONLINE\ndata: {"user":"ä"}\n\n',
    "id: 1-6\ndata:x\ndata: y\n\n",
  ].join("");
  const whole = [
    { id: "1-5", event: "PRESENCE_ONLINE", data: '{"user":"ä"}' },
    { id: "1-6", event: "message", data: "x\ny" },
  ];

  test("is the same in whatever pieces it comes", () => {
    for (let size = 1; size < text.length; size += 1) {
      const parser = new EventParser();
      const found = [];
      for (let at = 0; at < text.length; at += size) found.push(...parser.push(text.slice(at, at + size)));
      expect(found).toEqual(whole);
    }
  });

  test("can be resumed where it is, even before the first event", () => {
    const parser = new EventParser();
    expect(parser.push("id: 1-4\n: listening\n\n")).toEqual([]);
    expect(parser.id).toBe("1-4");
  });
});

test("a filter of the tail looks at users and rooms, whatever their case", () => {
  const event = { user: "Alice", change: "ROOM_JOINED", version: 1, epoch: "1", at: 0, cause: "room", room: "Kitchen" };
  expect(passes({ text: "alic", change: "all" }, event)).toBe(true);
  expect(passes({ text: "KITCH", change: "ROOM_JOINED" }, event)).toBe(true);
  expect(passes({ text: "", change: "ROOM_LEFT" }, event)).toBe(false);
  expect(passes({ text: "bob", change: "all" }, event)).toBe(false);
});

describe("zooming and panning", () => {
  const span = { from: 1000, to: 3000 };

  test("what is under the pointer stays there", () => {
    const nearer = zoomAt(span, 1500, 0.5);
    expect(nearer).toEqual({ from: 1250, to: 2250 });
    expect(place(nearer, 1500, 800)).toBe(place(span, 1500, 800));
  });

  test("has an end in both directions", () => {
    expect(zoomAt(span, 1500, 1e-9).to - zoomAt(span, 1500, 1e-9).from).toBe(CLOSEST);
    const far = zoomAt(span, 1500, 1e12);
    expect(far.to - far.from).toBeLessThan(1e10);
  });

  test("panning there and back is where it was", () => {
    expect(panBy(panBy(span, 0.25), -0.25)).toEqual(span);
    expect(instantAt(span, place(span, 1234, 700), 700)).toBeCloseTo(1234);
  });

  test("ticks stand at round times, and there are not too many", () => {
    for (const length of [60, 900, 7000, 90_000, 4_000_000, 90_000_000]) {
      const found = ticks({ from: 1_790_000_000_123, to: 1_790_000_000_123 + length }, 8);
      expect(found.length).toBeGreaterThan(0);
      expect(found.length).toBeLessThanOrEqual(9);
      for (const { at, step } of found) expect((at - new Date(at).getTimezoneOffset() * 60_000) % step).toBe(0);
    }
    const noon = new Date(2026, 0, 2, 12, 0, 1, 50).getTime();
    expect([tickLabel(noon, 50), tickLabel(noon, 1000), tickLabel(noon, 60_000), tickLabel(noon, 86_400_000)]).toEqual([
      "12:00:01.050",
      "12:00:01",
      "12:00",
      "02.01.",
    ]);
  });
});

describe("a policy", () => {
  const scrape = [
    "# HELP stillhere_reconnect_gap_seconds Time",
    'stillhere_reconnect_gap_seconds_bucket{cause="going_away",le="1.0"} 6.0',
    'stillhere_reconnect_gap_seconds_bucket{cause="going_away",le="3.0"} 8.0',
    'stillhere_reconnect_gap_seconds_bucket{cause="going_away",le="+Inf"} 9.0',
    'other{quoted="a\\"b\\\\c\\nd"} 1',
    "not a sample",
  ].join("\n");

  test("is read from what Prometheus reads", () => {
    const samples = samplesOf(scrape);
    expect(samples.at(-1)).toEqual({ name: "other", labels: { quoted: 'a"b\\c\nd' }, value: 1 });
    expect(histograms(samples, "stillhere_reconnect_gap_seconds", "cause")["going_away"]).toEqual([
      { le: 1, count: 6 },
      { le: 3, count: 8 },
      { le: Infinity, count: 9 },
    ]);
  });

  test("says what each window would have cost: false offlines fall, ghost time grows", () => {
    const gaps = histograms(samplesOf(scrape), "stillhere_reconnect_gap_seconds", "cause");
    const [curve, ...more] = curvesOf({ going_away: 10, bye: 4 }, gaps);
    expect(more).toEqual([]);
    expect(curve).toMatchObject({ cause: "going_away", closes: 10, returns: 9 });
    expect(curve?.points).toEqual([
      { windowMs: 1000, falseOfflines: 3, ghostSeconds: 4 },
      { windowMs: 3000, falseOfflines: 1, ghostSeconds: 6 },
    ]);
    if (curve === undefined) return;
    expect(onCurve(curve, 2000)).toEqual({ windowMs: 2000, falseOfflines: 2, ghostSeconds: 5 });
    expect(onCurve(curve, 60_000)).toBeNull();
  });
});
