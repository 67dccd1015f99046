/** The live stream of transitions: one for all pages, for as long as somebody is logged in. */

import { signal } from "@preact/signals";
import { CallError, type AdminApi } from "./api";
import { EventParser } from "./sse";
import type { EventData } from "./types";

export type FeedState = "connecting" | "live" | "lost";

/** What somebody who listens is told: a transition, or that some may have been missed. */
export interface FeedListener {
  onEvents(events: EventData[]): void;
  onGap?(): void;
}

/** Milliseconds before the next attempt, at first and at most. */
const FIRST = 500;
const MOST = 10_000;

export class Feed {
  readonly state = signal<FeedState>("connecting");
  readonly #api: AdminApi;
  readonly #listeners = new Set<FeedListener>();
  readonly #stop = new AbortController();

  constructor(api: AdminApi) {
    this.#api = api;
  }

  /** Tell somebody from now on; returns how to end it. */
  listen(listener: FeedListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Read until {@link close}; resolves when the first connection stands, or could not be made. */
  start(): Promise<void> {
    return new Promise((resolve) => void this.#run(resolve));
  }

  close(): void {
    this.#stop.abort();
    this.#listeners.clear();
  }

  async #run(begun: () => void): Promise<void> {
    let wait = FIRST;
    let id: string | null = null;
    let first = true;
    while (!this.#stop.signal.aborted) {
      const parser = new EventParser();
      try {
        const answer = await this.#api.events(id, this.#stop.signal);
        this.state.value = "live";
        // Without an id to resume from, what happened in between was missed.
        if (!first && id === null) this.#gap();
        first = false;
        begun();
        await this.#read(answer, parser);
        wait = FIRST;
      } catch (error) {
        begun();
        if (error instanceof CallError && error.status === 401) break;
      }
      if (this.#stop.signal.aborted) return;
      id = parser.id ?? id;
      this.state.value = "lost";
      await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random() / 2)));
      wait = Math.min(MOST, wait * 2);
    }
  }

  async #read(answer: Response, parser: EventParser): Promise<void> {
    const reader = answer.body?.getReader();
    if (reader === undefined) return;
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const events: EventData[] = [];
      for (const event of parser.push(decoder.decode(value, { stream: true }))) {
        if (event.event === "gap") this.#gap();
        else if (event.event !== "bye") events.push(JSON.parse(event.data) as EventData);
      }
      if (events.length > 0) for (const listener of this.#listeners) listener.onEvents(events);
    }
  }

  #gap(): void {
    for (const listener of this.#listeners) listener.onGap?.();
  }
}
