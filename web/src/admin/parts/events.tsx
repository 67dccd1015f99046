/** The live tail of transitions, with filters. */

import { signal, useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { counted, figure, instant, spoken } from "../format";
import { hrefOf } from "../route";
import type { Session } from "../session";
import { passes } from "../tail";
import type { EventData } from "../types";
import { UserLink } from "./pieces";
import { VirtualList } from "./virtual-list";

const CHANGES = [
  "all",
  "PRESENCE_ONLINE",
  "PRESENCE_OFFLINE",
  "PRESENCE_UPDATED",
  "ROOM_JOINED",
  "ROOM_LEFT",
  "ROOM_UPDATED",
];
const ROW = 40;

const text = signal("");
const change = signal("all");

export function Events({ session }: { session: Session }) {
  const { tail } = session;
  const paused = useSignal<EventData[] | null>(null);
  const edition = tail.edition.value;
  const all = paused.value ?? tail.events;
  const found = useMemo(
    () => all.filter((event) => passes({ text: text.value, change: change.value }, event)),
    [all, edition, text.value, change.value],
  );
  return (
    <section class="view" aria-labelledby="events-title">
      <div class="view-head">
        <h1 id="events-title">Events</h1>
        <p class="count" data-testid="events-count">
          {found.length === all.length
            ? counted(all.length, "event")
            : `${figure(found.length)} of ${counted(all.length, "event")}`}{" "}
          since you logged in
        </p>
      </div>
      <div class="filters">
        <label>
          <span class="hidden">Only this user or room</span>
          <input
            type="search"
            placeholder="User or room"
            value={text.value}
            data-testid="events-search"
            onInput={(event) => (text.value = event.currentTarget.value)}
          />
        </label>
        <label>
          <span class="hidden">Only this change</span>
          <select
            value={change.value}
            data-testid="events-change"
            onChange={(event) => (change.value = event.currentTarget.value)}
          >
            {CHANGES.map((name) => (
              <option key={name} value={name}>
                {name === "all" ? "every change" : name}
              </option>
            ))}
          </select>
        </label>
        <button
          type="button"
          aria-pressed={paused.value !== null}
          onClick={() => (paused.value = paused.value === null ? tail.events : null)}
        >
          {paused.value === null ? "Pause" : "Go on"}
        </button>
        <button type="button" onClick={() => tail.clear()}>
          Clear
        </button>
      </div>
      {found.length === 0 ? (
        <p class="empty">Nothing yet. What watchers are shown appears here as it happens.</p>
      ) : (
        <div class="card flush">
          <VirtualList
            label="Events, newest first"
            testId="events"
            rows={found.length}
            rowHeight={ROW}
            keyOf={(row) => keyOf(found[row])}
            render={(row) => <Row session={session} event={found[row]} />}
          />
        </div>
      )}
    </section>
  );
}

function keyOf(event: EventData | undefined): string {
  return event === undefined ? "" : `${event.epoch}-${event.version}-${event.user}-${event.room ?? ""}`;
}

function Row({ session, event }: { session: Session; event: EventData | undefined }) {
  if (event === undefined) return null;
  return (
    <div class="event-row">
      <time class="mono">{instant(event.at, session.now())}</time>
      <span class={`event-change ${colourOf(event)}`}>{event.change}</span>
      <UserLink user={event.user} />
      {event.room !== undefined && (
        <a class="id" href={hrefOf("rooms", event.room)}>
          <bdi>{event.room}</bdi>
        </a>
      )}
      <span class="muted">{spoken(event.cause)}</span>
      <span class="mono muted event-version">v{event.version}</span>
    </div>
  );
}

function colourOf(event: EventData): string {
  if (event.presence !== undefined) return `is-${event.presence.status}`;
  return event.change === "ROOM_JOINED" ? "is-online" : "is-offline";
}
