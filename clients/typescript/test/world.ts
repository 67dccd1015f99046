/** A world without time or chance: the tests say what the clock, the dice, the page and the server do. */

import type { Environment, LocksLike, SocketLike } from "../src/environment";
import { createPresence, type Presence, type PresenceOptions } from "../src/index";
import type { Member, Status, UserPresence } from "../src/wire";

export type Json = Record<string, unknown>;

/** What a world saw its client do, in order. */
export type Output = { at: number } & Json;

export class FakeSocket implements SocketLike {
  onopen: ((event: Event) => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  protocol = "";
  state: "connecting" | "open" | "closed" = "connecting";
  readonly sent: Json[] = [];

  constructor(
    readonly url: string,
    readonly protocols: string[],
    readonly world: World,
  ) {
    for (const other of world.sockets) {
      if (other.state !== "closed") throw new Error("two sockets of one tab");
    }
    world.sockets.push(this);
    world.note({ open: { query: Object.fromEntries(new URL(url).searchParams), protocols } });
  }

  send(text: string): void {
    if (this.state !== "open") throw new Error(`sent while ${this.state}`);
    const message = JSON.parse(text) as Json;
    this.sent.push(message);
    this.world.note({ send: message });
  }

  close(code?: number, reason?: string): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.world.note({ close: { code, reason } });
  }

  /** The upgrade is granted. */
  open(protocol = "stillhere.v1"): void {
    this.protocol = protocol;
    this.state = "open";
    this.onopen?.(new Event("open"));
  }

  /** The server says something. */
  receive(message: object | string): void {
    if (this.state === "closed") return;
    const data = typeof message === "string" ? message : JSON.stringify(message);
    this.onmessage?.(new MessageEvent("message", { data }));
  }

  /** What a socket says that was closed already: browsers tell of messages under way, and of the end. */
  speakLate(): void {
    this.onmessage?.(new MessageEvent("message", { data: JSON.stringify(welcome(this.world.now)) }));
    this.onclose?.(Object.assign(new Event("close"), { code: 1006, reason: "" }) as CloseEvent);
  }

  /** The server, or the network, ends it. */
  end(code: number, reason = ""): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.onclose?.(Object.assign(new Event("close"), { code, reason }) as CloseEvent);
  }
}

/** The locks of one browser, over all its pages. */
export class FakeLocks {
  readonly held = new Map<string, unknown>();

  /** As one page sees them; `pages` tells them apart for {@link crash}. */
  of(page: unknown): LocksLike {
    return {
      request: async (name, { signal }, run) => {
        while (this.held.has(name)) {
          if (signal.aborted) throw new DOMException("aborted", "AbortError");
          await new Promise<void>((resolve) => {
            signal.addEventListener("abort", () => resolve());
            this.#waiting.push(resolve);
          });
        }
        this.held.set(name, page);
        await run();
        this.#free(name);
      },
    };
  }

  /** A page dies without a word. */
  crash(page: unknown): void {
    for (const [name, owner] of this.held) if (owner === page) this.#free(name);
  }

  #free(name: string): void {
    this.held.delete(name);
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  readonly #waiting: (() => void)[] = [];
}

export class FakeStorage {
  readonly #items: Map<string, string>;

  constructor(copyOf?: FakeStorage) {
    this.#items = new Map(copyOf ? copyOf.#items : []);
  }

  getItem(key: string): string | null {
    return this.#items.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    this.#items.set(key, value);
  }

  removeItem(key: string): void {
    this.#items.delete(key);
  }
}

export interface WorldOptions {
  options?: Partial<PresenceOptions>;
  locks?: FakeLocks | null;
  storage?: FakeStorage;
  random?: number;
}

/** How much the client's clock is ahead of the server's, in milliseconds. */
const SKEW = 1_000_000_000;

export class World {
  /** Milliseconds since the world began, by the server's clock. */
  now = 0;
  /** By how much the client's clock was set forth, in milliseconds; timers do not care. */
  jumped = 0;
  /** What the dice say, for ever. */
  dice: number;
  /** What `getToken` gives; an Error is thrown. */
  token: string | null | Error | Promise<string> = "header.payload.signature";
  readonly sockets: FakeSocket[] = [];
  readonly outputs: Output[] = [];
  readonly window = new EventTarget();
  readonly document = { visibilityState: "visible", prerendering: false };
  readonly storage: FakeStorage;
  readonly client: Presence;
  readonly #timers = new Map<number, { at: number; run: () => void }>();
  #count = 0;

  constructor({ options, locks = new FakeLocks(), storage = new FakeStorage(), random = 0.5 }: WorldOptions = {}) {
    this.dice = random;
    this.storage = storage;
    const world = this;
    const environment: Environment = {
      WebSocket: class extends FakeSocket {
        constructor(url: string, protocols: string[]) {
          super(url, protocols, world);
        }
      },
      now: () => SKEW + this.jumped + this.now,
      random: () => this.dice,
      setTimeout: (run, ms) => {
        const id = ++this.#count;
        this.#timers.set(id, { at: this.now + ms, run });
        return id;
      },
      clearTimeout: (timer) => void this.#timers.delete(timer as number),
      newId: () => `tab-${++this.#count}`,
      window: this.window,
      document: this.document,
      base: "https://example.com/page",
      storage,
      locks: locks?.of(this),
    };
    const getToken = ({ renew }: { renew: boolean }): string | null | Promise<string> => {
      this.note({ getToken: { renew } });
      if (this.token instanceof Error) throw this.token;
      return this.token;
    };
    this.client = createPresence({ url: "/ws", getToken, ...options, environment });
    this.client.on("status", ({ status, error }) => this.note({ status, ...(error && { error: error.code }) }));
    this.client.on("presence", (changes) => this.note({ shown: changes.map(({ now }) => [now.user, now.status]) }));
    this.client.on("room", ({ room, changes }) =>
      this.note({ room, changes: changes.map(({ kind, member }) => [kind, member.user, member.status]) }),
    );
    this.client.on("problem", ({ code }) => this.note({ problem: code }));
  }

  note(output: Json): void {
    this.outputs.push({ at: this.now, ...output });
  }

  get socket(): FakeSocket {
    const last = this.sockets.at(-1);
    if (!last) throw new Error("no socket was opened yet");
    return last;
  }

  get runningTimers(): number {
    return this.#timers.size;
  }

  /** Everything of one kind that was noted. */
  noted(kind: string): unknown[] {
    return this.outputs.filter((output) => kind in output).map((output) => output[kind]);
  }

  /** The frames of one type on the newest socket. */
  sent(type: string): Json[] {
    return this.socket.sent.filter((message) => message["type"] === type);
  }

  /** Connect and be welcomed. */
  async online(user = "alice"): Promise<FakeSocket> {
    this.client.connect();
    await this.settle();
    return this.welcome(user);
  }

  /** The socket that is opening is granted and welcomed. */
  async welcome(user = "alice", more: Json = {}): Promise<FakeSocket> {
    this.socket.open();
    this.socket.receive(welcome(this.now, user, more));
    await this.settle();
    return this.socket;
  }

  /** Answer every watch that was sent on the newest socket with what is so. */
  answer(...known: UserPresence[]): void {
    for (const { id, users } of this.sent("watch")) {
      const named = known.filter(({ user }) => (users as string[]).includes(user));
      this.socket.receive({ type: "snapshot", id, users: named, complete: true });
    }
  }

  /** Something happens to the page. */
  page(type: string, visibility?: string): void {
    if (visibility) this.document.visibilityState = visibility;
    this.window.dispatchEvent(new Event(type));
  }

  /** Let the clock run, firing timers in their order. */
  async advance(ms: number): Promise<void> {
    const end = this.now + ms;
    await this.settle();
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.now = Math.max(this.now, due[1].at);
      due[1].run();
      await this.settle();
    }
    this.now = end;
    await this.settle();
  }

  /** The page stands still, the clock does not: timers that are due fire afterwards. */
  async sleep(ms: number): Promise<void> {
    this.now += ms;
    await this.settle();
  }

  /** Let promises have their turn. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
  }
}

export function welcome(now: number, user = "alice", more: Json = {}): Json {
  const ids = { connectionId: "c_1", sessionId: "s_1", user, epoch: "1", node: "n1" };
  return { type: "welcome", ...ids, heartbeatMs: 20_000, serverAt: now, expiresAt: now + 3_600_000, ...more };
}

export function presence(user: string, status: Status, version: number, epoch = "1"): UserPresence {
  const shown: UserPresence = { user, status, epoch, version, changedAt: version };
  if (status === "offline") shown.lastSeenAt = version;
  return shown;
}

export function member(user: string, version: number, status: Status = "online", epoch = "1"): Member {
  return { user, status, epoch, version, joinedAt: 1, metas: [{ connectionId: `c_${user}`, meta: {} }] };
}
