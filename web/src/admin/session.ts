/** What lives as long as somebody is logged in: the calls, the stream of events, the users, the figures. */

import { signal } from "@preact/signals";
import { AdminApi, sentenceOf } from "./api";
import type { Credential } from "./credential";
import { Directory } from "./directory";
import { Feed } from "./feed";
import { History } from "./history";
import { Tail } from "./tail";
import type { Diagnostics, Stats } from "./types";

/** How often the figures are read, in milliseconds. */
const EVERY = 2000;

export class Session {
  readonly api: AdminApi;
  readonly feed: Feed;
  readonly directory: Directory;
  readonly tail: Tail;
  readonly history = new History();
  readonly stats = signal<Stats | null>(null);
  readonly problem = signal<string | null>(null);
  /** The windows that this page has seen or was told, by cause, in milliseconds. */
  readonly windows = signal<Record<string, number>>({});
  /** Milliseconds that the server's clock is ahead of this machine's. */
  #ahead = 0;
  #timer: ReturnType<typeof setInterval>;

  private constructor(api: AdminApi, first: Stats) {
    this.api = api;
    this.feed = new Feed(api);
    this.directory = new Directory(api, this.feed);
    this.tail = new Tail(this.feed);
    this.#take(first);
    this.#timer = setInterval(() => void this.#poll(), EVERY);
  }

  /**
   * Log in.
   *
   * @param onRefused called when the credentials are accepted no longer
   * @throws CallError when they are not accepted now
   */
  static async open(credential: Credential, onRefused: () => void): Promise<Session> {
    let open = false;
    const api = new AdminApi(credential, () => open && onRefused());
    const first = await api.stats();
    await api.discover();
    const session = new Session(api, first);
    open = true;
    // Events first, then the pages: what changes in between is in one of the two.
    void session.feed.start().then(() => session.directory.load());
    return session;
  }

  /** The server's time. */
  now(): number {
    return Date.now() + this.#ahead;
  }

  /** Ask which windows are in force. */
  async askWindows(): Promise<void> {
    this.windows.value = { ...this.windows.value, ...(await this.api.windows()) };
  }

  /** Remember the window that somebody is in. */
  learn(diagnostics: Diagnostics): void {
    if (diagnostics.grace === null) return;
    const { cause, windowMs } = diagnostics.grace;
    if (this.windows.value[cause] !== windowMs) this.windows.value = { ...this.windows.value, [cause]: windowMs };
  }

  close(): void {
    clearInterval(this.#timer);
    this.tail.close();
    this.directory.close();
    this.feed.close();
  }

  async #poll(): Promise<void> {
    if (document.hidden) return;
    try {
      this.#take(await this.api.stats());
      this.problem.value = null;
    } catch (error) {
      this.problem.value = sentenceOf(error);
    }
  }

  #take(stats: Stats): void {
    this.#ahead = stats.at - Date.now();
    this.history.take(stats);
    this.stats.value = stats;
  }
}
