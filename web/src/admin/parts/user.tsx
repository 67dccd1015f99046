/** One user: why they are shown as they are, the picture of it, the entries, and putting them out. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Avatar } from "../../demo/parts/marks";
import { tick } from "../clock";
import { counted, instant, length, spoken } from "../format";
import { sayEntry } from "../lanes";
import { hrefOf } from "../route";
import type { Session } from "../session";
import { sayNow, UserStory } from "../timeline";
import type { Diagnostics, Status } from "../types";
import { PictureView } from "./picture";
import { Badge, Confirm, whyNot } from "./pieces";

export function UserView({ session, user }: { session: Session; user: string }) {
  const story = useSignal<UserStory | null>(null);
  useEffect(() => {
    const begun = new UserStory(session, user);
    story.value = begun;
    return () => begun.close();
  }, []);
  return story.value === null ? null : <Loaded session={session} user={user} story={story.value} />;
}

function Loaded({ session, user, story }: { session: Session; user: string; story: UserStory }) {
  const seen = story.diagnostics.value;
  const shown = shownOf(session, user, seen);
  const kicking = useSignal(false);
  const told = useSignal("");
  const reason = useRef<HTMLInputElement>(null);
  const refused = whyNot(session);
  const kick = async (): Promise<void> => {
    const { disconnected } = await session.api.disconnect(user, reason.current?.value ?? "");
    told.value = `Kicked: ${counted(disconnected, "connection")} closed with 4004.`;
    void story.read();
  };
  const copy = async (): Promise<void> => {
    const { why, entries } = story;
    const all = { user, at: session.now(), diagnostics: seen, explanation: why.value, timeline: entries.value };
    try {
      await navigator.clipboard.writeText(JSON.stringify(all, null, 2));
      told.value = "Copied.";
    } catch {
      told.value = "The browser does not let this page write to the clipboard.";
    }
  };
  return (
    <section class="view" aria-labelledby="user-title">
      <div class="view-head">
        <Avatar user={user} status={shown?.status ?? "unknown"} large />
        <h1 id="user-title">
          <bdi data-testid="user-id">{user}</bdi>
        </h1>
        {shown !== null && (
          <span data-testid="user-status" data-status={shown.status} data-stale={shown.stale}>
            <Badge status={shown.status} stale={shown.stale} />
          </span>
        )}
        <div class="view-actions">
          <button type="button" data-testid="copy" disabled={seen === null} onClick={() => void copy()}>
            Copy as JSON
          </button>
          <button
            type="button"
            class="danger"
            data-testid="kick"
            disabled={refused !== null}
            aria-describedby={refused === null ? undefined : "kick-refused"}
            onClick={() => (kicking.value = true)}
          >
            Kick…
          </button>
        </div>
      </div>
      {refused !== null && (
        <p id="kick-refused" class="hint">
          {refused}
        </p>
      )}
      <p role="status" data-testid="told">
        {told.value}
      </p>
      <p class="problem" role="alert">
        {story.problem.value}
      </p>
      {seen !== null && (
        <>
          <Why session={session} story={story} seen={seen} />
          <Facts seen={seen} />
          <PictureView session={session} story={story} />
          <Connections session={session} seen={seen} />
          <Entries session={session} story={story} />
        </>
      )}
      {kicking.value && (
        <Confirm title="Kick this user?" action="Kick" onConfirm={kick} onClose={() => (kicking.value = false)}>
          <p>
            Every connection of <bdi>{user}</bdi> is closed with 4004, no window is left, and everybody is shown offline
            at once. Clients do not reconnect by themselves.
          </p>
          <label for="kick-reason">Reason, told to the client</label>
          <input ref={reason} id="kick-reason" maxLength={100} data-testid="kick-reason" />
        </Confirm>
      )}
      <p>
        <a href={hrefOf("users")}>All users</a>
      </p>
    </section>
  );
}

/** How the user is shown: as in the list, by the stream; of one who is not listed, by the diagnostics. */
function shownOf(session: Session, user: string, seen: Diagnostics | null): { status: Status; stale: boolean } | null {
  const { book, edition } = session.directory;
  void edition.value;
  const listed = book.get(user);
  if (listed !== undefined) return listed;
  return seen === null ? null : { status: seen.status, stale: session.feed.state.value !== "live" };
}

function Why({ session, story, seen }: { session: Session; story: UserStory; seen: Diagnostics }) {
  void tick.value;
  const why = story.why.value;
  return (
    <div class={`card why is-edge-${seen.status}`}>
      <p class="why-sentence" data-testid="why">
        {why?.sentence ?? sayNow(seen, session.now())}
      </p>
      {why?.advice && <p class="hint">{why.advice}</p>}
      {!story.explains.value && (
        <p class="hint">This server does not explain past instants; what is said here is read from its diagnostics.</p>
      )}
    </div>
  );
}

function Facts({ seen }: { seen: Diagnostics }) {
  return (
    <dl class="facts">
      <div>
        <dt>online</dt>
        <dd data-testid="fact-online">{String(seen.online)}</dd>
      </div>
      <div>
        <dt>activeConnectionCount</dt>
        <dd data-testid="fact-count">{seen.activeConnectionCount}</dd>
      </div>
      <div>
        <dt>version</dt>
        <dd>{seen.version}</dd>
      </div>
      <div>
        <dt>grace</dt>
        <dd data-testid="fact-grace">
          {seen.grace === null ? "null" : `${seen.grace.cause}, ${length(seen.grace.windowMs)}`}
        </dd>
      </div>
      <div class="facts-wide">
        <dt>connectionKeys</dt>
        <dd>
          {seen.connectionKeys.length === 0
            ? "none"
            : seen.connectionKeys.map((key) => (
                <code key={key}>
                  <bdi>{key}</bdi>
                </code>
              ))}
        </dd>
      </div>
    </dl>
  );
}

function Connections({ session, seen }: { session: Session; seen: Diagnostics }) {
  void tick.value;
  if (seen.connections.length === 0) return null;
  return (
    <div class="card table-card" role="region" aria-label="Connections" tabIndex={0}>
      <h2>Connections</h2>
      <table>
        <thead>
          <tr>
            <th scope="col">Connection</th>
            <th scope="col">State</th>
            <th scope="col">Node</th>
            <th scope="col">Tab</th>
            <th scope="col">Client</th>
            <th scope="col">Says</th>
            <th scope="col">Opened</th>
            <th scope="col">Heard</th>
          </tr>
        </thead>
        <tbody>
          {seen.connections.map((connection) => (
            <tr key={connection.connectionKey}>
              <th scope="row" class="mono">
                <bdi>{connection.connectionKey}</bdi>
              </th>
              <td>
                <span class={`chip ${connection.readyState === "OPEN" ? "is-open" : "is-closing"}`}>
                  {connection.readyState}
                </span>
                {connection.cause !== undefined && ` ${spoken(connection.cause)}`}
              </td>
              <td>
                <bdi>{connection.node}</bdi>
              </td>
              <td>
                <bdi>{connection.tab}</bdi>
              </td>
              <td>
                <bdi>{connection.client}</bdi>
              </td>
              <td>{connection.availability}</td>
              <td>{instant(connection.openedAt, session.now())}</td>
              <td>
                {connection.lastHeardAt === null ? "–" : `${length(session.now() - connection.lastHeardAt)} ago`}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** So many of the newest are in the page; all of them are in the JSON. */
const LISTED = 200;

function Entries({ session, story }: { session: Session; story: UserStory }) {
  const entries = story.entries.value;
  const listed = entries.slice(-LISTED).toReversed();
  return (
    <div class="card entries" role="region" aria-label="Timeline" tabIndex={0}>
      <div class="card-head">
        <h2>Timeline</h2>
        <span class="count">{counted(entries.length, "entry", "entries")}, newest first</span>
      </div>
      {story.recorded.value === false && (
        <p class="hint" data-testid="not-recorded">
          This server keeps no timelines. Below is what this page has seen itself since you opened it, looking once a
          second.
        </p>
      )}
      {story.cut.value && <p class="hint">What was before the first of these is no longer recorded.</p>}
      {listed.length === 0 && <p class="empty">Nothing is recorded.</p>}
      <ol>
        {listed.map((entry, n) => (
          <li key={entries.length - n}>
            <button type="button" class="entry-at mono" onClick={() => story.point(entry.at)}>
              {instant(entry.at, session.now())}
            </button>
            <bdi data-testid={`entry-${entry.type}`}>{sayEntry(entry)}</bdi>
          </li>
        ))}
      </ol>
    </div>
  );
}
