/** Oneself: how others see one, what one says of oneself, and one's own tabs. */

import type { Availability } from "stillhere";
import type { OwnConnection } from "../api";
import { now } from "../clock";
import type { Session } from "../session";
import { ago, clockTime } from "../time";
import { EndedNotice } from "./connection";
import { Avatar, StatusMark } from "./marks";

const CHOICES: { availability: Availability; label: string; mark: "online" | "away" | "busy" | "invisible" }[] = [
  { availability: "active", label: "Active", mark: "online" },
  { availability: "away", label: "Away", mark: "away" },
  { availability: "busy", label: "Busy", mark: "busy" },
  { availability: "invisible", label: "Invisible", mark: "invisible" },
];

export function Self({ session }: { session: Session }) {
  const { status, stale } = session.view(session.user);
  const { availability: said, idle } = session.self.value;
  const online = session.connection.value.status === "online";
  return (
    <section class="card self" aria-labelledby="self-title">
      <EndedNotice session={session} />
      <div class={stale ? "self-head is-stale" : "self-head"}>
        <Avatar user={session.user} status={status} large />
        <div class="self-name">
          <h2 id="self-title">
            <bdi>{session.user}</bdi>
          </h2>
          <p class="muted">
            shown as{" "}
            <span class={`status-word is-${status}`} data-testid="self-status" data-status={status}>
              {status}
            </span>
            {idle && " while nobody is at this tab"}
          </p>
        </div>
        <button type="button" class="quiet" data-testid="btn-logout" onClick={() => session.logOut()}>
          Log out
        </button>
      </div>
      <div class="segments" role="group" aria-label="What you say of yourself">
        {CHOICES.map(({ availability, label, mark }) => (
          <button
            key={availability}
            type="button"
            data-testid={`btn-${availability}`}
            aria-pressed={availability === (idle ? "active" : said)}
            onClick={() => session.setAvailability(availability)}
          >
            <StatusMark status={mark} />
            {label}
          </button>
        ))}
      </div>
      <h3>
        Your tabs and devices {!online && <span class="chip is-stale-chip">last known</span>}
      </h3>
      <ul class="tabs">
        {session.ownConnections.value.map((connection) => (
          <Tab key={connection.connectionKey} connection={connection} own={connection.tab === session.tap.tab} />
        ))}
        {session.ownConnections.value.length === 0 && <li class="empty">Nothing to list yet.</li>}
      </ul>
      <button
        type="button"
        class="drop"
        data-testid="btn-drop"
        disabled={!online}
        onClick={() => void session.dropNetwork()}
      >
        Drop my network
      </button>
      <p class="hint">Cuts this tab's connection without a word, as a dead Wi-Fi would. Nobody should notice.</p>
      <p class="problem" role="alert">
        {session.trouble}
      </p>
    </section>
  );
}

function Tab({ connection, own }: { connection: OwnConnection; own: boolean }) {
  const { client, openedAt, readyState, connectionKey, node } = connection;
  return (
    <li class="tab">
      <span class="tab-client">
        {client === undefined || client === "" ? "Unknown client" : client}
        {own && <span class="chip is-own">this tab</span>}
      </span>
      <span class={`chip is-${readyState.toLowerCase()}`}>{readyState}</span>
      <span class="tab-more">
        <time dateTime={new Date(openedAt).toISOString()} title={clockTime(openedAt)}>
          opened {ago(openedAt, now.value)}
        </time>
        {node !== undefined && ` · ${node}`}
      </span>
      <code class="tab-key" title="The connection key, redacted: enough to find this connection in the logs">
        {connectionKey}
      </code>
    </li>
  );
}
