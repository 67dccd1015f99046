/**
 * What the application wants, and what this connection has told the server of it.
 *
 * Every call only notes a wish; what the server does not know yet is sent together at the end of the task. So a
 * reconnect is nothing special, a component that unmounts and mounts again in one breath sends nothing, and a hundred
 * components that watch one user each send one message.
 */

import type { Environment } from "./environment";
import { PresenceError, type ProblemCode } from "./errors";
import type { Availability, ErrorMessage, Meta, Request } from "./wire";

/** Users named in one message: 60 ids of 256 bytes, escaped, stay below the server's bound of 32 KiB. */
const CHUNK = 60;
/** The server allows 40 messages at once and 20 a second; answers to probes and pings need room as well. */
const AT_ONCE = 30;
/** After how many milliseconds the rest follows. */
const PAUSE_MS = 2_000;
/** When what was refused for the moment is sent again: after this many milliseconds, and up to twice as many. */
const RETRY_MS = 1_500;
/** The server may take these later; nothing is wrong with the request. */
const PASSING = ["rate_limited", "unavailable", "internal"];

/** What it needs of the client. */
export interface Wire {
  /** @returns the id, or 0 if there is no connection */
  request(request: Request): number;
  problem(error: PresenceError): void;
  /** Call `flush` after so many milliseconds; an earlier call is forgotten. */
  later(ms: number): void;
}

/** See the module. */
export interface Wants {
  availability: Availability;
  readonly meta: Record<string, unknown>;
  /** How many callers want to follow each. */
  readonly users: Map<string, number>;
  /** How many callers want to be in each. */
  readonly rooms: Map<string, number>;
  readonly metas: Map<string, Meta>;
  /** A new connection knows nothing but what its address said. */
  begin(): void;
  /** Send what the server does not know yet: first what others see of this tab, then what makes room, then the rest. */
  flush(): void;
  /** The store was rebuilt: ask for everybody anew. */
  resync(): void;
  /** The server has answered. */
  answered(id: number): void;
  /** The server has refused: later once more if that was for the moment, else tell the application. */
  refused(error: ErrorMessage): void;
}

export function noteWants(env: Environment, wire: Wire, first: Availability): Wants {
  const users = new Map<string, number>();
  const rooms = new Map<string, number>();
  const metas = new Map<string, Meta>();
  const meta: Record<string, unknown> = {};
  const toldUsers = new Set<string>();
  const toldRooms = new Map<string, string>();
  /** As text, by key. */
  const toldMeta = new Map<string, string>();
  let toldAvailability: Availability | undefined;
  /** How to forget that each was told, by the id of a request that was not answered yet. */
  const pending = new Map<number, () => void>();
  /** How many were sent by this flush. */
  let sent = 0;

  /** Send, and note that it was told; `undo` forgets that again. */
  const tell = (request: Request, note: () => void, undo: () => void): void => {
    if (sent === AT_ONCE) {
      wire.later(PAUSE_MS);
      return;
    }
    const id = wire.request(request);
    if (!id) return;
    sent += 1;
    note();
    pending.set(id, undo);
  };

  const tellState = (availability: Availability): void => {
    const state: Request = { type: "state" };
    const patch = Object.entries(meta).filter(([key, value]) => toldMeta.get(key) !== JSON.stringify(value));
    if (toldAvailability !== availability) state.availability = availability;
    if (patch.length) state.meta = Object.fromEntries(patch);
    if (!state.availability && !state.meta) return;
    const note = (): void => {
      toldAvailability = availability;
      for (const [key, value] of patch) toldMeta.set(key, JSON.stringify(value));
    };
    tell(state, note, () => {
      toldAvailability = undefined;
      toldMeta.clear();
    });
  };

  const tellUsers = (type: "watch" | "unwatch", all: Iterable<string>, but: { has(user: string): boolean }): void => {
    const wanted = [...all].filter((user) => !but.has(user));
    while (wanted.length) {
      const chunk = wanted.splice(0, CHUNK);
      const mark = (told: boolean) => (): void => {
        for (const user of chunk) toldUsers[told ? "add" : "delete"](user);
      };
      tell({ type, users: chunk }, mark(type === "watch"), mark(type !== "watch"));
    }
  };

  const wants: Wants = {
    availability: first,
    meta,
    users,
    rooms,
    metas,
    begin: () => {
      for (const told of [toldUsers, toldRooms, toldMeta, pending]) told.clear();
      toldAvailability = wants.availability;
    },
    flush: () => {
      sent = 0;
      tellState(wants.availability);
      tellUsers("unwatch", toldUsers, users);
      for (const room of [...toldRooms.keys()]) {
        const forget = (): boolean => toldRooms.delete(room);
        if (!rooms.has(room)) tell({ type: "leave", room }, forget, () => toldRooms.set(room, ""));
      }
      tellUsers("watch", users.keys(), toldUsers);
      for (const room of rooms.keys()) {
        const meta = metas.get(room) ?? {};
        const text = JSON.stringify(meta);
        const forget = (): boolean => toldRooms.delete(room);
        if (toldRooms.get(room) !== text) tell({ type: "join", room, meta }, () => toldRooms.set(room, text), forget);
      }
    },
    resync: () => {
      toldUsers.clear();
      for (const room of rooms.keys()) toldRooms.delete(room); // those to be left stay known
      wants.flush();
    },
    answered: (id) => pending.delete(id),
    refused: ({ id = 0, code, message }) => {
      const found = pending.get(id);
      pending.delete(id);
      if (!PASSING.includes(code)) return wire.problem(new PresenceError(code as ProblemCode, message));
      // over the rate, the server has not even read which request it was: whatever is not answered goes out again
      for (const undo of found ? [found] : pending.values()) undo();
      if (!found) pending.clear();
      wire.later(RETRY_MS * (1 + env.random()));
    },
  };
  return wants;
}
