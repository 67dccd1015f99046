/** What the client needs of the world around it; tests bring their own clock, chance and sockets. */

/** The part of the browser's `WebSocket` that is used. */
export interface SocketLike {
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

export type Timer = ReturnType<typeof globalThis.setTimeout>;

export interface Environment {
  WebSocket: new (url: string, protocols: string[]) => SocketLike;
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /** A number in [0, 1). */
  random(): number;
  setTimeout(run: () => void, ms: number): Timer;
  clearTimeout(timer: Timer): void;
}

export function browserEnvironment(): Environment {
  return {
    WebSocket: globalThis.WebSocket,
    now: () => Date.now(),
    random: () => Math.random(),
    setTimeout: (run, ms) => globalThis.setTimeout(run, ms),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
  };
}
