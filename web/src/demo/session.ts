/** One signed-in person in this tab: the client, and what the page shows of it as signals. */

import { signal, type Signal } from "@preact/signals";
import {
  PresenceClient,
  claimTab,
  followPage,
  followTab,
  type Availability,
  type ConnectionState,
  type Member,
  type PresenceDifference,
  type PresenceEvent,
  type RoomDifference,
  type UserPresence,
} from "../presence";
import { Api, HttpError, type OwnConnection } from "./api";
import { KEYS, forget, isStrings, recall, remember, storage } from "./storage";
import { Strip } from "./strip";

const AVAILABILITIES: readonly string[] = ["active", "away", "busy", "invisible"];
const isAvailability = (value: unknown): value is Availability =>
  typeof value === "string" && AVAILABILITIES.includes(value);

/** How often the page asks for what no broadcast tells: who is new, and the own connections. */
const POLL_MS = 4_000;

/** Of this page for its whole life, whoever signs in. */
const tab = claimTab(storage);
followTab(storage, tab);

export class Session {
  readonly user: string;
  readonly tab = tab;
  readonly strip = new Strip();
  readonly connection = signal<ConnectionState>({ name: "idle" });
  /** Whether the statuses shown are known to be current. */
  readonly fresh = signal(false);
  readonly presences: Signal<ReadonlyMap<string, UserPresence>> = signal(new Map());
  readonly unsure: Signal<ReadonlySet<string>> = signal(new Set());
  /** The people listed, in alphabetical order, without oneself. */
  readonly people = signal<readonly string[]>([]);
  readonly rooms: Signal<ReadonlyMap<string, ReadonlyMap<string, Member>>> = signal(new Map());
  readonly ownConnections = signal<readonly OwnConnection[]>([]);
  readonly availability = signal<Availability>(recall(KEYS.availability, isAvailability) ?? "active");
  readonly stats = signal<Record<string, unknown> | null>(null);
  /** One sentence for whoever listens rather than looks. */
  readonly announcement = signal("");
  /** What the last request was refused with, or an empty string. */
  readonly trouble = signal("");

  readonly #api: Api;
  readonly #client: PresenceClient;
  readonly #ends: (() => void)[] = [];

  constructor(user: string) {
    this.user = user;
    this.#api = new Api(user);
    const socket = new URL("/ws", window.location.href);
    socket.protocol = socket.protocol === "https:" ? "wss:" : "ws:";
    const token = (renew: boolean): ReturnType<Api["token"]> => this.#api.token(renew);
    this.#client = new PresenceClient({ url: socket.href, tab, token });
    this.#ends.push(this.#client.subscribe((event) => this.#take(event)));
    this.#ends.push(followPage(this.#client));
    if (storage.getItem(KEYS.availability) !== null) this.#client.setAvailability(this.availability.value);
    this.#list(recall(KEYS.watch, isStrings) ?? []);
    this.#client.watch([user]);
    for (const room of recall(KEYS.rooms, isStrings) ?? []) this.join(room);
    this.#client.connect();
    const poll = window.setInterval(() => {
      if (document.visibilityState === "visible") void this.refresh();
    }, POLL_MS);
    this.#ends.push(() => window.clearInterval(poll));
  }

  /** Watch this person as well, now and after a reload. */
  addPerson(user: string): void {
    this.#list([user]);
  }

  join(room: string): void {
    if (this.rooms.value.has(room)) return;
    this.rooms.value = new Map(this.rooms.value).set(room, new Map());
    this.#client.join(room);
    remember(KEYS.rooms, [...this.rooms.value.keys()]);
  }

  leave(room: string): void {
    this.#client.leave(room);
    this.#forgetRoom(room);
  }

  setAvailability(availability: Availability): void {
    this.availability.value = availability;
    remember(KEYS.availability, availability);
    this.#client.setAvailability(availability);
  }

  /** Connect again after the server had told this tab to stay away. */
  reconnect(): void {
    this.#client.connect();
  }

  async dropNetwork(): Promise<void> {
    const state = this.connection.value;
    if (state.name !== "open") return;
    try {
      await this.#api.drop(state.welcome.connectionId);
    } catch (error) {
      this.trouble.value = `The connection was not dropped: ${reasonOf(error)}.`;
    }
  }

  /** Log out: say bye, and remember nothing but the tab. */
  logOut(): void {
    this.#client.bye();
    this.#api.signOut();
    forget(KEYS.user, KEYS.rooms, KEYS.availability);
  }

  /** Stop everything that this session started; call it when it has ended. */
  dispose(): void {
    for (const end of this.#ends) end();
  }

  /** Ask for what no broadcast tells. */
  async refresh(): Promise<void> {
    if (this.connection.value.name !== "open") return;
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
      if (this.connection.value.name !== "open") return;
      this.trouble.value = `The server's lists are late: ${reasonOf(error)}.`;
    }
  }

  #take(event: PresenceEvent): void {
    switch (event.type) {
      case "connection":
        this.connection.value = event.state;
        if (event.state.name === "open") void this.refresh();
        return;
      case "fresh":
        this.fresh.value = event.fresh;
        return;
      case "presence":
        return this.#showPresence(event.differences);
      case "room":
        return this.#showRoom(event.room, event.differences);
      case "refused":
        if (event.request?.type === "join") this.#forgetRoom(event.request.room);
        this.trouble.value = `${event.error.message} (${event.error.code})`;
    }
  }

  #showPresence(differences: PresenceDifference[]): void {
    const { users, unsure } = this.#client.book;
    this.presences.value = new Map(users);
    this.unsure.value = new Set(unsure);
    this.strip.showPresence(differences, Date.now());
    const news = differences.filter(({ origin, user }) => origin !== "first" && user !== this.user);
    if (news.length === 1) this.announcement.value = news.map((n) => `${n.user} is ${n.presence.status}`).join();
    else if (news.length > 1) this.announcement.value = `${news.length} people changed their status`;
    if (differences.some(({ user }) => user === this.user)) void this.refresh();
  }

  #showRoom(room: string, differences: RoomDifference[]): void {
    const members = this.#client.book.members(room);
    if (members === undefined) return;
    this.rooms.value = new Map(this.rooms.value).set(room, new Map(members));
    this.strip.showRoom(differences, Date.now());
    const others = differences.filter(({ user }) => user !== this.user);
    const news = others.filter(({ origin, kind }) => origin === "live" && kind !== "updated");
    if (news.length === 1) this.announcement.value = news.map((n) => `${n.user} ${n.kind} ${room}`).join();
  }

  #forgetRoom(room: string): void {
    const rooms = new Map(this.rooms.value);
    rooms.delete(room);
    this.rooms.value = rooms;
    remember(KEYS.rooms, [...rooms.keys()]);
  }

  #list(users: readonly string[]): void {
    const people = new Set([...this.people.value, ...users]);
    people.delete(this.user);
    if (people.size === this.people.value.length) return;
    this.people.value = [...people].sort((one, other) => one.localeCompare(other));
    remember(KEYS.watch, this.people.value);
    this.#client.watch(people);
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof HttpError) return error.message;
  return "the server could not be reached";
}
