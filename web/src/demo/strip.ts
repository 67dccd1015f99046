/** The live strip: everything that this watcher was shown, with the millisecond in which it was shown. */

import { signal } from "@preact/signals";
import type { PresenceChange, RoomChange, Status } from "stillhere";

/** How a difference became known: for the first time, live, or from a snapshot after a gap. */
export type Origin = "first" | "live" | "catch-up";

export interface StripEntry {
  /** Unique within this page, for the list. */
  key: number;
  /** When it was shown here, in milliseconds since the Unix epoch. */
  at: number;
  user: string;
  status: Status | "left";
  version: number | undefined;
  origin: Origin;
  /** Set for changes of a room. */
  room?: string;
  kind?: RoomChange["kind"];
}

export type StripRecord = Pick<StripEntry, "at" | "user" | "status" | "version" | "origin" | "room">;

/** Finds the version of what is shown; see `Tap.stamp`. */
type Stamps = (user: string, room?: string) => { version: number } | undefined;

declare global {
  interface Window {
    /** The strip's records, oldest first, for tests in a browser. */
    __stillhereStrip: StripRecord[];
  }
}

const SHOWN = 200;
/** The tests' records reach further back, so that what scrolled out of the strip is not missed. */
const RECORDED = 10_000;

/** How a change of a user became known: what was stale before, a snapshot has brought up to date. */
export function originOf({ before }: PresenceChange): Origin {
  if (before === undefined) return "first";
  return before.stale ? "catch-up" : "live";
}

export class Strip {
  /** Newest first. */
  readonly entries = signal<readonly StripEntry[]>([]);
  readonly #stamps: Stamps;
  #nextKey = 1;

  constructor(stamps: Stamps) {
    this.#stamps = stamps;
    window.__stillhereStrip = [];
  }

  showPresence(changes: readonly PresenceChange[], at: number): void {
    this.#add(
      changes.map((change) => ({
        at,
        user: change.user,
        status: change.now.status,
        version: this.#stamps(change.user)?.version,
        origin: originOf(change),
      })),
    );
  }

  showRoom(room: string, changes: readonly RoomChange[], origin: Origin, at: number): void {
    this.#add(
      changes.map(({ kind, member }) => ({
        at,
        user: member.user,
        status: kind === "left" ? "left" : member.status,
        version: this.#stamps(member.user, room)?.version,
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
