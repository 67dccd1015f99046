/** Everybody this tab watches. */

import type { UserPresence } from "../../presence";
import { now } from "../clock";
import type { Session } from "../session";
import { ago, clockTime } from "../time";
import { Avatar } from "./marks";
import { NameForm } from "./name-form";

export function People({ session }: { session: Session }) {
  const people = session.people.value;
  const here = people.filter((user) => isHere(session.presences.value.get(user))).length;
  const fresh = session.fresh.value;
  return (
    <section class={fresh ? "card people" : "card people is-stale"} aria-labelledby="people-title">
      <div class="card-head">
        <h2 id="people-title">People</h2>
        {fresh ? (
          <span class="count">
            {here} of {people.length} here
          </span>
        ) : (
          <span class="chip is-stale-chip">last known</span>
        )}
      </div>
      <ul class="person-list">
        {people.map((user) => (
          <Person
            key={user}
            user={user}
            presence={session.presences.value.get(user)}
            stale={!fresh || session.unsure.value.has(user)}
          />
        ))}
        {people.length === 0 && (
          <li class="empty">Nobody else yet. Open this page in another window, or add a name below.</li>
        )}
      </ul>
      <NameForm
        label="Add a person to watch"
        what="A name"
        submit="Add"
        placeholder="Add a person"
        testId="add-person-input"
        submitTestId="add-person-submit"
        onName={(user) => session.addPerson(user)}
      />
    </section>
  );
}

interface PersonProps {
  user: string;
  presence: UserPresence | undefined;
  stale: boolean;
}

function Person({ user, presence, stale }: PersonProps) {
  const status = presence?.status ?? "unknown";
  return (
    <li
      class={stale ? "person is-stale" : "person"}
      data-testid={`person-${user}`}
      data-status={status}
      data-version={presence?.version}
      data-stale={stale}
    >
      <Avatar user={user} status={status} />
      <span class="person-name">
        <bdi title={user}>{user}</bdi>
        <span class="person-more">
          <span class={`status-word is-${status}`}>{status}</span>
          <LastSeen presence={presence} />
        </span>
      </span>
      {presence !== undefined && (
        <span class="version" title={`version ${presence.version} of epoch ${presence.epoch}`}>
          v{presence.version}
        </span>
      )}
    </li>
  );
}

function LastSeen({ presence }: { presence: UserPresence | undefined }) {
  if (presence?.status !== "offline") return null;
  const at = presence.lastSeenAt;
  if (at === undefined) return <span> · never seen</span>;
  return (
    <time dateTime={new Date(at).toISOString()} title={clockTime(at)}>
      {" "}
      · last seen {ago(at, now.value)}
    </time>
  );
}

function isHere(presence: UserPresence | undefined): boolean {
  return presence !== undefined && presence.status !== "offline" && presence.status !== "unknown";
}
