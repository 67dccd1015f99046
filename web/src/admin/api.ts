/** The calls of the admin API. */

import type { Credential } from "./credential";
import { histograms, samplesOf, type Sample } from "./exposition";
import type { Settings } from "./settings";
import type {
  Diagnostics,
  Explanation,
  NodeInfo,
  Presence,
  PresencePage,
  RoomCount,
  RoomMembers,
  Stats,
  Timeline,
  TimelineEntry,
} from "./types";
import type { PolicyReplay } from "./whatif";

/** The server said no, or was not there (then `status` is 0). */
export class CallError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** The metrics that the pages draw. */
export interface Metrics {
  /** Connections that ended, by cause. */
  closes: Record<string, number>;
  /** Returns of tabs and sessions by cause: how many came back within so many seconds. */
  gaps: Record<string, { le: number; count: number }[]>;
}

const PAGE = 1000;

/** How many pages of a timeline are asked for at most. */
const TIMELINE_PAGES = 5;

export class AdminApi {
  readonly credential: Credential;
  readonly #onRefused: () => void;
  #paths: ReadonlySet<string> | null = null;

  /**
   * @param onRefused called when the credentials are no longer accepted
   */
  constructor(credential: Credential, onRefused: () => void) {
    this.credential = credential;
    this.#onRefused = onRefused;
  }

  /** Read which calls this server has: what it lacks is then not asked for. */
  async discover(): Promise<void> {
    const document = await this.#get<{ paths: Record<string, unknown> }>("/openapi.json");
    this.#paths = new Set(Object.keys(document.paths));
  }

  stats(): Promise<Stats> {
    return this.#get("/v1/stats");
  }

  settings(): Promise<Settings> {
    return this.#get("/v1/settings");
  }

  /** What other windows would have led to; it may take some seconds. */
  policyReplay(): Promise<PolicyReplay> {
    return this.#get("/v1/policy/replay");
  }

  users(cursor: string): Promise<PresencePage> {
    return this.#get(`/v1/users?limit=${PAGE}${cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`}`);
  }

  async query(users: string[]): Promise<Presence[]> {
    return (await this.#call<{ users: Presence[] }>("POST", "/v1/users/query", { users })).users;
  }

  diagnostics(user: string): Promise<Diagnostics> {
    return this.#get(`/v1/users/${encodeURIComponent(user)}/diagnostics`);
  }

  /** All that is recorded, oldest first; null where this server has no timelines. */
  async timeline(user: string): Promise<{ entries: TimelineEntry[]; cut: boolean } | null> {
    if (this.#lacks("/v1/users/{user}/timeline")) return null;
    const path = `/v1/users/${encodeURIComponent(user)}/timeline?limit=${PAGE}`;
    const found: TimelineEntry[] = [];
    let cut = false;
    for (let cursor: string | null = null, page = 0; page < TIMELINE_PAGES; page += 1) {
      const next: string = cursor === null ? path : `${path}&cursor=${encodeURIComponent(cursor)}`;
      const answer = await this.#orNull<Timeline>(next);
      if (answer === null) return null;
      found.push(...answer.items);
      cut ||= answer.cut;
      cursor = answer.cursor;
      if (!answer.more) break;
    }
    return { entries: found, cut };
  }

  /**
   * The grace windows in force, in milliseconds by cause; empty where this server does not tell them. They stand in the
   * head of a recording, and one of nobody has a head and nothing else.
   */
  async windows(): Promise<Record<string, number>> {
    if (this.#lacks("/v1/users/{user}/timeline/recording")) return {};
    const answer = await this.#fetch("/v1/users/-/timeline/recording", {
      headers: this.credential.headers,
      cache: "no-store",
    });
    const [head = "{}"] = (await answer.text()).split("\n", 1);
    const { windows = {} } = JSON.parse(head) as { windows?: Record<string, number> };
    return Object.fromEntries(Object.entries(windows).map(([cause, seconds]) => [cause, seconds * 1000]));
  }

  /** Null where this server does not explain. */
  async explain(user: string, at: number | null, signal?: AbortSignal): Promise<Explanation | null> {
    if (this.#lacks("/v1/users/{user}/explain")) return null;
    const query = at === null ? "" : `?at=${Math.round(at)}`;
    return this.#orNull(`/v1/users/${encodeURIComponent(user)}/explain${query}`, signal);
  }

  disconnect(user: string, reason: string): Promise<{ disconnected: number }> {
    return this.#call("POST", `/v1/users/${encodeURIComponent(user)}/disconnect`, { reason });
  }

  rooms(cursor: string): Promise<{ rooms: RoomCount[]; cursor: string | null }> {
    return this.#get(`/v1/rooms?limit=200${cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`}`);
  }

  room(room: string): Promise<RoomMembers> {
    return this.#get(`/v1/rooms/${encodeURIComponent(room)}`);
  }

  async nodes(): Promise<NodeInfo[]> {
    return (await this.#get<{ nodes: NodeInfo[] }>("/v1/nodes")).nodes;
  }

  drain(node: string): Promise<{ connections: number; drainMs: number }> {
    return this.#call("POST", `/v1/nodes/${encodeURIComponent(node)}/drain`);
  }

  async metrics(): Promise<Metrics> {
    const answer = await this.#fetch("/metrics", { headers: this.credential.headers, cache: "no-store" });
    const samples = samplesOf(await answer.text());
    return {
      closes: sumBy(samples, "stillhere_disconnects_total", "cause"),
      gaps: histograms(samples, "stillhere_reconnect_gap_seconds", "cause"),
    };
  }

  /** Open the stream of events. */
  events(after: string | null, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { ...this.credential.headers, Accept: "text/event-stream" };
    if (after !== null) headers["Last-Event-ID"] = after;
    return this.#fetch("/v1/events", { headers, signal, cache: "no-store" });
  }

  #lacks(path: string): boolean {
    return this.#paths !== null && !this.#paths.has(path);
  }

  #get<T>(path: string): Promise<T> {
    return this.#call<T>("GET", path);
  }

  async #orNull<T>(path: string, signal?: AbortSignal): Promise<T | null> {
    try {
      return await this.#call<T>("GET", path, undefined, signal);
    } catch (error) {
      if (error instanceof CallError && error.status === 404) return null;
      throw error;
    }
  }

  async #call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const init: RequestInit = { method, headers: { ...this.credential.headers }, cache: "no-store" };
    if (signal !== undefined) init.signal = signal;
    if (body !== undefined) {
      init.headers = { ...this.credential.headers, "Content-Type": "application/json" };
      init.body = JSON.stringify(body);
    }
    return (await (await this.#fetch(path, init)).json()) as T;
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    let answer: Response;
    try {
      answer = await fetch(path, init);
    } catch (error) {
      if (init.signal?.aborted === true) throw error;
      throw new CallError(0, "The server cannot be reached.");
    }
    if (answer.ok) return answer;
    if (answer.status === 401) this.#onRefused();
    throw new CallError(answer.status, await detailOf(answer));
  }
}

/** The sentence of a problem (RFC 9457). */
async function detailOf(answer: Response): Promise<string> {
  try {
    const problem = (await answer.json()) as { detail?: unknown };
    if (typeof problem.detail === "string") return problem.detail;
  } catch {
    // No JSON: a proxy answered in the server's place.
  }
  return `The server answered ${answer.status}.`;
}

function sumBy(samples: Sample[], name: string, label: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const sample of samples) {
    if (sample.name !== name) continue;
    const key = sample.labels[label] ?? "";
    found[key] = (found[key] ?? 0) + sample.value;
  }
  return found;
}

/** The sentence to show for whatever went wrong. */
export function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
