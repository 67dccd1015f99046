/**
 * One tab's connection: opened, watched, and opened again when it has ended.
 *
 * Every change of state is one synchronous method. What an old socket or an old token request still has to say is
 * recognised by its generation and dropped. What is said over the connection is its owner's affair.
 */

import { type Advice, adviceFor, delayMs, STABLE_MS } from "./backoff";
import { type Environment, startTimers, type Timers } from "./environment";
import { PresenceError, refusal } from "./errors";
import { type Link, openLink } from "./link";
import { expiryOf, socketUrl } from "./parse";
import { openTab, type Tab } from "./tabs";
import type { ConnectionStatus, ConnectionView, PresenceOptions } from "./types";
import {
  CLOSE_ABNORMAL,
  CLOSE_PAGE_HIDDEN,
  CLOSE_UNAUTHORIZED,
  type ClientMessage,
  type ErrorMessage,
  type Request,
  type ServerMessage,
  SUBPROTOCOL,
  type Welcome,
} from "./wire";

/** How long an attempt may take, the application's `getToken` included, in milliseconds. */
const ATTEMPT_MS = 15_000;
/** How long after its own deadline a draining node may still close by itself, which leaves the longer window. */
const MOVING_PATIENCE_MS = 2_000;
/** How long an answer to a `ping` may take, in milliseconds. */
const PONG_MS = 3_000;
/** The server is asked for a sign of life after so many of its heartbeat intervals without a message: soon enough that a
 * page whose path died without a word is back before the window that the server then opens is over. */
const SILENCE = 1.6;
/** Every so many attempts that failed without a word, the token is sent as a message, to learn what is wrong. */
const DIAGNOSE_EVERY = 4;
/** A token is replaced when this part of its life is over. */
const RENEW_AT = 0.8;
const PAGE_EVENTS = ["pagehide", "pageshow", "online", "offline", "resume", "prerenderingchange", "visibilitychange"];

/** Whose connection it is. */
export interface Owner {
  /** A socket is about to open. Returns what the tab says of itself from the beginning. */
  begin(): string;
  /** The connection has ended, or is given up. */
  ended(): void;
  /** `view` has changed. */
  changed(status: boolean): void;
  message(message: ServerMessage): void;
  /** The network seems to be gone; the next message says that it is not. */
  doubt(): void;
  /** Something of the owner's may be due. Returns when the next is; ms since the Unix epoch. */
  tick(): number;
  problem(error: PresenceError): void;
}

export class Connection {
  view: ConnectionView = { status: "offline" };
  readonly timers: Timers;
  readonly #options: PresenceOptions;
  readonly #env: Environment;
  readonly #owner: Owner;
  readonly #url: string;
  readonly #tab: Tab;
  #link: Link | null = null;
  /** Grows with every attempt; what belongs to an older one is dropped. */
  #generation = 0;
  /** Ends the following of the page; null when nobody wants a connection. */
  #wanted: AbortController | null = null;
  /** What the server said last about this tab's token; a second time in a row it is final. */
  #error: PresenceError | undefined;
  /** How many attempts have failed in a row. */
  #attempt = 0;
  /** Why the server does not welcome us, in its words. */
  #said: ErrorMessage | undefined;
  #renew = false;
  #renewAt = 0;
  #lifeMs = 0;
  /** The server's clock minus ours, in milliseconds. */
  #skewMs = 0;
  #silenceMs = 0;
  /** When the server was last heard; ms since the Unix epoch. */
  #heardAt = 0;
  /** When the last welcome came; 0 if none did since `connect`. */
  #onlineAt = 0;
  /** Until when a draining node asked us to wait; 0 if none did. */
  #movingUntil = 0;
  /** How many attempts have ended without a word, in a row. */
  #silent = 0;
  #nextId = 0;
  /** Whether the server asked for this wait: news of the network do not shorten it. */
  #patient = false;

  constructor(options: PresenceOptions, env: Environment, owner: Owner) {
    const url = socketUrl(options.url, env.base);
    if (!url) throw new PresenceError("bad_url", options.url);
    this.#url = url;
    this.#options = options;
    this.#env = env;
    this.#owner = owner;
    this.timers = startTimers(env);
    this.#tab = openTab(env);
  }

  /** Connect, and stay connected. What follows the page until the signal is to start before the first attempt. */
  connect(start: (signal: AbortSignal) => void): void {
    if (this.#wanted) return;
    this.#error = undefined;
    if (!this.#env.WebSocket) {
      this.refuse(new PresenceError("no_websocket"));
      return;
    }
    const wanted = new AbortController();
    const { signal } = wanted;
    this.#wanted = wanted;
    this.#onlineAt = this.#attempt = this.#silent = this.#movingUntil = 0;
    start(signal);
    for (const type of PAGE_EVENTS) {
      // an event of the document passes the window first
      this.#env.window?.addEventListener(type, () => this.#page(type), { capture: true, signal });
    }
    this.#open();
  }

  /** Send; what is said without a connection is lost. */
  send(message: ClientMessage): void {
    this.#link?.send(message);
  }

  /** Send a request; returns its id. */
  request(request: Request): number {
    const id = ++this.#nextId;
    this.send({ ...request, id });
    return id;
  }

  /** Start an attempt. The old socket is closed first: there are never two of one tab. */
  #open(): void {
    // a page that was opened ahead of a click is nobody's presence yet
    if (!this.#drop() || this.#env.document?.prerendering) return;
    this.timers.set("attempt", ATTEMPT_MS, () => this.#ended(CLOSE_ABNORMAL, ""));
    void this.#dial(this.#generation);
  }

  async #dial(generation: number): Promise<void> {
    let tab: string;
    let token: string | null | undefined;
    try {
      tab = await this.#tab.claim();
      if (generation !== this.#generation) return;
      token = await this.#options.getToken?.({ renew: this.#renew });
    } catch (cause) {
      if (generation !== this.#generation) return;
      this.#tokenFailed(cause);
      this.#retry("soon");
      return;
    }
    if (generation !== this.#generation) return;
    if (!token && this.#options.getToken) return this.refuse(new PresenceError("no_token"));
    // A refusal before the upgrade looks like a broken network; a token sent as a message is refused with words.
    const asMessage = this.#silent % DIAGNOSE_EVERY === DIAGNOSE_EVERY - 1;
    const query = `probe=1&availability=${this.#owner.begin()}&tab=${tab}`;
    const url = this.#url + (this.#url.includes("?") ? "&" : "?") + query;
    this.#renew = true; // until the welcome says that this one was taken
    this.#said = undefined;
    try {
      const protocols = !token || asMessage ? [SUBPROTOCOL] : [SUBPROTOCOL, `bearer.${token}`];
      this.#link = openLink(this.#env, url, protocols, {
        open: (protocol) => {
          if (protocol !== SUBPROTOCOL) {
            this.refuse(new PresenceError("protocol", `the server speaks ${protocol}`));
          } else if (token && asMessage) this.request({ type: "auth", token });
        },
        text: (text) => this.#received(text),
        end: (code, reason) => this.#ended(code, reason),
      });
    } catch (cause) {
      this.refuse(new PresenceError("cannot_open", this.#url, { cause }));
    }
  }

  /** The connection or the attempt has ended, by itself or by the server. */
  #ended(code: number, reason: string): void {
    const online = this.view.status === "online";
    const said = this.#said;
    const error = refusal(code, said?.message || reason);
    let advice = adviceFor(code);
    // the protocol's 4001: stop, or reconnect with a new token; once. What is not about the token is not final.
    if (code === CLOSE_UNAUTHORIZED && (!this.#error || (said ?? error).code !== "unauthorized")) {
      this.#error = error;
      this.#renew = true;
      this.#silent += 1;
      this.#owner.problem(error);
      advice = "soon";
    }
    if (advice === "stop") {
      this.refuse(error);
      return;
    }
    if (!online && code === CLOSE_ABNORMAL && !(++this.#silent % DIAGNOSE_EVERY)) {
      this.#owner.problem(new PresenceError("unreachable"));
    }
    this.#retry(advice);
  }

  /** Wait as the advice asks, then try again. A draining node has dealt out the times by itself. */
  #retry(advice: Advice): void {
    const { now, random } = this.#env;
    const moving = this.#movingUntil - now();
    const wait = this.#movingUntil ? Math.max(0, moving) : delayMs(advice, this.#attempt, random());
    this.#movingUntil = 0;
    this.#attempt += 1;
    this.#patient = moving > 0 || advice !== "soon";
    this.#wait(wait);
  }

  #wait(ms: number): void {
    if (this.#drop(this.#env.now() + ms)) this.timers.set("retry", ms, () => this.#open());
  }

  /** Stop: the server will not have us. */
  refuse(error: PresenceError): void {
    this.#renew = true;
    this.#error = error;
    this.stop("refused", error.code);
  }

  /** Nobody wants a connection any more. */
  stop(status: ConnectionStatus, reason: string): void {
    this.#wanted?.abort();
    this.#wanted = null;
    this.#tab.release();
    this.#drop(undefined, reason, 1000, status);
  }

  /**
   * Close the socket, if there is one, and forget every timer of it.
   *
   * @returns false if a listener was told and did something else with the connection
   */
  #drop(retryAt?: number, reason = "reconnect", code = CLOSE_PAGE_HIDDEN, status?: ConnectionStatus): boolean {
    const generation = ++this.#generation;
    this.timers.cancelAll();
    this.#link?.close(code, reason);
    this.#link = null;
    this.#owner.ended();
    this.#become(status ?? (this.#onlineAt ? "reconnecting" : "connecting"), retryAt);
    return generation === this.#generation;
  }

  // ---- messages -----------------------------------------------------------------------------------------------

  #received(text: string): void {
    this.#heardAt = this.#env.now();
    this.timers.cancel("pong");
    try {
      const message = JSON.parse(text) as ServerMessage;
      // first of all: the page is alive
      if (message.type === "probe") this.send(message);
      if (message.type === "moving") this.#moving(message.reconnectInMs);
      if (message.type === "welcome") this.#welcomed(message);
      else if (this.view.status === "online") this.#owner.message(message);
      else if (message.type === "error") this.#said = message;
    } catch (cause) {
      this.#owner.problem(new PresenceError("protocol", undefined, { cause }));
    }
    this.#clock();
  }

  #welcomed(welcome: Welcome): void {
    const { heartbeatMs = 20_000, expiresAt = Infinity } = welcome;
    this.timers.cancel("attempt");
    this.#error = undefined;
    this.#renew = false;
    this.#silent = 0;
    this.#onlineAt = this.#env.now();
    this.#skewMs = welcome.serverAt - this.#onlineAt;
    this.#silenceMs = SILENCE * heartbeatMs;
    this.#planRenewal(expiresAt);
    this.timers.set("stable", STABLE_MS, () => {
      this.#attempt = 0;
    });
    this.#owner.message(welcome);
    this.#become("online");
  }

  /** The node drains: it will close with 1012, whose window is the longest; only if it does not, close ourselves. */
  #moving(inMs: number): void {
    this.#movingUntil = this.#env.now() + inMs;
    this.timers.set("moving", inMs + MOVING_PATIENCE_MS, () => {
      this.#movingUntil = 0;
      this.#open();
    });
  }

  // ---- time ---------------------------------------------------------------------------------------------------

  /**
   * Called on every message, and by a timer that a hidden page may delay as long as it likes: what is due is found by
   * comparing times.
   */
  #clock(): void {
    if (this.view.status !== "online") return;
    const dueAt = this.#owner.tick();
    const now = this.#env.now();
    this.#heardAt = Math.min(this.#heardAt, now); // the clock may have been set back
    const silentAt = this.#heardAt + this.#silenceMs;
    if (now >= silentAt) this.#check();
    if (now >= this.#renewAt) void this.#renewToken(this.#generation);
    const next = Math.min(silentAt, this.#renewAt, dueAt > now ? dueAt : Infinity) - now;
    this.timers.set("clock", Math.max(next, 1_000), () => this.#clock());
  }

  /** Ask the server for a sign of life, and open another connection if none comes. */
  #check(again = false): void {
    if (this.timers.has("pong")) return;
    const askedAt = this.#env.now();
    this.request({ type: "ping" });
    this.timers.set("pong", PONG_MS, () => {
      // If the page slept meanwhile, the answer may be waiting behind this timer: ask once more.
      const slept = Math.abs(this.#env.now() - askedAt - PONG_MS) > PONG_MS;
      if (slept && !again) this.#check(true);
      else this.#open();
    });
  }

  #planRenewal(expiresAt: number | undefined): void {
    const now = this.#env.now();
    this.#lifeMs = expiresAt === undefined ? this.#lifeMs : expiresAt - this.#skewMs - now;
    this.#renewAt = now + this.#lifeMs * RENEW_AT;
  }

  async #renewToken(generation: number): Promise<void> {
    // should this fail: when half of what is left is over, and so on until the token ends
    this.#lifeMs -= this.#lifeMs * RENEW_AT;
    this.#renewAt = this.#env.now() + Math.max(1_000, this.#lifeMs / 2);
    try {
      const token = await this.#options.getToken?.({ renew: true });
      if (generation !== this.#generation || !token) return;
      this.request({ type: "auth", token });
      this.#planRenewal(expiryOf(token));
      this.#clock();
    } catch (cause) {
      if (generation === this.#generation) this.#tokenFailed(cause);
    }
  }

  #tokenFailed(cause: unknown): void {
    this.#owner.problem(new PresenceError("token_failed", "The token could not be fetched.", { cause }));
  }

  // ---- the page -----------------------------------------------------------------------------------------------

  #page(type: string): void {
    const { now, random, document } = this.#env;
    const { status, retryAt } = this.view;
    if (type === "visibilitychange" && document?.visibilityState === "hidden") {
      this.#clock(); // nothing to check, and after pagehide nothing at all; but `away` may be due sooner now
    } else if (type === "pagehide") {
      // for good or into the back/forward cache, where the socket would live on unseen
      this.#drop(undefined, "page_hidden");
      this.#tab.release();
    } else if (status === "online") {
      // whatever this is, it may have cut the network unnoticed
      if (type === "offline") {
        // the socket may outlive that, and no other could be opened now: keep it, in doubt
        this.#owner.doubt();
        this.request({ type: "ping" });
      } else this.#check();
    } else if (retryAt) {
      // everybody behind one access point gets the network back at the same moment
      const sooner = Math.min(retryAt - now(), delayMs("soon", 0, random()));
      if (type === "online" && !this.#patient) this.#wait(sooner);
    } else if (type !== "offline" && !this.timers.has("attempt")) {
      this.#open(); // back from the back/forward cache
    }
  }

  #become(status: ConnectionStatus, retryAt?: number): void {
    const before = this.view;
    if (status === before.status && retryAt === before.retryAt && this.#error === before.error) return;
    this.view = { status, error: this.#error, retryAt };
    this.#owner.changed(status !== before.status);
  }
}
