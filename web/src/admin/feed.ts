/** The live stream of transitions: one for all pages, for as long as somebody is logged in. */

import { signal } from "@preact/signals";
import { delayMs, STABLE_MS, type Advice } from "stillhere/feed";
import { CallError, type AdminApi } from "./api";
import { EventParser } from "./sse";
import type { EventData } from "./types";

export type FeedState = "connecting" | "live" | "lost";

/** What somebody who listens is told: a transition, or that some may have been missed. */
export interface FeedListener {
  onEvents(events: EventData[]): void;
  onGap?(): void;
}

/** A stream that says nothing for so long is given up, in milliseconds: the server says something every 15 seconds. */
const SILENCE = 40_000;

export class Feed {
  /** `live` from the first word of the server on: a gap has then been told. */
  readonly state = signal<FeedState>("connecting");
  readonly #api: AdminApi;
  readonly #listeners = new Set<FeedListener>();
  readonly #stop = new AbortController();
  /** Where to go on; null as long as the server has not said where we are. */
  #id: string | null = null;
  /** Whether there was a stream before this one. */
  #again = false;
  /** When the stream that stands began to be heard; ms since the Unix epoch. */
  #heardAt = Infinity;

  constructor(api: AdminApi) {
    this.#api = api;
  }

  /** Tell somebody from now on; returns how to end it. */
  listen(listener: FeedListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Read until {@link close}; resolves when the first connection is heard, or could not be made. */
  start(): Promise<void> {
    return new Promise((resolve) => void this.#run(resolve));
  }

  close(): void {
    this.#stop.abort();
    this.#listeners.clear();
  }

  async #run(begun: () => void): Promise<void> {
    const { signal: stopped } = this.#stop;
    for (let attempt = 0; !stopped.aborted; attempt += 1) {
      const advice = await this.#listen(begun);
      begun();
      if (stopped.aborted || advice === "stop") return;
      this.state.value = "lost";
      if (Date.now() - this.#heardAt >= STABLE_MS) attempt = 0;
      await new Promise((resolve) => setTimeout(resolve, delayMs(advice, attempt, Math.random())));
    }
  }

  /** Read one stream to its end; returns what to do then. */
  async #listen(begun: () => void): Promise<Advice> {
    const attempt = new AbortController();
    const give = (): void => attempt.abort();
    this.#stop.signal.addEventListener("abort", give);
    let patience = setTimeout(give, SILENCE);
    this.#heardAt = Infinity;
    try {
      const answer = await this.#api.events(this.#id, attempt.signal);
      const reader = answer.body?.getReader();
      const decoder = new TextDecoder();
      const parser = new EventParser();
      for (;;) {
        const { done, value } = (await reader?.read()) ?? { done: true };
        if (done || this.#stop.signal.aborted) break;
        clearTimeout(patience);
        patience = setTimeout(give, SILENCE);
        this.#take(parser, decoder.decode(value, { stream: true }));
        begun();
      }
      return "soon";
    } catch (error) {
      return adviceOf(error);
    } finally {
      clearTimeout(patience);
      attempt.abort();
      this.#stop.signal.removeEventListener("abort", give);
    }
  }

  #take(parser: EventParser, text: string): void {
    const events: EventData[] = [];
    // Without an id to resume from, what happened in between was missed.
    let gap = this.#again && this.#id === null;
    for (const event of parser.push(text)) {
      if (event.event === "gap") gap = true;
      else if (event.event !== "bye") events.push(JSON.parse(event.data) as EventData);
    }
    this.#id = parser.id ?? this.#id;
    this.#again = true;
    if (gap) for (const listener of this.#listeners) listener.onGap?.();
    if (events.length > 0) for (const listener of this.#listeners) listener.onEvents(events);
    if (this.state.value === "live") return;
    this.#heardAt = Date.now();
    this.state.value = "live";
  }
}

/** A refusal that another attempt at once would not change waits longer. Whose key is refused is logged out. */
function adviceOf(error: unknown): Advice {
  if (!(error instanceof CallError) || error.status === 0 || error.status === 502 || error.status === 503) return "soon";
  return error.status === 401 ? "stop" : "back-off";
}
