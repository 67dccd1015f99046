/** The client: what the application wants and what it is shown, over one {@link Connection}. */

import { type AwayWatch, watchAway } from "./away";
import { openBook, type RoomView, type UserView } from "./book";
import { Connection } from "./connection";
import { Emitter } from "./emitter";
import { browserEnvironment, type Environment, keep } from "./environment";
import { PresenceError } from "./errors";
import type { ConnectionStatus, ConnectionView, PresenceEvents, PresenceOptions, SelfView, Snapshot } from "./types";
import { noteWants, type Wants } from "./wants";
import { AVAILABILITIES, type Availability, isId, type Meta, type ServerMessage } from "./wire";

const AVAILABILITY_KEY = "stillhere.availability";

/** A presence client; made by `createPresence`. */
export class Presence {
  readonly #options: PresenceOptions;
  readonly #env: Environment;
  readonly #events = new Emitter<PresenceEvents & { change: undefined }>();
  readonly #connection: Connection;
  readonly #wants: Wants;
  readonly #away: AwayWatch;
  #book = openBook();
  #snapshot: Snapshot | undefined;
  #self: SelfView | undefined;
  #identity: Pick<SelfView, "user" | "connectionId" | "sessionId"> = {};
  #chosen: Availability;
  #flushing = false;

  constructor(options: PresenceOptions) {
    this.#options = options;
    const env = { ...browserEnvironment(), ...options.environment };
    this.#env = env;
    this.#away = watchAway(env, options.away || {});
    // whatever else wrote to the storage: a word that the server does not know would have every attempt refused
    const kept = AVAILABILITIES.find((word) => word === keep(env, AVAILABILITY_KEY));
    this.#chosen = kept || options.availability || "active";
    const problem = (error: PresenceError): void => this.#events.emit("problem", error);
    const connection = new Connection(options, env, {
      begin: () => {
        this.#judgeAway();
        this.#wants.begin();
        return this.#wants.availability;
      },
      ended: () => this.#book.begin(),
      changed: (status) => {
        if (this.status === "online") this.#wants.flush();
        if (status) this.#events.emit("status", connection.view);
        this.#changed();
      },
      message: (message) => this.#handle(message),
      doubt: () => {
        this.#book.live = false;
        this.#changed();
      },
      tick: () => {
        this.#judgeAway();
        return this.#away.dueAt();
      },
      problem,
    });
    this.#connection = connection;
    this.#wants = noteWants(
      env,
      {
        request: (request) => (this.status === "online" ? connection.request(request) : 0),
        problem,
        later: (ms) => connection.timers.set("flush", ms, () => this.#wants.flush()),
      },
      this.#chosen,
    );
  }

  // ---- what is known ------------------------------------------------------------------------------------------

  /** How the connection stands. */
  get status(): ConnectionStatus {
    return this.#connection.view.status;
  }

  /** The connection: status, why it was refused, when the next attempt begins. */
  get connection(): ConnectionView {
    return this.#connection.view;
  }

  /** This tab and its user. */
  get self(): SelfView {
    const { availability, meta } = this.#wants;
    this.#self ??= {
      ...this.#identity,
      availability,
      idle: availability !== this.#chosen,
      meta: Object.fromEntries(Object.entries(meta).filter(([, value]) => value !== null)),
    };
    return this.#self;
  }

  /** A user; `unknown` and stale if nothing is known. The same object until something of it changes. */
  get(user: string): UserView {
    return this.#book.user(user);
  }

  /** A room that was joined, with its members. The same object until something of it changes. */
  room(room: string): RoomView {
    return this.#book.room(room);
  }

  /** All that is known; the same object until something changes. */
  snapshot(): Snapshot {
    this.#snapshot ??= {
      connection: this.connection,
      self: this.self,
      users: [...this.#wants.users.keys()].map(this.#book.user),
      rooms: [...this.#wants.rooms.keys()].map(this.#book.room),
    };
    return this.#snapshot;
  }

  /**
   * Be called after anything has changed: what stores of React, Vue and Svelte expect.
   *
   * @returns a function that ends it
   */
  readonly subscribe = (listener: () => void): (() => void) => this.#events.on("change", listener);

  /**
   * Be called on an event.
   *
   * @returns a function that ends it
   */
  on<Name extends keyof PresenceEvents>(name: Name, listener: (event: PresenceEvents[Name]) => void): () => void {
    return this.#events.on(name, listener as never);
  }

  // ---- what is wanted; all of it survives reconnects ----------------------------------------------------------

  /** Connect, and stay connected until `disconnect`. Does nothing if that is so already; starts again if refused. */
  connect(): void {
    this.#connection.connect((signal) => this.#away.start(signal, () => this.#judgeAway()));
  }

  /** Log out: this connection leaves at once, without a grace window, and others see it. Not needed on unload. */
  disconnect(): void {
    this.#connection.send({ type: "bye" });
    this.#connection.stop("offline", "bye");
    keep(this.#env, AVAILABILITY_KEY, "");
    this.#chosen = this.#options.availability || "active";
    this.#identity = {};
    this.#stateChanged();
  }

  /**
   * Follow users.
   *
   * @param users one id or several; each is followed until every caller has let go of it
   * @returns a function that lets go
   * @throws {PresenceError} `bad_id`
   */
  watch(users: string | Iterable<string>): () => void {
    return this.#want(this.#wants.users, new Set(typeof users === "string" ? [users] : users));
  }

  /**
   * Be present in a room, and follow who is in it.
   *
   * @param meta what this connection says of itself there; the newest call counts
   * @returns a function that leaves it, when every caller has
   * @throws {PresenceError} `bad_id`
   */
  join(room: string, meta?: Meta): () => void {
    const { rooms, metas } = this.#wants;
    if (meta || !rooms.has(room)) metas.set(room, meta ?? {});
    return this.#want(rooms, [room]);
  }

  /** Say what this tab is. `active` becomes `away` by itself when nobody is there; the others stay as they are. */
  setAvailability(availability: Availability): void {
    this.#chosen = availability;
    keep(this.#env, AVAILABILITY_KEY, availability);
    this.#stateChanged();
  }

  /** Say something about this tab to all who watch the user: merged shallowly, null deletes a key. */
  setMeta(patch: Meta): void {
    Object.assign(this.#wants.meta, patch);
    this.#stateChanged();
  }

  // ---- inside -------------------------------------------------------------------------------------------------

  #handle(message: ServerMessage): void {
    const { users, rooms } = this.#wants;
    const { timers } = this.#connection;
    if (!this.#book.live) {
      this.#book.live = true; // heard, or heard again
      this.#changed();
    }
    if (message.type === "welcome") {
      const { user, connectionId, sessionId } = message;
      // another may see other things
      if (user !== this.#identity.user) this.#book = openBook();
      this.#book.live = true;
      this.#identity = { user, connectionId, sessionId };
      this.#self = undefined;
    } else if (message.type === "error") {
      this.#wants.refused(message);
    } else if ("id" in message) {
      this.#wants.answered(message.id ?? 0);
    }
    if (message.type === "snapshot" || message.type === "presence") {
      const told = message.type === "snapshot" ? message.users : message.changes;
      const { changes, newEpoch } = this.#book.applyUsers(told.filter(({ user }) => users.has(user)));
      if (changes.length) this.#events.emit("presence", changes);
      // many users are told of one rebuilt store: ask once, and not all clients at the same time
      if (newEpoch && message.type === "presence" && !timers.has("resync")) {
        timers.set("resync", 1_000 * this.#env.random(), () => this.#wants.resync());
      }
      this.#changed();
    } else if (message.type === "room" && rooms.has(message.room)) {
      const changes = this.#book.applyRoom(message);
      if (changes.length) this.#events.emit("room", { room: message.room, changes });
      this.#changed();
    }
  }

  /** What is said to others now. */
  #said(): Availability {
    const idle = this.#options.away !== false && this.#away.dueAt() <= this.#env.now();
    return idle && this.#chosen === "active" ? "away" : this.#chosen;
  }

  #judgeAway(): void {
    if (this.#said() !== this.#wants.availability) this.#stateChanged();
  }

  #stateChanged(): void {
    this.#wants.availability = this.#said();
    this.#self = undefined;
    this.#flushSoon();
  }

  /** One more wants these; returns what makes it one less. Told at the end of the task: perhaps somebody takes over. */
  #want(wanted: Map<string, number>, ids: Iterable<string>): () => void {
    for (const id of ids) {
      if (!isId(id)) throw new PresenceError("bad_id", id);
    }
    const count = (by: number): void => {
      for (const id of ids) {
        const left = (wanted.get(id) ?? 0) + by;
        if (left) wanted.set(id, left);
        else wanted.delete(id);
      }
      this.#flushSoon();
    };
    count(1);
    let held = true;
    return () => {
      if (held) count(-1);
      held = false;
    };
  }

  #flushSoon(): void {
    this.#changed();
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#book.retain(this.#wants.users, this.#wants.rooms);
      this.#wants.flush();
    });
  }

  #changed(): void {
    this.#snapshot = undefined;
    this.#events.emit("change", undefined);
  }
}
