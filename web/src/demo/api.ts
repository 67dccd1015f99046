/** The HTTP calls of the page: the development log-in and the admin API. */

import { KEYS, forget, recall, remember } from "./storage";

/** What the development server answers a log-in with. */
export interface Token {
  /** A JWT. */
  token: string;
  /** When it ends, in milliseconds since the Unix epoch. */
  expiresAt: number;
}

/** A connection as the user's own diagnostics list it. */
export interface OwnConnection {
  connectionKey: string;
  readyState: string;
  openedAt: number;
  lastHeardAt?: number;
  node?: string;
  tab?: string;
  client?: string;
  availability?: string;
}

export interface Diagnostics {
  user: string;
  online: boolean;
  activeConnectionCount: number;
  connections: OwnConnection[];
  grace: { cause: string; startedAt: number; deadline: number } | null;
}

/** The server said no; `status` is its HTTP status. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** Tokens with less than this left are not worth starting with, in milliseconds. */
const TOO_SHORT = 30_000;

export class Api {
  readonly #user: string;
  #cached: Token | null;
  #fetching: Promise<Token> | null = null;

  constructor(user: string) {
    this.#user = user;
    const kept = recall(KEYS.token, isToken);
    this.#cached = kept?.user === user ? kept : null;
  }

  /** This log-in's token; the same one across reloads, so that the session stays the same too. */
  async token(renew: boolean): Promise<Token> {
    if (!renew && this.#cached !== null && this.#cached.expiresAt - Date.now() > TOO_SHORT) return this.#cached;
    this.#fetching ??= this.#fetchToken().finally(() => (this.#fetching = null));
    return this.#fetching;
  }

  async #fetchToken(): Promise<Token> {
    const token = (await this.#call("POST", "/dev/token", { user: this.#user }, null)) as Token;
    this.#cached = token;
    remember(KEYS.token, { ...token, user: this.#user });
    return token;
  }

  /** Users that the server knows, the first page of them. */
  async users(): Promise<{ user: string }[]> {
    return ((await this.#authorized("GET", "/v1/users?limit=200")) as { users: { user: string }[] }).users;
  }

  async ownDiagnostics(): Promise<Diagnostics> {
    return (await this.#authorized("GET", `/v1/users/${encodeURIComponent(this.#user)}/diagnostics`)) as Diagnostics;
  }

  async stats(): Promise<Record<string, unknown>> {
    return (await this.#authorized("GET", "/v1/stats")) as Record<string, unknown>;
  }

  /** Have the server abort this connection's TCP, as a broken network would: a page cannot do that by itself. */
  async drop(connectionId: string): Promise<void> {
    await this.#authorized("POST", "/dev/drop", { connectionId });
  }

  /** The log-in is over. */
  signOut(): void {
    this.#cached = null;
    forget(KEYS.token);
  }

  async #authorized(method: string, path: string, body?: unknown): Promise<unknown> {
    const { token } = await this.token(false);
    try {
      return await this.#call(method, path, body, token);
    } catch (error) {
      // The server was restarted and has another secret now.
      if (!(error instanceof HttpError) || error.status !== 401) throw error;
      return this.#call(method, path, body, (await this.token(true)).token);
    }
  }

  async #call(method: string, path: string, body: unknown, token: string | null): Promise<unknown> {
    const headers: Record<string, string> = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (token !== null) headers["Authorization"] = `Bearer ${token}`;
    const init: RequestInit = { method, headers, cache: "no-store" };
    if (body !== undefined) init.body = JSON.stringify(body);
    const answer = await fetch(path, init);
    if (!answer.ok) throw new HttpError(answer.status, `${method} ${path} answered ${answer.status}`);
    const text = await answer.text();
    return text === "" ? null : JSON.parse(text);
  }
}

function isToken(value: unknown): value is Token & { user: string } {
  if (typeof value !== "object" || value === null) return false;
  const { token, expiresAt, user } = value as Record<string, unknown>;
  return typeof token === "string" && typeof expiresAt === "number" && typeof user === "string";
}
