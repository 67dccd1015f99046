/**
 * What this client holds about others, and the rule by which news replaces it.
 *
 * Pure: messages go in, the differences that a person may be shown come out. A reconnect changes nothing here, so it
 * shows nothing either: only what the fresh snapshot reports differently is a difference.
 */

import type { Member, RoomMessage, Stamp, UserPresence } from "./protocol";

/** How a difference became known: for the first time, live, or from a snapshot after a gap. */
export type Origin = "first" | "live" | "catch-up";

export interface PresenceDifference {
  user: string;
  presence: UserPresence;
  before: UserPresence | undefined;
  origin: Origin;
}

export interface RoomDifference {
  room: string;
  user: string;
  kind: "joined" | "left" | "updated";
  member: Member;
  origin: Origin;
}

interface Room {
  members: Map<string, Member>;
  /** Who left, as of which version: an older report must not bring them back. */
  left: Map<string, Stamp>;
}

export class PresenceBook {
  readonly #users = new Map<string, UserPresence>();
  readonly #rooms = new Map<string, Room>();
  readonly #unsure = new Set<string>();
  readonly #pastEpochs = new Set<string>();

  get users(): ReadonlyMap<string, UserPresence> {
    return this.#users;
  }

  /** Users whose last report was `unknown`: what is held of them is the last that was known. */
  get unsure(): ReadonlySet<string> {
    return this.#unsure;
  }

  members(room: string): ReadonlyMap<string, Member> | undefined {
    return this.#rooms.get(room)?.members;
  }

  /**
   * A new connection begins. Messages of the old one can no longer arrive, so an epoch that was replaced on it may
   * come back: the client may have moved to another node and back.
   */
  startConnection(): void {
    this.#pastEpochs.clear();
  }

  /** The answer to `watch`. */
  applySnapshot(users: readonly UserPresence[]): PresenceDifference[] {
    const differences: PresenceDifference[] = [];
    for (const presence of users) {
      const before = this.#users.get(presence.user);
      if (!this.#take(presence)) continue;
      if (before === undefined) differences.push({ user: presence.user, presence, before, origin: "first" });
      else if (!looksTheSame(before, presence)) {
        differences.push({ user: presence.user, presence, before, origin: "catch-up" });
      }
    }
    return differences;
  }

  /**
   * Live changes.
   *
   * @returns `newEpoch` when one came from an epoch that was not seen before: the store was rebuilt, and whatever else
   *   is held may be out of date.
   */
  applyChanges(changes: readonly UserPresence[]): { differences: PresenceDifference[]; newEpoch: boolean } {
    const differences: PresenceDifference[] = [];
    let newEpoch = false;
    for (const presence of changes) {
      const before = this.#users.get(presence.user);
      if (!this.#take(presence)) continue;
      newEpoch ||= before !== undefined && before.status !== "unknown" && before.epoch !== presence.epoch;
      differences.push({ user: presence.user, presence, before, origin: before === undefined ? "first" : "live" });
    }
    return { differences, newEpoch };
  }

  /** A room's state or change: leaves first, then joins, then updates. */
  applyRoom(message: RoomMessage): RoomDifference[] {
    const known = this.#rooms.get(message.room);
    const room = known ?? { members: new Map<string, Member>(), left: new Map<string, Stamp>() };
    this.#rooms.set(message.room, room);
    const origin = known === undefined ? "first" : message.members === undefined ? "live" : "catch-up";
    const differences: RoomDifference[] = [];
    const tell = (kind: RoomDifference["kind"], member: Member): void => {
      differences.push({ room: message.room, user: member.user, kind, member, origin });
    };
    if (message.members !== undefined) {
      const named = new Set(message.members.map((member) => member.user));
      for (const member of [...room.members.values()]) {
        if (named.has(member.user)) continue;
        room.members.delete(member.user);
        tell("left", member);
      }
    }
    for (const leave of message.leaves ?? []) {
      const before = room.members.get(leave.user);
      if (!this.#isNewer(before ?? room.left.get(leave.user), leave)) continue;
      room.left.set(leave.user, { epoch: leave.epoch, version: leave.version });
      if (before === undefined) continue;
      room.members.delete(leave.user);
      tell("left", leave);
    }
    for (const member of [...(message.members ?? []), ...(message.joins ?? []), ...(message.updates ?? [])]) {
      const before = room.members.get(member.user);
      if (!this.#isNewer(before ?? room.left.get(member.user), member)) continue;
      room.left.delete(member.user);
      if (before !== undefined && before.epoch !== member.epoch) this.#pastEpochs.add(before.epoch);
      room.members.set(member.user, member);
      if (before === undefined) tell("joined", member);
      else if (origin === "live" || !memberLooksTheSame(before, member)) tell("updated", member);
    }
    return differences;
  }

  forget(user: string): void {
    this.#users.delete(user);
    this.#unsure.delete(user);
  }

  forgetRoom(room: string): void {
    this.#rooms.delete(room);
  }

  /** Hold a report if it is news. `unknown` never replaces knowledge; it only casts doubt on it. */
  #take(presence: UserPresence): boolean {
    const held = this.#users.get(presence.user);
    if (presence.status === "unknown" && held !== undefined && held.status !== "unknown") {
      this.#unsure.add(presence.user);
      return false;
    }
    const sameStamp = held?.epoch === presence.epoch && held.version === presence.version;
    const answersUnknown = held?.status === "unknown" && presence.status !== "unknown";
    if (!this.#isNewer(held, presence) && !answersUnknown) {
      if (sameStamp) this.#unsure.delete(presence.user);
      return false;
    }
    if (held !== undefined && held.epoch !== presence.epoch) this.#pastEpochs.add(held.epoch);
    this.#unsure.delete(presence.user);
    this.#users.set(presence.user, presence);
    return true;
  }

  /** Within an epoch the greater version is newer; a new epoch always is, and one that was replaced never again. */
  #isNewer(held: Stamp | undefined, report: Stamp): boolean {
    if (held === undefined) return true;
    if (held.epoch === report.epoch) return report.version > held.version;
    return !this.#pastEpochs.has(report.epoch);
  }
}

function looksTheSame(one: UserPresence, other: UserPresence): boolean {
  // Of somebody who is here, when they were last away is nothing that a person is shown.
  const lastSeen = (p: UserPresence): unknown => (p.status === "offline" ? p.lastSeenAt : null);
  const seen = (p: UserPresence): unknown => [p.status, lastSeen(p), p.devices, p.info, p.meta];
  return JSON.stringify(seen(one)) === JSON.stringify(seen(other));
}

function memberLooksTheSame(one: Member, other: Member): boolean {
  const seen = (m: Member): unknown => [m.status, m.info, m.metas];
  return JSON.stringify(seen(one)) === JSON.stringify(seen(other));
}
