/** All users that the server knows: loaded page by page, then kept up to date by events. */

import { signal } from "@preact/signals";
import { delayMs, openBook, type Book as Held, type UserView } from "stillhere/feed";
import type { AdminApi } from "./api";
import type { Feed } from "./feed";
import type { EventData, Presence, Status } from "./types";

/** Beyond so many users only the first ones are listed; the search asks the server for an exact id. */
export const MOST_USERS = 50_000;

/** How many users are asked for by name at once; how soon, and how soon again, in milliseconds. */
const ASKED = 1000;
const SOON = 250;
const LATER = 2000;

/** A user as the pages show it: what the client's own book says, and how many devices there are. */
export interface Listed extends UserView {
  readonly devices?: number;
}

/**
 * The users, by the client's own rules: the order of reports by epoch and version, and what is stale. Pure.
 *
 * Whoever was told keeps the last status while the server cannot be heard, and is stale; nobody is offline for that.
 */
export class Book {
  readonly #held: Held = openBook();
  /** Who is listed, and the figure of devices where it was asked for. */
  readonly #devices = new Map<string, number | undefined>();
  #ids: string[] | null = [];

  /** Ids in order. */
  get ids(): readonly string[] {
    this.#ids ??= [...this.#devices.keys()].sort();
    return this.#ids;
  }

  get size(): number {
    return this.#devices.size;
  }

  /** Whether the server is heard; while it is not, everything is stale. */
  get live(): boolean {
    return this.#held.live;
  }

  set live(live: boolean) {
    this.#held.live = live;
  }

  /** Changes may have been missed: everybody is stale until told again. */
  doubt(): void {
    this.#held.begin();
  }

  /** A user, or nothing of one who is not listed. */
  get(user: string): Listed | undefined {
    if (!this.#devices.has(user)) return undefined;
    const view = this.#held.user(user);
    const devices = this.#devices.get(user);
    // of one who is offline a figure is that of before
    return devices === undefined || view.status === "offline" ? view : { ...view, devices };
  }

  has(user: string): boolean {
    return this.#devices.has(user);
  }

  /** Take what is told of users; what is older than what is known changes nothing. */
  take(told: readonly Presence[]): void {
    this.#held.applyUsers(told);
    for (const { user, devices } of told) {
      if (!this.#devices.has(user)) this.#ids = null;
      // events do not say how many devices there are: keep the figure until it is asked for again
      this.#devices.set(user, devices ?? this.#devices.get(user));
    }
  }

  /** Who was not told since {@link doubt}, or of whom the server could not tell. */
  doubtful(): string[] {
    return this.ids.filter((user) => this.#held.user(user).stale);
  }

  /** How many are shown as what. */
  counts(): Record<Status, number> {
    const found: Record<Status, number> = { online: 0, away: 0, busy: 0, offline: 0, unknown: 0 };
    for (const user of this.#devices.keys()) found[this.#held.user(user).status] += 1;
    return found;
  }

  /** Those whose id contains a text, whatever its case, and who are shown like this; in the order of their ids. */
  find(text: string, status: Status | "all"): string[] {
    const wanted = text.toLowerCase();
    return this.ids.filter((id) => {
      if (status !== "all" && this.#held.user(id).status !== status) return false;
      return wanted === "" || id.toLowerCase().includes(wanted);
    });
  }
}

export class Directory {
  readonly book = new Book();
  /** Goes up with every change, at most once per frame. */
  readonly edition = signal(0);
  readonly loading = signal(true);
  readonly problem = signal<string | null>(null);
  readonly truncated = signal(false);
  readonly #api: AdminApi;
  readonly #stops: (() => void)[];
  /** Whom to ask for by name. */
  readonly #wanted = new Set<string>();
  #asking: ReturnType<typeof setTimeout> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  /** Of the loads that were begun only the last one counts. */
  #turn = 0;
  #failed = 0;
  #frame = 0;
  #closed = false;

  constructor(api: AdminApi, feed: Feed) {
    this.#api = api;
    this.#stops = [
      feed.listen({ onEvents: (events) => this.#take(events), onGap: () => this.#missed() }),
      feed.state.subscribe((state) => this.#hear(state === "live")),
    ];
  }

  /** Load all pages; events that come meanwhile are newer, and win by their version. */
  async load(): Promise<void> {
    const turn = ++this.#turn;
    this.loading.value = true;
    clearTimeout(this.#retry);
    try {
      for (let cursor: string | null = ""; cursor !== null; ) {
        const page = await this.#api.users(cursor);
        if (turn !== this.#turn || this.#closed) return;
        this.book.take(page.users);
        this.#changed();
        cursor = page.cursor;
        this.truncated.value = cursor !== null && this.book.size >= MOST_USERS;
        if (this.truncated.value) break;
      }
      this.problem.value = null;
      this.#failed = 0;
      // whom the server did not list it has forgotten, or cannot tell of yet: it says which when it is asked
      this.#want(this.book.doubtful());
    } catch (error) {
      if (turn !== this.#turn || this.#closed) return;
      this.problem.value = error instanceof Error ? error.message : String(error);
      this.#retry = setTimeout(() => void this.load(), delayMs("soon", this.#failed, Math.random()));
      this.#failed += 1;
    }
    this.loading.value = false;
  }

  /** Ask for the devices of users that are in sight. */
  refresh(users: Iterable<string>): void {
    this.#want([...users].filter((user) => this.book.get(user)?.devices === undefined));
  }

  close(): void {
    this.#closed = true;
    for (const stop of this.#stops) stop();
    clearTimeout(this.#asking);
    clearTimeout(this.#retry);
    cancelAnimationFrame(this.#frame);
  }

  #hear(live: boolean): void {
    if (this.book.live === live) return;
    this.book.live = live;
    this.#changed();
    if (live && !this.loading.value) this.#want(this.book.doubtful());
  }

  #missed(): void {
    this.book.doubt();
    this.#changed();
    void this.load();
  }

  #take(events: EventData[]): void {
    const told = events
      .map(({ presence }) => presence)
      .filter((presence) => presence !== undefined)
      .filter(({ user }) => this.book.has(user) || !this.truncated.value);
    if (told.length === 0) return;
    this.book.take(told);
    this.#changed();
    this.#want(told.filter(({ status }) => status !== "offline").map(({ user }) => user));
  }

  #want(users: Iterable<string>, soon = SOON): void {
    for (const user of users) this.#wanted.add(user);
    if (this.#wanted.size === 0 || this.#asking !== undefined || this.#closed) return;
    this.#asking = setTimeout(() => void this.#ask(), soon);
  }

  async #ask(): Promise<void> {
    const users = [...this.#wanted].slice(0, ASKED);
    for (const user of users) this.#wanted.delete(user);
    try {
      this.book.take(await this.#api.query(users));
      this.#changed();
    } catch {
      // The figures of devices stay as they are; the next event of these users asks again.
    }
    this.#asking = undefined;
    if (this.#closed) return;
    // of whom there is still doubt is asked again, as long as there is somebody to ask
    const doubtful = this.book.live ? users.filter((user) => this.book.get(user)?.stale) : [];
    this.#want(doubtful, doubtful.length > 0 ? LATER : SOON);
  }

  #changed(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.edition.value += 1;
    });
  }
}
