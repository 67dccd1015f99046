/** A world without time or chance: the tests say what the clock, the dice and the server do. */

import { PresenceClient, type PresenceEvent, type Token } from "../src/presence";
import type { Environment, SocketLike } from "../src/presence/environment";
import type { Member, Status, UserPresence } from "../src/presence/protocol";

export class FakeSocket implements SocketLike {
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  readonly sent: Record<string, unknown>[] = [];
  closedWith: { code: number | undefined; reason: string | undefined } | null = null;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {}

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }

  close(code?: number, reason?: string): void {
    this.closedWith ??= { code, reason };
  }

  sentOf(type: string): Record<string, unknown>[] {
    return this.sent.filter((message) => message["type"] === type);
  }

  /** The server says something. */
  receive(message: object | string): void {
    const data = typeof message === "string" ? message : JSON.stringify(message);
    this.onmessage?.(new MessageEvent("message", { data }));
  }

  /** The server, or the network, ends it. */
  end(code: number, reason = ""): void {
    this.onclose?.(Object.assign(new Event("close"), { code, reason, wasClean: code !== 1006 }) as CloseEvent);
  }

  welcome(epoch = "e1"): void {
    const ids = { connectionId: "c1", sessionId: "s1", user: "alice", node: "n1" };
    this.receive({ type: "welcome", ...ids, epoch, heartbeatMs: 20_000, serverAt: 0 });
  }

  /** Answer every watch so far unanswered with what `known` says. */
  answerWatches(known: UserPresence[]): void {
    for (const watch of this.sentOf("watch").splice(this.#answered)) {
      this.#answered += 1;
      const users = watch["users"] as string[];
      this.receive({
        type: "snapshot",
        id: watch["id"],
        users: known.filter(({ user }) => users.includes(user)),
        complete: true,
      });
    }
  }

  #answered = 0;
}

export class World {
  now = 1_000_000;
  /** What the dice will say next, and for ever. */
  dice = 0.5;
  readonly sockets: FakeSocket[] = [];
  readonly events: PresenceEvent[] = [];
  readonly tokenCalls: boolean[] = [];
  tokenFails = false;
  expiresAt: number | undefined = undefined;
  readonly client: PresenceClient;
  readonly #timers = new Map<number, { at: number; run: () => void }>();
  #nextTimer = 1;

  constructor() {
    const world = this;
    class Socket extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        world.sockets.push(this);
      }
    }
    const environment: Environment = {
      WebSocket: Socket,
      now: () => this.now,
      random: () => this.dice,
      setTimeout: (run, ms) => {
        const id = this.#nextTimer++;
        this.#timers.set(id, { at: this.now + ms, run });
        return id as unknown as ReturnType<Environment["setTimeout"]>;
      },
      clearTimeout: (timer) => void this.#timers.delete(timer as unknown as number),
    };
    const token = (renew: boolean): Promise<Token> => {
      this.tokenCalls.push(renew);
      if (this.tokenFails) return Promise.reject(new Error("no server"));
      const answer: Token = { token: `token${this.tokenCalls.length}` };
      if (this.expiresAt !== undefined) answer.expiresAt = this.expiresAt;
      return Promise.resolve(answer);
    };
    this.client = new PresenceClient({ url: "ws://127.0.0.1/ws", tab: "t_1", token, environment });
    this.client.subscribe((event) => this.events.push(event));
  }

  get socket(): FakeSocket {
    const last = this.sockets.at(-1);
    if (last === undefined) throw new Error("no socket was opened yet");
    return last;
  }

  /** Connect and be welcomed. */
  async open(): Promise<FakeSocket> {
    this.client.connect();
    await this.settle();
    this.socket.welcome();
    return this.socket;
  }

  /** Let the clock run, firing timers in their order. */
  async advance(ms: number): Promise<void> {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due[0]);
      this.now = Math.max(this.now, due[1].at);
      due[1].run();
      await this.settle();
    }
    this.now = end;
    await this.settle();
  }

  /** Let promises have their turn. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
  }

  get runningTimers(): number {
    return this.#timers.size;
  }

  /** Statuses shown so far, as `user:status:origin`. */
  get shown(): string[] {
    return this.events.flatMap((event) =>
      event.type === "presence" ? event.differences.map((d) => `${d.user}:${d.presence.status}:${d.origin}`) : [],
    );
  }
}

export function presence(user: string, status: Status, version: number, epoch = "e1"): UserPresence {
  const shown: UserPresence = { user, status, epoch, version, changedAt: version };
  if (status === "offline") shown.lastSeenAt = version;
  return shown;
}

export function member(user: string, version: number, status: Status = "online", epoch = "e1"): Member {
  return { user, status, epoch, version, joinedAt: 1, metas: [{ connectionId: `c_${user}`, meta: {} }] };
}
