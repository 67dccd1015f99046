/** One signed-in person in this tab: the client, and what the page shows of it as signals. */

import { computed, signal, type Signal } from "@preact/signals";
import {
  createPresence,
  type Availability,
  type Presence,
  type PresenceChange,
  type PresenceError,
  type RoomChange,
  type Snapshot,
  type UserView,
} from "stillhere";
import { Api, HttpError, type OwnConnection } from "./api";
import { KEYS, forget, isStrings, recall, remember } from "./storage";
import { Strip, originOf, type Origin } from "./strip";
import { Tap } from "./tap";

/** How often the page asks for what no broadcast tells: who is new, and the own connections. */
const POLL_MS = 4_000;

export class Session {
  readonly user: string;
  /** Versions, the node and the tab. */
  readonly tap = new Tap();
  readonly strip = new Strip((user, room) => this.tap.stamp(user, room));
  /** All that the client knows. */
  readonly snapshot: Signal<Snapshot>;
  readonly connection = computed(() => this.snapshot.value.connection);
  readonly self = computed(() => this.snapshot.value.self);
  readonly rooms = computed(() => this.snapshot.value.rooms);
  /** The people listed, in alphabetical order, without oneself. */
  readonly people = signal<readonly string[]>([]);
  readonly ownConnections = signal<readonly OwnConnection[]>([]);
  readonly stats = signal<Record<string, unknown> | null>(null);
  /** One sentence for whoever listens rather than looks. */
  readonly announcement = signal("");
  /** What went wrong last, or an empty string. */
  readonly trouble = signal("");
  /** Whether this session is over. */
  readonly loggedOut = signal(false);

  readonly #views = computed(() => new Map(this.snapshot.value.users.map((view) => [view.user, view])));
  readonly #api: Api;
  readonly #client: Presence;
  /** By room: what leaves it. */
  readonly #leave = new Map<string, () => void>();
  /** Rooms of whose members the server has told. */
  readonly #told = new Set<string>();
  readonly #ends: (() => void)[] = [];

  constructor(user: string) {
    this.user = user;
    this.#api = new Api(user);
    const client = createPresence({
      url: "/ws",
      getToken: async ({ renew }) => (await this.#api.token(renew)).token,
      environment: { WebSocket: this.tap.WebSocket },
    });
    this.#client = client;
    this.snapshot = signal(client.snapshot());
    this.#ends.push(
      client.subscribe(() => (this.snapshot.value = client.snapshot())),
      client.on("status", ({ status }) => void (status === "online" && this.refresh())),
      client.on("presence", (changes) => this.#showPresence(changes)),
      client.on("room", ({ room, changes }) => this.#showRoom(room, changes)),
      client.on("problem", (error) => this.#showProblem(error)),
    );
    client.watch(user);
    this.#list(recall(KEYS.watch, isStrings) ?? []);
    for (const room of recall(KEYS.rooms, isStrings) ?? []) this.join(room);
    client.connect();
    const poll = window.setInterval(() => {
      if (document.visibilityState === "visible") void this.refresh();
    }, POLL_MS);
    this.#ends.push(() => window.clearInterval(poll));
  }

  /** What is known of somebody; `unknown` and stale before the first answer. */
  view(user: string): UserView {
    return this.#views.value.get(user) ?? { user, status: "unknown", stale: true };
  }

  /** Watch this person as well, now and after a reload. */
  addPerson(user: string): void {
    this.#list([user]);
  }

  join(room: string): void {
    if (this.#leave.has(room)) return;
    this.#leave.set(room, this.#client.join(room));
    remember(KEYS.rooms, [...this.#leave.keys()]);
  }

  leave(room: string): void {
    this.#leave.get(room)?.();
    this.#leave.delete(room);
    this.#told.delete(room);
    remember(KEYS.rooms, [...this.#leave.keys()]);
  }

  setAvailability(availability: Availability): void {
    this.#client.setAvailability(availability);
  }

  /** Connect again after the server had told this tab to stay away. */
  reconnect(): void {
    this.#client.connect();
  }

  async dropNetwork(): Promise<void> {
    const { connectionId } = this.#client.self;
    if (this.#client.status !== "online" || connectionId === undefined) return;
    try {
      await this.#api.drop(connectionId);
    } catch (error) {
      this.trouble.value = `The connection was not dropped: ${reasonOf(error)}.`;
    }
  }

  /** Log out: say bye, and remember nothing but the tab. */
  logOut(): void {
    this.#client.disconnect();
    this.#api.signOut();
    forget(KEYS.user, KEYS.rooms);
    this.loggedOut.value = true;
  }

  /** Stop everything that this session started; call it when it has ended. */
  dispose(): void {
    for (const end of this.#ends) end();
  }

  /** Ask for what no broadcast tells. */
  async refresh(): Promise<void> {
    if (this.#client.status !== "online") return;
    try {
      const [users, own, stats] = await Promise.all([
        this.#api.users(),
        this.#api.ownDiagnostics(),
        this.#api.stats(),
      ]);
      this.#list(users.map(({ user }) => user));
      this.ownConnections.value = own.connections;
      this.stats.value = stats;
      this.trouble.value = "";
    } catch (error) {
      // While the connection is down that is no news; the connection's own state tells it.
      if (this.#client.status !== "online") return;
      this.trouble.value = `The server's lists are late: ${reasonOf(error)}.`;
    }
  }

  #showPresence(changes: readonly PresenceChange[]): void {
    this.strip.showPresence(changes, Date.now());
    const news = changes.filter((change) => originOf(change) !== "first" && change.user !== this.user);
    if (news.length === 1) this.announcement.value = news.map(({ user, now }) => `${user} is ${now.status}`).join();
    else if (news.length > 1) this.announcement.value = `${news.length} people changed their status`;
    if (changes.some(({ user }) => user === this.user)) void this.refresh();
  }

  #showRoom(room: string, changes: readonly RoomChange[]): void {
    const origin = this.#roomOrigin(room);
    this.#told.add(room);
    this.strip.showRoom(room, changes, origin, Date.now());
    if (origin !== "live") return;
    const news = changes.filter(({ kind, member }) => kind !== "updated" && member.user !== this.user);
    const [only] = news;
    if (only && news.length === 1) this.announcement.value = `${only.member.user} ${only.kind} ${room}`;
  }

  #showProblem({ code, message, cause }: PresenceError): void {
    if (code !== "token_failed") this.trouble.value = `${message} (${code})`;
    // A server that cannot be reached is no news: the connection's own state tells it.
    else if (cause instanceof HttpError) this.trouble.value = `The log-in failed: ${cause.message}.`;
  }

  /** The snapshot is still the one from before the change: if the room was stale in it, the change ended a gap. */
  #roomOrigin(room: string): Origin {
    if (!this.#told.has(room)) return "first";
    const before = this.rooms.value.find((view) => view.room === room);
    return before?.stale === false ? "live" : "catch-up";
  }

  #list(users: readonly string[]): void {
    const listed = new Set(this.people.value);
    const added = new Set(users.filter((user) => user !== this.user && !listed.has(user)));
    if (added.size === 0) return;
    this.people.value = [...listed, ...added].sort((one, other) => one.localeCompare(other));
    remember(KEYS.watch, this.people.value);
    this.#client.watch(added);
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof HttpError) return error.message;
  return "the server could not be reached";
}
