/** Everything that can go wrong, as one typed error with advice. */

/**
 * What went wrong. The first group is thrown at the caller; the second stops the client (`status` is `refused`); the
 * third is only told (`problem` events), the client goes on by itself; the fourth are the server's words about one
 * request.
 */
export type ProblemCode =
  | "bad_url"
  | "bad_id"
  | "cannot_open"
  | "no_websocket"
  | "no_token"
  | "protocol"
  | "unauthorized"
  | "forbidden_origin"
  | "kicked"
  | "superseded"
  | "refused"
  | "token_failed"
  | "unreachable"
  | "bad_request"
  | "forbidden"
  | "too_many"
  | "too_large"
  | "rate_limited"
  | "unavailable"
  | "internal";

const LOG_IN = "Log in, then connect().";
const SEE = "See cause.";
const ADVICE: Partial<Record<ProblemCode, string>> = {
  bad_url: "Give wss://example.com/ws, or /ws.",
  bad_id: "An id has 1-256 bytes.",
  cannot_open: SEE,
  no_websocket: "Pass a WebSocket.",
  no_token: LOG_IN,
  protocol: "Update server or client.",
  unauthorized: LOG_IN,
  kicked: "Ask before connect().",
  superseded: "A newer page is this tab.",
  token_failed: SEE,
  unreachable: "Check network, url, token, origin.",
};

/** An error of the presence client. */
export class PresenceError extends Error {
  override readonly name = "PresenceError";
  /** What to do about it, as a sentence; empty where the message says it all. */
  readonly advice: string;

  /** Of the WebSocket, where one was received. */
  readonly closeCode: number | undefined;

  /**
   * @param code what went wrong
   * @param message one sentence; the advice unless told
   */
  constructor(
    readonly code: ProblemCode,
    message?: string,
    { closeCode, cause }: { closeCode?: number; cause?: unknown } = {},
  ) {
    const advice = ADVICE[code] ?? "";
    super(message ?? advice, { cause });
    this.advice = advice;
    this.closeCode = closeCode;
  }
}

const CLOSES: readonly ProblemCode[] = [
  "protocol",
  "unauthorized",
  "refused",
  "forbidden_origin",
  "kicked",
  "superseded",
];

/** The error of a close that says: do not reconnect. */
export function refusal(closeCode: number, reason: string): PresenceError {
  const code = CLOSES[closeCode - 4000] ?? "refused";
  return new PresenceError(code, reason || `closed with ${closeCode}`, { closeCode });
}
