/** What the client needs of the world around it. Tests bring their own; servers of web pages have almost nothing. */

/** The part of `WebSocket` that is used. */
export interface SocketLike {
  readonly protocol: string;
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** The part of `LockManager` that is used. */
export interface LocksLike {
  request(name: string, options: { signal: AbortSignal }, held: () => Promise<void>): Promise<unknown>;
}

/** The part of `Document` that is used. */
export interface DocumentLike {
  readonly visibilityState: string;
  readonly prerendering?: boolean;
}

/** See the module. `undefined` stands for what this world does not have. */
export interface Environment {
  WebSocket: (new (url: string, protocols: string[]) => SocketLike) | undefined;
  /** Milliseconds since the Unix epoch; it may jump. */
  now(): number;
  /** A number in [0, 1). */
  random(): number;
  setTimeout(run: () => void, ms: number): unknown;
  /** Undefined stands for none. */
  clearTimeout(timer: unknown): void;
  /** A new id that nobody can guess. */
  newId(): string;
  window: EventTarget | undefined;
  document: DocumentLike | undefined;
  /** What relative addresses start from. */
  base: string | undefined;
  /** Storage of this tab that survives a reload. */
  storage: Pick<Storage, "getItem" | "setItem" | "removeItem"> | undefined;
  locks: LocksLike | undefined;
}

/** The world of a browser's page, or as much of it as there is. */
export function browserEnvironment(): Environment {
  const { WebSocket, location, navigator, document }: Partial<typeof globalThis> = globalThis;
  let storage: Environment["storage"];
  try {
    storage = document && sessionStorage;
  } catch {
    // a sandboxed frame, or cookies are blocked
  }
  return {
    WebSocket,
    now: () => Date.now(),
    random: () => Math.random(),
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer as number),
    // crypto.randomUUID would need a secure context, which a page on a LAN address is not
    newId: () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-"),
    window: document && window,
    document,
    base: location?.href,
    storage,
    locks: document && navigator?.locks,
  };
}

/**
 * Read this tab's storage, or write it where a value is given ("" removes).
 *
 * @returns what it held; where it is full or forbidden, nothing: the next load of the page knows less
 */
export function keep({ storage }: Environment, key: string, value?: string): string | null | undefined {
  try {
    if (value) storage?.setItem(key, value);
    else if (value === "") storage?.removeItem(key);
    return storage?.getItem(key);
  } catch {
    return undefined;
  }
}

/** Timers by name. */
export interface Timers {
  /** Run something once, so many milliseconds from now; the name's earlier one is forgotten. */
  set(name: string, ms: number, run: () => void): void;
  has(name: string): boolean;
  cancel(name: string): void;
  cancelAll(): void;
}

export function startTimers(env: Environment): Timers {
  const running = new Map<string, unknown>();
  const cancel = (name: string): void => {
    env.clearTimeout(running.get(name));
    running.delete(name);
  };
  return {
    cancel,
    cancelAll: () => [...running.keys()].forEach(cancel),
    has: (name) => running.has(name),
    set: (name, ms, run) => {
      cancel(name);
      const fire = (): void => {
        running.delete(name);
        run();
      };
      // browsers fire a longer one at once
      running.set(name, env.setTimeout(fire, Math.min(ms, 2 ** 31 - 1)));
    },
  };
}
