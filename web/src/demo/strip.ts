/** The live strip: everything that this watcher was shown, with the millisecond in which it was shown. */

import { signal } from "@preact/signals";
import type { Origin, PresenceDifference, RoomDifference, Status } from "../presence";

export interface StripEntry {
  /** Unique within this page, for the list. */
  key: number;
  /** When it was shown here, in milliseconds since the Unix epoch. */
  at: number;
  user: string;
  status: Status | "left";
  version: number;
  origin: Origin;
  /** Set for changes of a room. */
  room?: string;
  kind?: RoomDifference["kind"];
}

export type StripRecord = Pick<StripEntry, "at" | "user" | "status" | "version" | "origin" | "room">;

declare global {
  interface Window {
    /** The strip's records, oldest first, for tests in a browser. */
    __stillhereStrip: StripRecord[];
  }
}

const SHOWN = 200;
/** The tests' records reach further back, so that what scrolled out of the strip is not missed. */
const RECORDED = 10_000;

export class Strip {
  /** Newest first. */
  readonly entries = signal<readonly StripEntry[]>([]);
  #nextKey = 1;

  constructor() {
    window.__stillhereStrip = [];
  }

  showPresence(differences: readonly PresenceDifference[], at: number): void {
    this.#add(
      differences.map(({ user, presence, origin }) => ({
        at,
        user,
        status: presence.status,
        version: presence.version,
        origin,
      })),
    );
  }

  showRoom(differences: readonly RoomDifference[], at: number): void {
    this.#add(
      differences.map(({ room, user, kind, member, origin }) => ({
        at,
        user,
        status: kind === "left" ? "left" : member.status,
        version: member.version,
        origin,
        room,
        kind,
      })),
    );
  }

  clear(): void {
    this.entries.value = [];
    window.__stillhereStrip.length = 0;
  }

  #add(added: Omit<StripEntry, "key">[]): void {
    if (added.length === 0) return;
    const keyed = added.map((entry) => ({ ...entry, key: this.#nextKey++ }));
    for (const { at, user, status, version, origin, room } of keyed) {
      const record: StripRecord = { at, user, status, version, origin };
      if (room !== undefined) record.room = room;
      window.__stillhereStrip.push(record);
    }
    const excess = window.__stillhereStrip.length - RECORDED;
    if (excess > 0) window.__stillhereStrip.splice(0, excess);
    this.entries.value = [...keyed.toReversed(), ...this.entries.value].slice(0, SHOWN);
  }
}
