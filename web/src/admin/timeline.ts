/** All that is known of one user, kept current: the diagnostics, the timeline, and why they are shown as they are. */

import { computed, signal } from "@preact/signals";
import { sentenceOf } from "./api";
import { instant, length, spoken } from "./format";
import { pictureOf, standingAt, type Picture } from "./lanes";
import { Observer } from "./observe";
import type { Session } from "./session";
import type { Diagnostics, Explanation, TimelineEntry } from "./types";

/** How often the diagnostics are read, in milliseconds. */
const EVERY = 1000;

/** How long the cursor has to rest before the server is asked, in milliseconds. */
const REST = 150;

export class UserStory {
  readonly diagnostics = signal<Diagnostics | null>(null);
  /** Null until it is known whether this server has timelines. */
  readonly recorded = signal<boolean | null>(null);
  /** The timeline no longer reaches back to its beginning. */
  readonly cut = signal(false);
  readonly entries = signal<readonly TimelineEntry[]>([]);
  readonly picture = computed<Picture>(() =>
    pictureOf(this.entries.value, this.#session.now(), this.diagnostics.value),
  );
  /** Of now. */
  readonly why = signal<Explanation | null>(null);
  /** The instant under the cursor, and why the user was shown as they were then. */
  readonly cursor = signal<number | null>(null);
  readonly whyThen = signal<Explanation | null>(null);
  /** False once the server has said that it does not explain. */
  readonly explains = signal(true);
  readonly problem = signal<string | null>(null);
  readonly #session: Session;
  readonly #user: string;
  readonly #observer = new Observer();
  readonly #stop: () => void;
  readonly #timer: ReturnType<typeof setInterval>;
  #rest: ReturnType<typeof setTimeout> | undefined;
  #asking: AbortController | null = null;
  #last = "";
  #reading = false;
  #again = false;

  constructor(session: Session, user: string) {
    this.#session = session;
    this.#user = user;
    this.#stop = session.feed.listen({
      onEvents: (events) => events.some((event) => event.user === user) && void this.read(),
      onGap: () => void this.read(),
    });
    this.#timer = setInterval(() => !document.hidden && void this.read(), EVERY);
    void this.read();
  }

  close(): void {
    this.#stop();
    clearInterval(this.#timer);
    clearTimeout(this.#rest);
    this.#asking?.abort();
  }

  /** Read everything anew; one reading at a time, and one more where it was asked for meanwhile. */
  async read(): Promise<void> {
    this.#again = this.#reading;
    if (this.#reading) return;
    this.#reading = true;
    try {
      await this.#read();
      this.problem.value = null;
    } catch (error) {
      this.problem.value = sentenceOf(error);
    }
    this.#reading = false;
    if (this.#again) await this.read();
  }

  async #read(): Promise<void> {
    const { api } = this.#session;
    const seen = await api.diagnostics(this.#user);
    const print = fingerprint(seen);
    this.#session.learn(seen);
    if (this.recorded.value !== true) this.#observer.take(seen, this.#session.now());
    if (print !== this.#last) {
      this.#last = print;
      if (this.recorded.value !== false) {
        const told = await api.timeline(this.#user);
        this.recorded.value = told !== null;
        if (told !== null) {
          this.entries.value = told.entries;
          this.cut.value = told.cut;
        }
      }
      if (this.explains.value) {
        this.why.value = await api.explain(this.#user, null);
        this.explains.value = this.why.value !== null;
      }
    }
    if (this.recorded.value === false && this.entries.value !== this.#observer.entries) {
      this.entries.value = this.#observer.entries;
    }
    this.diagnostics.value = seen;
  }

  /** Move the cursor; the server is asked when it rests. */
  point(at: number | null): void {
    this.cursor.value = at;
    clearTimeout(this.#rest);
    this.#asking?.abort();
    this.whyThen.value = null;
    if (at !== null && this.explains.value) this.#rest = setTimeout(() => void this.#explain(at), REST);
  }

  async #explain(at: number): Promise<void> {
    const asking = (this.#asking = new AbortController());
    try {
      const why = await this.#session.api.explain(this.#user, at, asking.signal);
      if (asking.signal.aborted) return;
      this.explains.value = why !== null;
      this.whyThen.value = why;
    } catch {
      // Aborted, or refused (the instant may be in the future): what the picture shows is said instead.
    }
  }
}

/** What a new entry of the timeline changes. */
function fingerprint(seen: Diagnostics): string {
  const connections = seen.connections.map((c) => [c.connectionKey, c.readyState, c.availability]);
  return JSON.stringify([connections, seen.grace, seen.epoch, seen.version, seen.lastTransition]);
}

/** Why the user is shown like this now, from the diagnostics alone. */
export function sayNow(seen: Diagnostics, now: number): string {
  const { user, activeConnectionCount: count, grace, lastTransition: last } = seen;
  if (!seen.complete) return `The store cannot be asked; this node has ${count} active connections of ${user}.`;
  if (count > 0) {
    const since = last === null ? "" : ` since ${instant(last.at, now)}`;
    return `${user} is ${seen.status}${since}: ${count === 1 ? "1 connection is" : `${count} connections are`} active.`;
  }
  if (grace !== null) {
    const ended = `the last connection ended at ${instant(grace.startedAt, now)} (${spoken(grace.cause)})`;
    const left = Math.max(0, grace.deadline - now);
    const window = `its window of ${length(grace.windowMs)} runs for another ${length(left)}`;
    return `${user} is still shown ${seen.status}: ${ended}, and ${window}.`;
  }
  if (last === null) return `${user} is offline; no change of it is recorded.`;
  return `${user} is ${seen.status} since ${instant(last.at, now)} (${spoken(last.cause)}).`;
}

/** How things stood at an instant, from the picture alone. */
export function sayThen(picture: Picture, at: number): string {
  const { open, closing, window, shown } = standingAt(picture, at);
  const said = [`${open.length} open`];
  if (closing.length > 0) said.push(`${closing.length} closing`);
  if (window !== null) {
    const left = length(window.deadline - at);
    said.push(`a window of ${length(window.deadline - window.from)} (${spoken(window.cause)}), ${left} left`);
  }
  if (shown !== null) {
    said.push(`shown ${shown.status}${shown.version === null ? "" : `, version ${shown.version}`}`);
  }
  return said.join(" · ");
}
