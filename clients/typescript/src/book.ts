/**
 * What is held of others, and the rule by which news replaces it.
 *
 * Pure: messages go in, the differences that a person may be shown come out. A reconnect changes nothing here but
 * whether what is held is stale; only what the fresh snapshot reports differently is a difference.
 */

import type { Member, MemberMeta, Meta, RoomMessage, Stamp, Status, UserPresence } from "./wire";

/** A user, as the application sees it; replaced by a new object when anything of it changes, never changed itself. */
export interface UserView {
  readonly user: string;
  /** The last that was told; `unknown` before the first answer. Never `offline` for want of a connection. */
  readonly status: Status;
  /** Whether it may be out of date: not connected, or not told yet on this connection. Show it dimmed. */
  readonly stale: boolean;
  /** When the status changed; ms since the Unix epoch. Missing before the first answer. */
  readonly changedAt?: number;
  /** When the user was last connected; ms since the Unix epoch. */
  readonly lastSeenAt?: number;
  /** The public object of the user's token. */
  readonly info?: Meta;
  /** What the user's tabs say with `setMeta`. */
  readonly meta?: Meta;
}

/** A member of a room, as the application sees it. */
export interface MemberView {
  readonly user: string;
  readonly status: Status;
  /** ms since the Unix epoch. */
  readonly joinedAt?: number;
  readonly info?: Meta;
  /** One entry per connection. */
  readonly metas: readonly MemberMeta[];
}

/** A room, as the application sees it; a new object for each change. */
export interface RoomView {
  readonly room: string;
  /** In the order of their arrival; nobody, in a room that is so large that it is told by its count. */
  readonly members: readonly MemberView[];
  /** How many are in it; more than `members` has where it is that large. */
  readonly count: number;
  /** As in {@link UserView}: not connected, or not told on this connection yet. */
  readonly stale: boolean;
}

/** A difference that a person may be shown. */
export interface PresenceChange {
  user: string;
  /** What was shown before; undefined the first time. */
  before: UserView | undefined;
  now: UserView;
}

/** A difference in a room. */
export interface RoomChange {
  kind: "joined" | "left" | "updated";
  member: MemberView;
}

interface Room {
  members: Map<string, Member>;
  /** Who left, as of which version: an older report must not bring them back. */
  left: Map<string, Stamp>;
  told?: boolean;
  /** Of a room that is told by its count; `members` are then those who were named last. */
  count?: number | undefined;
}

/** See the module. */
export interface Book {
  /** Whether the server can be heard; while it cannot, whatever it has told is stale. */
  live: boolean;
  /**
   * A new connection begins. Messages of the old one can no longer arrive, so an epoch that was replaced on it may come
   * back: this client may have moved to another node and back.
   */
  begin(): void;
  /** The same object as long as nothing of it has changed. */
  user(user: string): UserView;
  /** The same object as long as nothing of it has changed. */
  room(name: string): RoomView;
  /**
   * A snapshot, or live changes.
   *
   * @returns the differences, and whether a user came under an epoch that was not seen before: the store was rebuilt,
   *   and what else is held may be out of date
   */
  applyUsers(reports: readonly UserPresence[]): { changes: PresenceChange[]; newEpoch: boolean };
  /** A room's state or change: leaves first, then joins, then updates. */
  applyRoom(message: RoomMessage): RoomChange[];
  /** Forget whoever is not wanted any more. */
  retain(users: ReadonlyMap<string, unknown>, rooms: ReadonlyMap<string, unknown>): void;
}

export function openBook(): Book {
  const users = new Map<string, UserPresence>();
  const rooms = new Map<string, Room>();
  /** Of whom this connection has told. */
  const told = new Set<string>();
  const pastEpochs = new Set<string>();
  /** What was last shown of each. */
  const views = new Map<string, UserView>();
  const roomViews = new Map<string, RoomView>();

  /** Within an epoch the greater version is newer; another epoch always is, and one that was replaced never again. */
  const isNewer = (held: Stamp | undefined, report: Stamp): boolean => {
    if (held?.epoch === report.epoch) return report.version > held.version;
    return !held || !pastEpochs.has(report.epoch);
  };

  const replaced = (held: Stamp | undefined, report: Stamp): void => {
    if (held?.epoch && held.epoch !== report.epoch) pastEpochs.add(held.epoch);
  };

  /** Hold a report if it is news. `unknown` never replaces knowledge; it only casts doubt on it. */
  const take = (held: UserPresence | undefined, report: UserPresence): boolean => {
    const { user, status } = report;
    if (status === "unknown") {
      told.delete(user);
      if (held) return false;
    } else if (held?.status === "unknown" || isNewer(held, report)) {
      told.add(user);
    } else {
      if (held?.epoch === report.epoch && held.version === report.version) told.add(user);
      return false;
    }
    replaced(held, report);
    users.set(user, report);
    views.delete(user);
    return true;
  };

  const book: Book = {
    live: false,

    begin: (): void => {
      told.clear();
      pastEpochs.clear();
      for (const room of rooms.values()) room.told = false;
    },

    user: (user: string): UserView => {
      const stale = !book.live || !told.has(user);
      let view = views.get(user);
      if (view?.stale !== stale) {
        const { epoch: _, version: __, ...shown } = users.get(user) ?? ({ user, status: "unknown" } as UserPresence);
        view = { ...shown, stale };
        views.set(user, view);
      }
      return view;
    },

    room: (name: string): RoomView => {
      const room = rooms.get(name);
      const stale = !book.live || !room?.told;
      let view = roomViews.get(name);
      if (view?.stale !== stale) {
        const named = room?.count === undefined && room?.members.values();
        const members = view?.members ?? [...(named || [])].map(memberView);
        view = { room: name, members, count: room?.count ?? members.length, stale };
        roomViews.set(name, view);
      }
      return view;
    },

    applyUsers: (reports: readonly UserPresence[]): { changes: PresenceChange[]; newEpoch: boolean } => {
      const changes: PresenceChange[] = [];
      let newEpoch = false;
      for (const presence of reports) {
        const { user } = presence;
        const held = users.get(user);
        const before = held && book.user(user);
        if (!take(held, presence)) continue;
        newEpoch ||= !!held && held.status !== "unknown" && held.epoch !== presence.epoch;
        if (!held || looks(held) !== looks(presence)) changes.push({ user, before, now: book.user(user) });
      }
      return { changes, newEpoch };
    },

    applyRoom: (message: RoomMessage): RoomChange[] => {
      const { room: name, count, members, leaves = [], joins = [], updates = [] } = message;
      const room: Room = rooms.get(name) ?? { members: new Map(), left: new Map() };
      rooms.set(name, room);
      const changes: RoomChange[] = [];
      const tell = (kind: RoomChange["kind"], member: Member): unknown =>
        changes.push({ kind, member: memberView(member) });
      if (members || count !== undefined) {
        room.told = true;
        room.count = count;
      }
      if (members) {
        const named = new Set(members.map(({ user }) => user));
        for (const member of room.members.values()) {
          if (!named.has(member.user) && room.members.delete(member.user)) tell("left", member);
        }
      }
      for (const leave of leaves) {
        const before = room.members.get(leave.user);
        if (!isNewer(before ?? room.left.get(leave.user), leave)) continue;
        room.left.set(leave.user, leave);
        if (before && room.members.delete(leave.user)) tell("left", before);
      }
      for (const member of [...(members ?? []), ...joins, ...updates]) {
        const before = room.members.get(member.user);
        if (!isNewer(before ?? room.left.get(member.user), member)) continue;
        room.left.delete(member.user);
        replaced(before, member);
        room.members.set(member.user, member);
        if (!before) tell("joined", member);
        else if (looks(before) !== looks(member)) tell("updated", member);
      }
      roomViews.delete(name);
      return changes;
    },

    retain: (wantedUsers: ReadonlyMap<string, unknown>, wantedRooms: ReadonlyMap<string, unknown>): void => {
      for (const [wanted, ...all] of [
        [wantedUsers, users, told, views],
        [wantedRooms, rooms, roomViews],
      ] as const) {
        for (const held of all) for (const id of held.keys()) if (!wanted.has(id)) held.delete(id);
      }
    },
  };
  return book;
}

function memberView({ epoch: _, version: __, ...told }: Member): MemberView {
  return { metas: [], ...told };
}

/** What a person may see of it. Of somebody who is here, when they were last away is nothing that is shown. */
function looks(one: Partial<UserPresence & Member>): string {
  return JSON.stringify([one.status, one.status === "offline" && one.lastSeenAt, one.info, one.meta, one.metas]);
}
