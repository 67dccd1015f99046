/**
 * The presence client: one tab of one user, kept connected.
 *
 * No framework, no globals: sockets, clock, chance and timers come in with the environment, and page events through
 * `followPage`. A state change is one synchronous method; whatever an old socket or an old token request still has to
 * say is recognised by its generation and dropped.
 */

import { adviceFor, delayMs, type Advice } from "./backoff";
import { PresenceBook } from "./book";
import { browserEnvironment, type Environment, type SocketLike } from "./environment";
import {
  CLOSE_NORMAL,
  CLOSE_PAGE_HIDDEN,
  CLOSE_UNAUTHORIZED,
  SUBPROTOCOL,
  parseServerMessage,
  type Availability,
  type ClientMessage,
  type ErrorMessage,
  type Meta,
  type RoomMessage,
  type ServerMessage,
  type UserPresence,
  type Welcome,
} from "./protocol";
import { LONGEST_TIMER, Timers } from "./timers";
import type { ConnectionState, PresenceClientOptions, PresenceEvent } from "./types";

/** How long each step may take, in milliseconds. */
const WELCOME_TIMEOUT = 10_000;
const PONG_TIMEOUT = 2_000;
const BYE_TIMEOUT = 2_000;
const RETRY_AFTER = 1_500;
/** How long after its own deadline a draining node may still close by itself, which leaves the longer window. */
const MOVING_PATIENCE = 2_000;
/** Users named in one `watch`: 100 ids of 256 bytes stay below the server's message bound of 32 KiB. */
const WATCH_CHUNK = 100;

export class PresenceClient {
  readonly #options: PresenceClientOptions;
  readonly #env: Environment;
  readonly #book = new PresenceBook();
  readonly #listeners = new Set<(event: PresenceEvent) => void>();
  readonly #watched = new Set<string>();
  readonly #joined = new Map<string, Meta>();
  readonly #requests = new Map<number, ClientMessage>();
  readonly #timers: Timers;
  #state: ConnectionState = { name: "idle" };
  #socket: SocketLike | null = null;
  /** Grows with every attempt; answers that belong to an older one are dropped. */
  #generation = 0;
  #attempt = 0;
  #nextId = 1;
  #renewToken = false;
  #saidBye = false;
  #movingUntil: number | null = null;
  #availability: Availability | null = null;
  #fresh = false;

  constructor(options: PresenceClientOptions) {
    this.#options = options;
    this.#env = { ...browserEnvironment(), ...options.environment };
    this.#timers = new Timers(this.#env);
  }

  get state(): ConnectionState {
    return this.#state;
  }

  get fresh(): boolean {
    return this.#fresh;
  }

  /** What is held of others; read-only. */
  get book(): Pick<PresenceBook, "users" | "unsure" | "members"> {
    return this.#book;
  }

  /** @returns a function that ends the subscription */
  subscribe(listener: (event: PresenceEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // ---- what the application asks for; all of it survives reconnects -------------------------------------------

  /** Connect, and stay connected until `bye`. Also starts again after an end. */
  connect(): void {
    if (this.#state.name === "idle" || this.#state.name === "ended") this.#restart();
  }

  /** Follow these users as well. */
  watch(users: Iterable<string>): void {
    const added = [...users].filter((user) => !this.#watched.has(user));
    for (const user of added) this.#watched.add(user);
    if (this.#state.name === "open") this.#sendWatch(added);
  }

  unwatch(user: string): void {
    if (!this.#watched.delete(user)) return;
    this.#book.forget(user);
    this.#request((id) => ({ type: "unwatch", id, users: [user] }));
  }

  /** Be present in a room and follow it. */
  join(room: string, meta: Meta = {}): void {
    this.#joined.set(room, meta);
    this.#request((id) => ({ type: "join", id, room, meta }));
  }

  leave(room: string): void {
    if (!this.#joined.delete(room)) return;
    this.#book.forgetRoom(room);
    this.#request((id) => ({ type: "leave", id, room }));
  }

  setAvailability(availability: Availability): void {
    this.#availability = availability;
    this.#request((id) => ({ type: "state", id, availability }));
  }

  /** Log out: this connection leaves without a window, and the client stays away. */
  bye(): void {
    if (this.#state.name !== "open" || this.#socket === null) {
      this.#end(CLOSE_NORMAL, "bye");
      return;
    }
    this.#saidBye = true;
    this.#send({ type: "bye" });
    this.#timers.set("bye", BYE_TIMEOUT, () => this.#end(CLOSE_NORMAL, "bye"));
  }

  // ---- what the page tells; see followPage --------------------------------------------------------------------

  /** The page goes away, for good or into the back/forward cache: say so while there is still time. */
  hide(): void {
    if (this.#state.name === "idle" || this.#state.name === "ended") return;
    if (this.#saidBye) return this.#end(CLOSE_NORMAL, "bye");
    this.#drop(CLOSE_PAGE_HIDDEN, "page_hidden");
    this.#become({ name: "hidden" });
  }

  /** The page is back. */
  show(): void {
    if (this.#state.name === "hidden") this.#restart();
  }

  /**
   * The page was woken, or the network changed: the socket may be dead without knowing it.
   *
   * An open connection must answer a ping in a short time or is replaced; a wait is cut short, unless the server itself
   * had asked for it.
   */
  verify(): void {
    if (this.#state.name === "waiting" && this.#state.advice === "soon" && this.#movingUntil === null) {
      const left = this.#state.until - this.#env.now();
      // Everybody behind one access point gets its network back at the same moment.
      this.#wait(this.#state.code, "soon", Math.min(left, delayMs("soon", 0, this.#env.random())));
    } else if (this.#state.name === "open" && !this.#timers.has("pong")) {
      this.#request((id) => ({ type: "ping", id }));
      this.#timers.set("pong", PONG_TIMEOUT, () => this.#replace("path_lost"));
    }
  }

  /**
   * The network is gone. The socket may well outlive that, and no other could be opened now: keep it, and call what is
   * held stale until the server is heard again.
   */
  doubt(): void {
    if (this.#state.name !== "open") return;
    this.#setFresh(false);
    this.#request((id) => ({ type: "ping", id }));
  }

  // ---- connecting ---------------------------------------------------------------------------------------------

  #restart(): void {
    this.#attempt = 0;
    this.#movingUntil = null;
    this.#open();
  }

  /** Start an attempt. The old socket is closed first: two of one tab would be one too many. */
  #open(): void {
    this.#drop(CLOSE_PAGE_HIDDEN, "reconnect");
    const generation = this.#generation;
    this.#become({ name: "connecting" });
    this.#timers.set("welcome", WELCOME_TIMEOUT, () => this.#retry(1006));
    this.#options.token(this.#renewToken).then(
      ({ token, expiresAt }) => {
        if (generation === this.#generation) this.#dial(token, expiresAt);
      },
      () => {
        if (generation === this.#generation) this.#retry(1006);
      },
    );
  }

  #dial(token: string, expiresAt: number | undefined): void {
    const url = new URL(this.#options.url);
    url.searchParams.set("tab", this.#options.tab);
    url.searchParams.set("probe", "1");
    let socket: SocketLike;
    try {
      socket = new this.#env.WebSocket(url.href, [SUBPROTOCOL, `bearer.${token}`]);
    } catch {
      this.#retry(1006);
      return;
    }
    // Until the welcome nothing says that the token was taken; a refusal looks like any other failed attempt.
    this.#renewToken = true;
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      const message = parseServerMessage(data);
      if (message !== null) this.#handle(message, expiresAt);
    };
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
  }

  /** The socket ended by itself or by the server. */
  #closed(code: number, reason: string): void {
    this.#forgetSocket();
    if (this.#saidBye || adviceFor(code, false) === "stop") this.#end(code, this.#saidBye ? "bye" : reason);
    else this.#retry(code);
  }

  /** The attempt or the connection failed: wait as the code asks, then try again. */
  #retry(code: number): void {
    this.#drop(CLOSE_PAGE_HIDDEN, "reconnect");
    const advice: Advice = adviceFor(code, false);
    if (advice === "stop") return this.#end(code, "");
    const moving = this.#movingUntil;
    const delay = delayMs(advice, this.#attempt, this.#env.random());
    this.#attempt += 1;
    // A draining node has dealt out the times by itself; another jitter on top would only cost time.
    this.#wait(code, advice, moving === null ? delay : Math.max(0, moving - this.#env.now()));
  }

  #wait(code: number, advice: "soon" | "back-off", ms: number): void {
    this.#become({ name: "waiting", until: this.#env.now() + ms, code, advice });
    this.#timers.set("reconnect", ms, () => {
      this.#movingUntil = null;
      this.#open();
    });
  }

  /** Give up a connection that does not answer, and open another at once. */
  #replace(reason: string): void {
    // 4900 and not 1000, because of the longer window: the next connection has to cross the same bad path.
    this.#drop(CLOSE_PAGE_HIDDEN, reason);
    this.#movingUntil = null;
    this.#open();
  }

  #end(code: number, reason: string): void {
    this.#drop(CLOSE_NORMAL, reason);
    this.#renewToken ||= code === CLOSE_UNAUTHORIZED;
    this.#saidBye = false;
    this.#movingUntil = null;
    this.#become({ name: "ended", code, reason });
  }

  /** Close the socket, if there is one, and stop listening to it and to every timer. */
  #drop(code: number, reason: string): void {
    const socket = this.#socket;
    this.#forgetSocket();
    socket?.close(code, reason);
  }

  #forgetSocket(): void {
    this.#generation += 1;
    if (this.#socket !== null) {
      this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket = null;
    }
    this.#timers.cancelAll();
    this.#requests.clear();
    this.#setFresh(false);
  }

  // ---- messages -----------------------------------------------------------------------------------------------

  #handle(message: ServerMessage, expiresAt: number | undefined): void {
    this.#timers.cancel("pong"); // whatever it says, the path is alive
    switch (message.type) {
      case "welcome":
        return this.#welcomed(message, expiresAt);
      case "probe":
        return this.#send({ type: "probe", n: message.n });
      case "snapshot":
        return this.#snapshot(message.id, message.users);
      case "presence":
        return this.#changed(message.changes);
      case "room":
        return this.#roomChanged(message);
      case "ok":
      case "pong":
        this.#requests.delete(message.id);
        return this.#judgeFreshness();
      case "error":
        return this.#refused(message);
      case "moving":
        return this.#moving(message.reconnectInMs);
    }
  }

  #welcomed(welcome: Welcome, expiresAt: number | undefined): void {
    if (this.#state.name === "open") return; // a renewal was acknowledged
    this.#timers.cancel("welcome");
    this.#attempt = 0;
    this.#renewToken = false;
    this.#book.startConnection();
    this.#become({ name: "open", welcome });
    this.#planRenewal(welcome.expiresAt ?? expiresAt);
    // First what others see of this tab, then what it wants to see.
    const availability = this.#availability;
    if (availability !== null) this.#request((id) => ({ type: "state", id, availability }));
    this.#sendWatch([...this.#watched]);
    for (const [room, meta] of this.#joined) this.#request((id) => ({ type: "join", id, room, meta }));
    this.#judgeFreshness();
  }

  /** The node drains: it will close with 1012, whose window is the longest; only if it does not, close ourselves. */
  #moving(reconnectInMs: number): void {
    this.#movingUntil = this.#env.now() + reconnectInMs;
    this.#timers.set("moving", reconnectInMs + MOVING_PATIENCE, () => this.#replace("moving"));
  }

  #snapshot(id: number, users: UserPresence[]): void {
    this.#requests.delete(id);
    const wanted = users.filter(({ user }) => this.#watched.has(user));
    // Told even when nothing differs: doubt about somebody may have come or gone.
    this.#tell({ type: "presence", differences: this.#book.applySnapshot(wanted) });
    const unknown = wanted.filter(({ status }) => status === "unknown").map(({ user }) => user);
    if (unknown.length > 0) this.#again({ type: "watch", id, users: unknown });
    this.#judgeFreshness();
  }

  #changed(changes: UserPresence[]): void {
    const wanted = changes.filter(({ user }) => this.#watched.has(user));
    const { differences, newEpoch } = this.#book.applyChanges(wanted);
    this.#tell({ type: "presence", differences });
    if (newEpoch) this.#sendWatch([...this.#watched]);
  }

  #roomChanged(message: RoomMessage): void {
    if (message.id !== undefined) this.#requests.delete(message.id);
    if (!this.#joined.has(message.room)) return;
    const differences = this.#book.applyRoom(message);
    this.#tell({ type: "room", room: message.room, differences });
    this.#judgeFreshness();
  }

  #refused(error: ErrorMessage): void {
    const request = error.id === undefined ? undefined : this.#requests.get(error.id);
    if (error.id !== undefined) this.#requests.delete(error.id);
    const passing = error.code === "rate_limited" || error.code === "unavailable";
    if (request !== undefined && passing) return this.#again(request);
    if (request?.type === "join") {
      this.#joined.delete(request.room);
      this.#book.forgetRoom(request.room);
    }
    this.#tell({ type: "refused", request, error });
    this.#judgeFreshness();
  }

  /** Ask once more, a little later, if it is still wanted then. */
  #again(request: ClientMessage): void {
    const wait = RETRY_AFTER + this.#env.random() * RETRY_AFTER;
    this.#timers.set(`again-${this.#nextId++}`, wait, () => {
      if (request.type === "watch") this.#sendWatch(request.users.filter((user) => this.#watched.has(user)));
      else if (request.type === "join" && !this.#joined.has(request.room)) return;
      else if (request.type === "state" && request.availability !== this.#availability) return;
      else if ("id" in request) this.#request((id) => ({ ...request, id }));
    });
  }

  #planRenewal(expiresAt: number | undefined): void {
    if (expiresAt === undefined) return;
    const inMs = Math.max(1_000, (expiresAt - this.#env.now()) * 0.8);
    if (inMs > LONGEST_TIMER) return;
    const generation = this.#generation;
    this.#timers.set("renew", inMs, () => {
      this.#options.token(true).then(
        (next) => {
          if (generation !== this.#generation) return;
          this.#send({ type: "auth", token: next.token });
          this.#planRenewal(next.expiresAt);
        },
        () => {
          // Half of what is left, again and again, until the token runs out.
          if (generation === this.#generation) this.#planRenewal(expiresAt);
        },
      );
    });
  }

  #sendWatch(users: string[]): void {
    for (let start = 0; start < users.length; start += WATCH_CHUNK) {
      const chunk = users.slice(start, start + WATCH_CHUNK);
      this.#request((id) => ({ type: "watch", id, users: chunk }));
    }
  }

  /** Current means: open, and no answer outstanding that could still correct something. */
  #judgeFreshness(): void {
    const outstanding = [...this.#requests.values()].some(({ type }) => type === "watch" || type === "join");
    if (!this.#fresh) this.#setFresh(this.#state.name === "open" && !outstanding);
  }

  // ---- small tools --------------------------------------------------------------------------------------------

  /** Send a numbered request if connected; what matters later is sent again after the next welcome. */
  #request(make: (id: number) => ClientMessage): void {
    if (this.#state.name !== "open") return;
    const id = this.#nextId++;
    const message = make(id);
    this.#requests.set(id, message);
    this.#send(message);
  }

  #send(message: ClientMessage): void {
    this.#socket?.send(JSON.stringify(message));
  }

  #become(state: ConnectionState): void {
    this.#state = state;
    this.#tell({ type: "connection", state });
  }

  #setFresh(fresh: boolean): void {
    if (this.#fresh === fresh) return;
    this.#fresh = fresh;
    this.#tell({ type: "fresh", fresh });
  }

  #tell(event: PresenceEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }
}
