/** All users that the server knows: loaded page by page, then kept up to date by events. */

import { signal } from "@preact/signals";
import type { AdminApi } from "./api";
import type { Feed } from "./feed";
import type { EventData, Presence, Status } from "./types";

/** Beyond so many users only the first ones are listed; the search asks the server for an exact id. */
export const MOST_USERS = 50_000;

/** How many devices of how many users are asked for at once, and how soon; milliseconds. */
const ASKED = 100;
const SOON = 250;

/** The book of users: pure, apart from telling that it changed. */
export class Book {
  readonly users = new Map<string, Presence>();
  #ids: string[] | null = [];

  /** Ids in order. */
  get ids(): readonly string[] {
    this.#ids ??= [...this.users.keys()].sort();
    return this.#ids;
  }

  /** Take what is told of a user, unless it is older than what is known; returns whether it was news. */
  take(told: Presence): boolean {
    const known = this.users.get(told.user);
    if (known !== undefined && known.epoch === told.epoch && told.version < known.version) return false;
    if (known === undefined) this.#ids = null;
    // events do not say how many devices there are: keep the figure until it is asked for again
    const devices = told.devices ?? (told.status === "offline" ? undefined : known?.devices);
    this.users.set(told.user, devices === undefined ? told : { ...told, devices });
    return true;
  }

  clear(): void {
    this.users.clear();
    this.#ids = [];
  }

  /** How many are shown as what. */
  counts(): Record<Status, number> {
    const found: Record<Status, number> = { online: 0, away: 0, busy: 0, offline: 0, unknown: 0 };
    for (const user of this.users.values()) found[user.status] += 1;
    return found;
  }

  /** Those whose id contains a text, whatever its case, and who are shown like this; in the order of their ids. */
  find(text: string, status: Status | "all"): string[] {
    const wanted = text.toLowerCase();
    return this.ids.filter((id) => {
      if (status !== "all" && this.users.get(id)?.status !== status) return false;
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
  readonly #stop: () => void;
  readonly #stale = new Set<string>();
  #asking: ReturnType<typeof setTimeout> | undefined;
  #frame = 0;
  #closed = false;

  constructor(api: AdminApi, feed: Feed) {
    this.#api = api;
    this.#stop = feed.listen({ onEvents: (events) => this.#take(events), onGap: () => void this.load() });
  }

  /** Load all pages; events that come meanwhile are newer, and win by their version. */
  async load(): Promise<void> {
    this.loading.value = true;
    try {
      for (let cursor: string | null = ""; cursor !== null && !this.#closed; ) {
        const page = await this.#api.users(cursor);
        for (const user of page.users) this.book.take(user);
        this.#changed();
        cursor = page.cursor;
        this.truncated.value = cursor !== null && this.book.users.size >= MOST_USERS;
        if (this.truncated.value) break;
      }
      this.problem.value = null;
    } catch (error) {
      this.problem.value = error instanceof Error ? error.message : String(error);
    } finally {
      this.loading.value = false;
    }
  }

  /** Ask for the devices of users that are in sight. */
  refresh(users: Iterable<string>): void {
    for (const user of users) if (this.book.users.get(user)?.devices === undefined) this.#stale.add(user);
    this.#askSoon();
  }

  close(): void {
    this.#closed = true;
    this.#stop();
    clearTimeout(this.#asking);
    cancelAnimationFrame(this.#frame);
  }

  #take(events: EventData[]): void {
    let news = false;
    for (const { presence } of events) {
      if (presence === undefined || (!this.book.users.has(presence.user) && this.truncated.value)) continue;
      if (!this.book.take(presence)) continue;
      news = true;
      if (presence.status !== "offline") this.#stale.add(presence.user);
    }
    if (!news) return;
    this.#changed();
    this.#askSoon();
  }

  #askSoon(): void {
    if (this.#stale.size === 0 || this.#asking !== undefined || this.#closed) return;
    this.#asking = setTimeout(() => void this.#ask(), SOON);
  }

  async #ask(): Promise<void> {
    const users = [...this.#stale].slice(0, ASKED);
    for (const user of users) this.#stale.delete(user);
    try {
      for (const told of await this.#api.query(users)) {
        if (told.status !== "unknown") this.book.take(told);
      }
      this.#changed();
    } catch {
      // The figures stay as they are; the next event of these users asks again.
    }
    this.#asking = undefined;
    this.#askSoon();
  }

  #changed(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.edition.value += 1;
    });
  }
}
