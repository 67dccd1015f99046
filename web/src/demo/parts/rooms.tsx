/** The rooms this tab is in. */

import type { MemberView, RoomView } from "stillhere";
import type { Session } from "../session";
import { Avatar } from "./marks";
import { NameForm } from "./name-form";

export function Rooms({ session }: { session: Session }) {
  const rooms = session.rooms.value;
  return (
    <section class="card rooms" aria-labelledby="rooms-title">
      <div class="card-head">
        <h2 id="rooms-title">Rooms</h2>
      </div>
      {rooms.map((view) => (
        <Room key={view.room} view={view} session={session} />
      ))}
      {rooms.length === 0 && <p class="empty">A room shows who is in the same place. Join one, by any name.</p>}
      <NameForm
        label="Name of a room to join"
        what="A room"
        submit="Join"
        placeholder="Join a room"
        testId="room-input"
        submitTestId="room-join"
        onName={(room) => session.join(room)}
      />
    </section>
  );
}

function Room({ view, session }: { view: RoomView; session: Session }) {
  const { room, members, stale } = view;
  return (
    <article
      class={stale ? "room is-stale" : "room"}
      data-testid={`room-${room}`}
      data-stale={stale}
      aria-label={`Room ${room}`}
    >
      <div class="room-head">
        <h3>
          <bdi>{room}</bdi>
        </h3>
        {stale ? <span class="chip is-stale-chip">last known</span> : <span class="count">{members.length}</span>}
        <button
          type="button"
          class="quiet"
          data-testid={`room-leave-${room}`}
          aria-label={`Leave the room ${room}`}
          onClick={() => session.leave(room)}
        >
          Leave
        </button>
      </div>
      <ul class="members">
        {members.toSorted(byArrival).map((member) => (
          <li
            key={member.user}
            class="member"
            data-testid={`room-member-${member.user}`}
            data-status={member.status}
            data-version={session.tap.stamp(member.user, room)?.version}
          >
            <Avatar user={member.user} status={member.status} />
            <span class="person-name">
              <bdi>{member.user}</bdi>
              <span class="person-more">{describe(member)}</span>
            </span>
          </li>
        ))}
      </ul>
    </article>
  );
}

function byArrival(one: MemberView, other: MemberView): number {
  return (one.joinedAt ?? 0) - (other.joinedAt ?? 0) || one.user.localeCompare(other.user);
}

/** Status, number of connections, and what they say of themselves. */
function describe({ status, metas }: MemberView): string {
  const tabs = metas.length === 1 ? "1 tab" : `${metas.length} tabs`;
  const pairs = metas.flatMap(({ meta }) => Object.entries(meta));
  const said = pairs.map(([key, value]) => `${key}: ${asText(value)}`);
  return [status, tabs, ...new Set(said)].join(" · ");
}

const asText = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));
