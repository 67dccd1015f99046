/** Everybody this tab watches. */

import type { UserView } from "stillhere";
import { now } from "../clock";
import type { Session } from "../session";
import type { Stamp } from "../tap";
import { ago, clockTime } from "../time";
import { Avatar } from "./marks";
import { NameForm } from "./name-form";

export function People({ session }: { session: Session }) {
  const people = session.people.value.map((user) => session.view(user));
  const here = people.filter(isHere).length;
  const stale = people.filter((view) => view.stale).length;
  return (
    <section class="card people" aria-labelledby="people-title">
      <div class="card-head">
        <h2 id="people-title">People</h2>
        {stale === 0 ? (
          <span class="count">
            {here} of {people.length} here
          </span>
        ) : (
          <span class="chip is-stale-chip">
            {stale < people.length && `${stale} of ${people.length} `}last known
          </span>
        )}
      </div>
      <ul class="person-list">
        {people.map((view) => (
          <Person key={view.user} view={view} stamp={session.tap.stamp(view.user)} />
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

function Person({ view, stamp }: { view: UserView; stamp: Stamp | undefined }) {
  const { user, status, stale } = view;
  return (
    <li
      class={stale ? "person is-stale" : "person"}
      data-testid={`person-${user}`}
      data-status={status}
      data-version={stamp?.version}
      data-stale={stale}
    >
      <Avatar user={user} status={status} />
      <span class="person-name">
        <bdi title={user}>{user}</bdi>
        <span class="person-more">
          <span class={`status-word is-${status}`}>{status}</span>
          <LastSeen view={view} />
        </span>
      </span>
      {stamp !== undefined && (
        <span class="version" title={`version ${stamp.version} of epoch ${stamp.epoch}`}>
          v{stamp.version}
        </span>
      )}
    </li>
  );
}

function LastSeen({ view }: { view: UserView }) {
  if (view.status !== "offline") return null;
  const at = view.lastSeenAt;
  if (at === undefined) return <span> · never seen</span>;
  return (
    <time dateTime={new Date(at).toISOString()} title={clockTime(at)}>
      {" "}
      · last seen {ago(at, now.value)}
    </time>
  );
}

function isHere({ status }: UserView): boolean {
  return status !== "offline" && status !== "unknown";
}
