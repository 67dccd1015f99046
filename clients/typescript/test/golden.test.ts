/**
 * Golden transcripts: what happens to a client, and what it does, each with its time. The format is in golden/README.md;
 * a client in another language can be driven by the same files. `GOLDEN=write npx vitest run test/golden.test.ts` writes
 * the outputs anew; read the difference before you keep it.
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Presence, PresenceOptions } from "../src/index";
import { FakeStorage, type Json, type Output, World } from "./world";

interface Transcript {
  about: string;
  random: number;
  options?: Partial<PresenceOptions>;
  inputs: ({ at: number } & Json)[];
  outputs: Output[];
}

const FOLDER = new URL("golden/", import.meta.url);

async function drive(transcript: Transcript): Promise<Output[]> {
  const storage = new FakeStorage();
  storage.setItem("stillhere.tab", "t-1");
  const world = new World({ options: transcript.options ?? {}, random: transcript.random, storage });
  const releases = new Map<string, () => void>();
  const ids: unknown[] = [];
  const number = (): void => {
    for (const { send } of world.outputs as { send?: Json }[]) {
      const id = send?.["id"];
      if (send && id !== undefined && !`${id}`.startsWith("$")) send["id"] = `$${ids.push(id)}`;
    }
  };
  const call = (name: string, args: unknown[]): void => {
    const client = world.client as unknown as Record<string, (...args: unknown[]) => unknown>;
    const key = JSON.stringify(args[0]);
    if (name === "unwatch" || name === "leave") releases.get(`${name}${key}`)?.();
    else {
      const release = client[name]?.(...args);
      if (name === "watch") releases.set(`unwatch${key}`, release as () => void);
      if (name === "join") releases.set(`leave${key}`, release as () => void);
    }
  };
  for (const input of transcript.inputs) {
    if (input["asleep"]) await world.sleep(input.at - world.now);
    await world.advance(input.at - world.now);
    number();
    if ("call" in input) call(input["call"] as string, (input["args"] ?? []) as unknown[]);
    if ("opened" in input) world.socket.open(input["opened"] as string);
    if ("receive" in input) {
      const message = { ...(input["receive"] as Json) };
      if (typeof message["id"] === "string") message["id"] = ids[Number(message["id"].slice(1)) - 1];
      world.socket.receive(message);
    }
    if ("closed" in input) world.socket.end(...(input["closed"] as [number, string]));
    if ("visibility" in input) world.page("visibilitychange", input["visibility"] as string);
    if ("page" in input) world.page(input["page"] as string);
    if ("token" in input)
      world.token = input["token"] === "fails" ? new Error("no") : (input["token"] as string | null);
    await world.settle();
    number();
  }
  world.client satisfies Presence;
  return world.outputs;
}

describe("a client that follows the golden transcripts", () => {
  for (const name of readdirSync(FOLDER).filter((file) => file.endsWith(".json"))) {
    const path = new URL(name, FOLDER);
    const transcript = JSON.parse(readFileSync(path, "utf8")) as Transcript;
    test(transcript.about, async () => {
      const outputs = JSON.parse(JSON.stringify(await drive(transcript))) as Output[];
      if (process.env["GOLDEN"] === "write") writeFileSync(path, write({ ...transcript, outputs }));
      else expect(outputs).toEqual(transcript.outputs);
    });
  }
});

/** One line per input and output. */
function write({ inputs, outputs, ...head }: Transcript): string {
  const lines = (all: unknown[]): string => `[\n${all.map((one) => `    ${JSON.stringify(one)}`).join(",\n")}\n  ]`;
  const top = Object.entries(head).map(([key, value]) => `  ${JSON.stringify(key)}: ${JSON.stringify(value)},\n`);
  return `{\n${top.join("")}  "inputs": ${lines(inputs)},\n  "outputs": ${lines(outputs)}\n}\n`;
}
