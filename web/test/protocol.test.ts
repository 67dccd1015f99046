import { beforeEach, expect, test } from "vitest";
import { directions, drawProtocol, openTarget, type AsyncApi } from "../src/docs/protocol";

const ref = (name: string): { $ref: string } => ({ $ref: `#/channels/connection/messages/${name}` });

const api: AsyncApi = {
  info: { title: "Protocol <b>", version: "1", description: "An `id` is <i>echoed</i>." },
  servers: { here: { host: "a.example", protocol: "wss", pathname: "/presence" } },
  channels: {
    connection: {
      address: "/ws",
      description: "Authenticate first.",
      messages: { watch: ref("watch"), snapshot: ref("snapshot"), moving: ref("moving") },
      bindings: { ws: { query: { properties: { tab: { type: "string", description: "The tab." } } } } },
      "x-close-codes": [{ code: 4004, name: "kicked", cause: "kicked", client: "do not reconnect" }],
    },
  },
  operations: {
    receiveWatch: {
      action: "receive",
      summary: "Follow.",
      messages: [ref("watch")],
      reply: { messages: [ref("snapshot")] },
    },
    sendMoving: { action: "send", summary: "When the node goes.", messages: [ref("moving")] },
  },
  components: {
    messages: {
      watch: { name: "watch", summary: "Follow.", payload: { $ref: "#/Watch" }, examples: [{ payload: { users: ["<img>"] } }] },
      snapshot: { name: "snapshot", summary: "Answer.", payload: { $ref: "#/Snapshot" }, examples: [] },
      moving: { name: "moving", summary: "Moves.", payload: { $ref: "#/Moving" }, examples: [] },
    },
    schemas: {
      Watch: { properties: { users: { type: "array", items: { type: "string" } } }, required: ["users"] },
      Snapshot: { properties: { users: { items: { $ref: "#/UserPresence" } }, id: { anyOf: [{ type: "integer" }, { type: "null" }] } } },
      Moving: { properties: {} },
      UserPresence: { description: "What is shown.", properties: { status: { enum: ["online", "offline"] } } },
    },
  },
};

beforeEach(() => document.body.replaceChildren(...drawProtocol(api)));

const text = (selector: string): string => document.querySelector(selector)?.textContent ?? "";

test("replies are messages of the server, in the order of the channel", () => {
  expect(directions(api)).toEqual({ received: ["watch"], sent: ["snapshot", "moving"] });
});

test("what the document says enters the page as text", () => {
  expect(document.querySelector("i, img, b")).toBeNull();
  expect(text("h1")).toContain("Protocol <b>");
  expect(text("#message-watch pre")).toContain("<img>");
});

test("a message is shown with its fields, its answers and its examples", () => {
  expect(text("#message-watch")).toContain("list of string");
  expect(text("#message-watch")).toContain("Answered by snapshot");
  expect(text("#message-snapshot")).toContain("integer");
  expect(text("#message-moving")).toContain("When the node goes.");
});

test("the address and the close codes are shown", () => {
  expect(text("pre")).toBe("wss://a.example/presence/ws");
  expect(document.body.textContent).toContain("4004");
});

test("a link to a type opens it", () => {
  const link = document.querySelector<HTMLAnchorElement>("#message-snapshot a");
  expect(link?.getAttribute("href")).toBe("#schema-UserPresence");
  openTarget("#schema-UserPresence");
  expect(document.querySelector<HTMLDetailsElement>("#schema-UserPresence")?.open).toBe(true);
  openTarget("#nothing");
});
