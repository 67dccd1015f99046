/** The rooms this tab is in. */

import type { Member } from "../../presence";
import type { Session } from "../session";
import { Avatar } from "./marks";
import { NameForm } from "./name-form";

export function Rooms({ session }: { session: Session }) {
  const rooms = [...session.rooms.value];
  return (
    <section class={session.fresh.value ? "card rooms" : "card rooms is-stale"} aria-labelledby="rooms-title">
      <div class="card-head">
        <h2 id="rooms-title">Rooms</h2>
        {!session.fresh.value && <span class="chip is-stale-chip">last known</span>}
      </div>
      {rooms.map(([room, members]) => (
        <Room key={room} room={room} members={[...members.values()]} session={session} />
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

function Room({ room, members, session }: { room: string; members: Member[]; session: Session }) {
  const sorted = members.sort(byArrival);
  return (
    <article class="room" data-testid={`room-${room}`} aria-label={`Room ${room}`}>
      <div class="room-head">
        <h3>
          <bdi>{room}</bdi>
        </h3>
        <span class="count">{members.length}</span>
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
        {sorted.map((member) => (
          <li
            key={member.user}
            class="member"
            data-testid={`room-member-${member.user}`}
            data-status={member.status}
            data-version={member.version}
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

function byArrival(one: Member, other: Member): number {
  return (one.joinedAt ?? 0) - (other.joinedAt ?? 0) || one.user.localeCompare(other.user);
}

/** Status, number of connections, and what they say of themselves. */
function describe(member: Member): string {
  const metas = member.metas ?? [];
  const tabs = metas.length === 1 ? "1 tab" : `${metas.length} tabs`;
  const pairs = metas.flatMap(({ meta }) => Object.entries(meta));
  const said = pairs.map(([key, value]) => `${key}: ${asText(value)}`);
  return [member.status, tabs, ...new Set(said)].join(" · ");
}

const asText = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));
