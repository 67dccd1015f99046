/** The rooms, and who is in one. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { sentenceOf } from "../api";
import { counted, figure, instant } from "../format";
import { hrefOf } from "../route";
import type { Session } from "../session";
import type { RoomCount, RoomMembers } from "../types";
import { Badge, UserLink } from "./pieces";

/** After an event of a room, so soon is it read again; milliseconds. */
const SOON = 400;

/** Read now, and again soon after each event that matters. */
function useLive(session: Session, key: string, matters: (room?: string) => boolean, read: () => void): void {
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const soon = (): void => {
      timer ??= setTimeout(() => {
        timer = undefined;
        read();
      }, SOON);
    };
    read();
    const stop = session.feed.listen({
      onEvents: (events) => events.some((event) => matters(event.room)) && soon(),
      onGap: soon,
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [key]);
}

export function Rooms({ session, room }: { session: Session; room: string | null }) {
  return room === null ? <List session={session} /> : <Room key={room} session={session} room={room} />;
}

function List({ session }: { session: Session }) {
  const rooms = useSignal<RoomCount[] | null>(null);
  const cursor = useSignal<string | null>(null);
  const problem = useSignal<string | null>(null);
  const read = async (after: string): Promise<void> => {
    try {
      const page = await session.api.rooms(after);
      rooms.value = after === "" ? page.rooms : [...(rooms.value ?? []), ...page.rooms];
      cursor.value = page.cursor;
      problem.value = null;
    } catch (error) {
      problem.value = sentenceOf(error);
    }
  };
  useLive(session, "rooms", (name) => name !== undefined, () => void read(""));
  return (
    <section class="view" aria-labelledby="rooms-title">
      <div class="view-head">
        <h1 id="rooms-title">Rooms</h1>
        {rooms.value !== null && <p class="count">{counted(rooms.value.length, "room")}</p>}
      </div>
      <p class="problem" role="alert">
        {problem.value}
      </p>
      {rooms.value?.length === 0 && <p class="empty">Nobody is in a room.</p>}
      {rooms.value !== null && rooms.value.length > 0 && (
        <ul class="card flush plain-rows">
          {rooms.value.map((room) => (
            <li key={room.room}>
              <a class="user-row" href={hrefOf("rooms", room.room)}>
                <bdi class="id">{room.room}</bdi>
                <span class="user-seen">{counted(room.members, "member")}</span>
              </a>
            </li>
          ))}
        </ul>
      )}
      {cursor.value !== null && (
        <button type="button" onClick={() => void read(cursor.value ?? "")}>
          More rooms
        </button>
      )}
    </section>
  );
}

function Room({ session, room }: { session: Session; room: string }) {
  const found = useSignal<RoomMembers | null>(null);
  const problem = useSignal<string | null>(null);
  const read = async (): Promise<void> => {
    try {
      found.value = await session.api.room(room);
      problem.value = null;
    } catch (error) {
      problem.value = sentenceOf(error);
    }
  };
  useLive(session, room, (name) => name === room, () => void read());
  return (
    <section class="view" aria-labelledby="room-title">
      <div class="view-head">
        <h1 id="room-title">
          <bdi>{room}</bdi>
        </h1>
        {found.value !== null && <p class="count">{counted(found.value.count, "member")}</p>}
        <a href={hrefOf("rooms")}>All rooms</a>
      </div>
      <p class="problem" role="alert">
        {problem.value}
      </p>
      {found.value !== null && found.value.members === undefined && (
        <p class="empty">
          {figure(found.value.count)} are too many to list: above <code>rooms.count_only_above</code> only their number
          is told.
        </p>
      )}
      {found.value?.members?.length === 0 && <p class="empty">Nobody is in this room.</p>}
      {(found.value?.members?.length ?? 0) > 0 && (
        <div class="card table-card" role="region" aria-label="Members" tabIndex={0}>
          <table>
            <thead>
              <tr>
                <th scope="col">Member</th>
                <th scope="col">Shown as</th>
                <th scope="col">Version</th>
                <th scope="col">Since</th>
                <th scope="col">Connections</th>
              </tr>
            </thead>
            <tbody>
              {found.value?.members?.map((member) => (
                <tr key={member.user}>
                  <th scope="row">
                    <UserLink user={member.user} />
                  </th>
                  <td>
                    <Badge status={member.status} stale={session.feed.state.value !== "live"} />
                  </td>
                  <td>{member.version}</td>
                  <td>{instant(member.changedAt, session.now())}</td>
                  <td>{member.metas?.length ?? "–"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
