/** The state of this tab's own connection. */

import type { ConnectionState } from "../../presence";
import { now } from "../clock";
import type { Session } from "../session";

export function Connection({ session }: { session: Session }) {
  const state = session.connection.value;
  const name = state.name === "open" && !session.fresh.value ? "loading" : state.name;
  return (
    <span class={`connection is-${name}`} data-testid="connection-status" data-state={state.name}>
      <span class="connection-dot" aria-hidden="true" />
      <span role="status">{STATUS[state.name]}</span>
      <span class="connection-more">{more(state, session.fresh.value, now.value)}</span>
    </span>
  );
}

/** What is read out; the countdown beside it is not, or it would be read out every second. */
const STATUS: Record<ConnectionState["name"], string> = {
  idle: "not connected",
  connecting: "connecting",
  open: "connected",
  waiting: "reconnecting",
  hidden: "paused",
  ended: "disconnected",
};

function more(state: ConnectionState, fresh: boolean, at: number): string {
  if (state.name === "open") return fresh ? `to ${state.welcome.node}` : "checking";
  if (state.name === "waiting") return `in ${Math.max(1, Math.ceil((state.until - at) / 1000))} s`;
  return "";
}

const ENDED: Record<number, string> = {
  4000: "The server and this page do not speak the same protocol.",
  4001: "The log-in ran out.",
  4003: "The server does not accept pages from this address.",
  4004: "You were disconnected by an administrator.",
  4005: "This tab's place was taken by a newer connection.",
};

/** Why the connection ended for good, and the way back. */
export function EndedNotice({ session }: { session: Session }) {
  const state = session.connection.value;
  if (state.name !== "ended" || state.reason === "bye") return null;
  return (
    <div class="notice" role="alert">
      <p>
        {ENDED[state.code] ?? "The server ended the connection."} <span class="muted">Code {state.code}.</span>
      </p>
      <button type="button" onClick={() => session.reconnect()}>
        Connect again
      </button>
    </div>
  );
}
