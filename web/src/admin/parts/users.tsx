/** All known users: searchable, live. */

import { signal, useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { tick } from "../clock";
import { ago, counted, figure } from "../format";
import { hrefOf } from "../route";
import type { Session } from "../session";
import type { Listed } from "../directory";
import type { Status } from "../types";
import { Badge } from "./pieces";
import { VirtualList } from "./virtual-list";

/** They stay as they are while one looks at a user. */
const search = signal("");
const shownAs = signal<Status | "all">("all");

const ROW = 52;
const STATUSES = ["all", "online", "away", "busy", "offline"] as const;

export function Users({ session }: { session: Session }) {
  const { directory } = session;
  const edition = directory.edition.value;
  const found = useMemo(
    () => directory.book.find(search.value, shownAs.value),
    [edition, search.value, shownAs.value],
  );
  const inSight = useSignal<[number, number]>([0, 0]);
  const counts = useMemo(() => directory.book.counts(), [edition]);
  const look = (first: number, end: number): void => {
    inSight.value = [first, end];
    directory.refresh(found.slice(first, end));
  };
  return (
    <section class="view" aria-labelledby="users-title">
      <div class="view-head">
        <h1 id="users-title">Users</h1>
        <p class="count" role="status" data-testid="users-count">
          {directory.loading.value ? "loading, " : ""}
          {found.length === directory.book.size
            ? counted(found.length, "user")
            : `${figure(found.length)} of ${counted(directory.book.size, "user")}`}
        </p>
      </div>
      <div class="filters">
        <label>
          <span class="hidden">Search for an id</span>
          <input
            type="search"
            placeholder="Search for an id"
            value={search.value}
            data-testid="users-search"
            onInput={(event) => (search.value = event.currentTarget.value)}
          />
        </label>
        <div class="segments" role="group" aria-label="Shown as">
          {STATUSES.map((status) => (
            <button
              key={status}
              type="button"
              aria-pressed={shownAs.value === status}
              onClick={() => (shownAs.value = status)}
            >
              {status}
              {status !== "all" && <span class="count">{figure(counts[status])}</span>}
            </button>
          ))}
        </div>
      </div>
      {directory.problem.value !== null && (
        <p class="problem" role="alert">
          {directory.problem.value}
        </p>
      )}
      {directory.truncated.value && (
        <p class="hint">There are more users than are listed here. An exact id can always be opened:</p>
      )}
      <OpenExactly found={found} truncated={directory.truncated.value} />
      <div class="card flush">
        <VirtualList
          label="Users"
          testId="users"
          rows={found.length}
          rowHeight={ROW}
          keyOf={(row) => found[row] ?? String(row)}
          render={(row) => <Row session={session} known={directory.book.get(found[row] ?? "")} />}
          onWindow={look}
        />
      </div>
    </section>
  );
}

function Row({ session, known }: { session: Session; known: Listed | undefined }) {
  if (known === undefined) return null;
  return (
    <a
      class="user-row"
      href={hrefOf("users", known.user)}
      data-testid={`user-${known.user}`}
      data-status={known.status}
      data-stale={known.stale}
    >
      <Badge status={known.status} stale={known.stale} />
      <bdi class="id">{known.user}</bdi>
      <span class="user-devices">
        {known.status === "offline" || known.devices === undefined ? "" : counted(known.devices, "device")}
      </span>
      <Seen session={session} known={known} />
    </a>
  );
}

function Seen({ session, known }: { session: Session; known: Listed }) {
  void tick.value;
  if (known.status !== "offline") {
    const changed = known.changedAt === undefined ? "" : `changed ${ago(known.changedAt, session.now())}`;
    return <span class="user-seen">{changed}</span>;
  }
  const seen = known.lastSeenAt === undefined ? "" : `seen ${ago(known.lastSeenAt, session.now())}`;
  return <span class="user-seen">{seen}</span>;
}

/** A user whom the list does not have can be looked at all the same. */
function OpenExactly({ found, truncated }: { found: string[]; truncated: boolean }) {
  const id = search.value.trim();
  if (id === "" || found.includes(id) || (found.length > 0 && !truncated)) return null;
  return (
    <p>
      <a href={hrefOf("users", id)} data-testid="users-open">
        Open <bdi>{id}</bdi>
      </a>
    </p>
  );
}
