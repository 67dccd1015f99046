/** The newest events, and how many there were in each second. */

import { signal } from "@preact/signals";
import type { Feed } from "./feed";
import type { EventData } from "./types";

const KEPT = 2000;

export interface TailFilter {
  /** In the user's id or the room's name. */
  text: string;
  change: string;
}

/** Whether a filter lets an event pass. */
export function passes(filter: TailFilter, event: EventData): boolean {
  if (filter.change !== "all" && event.change !== filter.change) return false;
  const text = filter.text.toLowerCase();
  return text === "" || event.user.toLowerCase().includes(text) || (event.room ?? "").toLowerCase().includes(text);
}

export class Tail {
  /** Newest first. */
  events: EventData[] = [];
  readonly edition = signal(0);
  readonly #stop: () => void;
  #frame = 0;

  constructor(feed: Feed) {
    this.#stop = feed.listen({ onEvents: (events) => this.#take(events) });
  }

  clear(): void {
    this.events = [];
    this.edition.value += 1;
  }

  close(): void {
    this.#stop();
    cancelAnimationFrame(this.#frame);
  }

  #take(events: EventData[]): void {
    this.events = [...events.toReversed(), ...this.events].slice(0, KEPT);
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.edition.value += 1;
    });
  }
}
