/** What this watcher was shown. */

import type { Session } from "../session";
import type { StripEntry } from "../strip";
import { clockTime } from "../time";
import { StatusMark } from "./marks";

export function LiveStrip({ session }: { session: Session }) {
  const entries = session.strip.entries.value;
  return (
    <section class="card strip" aria-labelledby="strip-title">
      <div class="card-head">
        <h2 id="strip-title">What you were shown</h2>
        <button type="button" class="quiet" disabled={entries.length === 0} onClick={() => session.strip.clear()}>
          Clear
        </button>
      </div>
      {entries.length === 0 && <p class="empty">Every change appears here, with its time to the millisecond.</p>}
      <ol class="strip-list" data-testid="strip" tabIndex={0} aria-label="Changes, newest first">
        {entries.map((entry) => (
          <Entry key={entry.key} entry={entry} />
        ))}
      </ol>
    </section>
  );
}

function Entry({ entry }: { entry: StripEntry }) {
  const { at, user, status, version, origin } = entry;
  return (
    <li
      class={`entry is-${origin}`}
      data-testid="strip-entry"
      data-user={user}
      data-status={status}
      data-version={version}
      data-at={at}
      data-origin={origin}
      data-room={entry.room}
    >
      <time dateTime={new Date(at).toISOString()}>{clockTime(at)}</time>
      <span class="entry-what">
        <StatusMark status={status} />
        <bdi class="entry-user">{user}</bdi>
        <span class={`status-word is-${status}`}>{status}</span>
        {entry.room !== undefined && (
          <span class="entry-room">
            {ROOM_WORDS[entry.kind ?? "updated"]} <bdi>{entry.room}</bdi>
          </span>
        )}
        {origin !== "live" && <span class="chip">{ORIGIN_WORDS[origin]}</span>}
      </span>
      {version !== undefined && <span class="version">v{version}</span>}
    </li>
  );
}

const ROOM_WORDS = { joined: "joined", left: "the room", updated: "in" };
const ORIGIN_WORDS = { first: "first seen", "catch-up": "after a gap" };
