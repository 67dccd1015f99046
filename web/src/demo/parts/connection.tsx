/** The state of this tab's own connection. */

import type { ConnectionStatus, ConnectionView, ProblemCode } from "stillhere";
import { now } from "../clock";
import type { Session } from "../session";

export function Connection({ session }: { session: Session }) {
  const view = session.connection.value;
  const { status } = view;
  // The server always tells of oneself; until it has, or when it cannot be heard, nothing else is certain either.
  const checking = status === "online" && session.view(session.user).stale;
  return (
    <span
      class={`connection is-${checking ? "checking" : status}`}
      data-testid="connection-status"
      data-state={status === "online" ? "open" : status}
      data-stale={checking || status !== "online"}
    >
      <span class="connection-dot" aria-hidden="true" />
      <span role="status">{STATUS[status]}</span>
      <span class="connection-more">{checking ? "checking" : more(view, session.tap.node, now.value)}</span>
    </span>
  );
}

/** What is read out; the countdown beside it is not, or it would be read out every second. */
const STATUS: Record<ConnectionStatus, string> = {
  connecting: "connecting",
  online: "connected",
  reconnecting: "reconnecting",
  offline: "not connected",
  refused: "disconnected",
};

function more({ status, retryAt }: ConnectionView, node: string, at: number): string {
  if (status === "online") return `to ${node}`;
  return retryAt === undefined ? "" : `in ${Math.max(1, Math.ceil((retryAt - at) / 1000))} s`;
}

const REFUSED: Partial<Record<ProblemCode, string>> = {
  protocol: "The server and this page do not speak the same protocol.",
  unauthorized: "The log-in ran out.",
  forbidden_origin: "The server does not accept pages from this address.",
  kicked: "You were disconnected by an administrator.",
  superseded: "This tab's place was taken by a newer connection.",
};

/** Why the connection ended for good, and the way back. */
export function EndedNotice({ session }: { session: Session }) {
  const { status, error } = session.connection.value;
  if (status !== "refused" || error === undefined) return null;
  const detail = error.closeCode === undefined ? error.message : `Code ${error.closeCode}.`;
  return (
    <div class="notice" role="alert">
      <p>
        {REFUSED[error.code] ?? "The server ended the connection."} <span class="muted">{detail}</span>
      </p>
      <button type="button" onClick={() => session.reconnect()}>
        Connect again
      </button>
    </div>
  );
}
