/** A server that says what a test tells it to: a socket and the HTTP calls of the page. */

import { vi } from "vitest";

type Message = Record<string, unknown>;

/** Stands for the browser's WebSocket; `last` is the newest that was opened. */
export class FakeSocket extends EventTarget {
  static last: FakeSocket;
  static opened = 0;
  readonly protocol = "stillhere.v1";
  onopen: (() => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly sent: Message[] = [];
  closedWith: number | undefined;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {
    super();
    // As a browser does: the handler runs at the place where it was first set, after the listeners before it.
    queueMicrotask(() => this.addEventListener("message", (event) => this.onmessage?.(event as MessageEvent)));
    FakeSocket.last = this;
    FakeSocket.opened += 1;
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Message);
  }

  close(code: number): void {
    this.closedWith = code;
  }

  say(...messages: Message[]): void {
    for (const message of messages) {
      this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(message) }));
    }
  }

  /** The newest request of a type. */
  request(type: string): Message | undefined {
    return this.sent.findLast((message) => message["type"] === type);
  }

  welcome(user = "alice"): void {
    const ids = { user, connectionId: "c1", sessionId: "s1", node: "n7" };
    this.onopen?.();
    this.say({ type: "welcome", ...ids, heartbeatMs: 20_000, serverAt: Date.now(), expiresAt: Date.now() + 3_600_000 });
  }
}

/** What the page asked for over HTTP, as `METHOD path`. */
export const asked: string[] = [];
/** Paths that are answered with a status instead. */
export const failing = new Map<string, number>();

/** Put the fake server in the place of the real one; vitest takes it away again. */
export function startServer(): void {
  asked.length = 0;
  failing.clear();
  FakeSocket.opened = 0;
  const answers: Record<string, unknown> = {
    "/dev/token": { token: "t", expiresAt: Date.now() + 3_600_000 },
    "/v1/users?limit=200": { users: [{ user: "alice" }, { user: "carol" }] },
    "/v1/users/alice/diagnostics": { connections: [{ connectionKey: "k", openedAt: 1, readyState: "OPEN" }] },
    "/v1/stats": { connections: 1 },
  };
  vi.stubGlobal("WebSocket", FakeSocket);
  vi.stubGlobal("fetch", (path: string, { method }: RequestInit) => {
    asked.push(`${method} ${path}`);
    return Promise.resolve(new Response(JSON.stringify(answers[path] ?? null), { status: failing.get(path) ?? 200 }));
  });
}

/** Let everything that was promised happen. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
}

/** A user as the server reports it. */
export function report(user: string, status: string, version: number, epoch = "e1"): Message {
  return { user, status, epoch, version, changedAt: version };
}
